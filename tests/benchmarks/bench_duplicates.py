"""Near duplicates injected into conversations: how many are merged with their original, and how much else is merged.

python tests/benchmarks/bench_duplicates.py --data locomo.json [--kind locomo|realtalk] [--sample 300] [--by key|fingerprint]
                                             [--memos] [--later DAYS] [--show]

Turns are sampled and said again by the same speaker in another notation: case, punctuation, number format, word order, and all of
them together. Two figures of false merges: variants merged with another turn than their own, and original turns merged with one
another when the conversation is written in order. Candidates by the order-free key or by the conversation's fingerprints; the last
two columns say how many of the originals either finds. With --memos everything goes through MemOS.remember instead.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from memory_eval import Memory, load_locomo, load_realtalk

from memos_core.duplicate import Said, bag_key, repeats
from memos_core.duplicate.fingerprint import fingerprints
from memos_core.embed import CachedEmbedder, local_embedder
from memos_core.index.coarse import Near

NUMERALS = "zero one two three four five six seven eight nine ten eleven twelve".split()
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
ADJUNCT = r"(?:yesterday|today|tonight|tomorrow|recently|last (?:week|month|year|night|weekend)|on \w+day|in (?:January|June|July|\d{4}))"


def case(text: str, rng: random.Random) -> str:
    return rng.choice([str.lower, str.upper, str.title, str.swapcase])(text)


def punctuation(text: str, rng: random.Random) -> str:
    ways: list[Callable[[str], str]] = [
        lambda t: re.sub(r"(?<!\d)[.,;:!?](?!\d)", "", t).strip(),  # none left, but in numbers
        lambda t: re.sub(r"(?<!\d)[^\w\s](?!\d)", "", t).strip(),  # nor apostrophes, hyphens, quotes, emoji
        lambda t: re.sub(r"\.(?=\s|$)", "!", t),
        lambda t: re.sub(r"[.!](?=\s|$)", "...", t) + " ",
        lambda t: t.replace(",", "").replace("'", "’").rstrip("."),
        lambda t: re.sub(r"([.!?,])(?=\s|$)", r" \1", t),
    ]
    return rng.choice(ways)(text)


def number(text: str, rng: random.Random) -> str:
    """Every number in another format; the text itself when it has none."""
    text = re.sub(r"\b(\d{1,2})(?::00)? ?([ap])\.?m\b\.?", lambda m: _clock(int(m[1]), m[2], rng), text, flags=re.IGNORECASE)
    text = re.sub(rf"\b({MONTHS}) (\d{{1,2}})\b(?!,? \d{{4}})", r"\2 \1", text)
    text = re.sub(r"(\d) ?%", lambda m: m[1] + rng.choice([" %", " percent", "%"]), text)
    text = re.sub(r"\$(\d[\d,]*)(?! ?[kKmM.])", r"\1 dollars", text)
    text = re.sub(r"\b(\d{1,3}),(\d{3})\b", r"\1\2", text)
    text = re.sub(r"\b(?!(?:19|20)\d\d\b)(\d{1,3})(\d{3})\b", r"\1,\2", text) if rng.random() < 0.5 else text
    text = re.sub(r"(?<![\d.,:/$-])\b(\d|1[0-2])\b(?![\d.,:/%-]|\s*[ap]\.?m)", lambda m: NUMERALS[int(m[1])], text)
    swapped = rng.random() < 0.5
    return re.sub(r"\b(two|three|four|five|six|seven|eight|nine|ten)\b", lambda m: str(NUMERALS.index(m[1])), text) if swapped else text


def _clock(hour: int, half: str, rng: random.Random) -> str:
    half, hour24 = half.lower(), hour % 12 + (12 if half.lower() == "p" else 0)
    ways = [f"{hour}{half}m", f"{hour} {half}m", f"{hour} {half}.m.", f"{hour}:00 {half.upper()}M"]
    return rng.choice([*ways, f"{hour24}:00"] if half == "p" and hour < 12 else ways)


def order(text: str, rng: random.Random) -> str:
    """Sentences rotated, or the two halves of one exchanged, or an adjunct moved to the front; the text itself when none can be."""
    body, _, photo = text.partition(" [shares")
    tail = f" [shares{photo}" if photo else ""
    sentences = re.findall(r"[^.!?]+[.!?]+", body) if re.search(r"[.!?]\s*$", body) else []
    ways = []
    if len(sentences) > 1:
        turn = rng.randrange(1, len(sentences))
        ways.append(" ".join(part.strip() for part in sentences[turn:] + sentences[:turn]))
    at = rng.randrange(len(sentences)) if sentences else 0
    one = sentences[at].strip() if sentences else body.strip()
    end = one[-1] if one and one[-1] in ".!?" else ""
    core = one.rstrip(".!?")
    changed = None
    if found := re.fullmatch(rf"(.{{8,}}) ({ADJUNCT})", core, re.IGNORECASE):
        changed = f"{found[2].capitalize()}, {found[1][0].lower() if not found[1].startswith('I') else found[1][0]}{found[1][1:]}"
    elif found := re.fullmatch(r"([^,]{8,}), (?:and )?([^,]{8,})", core):
        changed = f"{found[2][0].upper()}{found[2][1:]}, {found[1]}"
        changed = re.sub(r"^And ", "", changed) if ", and " not in core else f"{found[2]} and {found[1]}"
    if changed:
        ways.append((" ".join([*sentences[:at], changed + end, *sentences[at + 1 :]]) if sentences else changed).strip())
    return rng.choice(ways) + tail if ways else text


def everything(text: str, rng: random.Random) -> str:
    for change in (number, order, punctuation, case):
        text = change(text, rng)
    return text


KINDS = {"case": case, "punctuation": punctuation, "number format": number, "word order": order, "all of them": everything}


class Pure:
    """Deduplication as the modules give it: candidates, then the verdict."""

    def __init__(self, embedder: CachedEmbedder, by: str) -> None:
        self.embedder, self.by = embedder, by
        self.last: tuple[list[int], list[int]] = [], []
        self.candidates = Near()
        self.kept: list[tuple[dict[str, Any], Said, np.ndarray]] = []
        self.by_key: dict[bytes, list[int]] = defaultdict(list)
        self.seconds: list[float] = []

    def merged_with(self, message: dict[str, Any], keep: bool) -> dict[str, Any] | None:
        said = Said(message["content"], message["name"], message["timestamp"])
        vector = self.embedder([message["content"]])[0]
        start = time.perf_counter()
        bits = fingerprints(vector[None])[0] if self.by == "fingerprint" else None
        rows = self.by_key.get(bag_key(message["content"]), []) if bits is None else self.candidates.near(bits)
        found = None
        for row in rows:
            other, earlier, its = self.kept[row]
            if repeats(earlier, said, float(its @ vector)).same:
                found = other
                break
        self.seconds.append(time.perf_counter() - start)
        bits = fingerprints(vector[None])[0]
        self.last = self.by_key.get(bag_key(message["content"]), []), self.candidates.near(bits)
        if found is None and keep:
            self.candidates.add(len(self.kept), bits)
            self.by_key[bag_key(message["content"])].append(len(self.kept))
            self.kept.append((message, said, vector))
        return found

    def found(self, original: dict[str, Any]) -> tuple[bool, bool]:
        """Whether the original of the message just tried was among the candidates, by key and by fingerprint."""
        by_key, by_fingerprint = ({self.kept[row][0]["id"] for row in rows} for rows in self.last)
        return original["id"] in by_key, original["id"] in by_fingerprint


class ThroughMemOS:
    """The same through the public contract: `outcome` and the sources of the cube that took the message in."""

    def __init__(self, memos: Any, scope: str) -> None:
        self.memos, self.scope = memos, scope
        self.by_id: dict[str, dict[str, Any]] = {}
        self.seconds: list[float] = []

    def merged_with(self, message: dict[str, Any], keep: bool) -> dict[str, Any] | None:
        start = time.perf_counter()
        (done,) = self.memos.remember([message], scope=self.scope, session=message.get("session"))
        self.seconds.append(time.perf_counter() - start)
        self.by_id[message["id"]] = message
        if done.outcome != "merged":
            if not keep:
                self.memos.forget(done.id)
            return None
        others = [source for source in done.cube.identifiers.sources if source != message["id"]]
        return self.by_id[others[0]] if others else None

    def found(self, original: dict[str, Any]) -> tuple[bool, bool]:
        return False, False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kind", choices=["locomo", "realtalk"], default="locomo")
    parser.add_argument("--sample", type=int, default=300, help="variants of each kind")
    parser.add_argument("--later", type=float, default=0.0, help="days after the original that a variant is said")
    parser.add_argument("--by", choices=["key", "fingerprint"], default="key")
    parser.add_argument("--memos", action="store_true")
    parser.add_argument("--show", action="store_true", help="print what was missed and what was merged wrongly")
    args = parser.parse_args()
    conversations = {"locomo": load_locomo, "realtalk": load_realtalk}[args.kind](args.data)
    embedder = CachedEmbedder(local_embedder())
    rows: dict[str, list[str]] = defaultdict(list)
    keyed: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    repeated, turns, seconds = [], 0, []
    for number_of, conversation in enumerate(conversations):
        with Memory(embedder) as memos:
            memory = ThroughMemOS(memos, conversation["id"]) if args.memos else Pure(embedder, args.by)
            alive, into = [], {}
            for session, messages in conversation["sessions"]:
                for message in messages:
                    turns += 1
                    other = memory.merged_with({**message, "session": session}, keep=True)
                    if other is None:
                        alive.append(message)
                    else:
                        repeated.append((other, message))
                        into[message["id"]] = other["id"]
            for kind, change in KINDS.items():
                rng = random.Random(f"{kind} {number_of}")
                wanted = args.sample // len(conversations)
                for original in rng.sample(alive, len(alive)):
                    text = change(original["content"], rng)
                    if text == original["content"]:
                        continue
                    wanted -= 1
                    if wanted < 0:
                        break
                    when = original["timestamp"] + timedelta(days=args.later)
                    variant = {**original, "content": text, "id": f"again {kind} {original['id']}", "timestamp": when}
                    other = memory.merged_with(variant, keep=False)
                    result = "missed" if other is None else "right" if other["id"] == original["id"] else "wrong"
                    rows[kind].append(result)
                    keyed[kind].append(memory.found(original))
                    if args.show and result != "right":
                        print(f"{result} | {kind} | {original['content']!r} | {text!r} | {other and other['content']!r}")
            seconds += memory.seconds
    print(f"{'kind':>14} | {'n':>5} | merged % | missed % | wrong %" + ("" if args.memos else " | by key % | by fingerprint %"))
    for kind, results in [*rows.items(), ("ALL", [result for each in rows.values() for result in each])]:
        share = {name: 100 * results.count(name) / len(results) for name in ("right", "missed", "wrong")}
        found = keyed[kind] if kind in KINDS else [value for each in keyed.values() for value in each]
        key, bits = (100 * statistics.fmean(each) for each in zip(*found, strict=True))
        candidates = "" if args.memos else f" | {key:8.2f} | {bits:8.2f}"
        print(f"{kind:>14} | {len(results):>5} | {share['right']:8.2f} | {share['missed']:8.2f} | {share['wrong']:7.2f}{candidates}")
    print(f"originals merged with one another: {len(repeated)} of {turns} ({100 * len(repeated) / turns:.2f} %)")
    for pair in repeated:
        print("   " + " <- ".join(f"{each['id']} {each['timestamp']:%Y-%m-%d} {each['content'][:100]!r}" for each in pair))
    p50, p95 = 1000 * statistics.median(seconds), 1000 * sorted(seconds)[int(0.95 * len(seconds))]
    print(f"candidates and verdict, or remember: ms p50 {p50:.3f}, p95 {p95:.3f}")


if __name__ == "__main__":
    main()

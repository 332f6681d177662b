"""Traces of requests for KV of memory, with the rates they were drawn from. Sizes in blocks of 64 tokens, time in requests.

Independent draws by Zipf's law, the same with scans in between, a hot set that moves, paths of a prefix tree, and the sessions that hold
the evidence of LoCoMo's questions. Every generator is a function of its seed.

Source: the independent reference model and its disturbances as used to compare policies by Megiddo and Modha, "ARC" (FAST 2003) and
Beckmann et al., "LHD" (NSDI 2018); Maharana et al., "Evaluating Very Long-Term Conversational Memory" (ACL 2024) for the conversations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 64  # tokens
MOST_BLOCKS = 64  # of one object: 4,096 tokens
OBJECTS, REQUESTS = 2000, 50_000
SHIFT = 5000  # requests between two moves of the hot set
HOT, HOT_SHARE = 200, 0.9
SCAN_EVERY, SCAN_LENGTH = 1000, 100
LIVE, LIVE_EVERY = 3, 1000
TOKENS_PER_WORD = 1.3


@dataclass(frozen=True)
class Trace:
    """Requests in order. keys: index of the object asked for. blocks: size of each object. groups: the conversation it belongs to.

    parents: what has to be held for it to be of use, -1 for nothing; a path is asked for from its root on. phases: (first request, rate of
    each object per request from there on), as the generator drew them. recurring: objects that may come again; only they make up the
    footprint that budgets are shares of. shifts: when the hot set moves. together: whether a request
    comes from the same question or path as the one before.
    """

    name: str
    seed: int
    keys: np.ndarray
    blocks: np.ndarray
    phases: Sequence[tuple[int, np.ndarray]]
    groups: np.ndarray | None = None
    parents: np.ndarray | None = None
    recurring: np.ndarray | None = None
    shifts: Sequence[int] = field(default=())
    together: np.ndarray | None = None

    @property
    def footprint(self) -> int:
        """Blocks of the objects that are asked for and may come again."""
        asked = np.zeros(len(self.blocks), bool)
        asked[self.keys] = True
        return int(self.blocks[asked if self.recurring is None else asked & self.recurring].sum())

    def budget(self, share: float) -> int:
        """Blocks in that share of the footprint."""
        return max(1, round(share * self.footprint))


def sizes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Lognormal around 512 tokens, cut to 64 to 4,096 tokens, in whole blocks."""
    tokens = np.exp(rng.normal(np.log(512), 1.0, count))
    return np.clip(np.ceil(tokens / BLOCK), 1, MOST_BLOCKS).astype(np.int64)


def law(count: int, exponent: float) -> np.ndarray:
    """Probabilities by rank after Zipf."""
    weights = np.arange(1, count + 1, dtype=float) ** -exponent
    return weights / weights.sum()


def zipf(seed: int, exponent: float, requests: int = REQUESTS, objects: int = OBJECTS) -> Trace:
    """Independent draws; which object has which rank is drawn as well."""
    rng = np.random.default_rng(seed)
    blocks, rates = sizes(rng, objects), rng.permutation(law(objects, exponent))
    return Trace(f"zipf {exponent}", seed, rng.choice(objects, requests, p=rates), blocks, [(0, rates)])


def scan(seed: int, requests: int = REQUESTS, objects: int = OBJECTS) -> Trace:
    """Zipf 1.0, and every 1,000 requests a run of 100 objects that never come again. They count as requests, not as footprint."""
    rng = np.random.default_rng(seed)
    rates = rng.permutation(law(objects, 1.0))
    keys = rng.choice(objects, requests, p=rates)
    fresh = objects
    for start in range(SCAN_EVERY - SCAN_LENGTH, requests - SCAN_LENGTH + 1, SCAN_EVERY):
        keys[start : start + SCAN_LENGTH] = np.arange(fresh, fresh + SCAN_LENGTH)
        fresh += SCAN_LENGTH
    known = np.arange(fresh) < objects
    all_rates = np.concatenate([rates * (1 - SCAN_LENGTH / SCAN_EVERY), np.zeros(fresh - objects)])
    return Trace("scan", seed, keys, sizes(rng, fresh), [(0, all_rates)], recurring=known)


def shift(seed: int, requests: int = REQUESTS, objects: int = OBJECTS) -> Trace:
    """Nine of ten requests go to 200 objects, by Zipf 0.8, the others to all alike; every 5,000 requests it is 200 others."""
    rng = np.random.default_rng(seed)
    blocks, phases, parts = sizes(rng, objects), [], []
    order = rng.permutation(objects)
    for number, start in enumerate(range(0, requests, SHIFT)):
        rates = np.full(objects, (1 - HOT_SHARE) / objects)
        hot = order[(number * HOT + np.arange(HOT)) % objects]
        rates[hot] += HOT_SHARE * law(HOT, 0.8)
        phases.append((start, rates))
        parts.append(rng.choice(objects, min(SHIFT, requests - start), p=rates))
    return Trace("shift", seed, np.concatenate(parts), blocks, phases, shifts=[start for start, _ in phases[1:]])


def tree(seed: int, requests: int = REQUESTS, objects: int = OBJECTS) -> Trace:
    """Paths from a root of a random tree to a node drawn by Zipf 1.0; as many paths as make up the requests, a node each.

    Twenty roots; every other node hangs below one drawn among those of depth below six.
    """
    rng = np.random.default_rng(seed)
    blocks = sizes(rng, objects)
    parents, depths = np.full(objects, -1), np.zeros(objects, int)
    for node in range(20, objects):
        above = int(rng.integers(node))
        while depths[above] >= 5:
            above = int(parents[above])
        parents[node], depths[node] = above, depths[above] + 1
    ends = rng.permutation(law(objects, 1.0))
    rates = ends.copy()
    for node in range(objects - 1, 19, -1):
        rates[parents[node]] += rates[node]
    paths: list[list[int]] = []
    count = 0
    for end in rng.choice(objects, requests, p=ends):
        path, node = [], int(end)
        while node >= 0:
            path.append(node)
            node = int(parents[node])
        paths.append(path[::-1])
        count += len(path)
        if count >= requests:
            break
    keys = np.array([key for path in paths for key in path][:requests])
    return Trace("tree", seed, keys, blocks, [(0, rates / rates.sum())], parents=parents, together=_together(paths, requests))


@dataclass(frozen=True)
class Talks:
    """Questions with the sessions that hold their evidence. blocks, groups: of each session."""

    blocks: np.ndarray
    groups: np.ndarray
    questions: Sequence[Sequence[tuple[int, ...]]]  # by conversation, the sessions of each question


def load_talks(path: Path) -> Talks:
    """LoCoMo's file; sizes are words times 1.3. Questions without evidence that can be found are left out."""
    blocks: list[int] = []
    groups: list[int] = []
    questions: list[list[tuple[int, ...]]] = []
    for number, record in enumerate(json.loads(path.read_text())):
        talk: dict[str, Any] = record["conversation"]
        place: dict[int, int] = {}
        for name in sorted((key for key in talk if re.fullmatch(r"session_\d+", key)), key=lambda key: int(key.split("_")[1])):
            words = sum(len(f"{turn['speaker']}: {turn['text']} {turn.get('blip_caption', '')}".split()) for turn in talk[name])
            place[int(name.split("_")[1])] = len(blocks)
            blocks.append(int(np.clip(np.ceil(words * TOKENS_PER_WORD / BLOCK), 1, MOST_BLOCKS)))
            groups.append(number)
        asked = []
        for question in record["qa"]:
            found = [int(match) for item in question.get("evidence") or [] for match in re.findall(r"D:?(\d+):\d+", item)]
            if sessions := tuple(dict.fromkeys(place[session] for session in found if session in place)):
                asked.append(sessions)
        questions.append(asked)
    return Talks(np.array(blocks), np.array(groups), questions)


def _together(turns: Sequence[Sequence[int]], count: int) -> np.ndarray:
    """Which of the first requests are not the first of their turn."""
    return np.array([place > 0 for turn in turns for place in range(len(turn))][:count])


def _rates(talks: Talks, weighted: Sequence[tuple[tuple[int, ...], float]]) -> np.ndarray:
    """Requests per request for each session, from questions with their probabilities."""
    rates = np.zeros(len(talks.blocks))
    for sessions, weight in weighted:
        rates[list(sessions)] += weight
    return rates / max(rates.sum(), 1e-300)


def _asked(
    name: str,
    seed: int,
    talks: Talks,
    turns: Sequence[tuple[int, ...]],
    phases: Sequence[tuple[int, np.ndarray]],
    count: int | None = None,
) -> Trace:
    """The first `count` requests of these questions."""
    keys = np.array([session for turn in turns for session in turn][:count])
    return Trace(name, seed, keys, talks.blocks, phases, talks.groups, together=_together(turns, len(keys)))


def once(seed: int, talks: Talks) -> Trace:
    """Conversation after conversation, each of its questions once in random order.

    Rates: the share of the conversation's questions that each session answers, known from its first question on, and 0 for sessions of
    other conversations. That is the chance of every single draw; what is left of the questions is not counted down. An oracle by these
    rates knows beforehand what some 200 questions cannot teach.
    """
    return _through("locomo once", seed, talks, shuffled=True)


def listed(seed: int, talks: Talks) -> Trace:
    """As `once`, but the questions of a conversation in the order of the file, where neighbours often have the same evidence."""
    return _through("locomo listed", seed, talks, shuffled=False)


def _through(name: str, seed: int, talks: Talks, shuffled: bool) -> Trace:
    """All conversations, one after the other, each question once."""
    rng = np.random.default_rng(seed)
    turns: list[tuple[int, ...]] = []
    phases: list[tuple[int, np.ndarray]] = []
    count = 0
    for number in rng.permutation(len(talks.questions)):
        asked = talks.questions[number]
        phases.append((count, _rates(talks, [(sessions, 1.0) for sessions in asked])))
        turns += [asked[place] for place in rng.permutation(len(asked))] if shuffled else asked
        count = sum(len(turn) for turn in turns)
    return _asked(name, seed, talks, turns, phases)


def repeated(seed: int, talks: Talks, requests: int = 20_000) -> Trace:
    """Questions of all conversations, independent draws by Zipf 1.0."""
    rng = np.random.default_rng(seed)
    questions = [sessions for asked in talks.questions for sessions in asked]
    chances = rng.permutation(law(len(questions), 1.0))
    turns = [questions[place] for place in rng.choice(len(questions), requests, p=chances)]
    rates = _rates(talks, list(zip(questions, chances, strict=True)))
    return _asked("locomo zipf", seed, talks, turns, [(0, rates)], requests)


def live(seed: int, talks: Talks, requests: int = 20_000, every: int = LIVE_EVERY) -> Trace:
    """Three of the conversations are live; a question of one of them, by Zipf 1.0; every so many questions one gives way to another."""
    rng = np.random.default_rng(seed)
    chances = [rng.permutation(law(len(asked), 1.0)) for asked in talks.questions]
    now = list(rng.permutation(len(talks.questions))[:LIVE])
    turns: list[tuple[int, ...]] = []
    phases: list[tuple[int, np.ndarray]] = []
    count = 0
    while count < requests:
        weighted = [pair for number in now for pair in zip(talks.questions[number], chances[number] / LIVE, strict=True)]
        phases.append((count, _rates(talks, weighted)))
        for _ in range(every):
            number = now[rng.integers(LIVE)]
            turns.append(talks.questions[number][rng.choice(len(chances[number]), p=chances[number])])
            count += len(turns[-1])
        others = [number for number in range(len(talks.questions)) if number not in now]
        now[rng.integers(LIVE)] = others[rng.integers(len(others))]
    return _asked("locomo live", seed, talks, turns, phases, requests)

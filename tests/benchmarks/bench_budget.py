"""What forgetting half of a memory costs: evidence recall on questions whose evidence had been used, before and after.

Half of the questions of each LoCoMo conversation are asked in turns (what is placed in the prompt counts as a use), the clock goes on, a budget
archives half of the facts, and the same questions are asked again; the other half of the questions
shows what it costs where nothing had been used.

python tests/benchmarks/bench_budget.py DATA      DATA holds locomo_dev.json
"""

from __future__ import annotations

import argparse
import statistics
from datetime import timedelta
from pathlib import Path
from typing import Any

from memory_eval import Memory, fill, load_locomo, score, sources

from memos_core import MemOS


def recall(memos: MemOS, talk: dict[str, Any], questions: list[dict[str, Any]], now: Any) -> list[float]:
    out = []
    for question in questions:
        hits = memos.recall(question["text"], scope=talk["id"], k=20, now=now).hits
        out.append(score(question["gold"], sources([hit.cube for hit in hits], 20))["R@10"])
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    rows: dict[str, list[tuple[float, float]]] = {"used": [], "evidence used": [], "never asked": []}
    for talk in load_locomo(parser.parse_args().data / "locomo_dev.json"):
        asked = [question for question in talk["questions"] if question["group"] != "adversarial"]
        first, other = asked[::2], asked[1::2]
        with Memory() as memos:
            now = fill(memos, talk)
            before, before_other = recall(memos, talk, first, now), recall(memos, talk, other, now)
            used: set[str] = set()
            for number, question in enumerate(first):
                at = now + timedelta(minutes=number)
                turn = memos.begin([{"role": "user", "content": question["text"]}], scope=talk["id"], session=f"ask {number}", k=10, now=at)
                used |= {source for item in turn.plan.inject for source in memos.get(item.id).identifiers.sources}
                said = turn.commit("I see.", now=at)
                memos.forget([done.id for done in said])  # the questions themselves shall not count as facts
            memos.set_budget(talk["id"], facts=sum(len(m) for _, m in talk["sessions"]) // 2, now=now)
            later = now + timedelta(days=1)
            moved = sum(len(move.ids) for move in memos.tick(later) if move.kind == "archive")
            after, after_other = recall(memos, talk, first, later), recall(memos, talk, other, later)
            print(f"{talk['id']}: {moved} archived", flush=True)
            rows["used"] += zip(before, after, strict=True)
            seen = [set(question["gold"]) <= used for question in first]
            rows["evidence used"] += [pair for pair, whole in zip(zip(before, after, strict=True), seen, strict=True) if whole]
            rows["never asked"] += zip(before_other, after_other, strict=True)
    print(f"\n{'questions':16s} {'n':>5s}  R@10 before  after   falls")
    for name, pairs in rows.items():
        one, two = (100 * statistics.fmean(values) for values in zip(*pairs, strict=True))
        print(f"{name:16s} {len(pairs):5d}  {one:11.1f}  {two:5.1f}  {one - two:+6.1f}")


if __name__ == "__main__":
    main()

"""What each part of the ranking adds: evidence recall with a part left out, and with the paths of the facts shuffled.

python tests/benchmarks/bench_ablation.py DATA      DATA holds locomo_dev.json and realtalk_dev/
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from memory_eval import Memory, fill, load_locomo, load_realtalk, score, sources

from memos_core import MemOS
from memos_core.hierarchy import topic_key
from memos_core.recall import rank

OFF: Mapping[str, Mapping[str, float]] = {
    "whole": {},
    "without hierarchy (topics, places)": {"TOPIC": 0, "PLACE": 0},
    "without edges (answers, neighbours)": {"ANSWER": 0, "NEIGHBOUR": 0},
    "  without answers": {"ANSWER": 0},
    "  without neighbours": {"NEIGHBOUR": 0},
    "without time (windows, dates, recency)": {"IN_WINDOW": 0, "SAYS_WHEN": 0, "RECENCY": 0},
    "without speaker": {"SPEAKER": 0, "OTHER_SPEAKER": 0},
    "without questions marked down": {"ONLY_ASKS": 0},
    "without standing wishes": {"STANDING_WISH": 0},
}
SEEDS = (1, 2, 3)


@contextmanager
def constants(values: Mapping[str, float]) -> Iterator[None]:
    before = {name: getattr(rank, name) for name in values}
    for name, value in values.items():
        setattr(rank, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(rank, name, value)


@contextmanager
def filed_otherwise(memos: MemOS, seed: int | None) -> Iterator[None]:
    """Topics without regard to the session, or with a seed, every fact at the place of another."""
    index = memos._house.index
    concept, topic, session = (index._columns[name][: index._count] for name in ("concept", "topic", "session"))
    before = concept.copy(), topic.copy()
    if seed is None:
        topic[:] = concept
    else:
        concept[:] = np.random.default_rng(seed).permutation(concept)
        topic[:] = [topic_key(one, str(other), False) for one, other in zip(concept.tolist(), session.tolist(), strict=True)]
    try:
        yield
    finally:
        concept[:], topic[:] = before


def recalled(memos: MemOS, talk: dict[str, Any], now: Any) -> list[dict[str, float]]:
    rows = []
    for question in talk["questions"]:
        if question["group"] != "adversarial":
            hits = memos.recall(question["text"], scope=talk["id"], k=20, now=now).hits
            rows.append(score(question["gold"], sources([hit.cube for hit in hits], 20)))
    return rows


def interval(differences: list[list[float]]) -> tuple[float, float]:
    """95 % of resampled means over conversations. differences: of each conversation's questions."""
    rng, draws = random.Random(0), []
    for _ in range(2000):
        drawn = [value for one in rng.choices(differences, k=len(differences)) for value in one]
        draws.append(statistics.fmean(drawn))
    draws.sort()
    return 100 * draws[50], 100 * draws[1949]


def measure(name: str, talks: list[dict[str, Any]]) -> None:
    found: dict[str, list[list[dict[str, float]]]] = {}
    for talk in talks:
        with Memory() as memos:
            now = fill(memos, talk)
            for variant, values in OFF.items():
                with constants(values):
                    found.setdefault(variant, []).append(recalled(memos, talk, now))
            for variant, seeds in (("topics regardless of the session", (None,)), ("paths shuffled", SEEDS)):
                several = []
                for seed in seeds:
                    with ExitStack() as stack:
                        stack.enter_context(filed_otherwise(memos, seed))
                        several.append(recalled(memos, talk, now))
                merged = [{key: statistics.fmean(row[key] for row in rows) for key in rows[0]} for rows in zip(*several, strict=True)]
                found.setdefault(variant, []).append(merged)
    print(f"\n{name:42s} R@10   MRR    change of R@10 [95 % over conversations], of MRR")
    for variant, by_talk in found.items():
        rows = [row for one in by_talk for row in one]
        mean = {key: 100 * statistics.fmean(row[key] for row in rows) for key in ("R@10", "MRR")}
        change = {
            key: [
                [new[key] - old[key] for new, old in zip(one, base, strict=True)] for one, base in zip(by_talk, found["whole"], strict=True)
            ]
            for key in mean
        }
        by_question = {key: 100 * statistics.fmean(value for one in several for value in one) for key, several in change.items()}
        low, high = interval(change["R@10"])
        print(
            f"{variant:42s} {mean['R@10']:5.1f}  {mean['MRR']:5.1f}  {by_question['R@10']:+6.2f} [{low:+.2f}, {high:+.2f}]  {by_question['MRR']:+6.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, help="conversations of each")
    options = parser.parse_args()
    measure("LoCoMo dev", load_locomo(options.data / "locomo_dev.json")[: options.limit])
    measure("REALTALK dev", load_realtalk(options.data / "realtalk_dev")[: options.limit])


if __name__ == "__main__":
    main()

"""What a first stage by fingerprints costs in recall and gains in time, against exact search. Synthetic vectors; prints a table.

python tests/benchmarks/bench_fingerprint.py --n 100000 [--like vectors.npy] [--json file]

Two kinds of vectors: `clusters`, Gaussian clusters in clusters; with --like, mixtures of two of the given vectors (float32 [m, d],
such as the embeddings of a conversation) with noise. R@10: share of the exact ten nearest that are found. Times are for one query
on as many threads as faiss and numpy are given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from memos_core.duplicate.fingerprint import fingerprint, fingerprints, text_only
from memos_core.index.coarse import Near, nearest

K = 10
CHUNK = 50_000


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


Draw = Callable[[int], np.ndarray]


def clusters(n: int, d: int, rng: np.random.Generator) -> tuple[Draw, Draw]:
    """Draws from sqrt(n) clusters around sqrt(sqrt(n)) topics: neighbours at cosine 0.7, a topic at 0.35, the rest at 0."""
    wide = int(n**0.25) + 1
    topics = _unit(rng.standard_normal((wide, d)))
    centres = _unit(topics[rng.integers(wide, size=wide * wide)] + _unit(rng.standard_normal((wide * wide, d))))

    def draw(count: int) -> np.ndarray:
        return _unit(centres[rng.integers(len(centres), size=count)] + 0.65 * _unit(rng.standard_normal((count, d))))

    return draw, draw


def mixtures(like: np.ndarray, rng: np.random.Generator) -> tuple[Draw, Draw]:
    """Draws near the given vectors: two of them mixed, one weighing more, and noise. Queries are further away, as questions are."""

    def draw(count: int) -> np.ndarray:
        one, other = like[rng.integers(len(like), size=(2, count))]
        weight = rng.uniform(0.6, 1.0, size=(count, 1))
        return _unit(weight * one + (1 - weight) * other + 0.3 * _unit(rng.standard_normal((count, like.shape[1]))))

    def ask(count: int) -> np.ndarray:
        return _unit(draw(count) + _unit(rng.standard_normal((count, like.shape[1]))))

    return draw, ask


def measure(name: str, draw: Draw, ask: Draw, n: int, queries: int, shortlists: list[int]) -> list[dict[str, object]]:
    """One row per size of the shortlist, the exact search first."""
    asked = ask(queries)
    vectors = np.empty((n, asked.shape[1]), dtype=np.float32)
    bits = np.empty((n, 32), dtype=np.uint8)
    for start in range(0, n, CHUNK):
        block = draw(min(CHUNK, n - start))
        vectors[start : start + len(block)] = block
        bits[start : start + len(block)] = text_only(fingerprints(block))

    def exact(query: np.ndarray) -> np.ndarray:
        return _best(vectors @ query)

    truth, seconds = _timed(exact, asked)
    rows: list[dict[str, object]] = [_row(name, n, "exact", 1.0, seconds, seconds)]
    for size in shortlists:

        def staged(query: np.ndarray, size: int = size) -> np.ndarray:
            found, _ = nearest(text_only(fingerprint(query)), bits, size)
            kept: np.ndarray = found[_best(vectors[found] @ query)]
            return kept

        answers, spent = _timed(staged, asked)
        recall = statistics.fmean(len(set(a) & set(t)) / K for a, t in zip(answers, truth, strict=True))
        rows.append(_row(name, n, f"{size:,}", recall, spent, seconds))
    return rows


def measure_candidates(n: int, rng: np.random.Generator) -> str:
    """What keeping and asking for near duplicates costs per fact of one scope."""
    candidates, bits, seconds = Near(), rng.integers(0, 256, (n, 32), dtype=np.uint8), []
    start = time.perf_counter()
    for row, one in enumerate(bits):
        candidates.add(row, one)
    added = time.perf_counter() - start
    for one in bits[rng.integers(n, size=200)]:
        start = time.perf_counter()
        candidates.near(one)
        seconds.append(time.perf_counter() - start)
    p50, p95 = 1000 * statistics.median(seconds), 1000 * sorted(seconds)[190]
    return f"near duplicates among {n:,} facts: add {1e6 * added / n:.1f} us, candidates ms p50 {p50:.3f}, p95 {p95:.3f}"


def _best(scores: np.ndarray) -> np.ndarray:
    top = np.argpartition(-scores, K - 1)[:K]
    return top[np.argsort(-scores[top])]


def _timed(search: Callable[[np.ndarray], np.ndarray], asked: np.ndarray) -> tuple[list[list[int]], list[float]]:
    search(asked[0])
    answers, seconds = [], []
    for query in asked:
        start = time.perf_counter()
        found = search(query)
        seconds.append(time.perf_counter() - start)
        answers.append(found.tolist())
    return answers, seconds


def _row(name: str, n: int, shortlist: str, recall: float, spent: list[float], exact: list[float]) -> dict[str, object]:
    p50, p95 = statistics.median(spent), sorted(spent)[int(0.95 * len(spent))]
    return {
        "vectors": name, "n": n, "shortlist": shortlist, "R@10 %": round(100 * recall, 1),
        "ms p50": round(1000 * p50, 2), "ms p95": round(1000 * p95, 2), "times faster": round(statistics.median(exact) / p50, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--like", type=Path, help="float32 [m, d] vectors in a .npy file to draw near to")
    parser.add_argument("--shortlists", type=int, nargs="+", default=[100, 300, 1000, 3000, 10_000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    kinds = {"clusters": clusters(args.n, args.dimensions, rng)}
    if args.like:
        kinds["mixtures"] = mixtures(_unit(np.load(args.like)), rng)
    rows = [row for name, (draw, ask) in kinds.items() for row in measure(name, draw, ask, args.n, args.queries, args.shortlists)]
    print(" | ".join(f"{title:>12}" for title in rows[0]))
    for row in rows:
        print(" | ".join(f"{value!s:>12}" for value in row.values()))
    for size in sorted({100, args.n}):
        print(measure_candidates(size, rng))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

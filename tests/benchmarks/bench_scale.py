"""One user's memory as it grows: what an add costs, and a recall, exact and from a first stage by fingerprints. Embedding costs nothing here.

Adds to the memory and to one of a hundred facts take turns, so that both meet the same disk.

python tests/benchmarks/bench_scale.py [--sizes 100 10000 100000]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from memory_eval import HashEmbedder, Memory

SCOPE = ("bench", "user")
THINGS = "coffee tea doctor dentist bicycle guitar office sister brother garden laptop passport allergy lunch meeting train flight book course dog".split()
WORDS = [f"word{number}" for number in range(4000)]


def timed(calls: list[Callable[[], Any]]) -> tuple[list[Any], float, float]:
    """What each returns, and p50 and p95 in milliseconds."""
    found, seconds = [], []
    for call in calls:
        start = time.perf_counter()
        found.append(call())
        seconds.append(time.perf_counter() - start)
    return found, 1000 * statistics.median(seconds), 1000 * sorted(seconds)[int(0.95 * len(seconds))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    sizes, rng, embedder, held = parser.parse_args().sizes, random.Random(7), HashEmbedder(), 0

    def fact(number: int) -> str:
        return f"{rng.choice(THINGS)} {rng.choice(WORDS)} {rng.choice(WORDS)} number {number} of {rng.choice(WORDS)}"

    print(
        "   facts | add ms p50  p95  of 100 facts  times | recall ms p50  p95 | exact=False ms p50  p95  same top 10 | bulk adds per second"
    )
    with Memory(embedder) as memos, Memory(embedder) as small:
        small.remember([fact(place) for place in range(100)], scope=SCOPE)
        for size in sizes:
            start, before = time.perf_counter(), held
            while held < size:
                block = [
                    {"role": "user", "content": fact(held + place), "id": str(held + place)} for place in range(min(5000, size - held))
                ]
                memos.remember(block, scope=SCOPE)
                held += len(block)
            bulk = (held - before) / (time.perf_counter() - start)
            texts = [fact(10**6 + held + place) for place in range(200)]
            embedder(texts)
            seconds: dict[bool, list[float]] = {True: [], False: []}
            for text in texts:
                for large in (True, False):
                    start = time.perf_counter()
                    (memos if large else small).remember(text, scope=SCOPE)
                    seconds[large].append(1000 * (time.perf_counter() - start))
            held += len(texts)
            add, few = (statistics.median(seconds[large]) for large in (True, False))
            add95 = sorted(seconds[True])[int(0.95 * len(texts))]
            asked = rng.sample(texts, 50) + [" ".join(text.split()[:3]) for text in rng.sample(texts, 50)]
            embedder(asked)
            memos.recall(asked[0], scope=SCOPE)
            exact, p50, p95 = timed([lambda text=text: memos.recall(text, scope=SCOPE) for text in asked])  # type: ignore[misc]
            rough, rough50, rough95 = timed([lambda text=text: memos.recall(text, scope=SCOPE, exact=False) for text in asked])  # type: ignore[misc]
            same = [len({h.cube.id for h in a.hits} & {h.cube.id for h in b.hits}) / len(a.hits) for a, b in zip(exact, rough, strict=True)]
            print(
                f"{size:8,d} | {add:10.2f} {add95:5.2f} {few:13.2f} {add / few:6.2f} | {p50:13.1f} {p95:5.1f} |"
                f" {rough50:18.1f} {rough95:5.1f} {100 * statistics.fmean(same):10.1f} % | {bulk:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

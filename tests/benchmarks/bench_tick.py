"""What the scheduler costs at 100,000 memories: writing a turn's usage, a tick with nothing due, a tick after one turn, a decision.

The memories lie in many scopes and one large one; embedding costs nothing here. Usage is what a commit takes longer for eight uses; commits with
and without them take turns, so that both meet the same disk. Exits with 1 when something asked for is missed.

python tests/benchmarks/bench_tick.py [--size 100000]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from memory_eval import HashEmbedder, Memory

from memos_core.changes import Add, Take
from memos_core.cube import Governance, Identifiers, MemCube, Plaintext, new_id
from memos_core.hierarchy import given_place
from memos_core.intake import as_searchable
from memos_core.plan import make_plan
from memos_core.policy import Candidate, Thresholds
from memos_core.readiness import decide_head

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
LARGE, SMALL = ("bench", "large"), 100
ROUNDS = 60


def cube(scope: tuple[str, ...], number: int) -> MemCube:
    at = NOW - timedelta(days=30, seconds=number)
    identifiers = Identifiers(created_at=at, updated_at=at, occurred_at=at, session=f"s{number // 20}")
    return MemCube(
        id=new_id(), version=1, payload=Plaintext(text=f"note {number} of {scope[-1]}"), identifiers=identifiers,
        governance=Governance(scope=scope, owner=scope),
    )  # fmt: skip


def fill(memos: Any, size: int) -> list[str]:
    """Half in one scope, the rest in scopes of a hundred; ids of the large one's."""
    rng, ids = np.random.default_rng(7), []
    scopes = [LARGE] * (size // 2) + [("bench", f"user{number // SMALL}") for number in range(size - size // 2)]
    for start in range(0, size, 5000):
        changes = []
        for number in range(start, min(start + 5000, size)):
            scope, vector = scopes[number], rng.standard_normal(384).astype(np.float32)
            made = cube(scope, number)
            place = given_place("/".join(scope), ("notes", str(number % 97)))
            changes.append(Add(made, scope, as_searchable(made, vector / np.linalg.norm(vector)), place=place))
            ids += [made.id] if scope == LARGE else []
        memos._store.commit(changes)
    return ids


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000)
    size, missed = parser.parse_args().size, False

    def told(what: str, milliseconds: float, asked: float | None = None) -> None:
        nonlocal missed
        missed |= asked is not None and milliseconds > asked
        print(f"{what:58s} {milliseconds:10.3f} ms" + (f"   asked: at most {asked:g} ms" if asked is not None else ""), flush=True)

    with Memory(HashEmbedder()) as memos:
        start = time.perf_counter()
        ids = fill(memos, size)
        print(f"{size:,} memories in {time.perf_counter() - start:.0f} s", flush=True)
        told("first tick, everything is new", timed(lambda: memos.tick(NOW)))
        while memos.tick(NOW):
            pass
        told("tick, nothing due", statistics.median(timed(lambda: memos.tick(NOW)) for _ in range(20)), 20)

        rng, plain, using = np.random.default_rng(3), [], []
        for number in range(2 * ROUNDS):
            used = tuple((id, "inject") for id in rng.choice(ids, 8, replace=False))
            pairs = [(plain, ()), (using, used)]
            for mine, some in pairs if number % 2 else reversed(pairs):  # neither is always the one after the other
                turn = f"{number}.{len(some)}"
                take = Take(LARGE, f"s{number % 9}", turn, NOW, None, (Add(cube(LARGE, 10**6 + number), LARGE),), some)
                mine.append(timed(lambda take=take: memos._store.commit([take])))
        assert memos.usage(LARGE).recalls == 16 * ROUNDS
        told("a turn's commit without usage", statistics.median(plain))
        told("eight uses in it, more", statistics.median(using) - statistics.median(plain), 1)
        told("tick after these turns", timed(lambda: memos.tick(NOW)))
        while memos.tick(NOW):
            pass
        told("tick, nothing due again", statistics.median(timed(lambda: memos.tick(NOW)) for _ in range(20)), 20)
        told("tick a minute later", timed(lambda: memos.tick(NOW + timedelta(minutes=1))), 20)

        with memos._store.read() as view:
            cubes = list(view.heads(ids[:12], NOW).values())
        asked: dict[str, Any] = {"system": None, "turn_index": 0, "head": None, "placed": {}, "said": frozenset(), "token_budget": 512}
        plan = [timed(lambda: make_plan(candidates=[(each, "") for each in cubes[:8]], count=len, **asked)) for _ in range(200)]
        told("what of eight memories reaches the model, and how", statistics.median(plan), 0.2)
        candidates = [Candidate(each, 20, False) for each in cubes]
        head = [timed(lambda: decide_head(candidates, None, Thresholds(), NOW)) for _ in range(200)]
        told("which of twelve memories stand in the head", statistics.median(head), 0.2)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

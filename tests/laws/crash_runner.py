"""Kills a writing process between any two of its steps, many times, and looks at what is left.

    python crash_runner.py <folder> <kills at steps> <kills at random times>

A step is every SQL statement and every fsync, rename, unlink and mkdir. Each life is a fork of this process, so that nothing but the
directory survives it; it says through a pipe which operations have returned. After each death the directory must hold exactly what
an uninterrupted run holds after those operations, or after one more; it must verify, find the same with a rebuilt index, and
carry on to the same end. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from memos_core import Activation, MemCube, MemOS, store
from memos_core.changes import Add
from memos_core.cube import LOCAL_OWNER, ActivationForm
from memos_core.transform import activation_cube

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ANA = ("clinic", "ana")
ERASED = ("zanzibarine", "quixotrope")  # words of what the workload forgets


def embed(texts: list[str]) -> np.ndarray:
    return np.stack([np.random.default_rng(crc32(text.encode())).standard_normal(16) for text in texts])


def opened(folder: Path) -> MemOS:
    return MemOS.open(folder, embedder=embed)


def by_source(memos: MemOS, source: str) -> MemCube:
    with memos._store.read() as view:
        ids = [row[0] for row in view.db.execute("SELECT id FROM cubes WHERE kind = 'plaintext'")]
        return next(cube for cube in view.heads(ids, NOW).values() if source in cube.identifiers.sources)


def message(source: str, text: str) -> dict[str, Any]:
    return {"role": "user", "content": text, "id": source, "timestamp": NOW}


def add_activation(memos: MemOS) -> None:
    source = by_source(memos, "one")
    blob = memos._store.blobs.put(b"keys and values of zanzibarine" * 99)
    payload = Activation(form=ActivationForm.KV, blob=blob, prefix_key="p", tokens=1, bytes=1, model="m")
    change = Add(activation_cube(payload, ANA, NOW), LOCAL_OWNER, parents=((source.id, source.version),), relation="prefilled from")
    memos._store.commit([change])


OPERATIONS: list[Callable[[MemOS], Any]] = [
    lambda memos: memos.remember(message("one", "Ana likes zanzibarine."), scope=ANA, session="s", now=NOW),
    lambda memos: memos.remember(
        [message("two", "Ana lives in Lisbon."), message("three", "Quixotrope is for Ana."), message("four", "Ana plays the cello.")],
        scope=ANA,
        session="s",
        path="life/home",
        ttl=timedelta(days=30),
        read=["doctor"],
        now=NOW,
    ),
    lambda memos: memos.begin([message("five", "What does Ana like?")], scope=ANA, session="t", now=NOW).commit("Many things.", now=NOW),
    lambda memos: memos.update(by_source(memos, "one").id, text="Ana loves zanzibarine.", priority=0.5, now=NOW),
    add_activation,
    lambda memos: memos.rollback(by_source(memos, "one").id, 1, now=NOW),
    lambda memos: memos.forget(by_source(memos, "three").id, now=NOW),
    lambda memos: memos.forget(by_source(memos, "one").id, now=NOW),  # takes the activation and its blob along
    lambda memos: memos.remember(message("six", "Ana has a dog."), scope=ANA, now=NOW),
    lambda memos: memos.tick(NOW + timedelta(days=31)),  # archives what has expired
]


def state(folder: Path) -> Any:
    """Everything in the directory that an uninterrupted run decides; ids, keys and hashes are random."""
    db = sqlite3.connect(folder / "memos.db")
    bodies = [json.loads(row[0]) for row in db.execute("SELECT body FROM cubes ORDER BY row")]
    cubes = [(body["payload"].get("text"), body["version"], body["state"], body["identifiers"]["sources"]) for body in bodies]
    tables = ["versions", "audit", "vectors", "lexical", "grants", "lineage", "tombstones", "turns", "placements", "usage_events", "usage"]
    counts = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in [*tables, "doomed"]}
    erased = db.execute("SELECT count(*) FROM versions WHERE body IS NULL").fetchone()[0]
    db.close()
    return json.loads(json.dumps([cubes, counts, erased]))


def work(folder: Path, first: int, acknowledge: Callable[[int], None]) -> None:
    """Open, do the operations from `first` on, close; say which have returned."""
    memos = opened(folder)
    for number in range(first, len(OPERATIONS)):
        OPERATIONS[number](memos)
        acknowledge(number + 1)
    memos.close()


def count_steps(step: Callable[[], None]) -> None:
    """Call `step` before every SQL statement and every durable act on files, and after the latter."""
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*arguments, **options)
        db.set_trace_callback(lambda _: step())
        return db

    store.sqlite3 = type(sys)("sqlite3")  # this process's own copy of the module's names
    store.sqlite3.__dict__.update(sqlite3.__dict__)
    store.sqlite3.connect = traced
    for name in ("fsync", "replace", "unlink", "mkdir"):
        setattr(os, name, _between_steps(getattr(os, name), step))


def _between_steps(act: Callable[..., Any], step: Callable[[], None]) -> Callable[..., Any]:
    def around(*arguments: Any, **options: Any) -> Any:
        step()
        result = act(*arguments, **options)
        step()
        return result

    return around


def live(folder: Path, *, die_at: int | None = None, die_after: float | None = None) -> tuple[int, int]:
    """One life in a fork: (operations that were acknowledged, steps that were made, 0 when it was killed)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        made = 0

        def step() -> None:
            nonlocal made
            made += 1
            if made == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            count_steps(step)
            work(folder, 0, lambda number: os.write(writing, bytes([number])))
            os.write(writing, b"\xff" + made.to_bytes(4, "big"))
        except BaseException:  # noqa: BLE001  a fork must not go on in its parent's place
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    if die_after is not None:
        time.sleep(die_after)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    done, _, steps = said.partition(b"\xff")
    return (done[-1] if done else 0), int.from_bytes(steps, "big")


def in_fork(act: Callable[[], Any]) -> Any:
    """The result of a call made in a fork, or the text of its failure."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = json.dumps({"ok": act()})
        except BaseException:  # noqa: BLE001  the same
            answer = json.dumps({"failed": traceback.format_exc()})
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def reference(folder: Path) -> list[Any]:
    """The states of an uninterrupted run after each number of operations."""
    states: list[Any] = []

    def run() -> list[Any]:
        opened(folder).close()
        states.append(state(folder))
        work(folder, 0, lambda _: states.append(state(folder)))
        return states

    found = in_fork(run)
    return list(found["ok"])


def inspect(folder: Path, done: int, states: list[Any]) -> list[str]:
    """What is wrong with a directory whose writer died after `done` acknowledged operations."""
    problems = []
    with opened(folder) as memos:
        verification = memos.verify()
        problems += verification.problems
        found = [hit.text for hit in memos.recall("What about Ana?", scope=ANA, k=50, now=NOW).hits]
    now = state(folder)
    reached = next((number for number in (done, done + 1) if number < len(states) and states[number] == now), None)
    if reached is None:
        return [*problems, f"{done} operations were acknowledged, but the state is {now}, not {states[done : done + 2]}"]
    for word, from_operation in zip(reversed(ERASED), (7, 8), strict=True):
        if reached >= from_operation:
            problems += [
                f"{word} is still in {path.name}"
                for path in folder.rglob("*")
                if path.is_file() and word.encode() in path.read_bytes().lower()
            ]
    (folder / "index.faiss").unlink(missing_ok=True)
    with opened(folder) as memos:
        if found != [hit.text for hit in memos.recall("What about Ana?", scope=ANA, k=50, now=NOW).hits]:
            problems.append("a rebuilt index finds something else")
    work(folder, reached, lambda _: None)
    if state(folder) != states[-1]:
        problems.append(f"carrying on from {reached} operations ended in {state(folder)}")
    return problems


def main() -> None:
    root, at_steps, at_times = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    states = reference(root / "reference")
    start = time.perf_counter()
    _, steps = live(root / "whole")
    lasted = time.perf_counter() - start
    chance = random.Random(4)
    plans: list[dict[str, Any]] = [{"die_at": 1 + round(number * (steps - 1) / max(1, at_steps - 1))} for number in range(at_steps)]
    plans += [{"die_after": chance.uniform(0, lasted)} for _ in range(at_times)]
    failures, killed, kinds = [], 0, set()
    for number, plan in enumerate(plans):
        folder = root / str(number)
        done, finished = live(folder, **plan)
        killed += finished == 0
        kinds.add(done)
        result = in_fork(lambda folder=folder, done=done: inspect(folder, done, states))
        if result.get("ok") != []:
            failures.append([plan, done, result])
        else:
            shutil.rmtree(folder)
    print(json.dumps({"killed": killed, "steps": steps, "acknowledged": sorted(kinds), "failures": failures[:5], "failed": len(failures)}))


if __name__ == "__main__":
    main()

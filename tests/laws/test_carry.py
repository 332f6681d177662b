"""Law *carry*: what is exported and imported is the same memory, once, and what was forgotten stays forgotten."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from memos_core import MemOS, MemosError
from memos_core.cube import State
from tests.conftest import NOW, bag_of_words

ANA, BEN, TOP = ("clinic", "ana"), ("clinic", "ben"), ("clinic",)
SCOPES = [ANA, BEN, TOP, ("shop",)]
TEXTS = [
    "Ana is allergic to penicillin.", "Ana tolerates penicillin.", "I live in Lisbon.", "I have moved to Porto.", "The meeting is on Friday.",
    "Tea without sugar, please.", "I never eat fish.", "I ate fish yesterday.",
]  # fmt: skip
QUERIES = ["penicillin", "Where do I live?", "fish on Friday", "What did we say last week?"]
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["remember", "message", "turn", "update", "rollback", "archive", "move", "grant", "budget", "forget", "tick"]),
        st.integers(0, 3),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=30,
)


def act(memos: MemOS, step: int, operation: str, which: int, number: int) -> None:
    scope, at = SCOPES[which], NOW + timedelta(hours=step)
    ids = [id for (id,) in rows(memos.path, "SELECT id FROM cubes WHERE kind = 'plaintext' ORDER BY row")]
    id = ids[(which * 8 + number) % len(ids)] if ids else None
    if operation == "remember" or id is None:
        memos.remember(TEXTS[number], scope=scope, now=at, path="care/allergies" if number % 3 == 0 else None)
    elif operation == "message":
        said = {"role": "user", "content": TEXTS[number], "id": f"m{number}", "timestamp": at.isoformat()}
        memos.remember([said], scope=scope, session=f"s{number % 2}", now=at)
    elif operation == "turn":
        talk = [{"role": "user", "content": QUERIES[number % 4]}]
        memos.begin(talk, scope=scope, session="talk", now=at, task="work").commit(TEXTS[number], now=at)
    elif operation == "update":
        memos.update(id, text=f"{TEXTS[number]} Really.", priority=number / 10, now=at)
    elif operation == "rollback":
        memos.rollback(id, 1, now=at)
    elif operation == "archive" and memos.get(id).state is State.ACTIVE:
        memos.update(id, state="archived", now=at)
    elif operation == "move" and memos.get(id).state is not State.ARCHIVED:
        memos.move(id, f"task {number % 2}/concept {number}", now=at)
    elif operation == "grant":
        memos.update(id, read=[BEN], tags=["private"], now=at)
    elif operation == "budget":
        memos.set_budget(scope, facts=50 + number, now=at)
    elif operation == "forget":
        memos.forget(id, now=at)
    elif operation == "tick":
        memos.tick(at)


class Near(float):
    """A score; equal up to the rounding of sums in another order."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(float(self) - float(other)) < 1e-4

    __hash__ = None  # type: ignore[assignment]


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(path / "memos.db")
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def everything(memos: MemOS) -> dict[str, Any]:
    """What can be seen of a memory from outside."""
    clock = NOW + timedelta(days=3)
    ids = [id for (id,) in rows(memos.path, "SELECT id FROM cubes ORDER BY id")]
    gone = [id for (id,) in rows(memos.path, "SELECT id FROM tombstones ORDER BY id")]
    found: dict[str, Any] = {"cubes": [memos.get(id, now=clock) for id in ids], "gone": gone}
    found["histories"] = [memos.history(id) for id in (*ids, *gone)]
    found["lineage"] = [sorted(memos.lineage(id).edges(data="relation")) for id in ids]
    found["audit"] = [entry for entry in memos.audit() if entry.action != "import"]
    found["moves"] = [(move.at, move.kind, move.ids, move.scope, move.reason) for move in memos.moves()]
    for scope in SCOPES:
        found[f"recall {scope}"] = [
            {hit.cube.id: Near(hit.score) for hit in memos.recall(query, scope=scope, now=clock, k=60).hits} for query in QUERIES
        ]
        found[f"then {scope}"] = sorted(
            hit.text for hit in memos.recall("penicillin", scope=scope, as_of=NOW + timedelta(hours=5), now=clock).hits
        )
        tree = memos.tree(scope, now=clock)
        found[f"tree {scope}"] = [(node, tree.nodes[node]["label"]) for node in tree]
        found[f"conflicts {scope}"] = [
            (each.older.id, each.newer.id, each.resolution) for each in memos.conflicts(scope=scope, settled=True)
        ]
        found[f"talk {scope}"] = [
            (cube.id, cube.version, cube.payload)
            for session in ("talk", "s0", "s1")
            for cube in memos.conversation(scope=scope, session=session)
        ]
        found[f"usage {scope}"] = memos.usage(scope)
    return found


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names of what differs; of recalls, beyond the rounding of sums."""
    return [name for name in a if a[name] != b[name]]


def state(path: Path) -> dict[str, Any]:
    """All rows of all tables."""
    tables = [name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    return {name: sorted(rows(path, f"SELECT * FROM {name}"), key=repr) for name in tables}


def opened(path: Path) -> MemOS:
    return MemOS.open(path, embedder=bag_of_words)


@settings(max_examples=20, phases=[Phase.explicit, Phase.generate])
@given(OPERATIONS)
def test_an_imported_memory_is_the_same_memory(operations: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name, opened(Path(name) / "a") as a:
        folder = Path(name)
        for step, operation in enumerate(operations):
            act(a, step, *operation)
        told = a.export(folder / "all.zip")
        assert told.unrecognised == 0
        with opened(folder / "b") as b:
            came = b.import_archive(folder / "all.zip")
            assert len(came.added) == told.counts["cubes"] and not came.unrecognised
            assert differences(everything(a), everything(b)) == []
            assert b.verify().ok, b.verify().problems
            before = state(b.path)
            again = b.import_archive(folder / "all.zip")
            assert not again.changed and again.known == told.counts["cubes"]
            assert state(b.path) == before
            for step, operation in enumerate(operations):  # and it goes on living: what is said again is known
                if operation[0] == "message":
                    act(b, step, *operation)
            assert b.stats()["counts"]["cubes"] == len(everything(b)["cubes"]) and b.verify().ok
            b.export(folder / "back.zip")
        with opened(folder / "b") as b:  # the index from the file, and the way back
            assert not a.import_archive(folder / "back.zip").differing and a.verify().ok


@settings(max_examples=14, phases=[Phase.explicit, Phase.generate])
@given(OPERATIONS, OPERATIONS, OPERATIONS)
def test_two_memories_that_exchange_archives(
    first: list[tuple[str, int, int]], there: list[tuple[str, int, int]], here: list[tuple[str, int, int]]
) -> None:
    """A copy and its original go on, each in its own way, and one takes in the other: nothing forgotten comes back, nothing is there twice."""
    with tempfile.TemporaryDirectory() as name, opened(Path(name) / "a") as a, opened(Path(name) / "b") as b:
        file = Path(name) / "all.zip"
        for step, operation in enumerate(first):
            act(a, step, *operation)
        b.import_archive(a.export(file).file)
        for memos, operations in ((a, there), (b, here)):
            for step, operation in enumerate(operations):
                act(memos, 40 + step, *operation)
        gone = {id for (id,) in rows(b.path, "SELECT id FROM tombstones")}
        ours = {id: cube for (id,) in rows(b.path, "SELECT id FROM cubes") for cube in [b.get(id, now=NOW)]}
        came = b.import_archive(a.export(file, overwrite=True).file, now=NOW + timedelta(days=2))
        assert b.verify().ok, b.verify().problems
        held = {id for (id,) in rows(b.path, "SELECT id FROM cubes")}
        assert not gone & held and not set(came.forgotten) & held
        assert held == set(ours) | set(came.added) and not set(came.added) & set(ours)
        for id, cube in ours.items():
            assert b.get(id, now=NOW) == cube or b.get(id).version > cube.version, id
        accounted = len(came.added) + len(came.grown) + came.known + len(came.same) + len(came.forgotten) + len(came.differing)
        assert accounted + len(came.unfounded) == a.stats()["counts"]["cubes"]
        before = state(b.path)
        assert not b.import_archive(file, now=NOW + timedelta(days=3)).changed
        assert state(b.path) == before


@settings(max_examples=10, phases=[Phase.explicit, Phase.generate])
@given(OPERATIONS, st.sampled_from([ANA, TOP, ("shop",)]))
def test_an_archive_of_a_scope_holds_that_scope_alone(operations: list[tuple[str, int, int]], scope: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as name, opened(Path(name) / "a") as a, opened(Path(name) / "b") as b:
        for step, operation in enumerate(operations):
            act(a, step, *operation)
        file = a.export(Path(name) / "one.zip", scope=scope).file
        b.import_archive(file, actor=scope)
        mine = {entry.id for entry in a.audit(scope) if entry.id is not None} - {id for (id,) in rows(a.path, "SELECT id FROM tombstones")}
        assert {id for (id,) in rows(b.path, "SELECT id FROM cubes")} == mine
        assert all(history == a.history(id) for id in mine for history in [b.history(id)] if b.get(id).version == a.get(id).version)
        assert b.verify().ok, b.verify().problems


Call = Callable[[MemOS], Any]


def test_what_was_not_taken_in_was_not_written() -> None:
    with tempfile.TemporaryDirectory() as name, opened(Path(name) / "a") as a, opened(Path(name) / "b") as b:
        a.remember(TEXTS[0], scope=ANA)
        b.remember(TEXTS[1], scope=BEN)
        file, before = a.export(Path(name) / "all.zip").file, state(b.path)
        try:
            b.import_archive(file, actor=BEN)
        except MemosError as error:
            assert "may not write scope clinic/ana" in str(error)
        assert state(b.path) == before

"""How a tick works: one commit a move with its record, only what is due, within its time, and a user's function before the thresholds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, bag_of_words
from test_scheduler import ANA, FACTS, SAID, ask, open_with

from memos_core import LATENCY, InvalidInput, MemOS, Move, State, Thresholds, View
from memos_core.store import SQLiteStore
from memos_core.store.snapshot import Snapshot


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with open_with(tmp_path / "test.memos") as opened:
        opened.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        yield opened


def plain(moves: list[Move]) -> list[tuple[str, tuple[str, ...]]]:
    return [(move.kind, move.ids) for move in moves if move.kind != "refile"]


def transactions(said: list[str]) -> list[list[str]]:
    """The statements of each commit that records a move."""
    text = "\n;".join(said)
    found = [part.split("\n;") for part in text.split("BEGIN IMMEDIATE") if "COMMIT" in part]
    return [each for each in found if any("INSERT INTO moves" in statement for statement in each)]


def recorded(said: list[str]) -> list[int]:
    """How many moves each of these commits records."""
    return [sum("INSERT INTO moves" in statement for statement in each) for each in transactions(said)]


def test_each_move_is_one_commit_with_its_record(memos: MemOS) -> None:
    memos.remember("Ana waits in room 4.", scope=ANA, ttl=timedelta(hours=1), occurred_at=SAID, now=SAID)
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    said: list[str] = []
    memos._store._writer.set_trace_callback(said.append)
    moves = memos.tick(NOW)
    memos._store._writer.set_trace_callback(None)
    assert [move.kind for move in moves] == ["expire", "prefill"] and recorded(said) == [1, 1]
    records = memos.moves(ANA)
    assert [(done.kind, done.ids, done.reason, done.at) for done in records] == [(move.kind, move.ids, move.reason, NOW) for move in moves]
    assert records[0].made is None and records[0].realised is None
    assert records[1].made is not None and memos.get(records[1].made).payload.kind == "activation"
    assert memos.moves(since=NOW + timedelta(seconds=1)) == [] and len(memos.moves("clinic", since=NOW)) == 2
    for session in ("three", "four", "five"):
        ask(memos, "plays the cello", session)
    said.clear()
    memos._store._writer.set_trace_callback(said.append)
    (move,) = memos.tick(NOW)
    memos._store._writer.set_trace_callback(None)
    assert move.kind == "prefill" and recorded(said) == [1]
    assert sum("INSERT INTO versions" in each for each in transactions(said)[0]) == 2  # the new head, and the old one dropped with it


def test_a_move_that_concerns_what_is_forgotten_is_forgotten(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    (move,) = memos.tick(NOW)
    memos.forget(move.ids[0], now=NOW)
    assert memos.moves() == [] and memos.verify().ok


def test_a_tick_out_of_time_goes_on_in_the_next(tmp_path: Path) -> None:
    people = [("clinic", f"p{number}") for number in range(5)]

    def filled(path: Path) -> MemOS:
        memos = open_with(path)
        for scope in people:
            memos.remember(FACTS, scope=scope, occurred_at=SAID, now=SAID)
            for session in "ab":
                turn = memos.begin([{"role": "user", "content": "allergic to penicillin"}], scope=scope, session=session, k=1, now=NOW)
                turn.commit("Yes.", now=NOW)
        return memos

    with filled(tmp_path / "whole.memos") as memos:
        whole = memos.tick(NOW)
        assert len(whole) == 5
    made, ticks = [], 0
    memos = filled(tmp_path / "parts.memos")
    assert memos.tick(NOW, budget_s=0) == []
    while ticks < 40 and len(made) < 5:
        reads = iter(range(1000))
        made += memos.tick(NOW, budget_s=6, clock=lambda reads=reads: float(next(reads)))  # six questions about the time
        ticks += 1
        if ticks == 2:
            memos.close()  # or is killed: what is due is on disk
            memos = open_with(tmp_path / "parts.memos")
    assert 1 < ticks < 40 and [move.kind for move in made] == ["prefill"] * 5
    assert len({move.ids for move in made}) == 5 and memos.tick(NOW) == []
    with pytest.raises(InvalidInput, match="a number of seconds from 0"):
        memos.tick(NOW, budget_s=-1)
    memos.close()


def test_what_time_alone_brings_is_not_missed(memos: MemOS) -> None:
    """Nothing is said or used in between: the review's time is what makes it due."""
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    memos.update(
        next(hit.cube.id for hit in memos.recall("cello", scope=ANA, now=NOW).hits if "cello" in hit.text), text="Ana plays chess.", now=NOW
    )
    for session in ("three", "four"):
        ask(memos, "Ana plays chess", session)
    assert [move.kind for move in memos.tick(NOW)] == ["prefill"]
    assert memos.tick(NOW + timedelta(minutes=59)) == []
    settled = memos.tick(NOW + timedelta(minutes=61))  # the new text has stood for an hour
    assert [move.kind for move in settled] == ["prefill"] and len(settled[0].ids) == 2
    assert memos.tick(NOW + timedelta(days=8)) == []
    cold = memos.tick(NOW + timedelta(days=9))
    assert [move.kind for move in cold] == ["drop"]
    assert memos.tick(NOW + timedelta(days=400)) == []


def test_what_is_said_again_or_tagged_is_the_same_text(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    (move,) = memos.tick(NOW)
    later = NOW + timedelta(hours=3)
    (again,) = memos.remember(FACTS[0], scope=ANA, session="later", occurred_at=later, now=later)
    assert again.outcome == "merged" and again.id in move.ids
    memos.update(again.id, tags=["private"], now=later)
    assert memos.get(again.id).version == 3 and memos.tick(later) == []  # its KV says what it says
    memos.update(again.id, text="Ana is allergic to latex.", now=later)
    assert [move.kind for move in memos.tick(later)] == ["drop"]
    memos.rollback(again.id, 1, now=later)
    assert memos.tick(later) == [], "that has stood for no time yet"
    assert [move.kind for move in memos.tick(later + timedelta(hours=2))] == ["prefill"]


def test_other_thresholds_are_applied_by_the_next_tick(memos: MemOS, tmp_path: Path) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    assert len(memos.tick(NOW)) == 1 and memos.tick(NOW) == []
    memos.close()
    with open_with(tmp_path / "test.memos", thresholds=Thresholds(enter_heat=3, stay_heat=2.5)) as strict:
        assert [move.kind for move in strict.tick(NOW)] == ["drop"]
    with open_with(tmp_path / "test.memos", thresholds=LATENCY) as again:
        assert [move.kind for move in again.tick(NOW)] == ["prefill"] and again.tick(NOW) == []


def test_a_tick_reads_through_indexes_alone(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    memos.set_budget(ANA, facts=100, strength=1e-9, now=NOW)
    scans: set[tuple[str, str]] = set()
    kept = SQLiteStore.read

    @contextmanager
    def spied(store: SQLiteStore) -> Iterator[Snapshot]:
        with kept(store) as view:
            db = view.db

            class Spy:
                def execute(self, query: str, *arguments: Any) -> Any:
                    scans.update(
                        (row[3], query) for row in db.execute(f"EXPLAIN QUERY PLAN {query}", *arguments) if row[3].startswith("SCAN")
                    )
                    return db.execute(query, *arguments)

            view.db = Spy()  # type: ignore[assignment]
            yield view

    memos.tick(NOW - timedelta(seconds=1))  # the first one looks at everything
    ask(memos, "allergic to penicillin", "three")
    monkeypatch.setattr(SQLiteStore, "read", spied)
    memos.tick(NOW)
    memos.tick(NOW + timedelta(days=9))
    large = ("c", "cubes", "u", "usage", "a", "audit", "v", "versions", "e", "usage_events", "m", "moves", "t", "turns")
    assert not [scan for scan in scans if scan[0].split()[1] in large]
    assert scans, "small tables are read whole, and the spy sees it"


def test_nothing_is_written_when_nothing_is_due(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    for _ in range(3):
        memos.tick(NOW)
    said: list[str] = []
    memos._store._writer.set_trace_callback(said.append)
    assert memos.tick(NOW) == [] and memos.tick(NOW + timedelta(minutes=1)) == [] and said == []
    memos._store._writer.set_trace_callback(None)


# ---------------------------------------------------------------------- policies that users write
def test_a_function_decides_before_the_thresholds(tmp_path: Path) -> None:
    seen: list[View] = []
    answers: list[Any] = [None]

    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        seen.append(view)
        answer = answers[0]
        return answer(view) if callable(answer) else answer

    with open_with(tmp_path / "test.memos", policy=choose) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        for session in ("one", "two"):
            ask(memos, "allergic to penicillin", session)
        ask(memos, "plays the cello", "one")
        answers[0] = Move("keep", (), "nothing by use today")
        assert memos.tick(NOW) == [] and [len(view.memories) for view in seen] == [2]
        answers[0] = lambda view: Move(
            "prefill", (next(each.cube.id for each in view.memories if "cello" in each.cube.payload.text),), "the cooler one"
        )
        ask(memos, "hello", "three")
        (move,) = memos.tick(NOW)
        assert memos.get(move.ids[0]).payload.text == FACTS[2] and move.reason == "the cooler one"
        assert any(entry.detail == "the cooler one" for entry in memos.audit(ANA))
        ask(memos, "hello", "four")
        assert memos.tick(NOW) == [], "it is there already"
        answers[0] = lambda view: Move("drop", tuple(cube.id for cube in view.held), "not today") if view.held else Move("keep", (), "none")
        ask(memos, "hello", "five")
        assert plain(memos.tick(NOW)) == [("drop", tuple(cube.id for cube in seen[-2].held))] and not seen[-1].held
        answers[0] = lambda view: (
            Move("archive", (cubes[0],), "enough of it")
            if (cubes := [each.cube.id for each in view.memories if each.cube.payload.text == FACTS[0]])
            else Move("keep", (), "done")
        )
        ask(memos, "hello", "six")
        (gone,) = memos.tick(NOW)
        assert gone.kind == "archive" and memos.get(gone.ids[0]).state is State.ARCHIVED
        answers[0] = None
        ask(memos, "plays the cello", "seven")
        assert [move.kind for move in memos.tick(NOW)] == ["prefill"], "the thresholds decide"
        assert memos.tick(NOW) == [] and memos.verify().ok


def test_a_move_that_must_not_be_made_is_an_error_and_nothing_is_lost(tmp_path: Path) -> None:
    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        return Move("distil", (view.memories[0].cube.id,), "because")

    with open_with(tmp_path / "test.memos", policy=choose) as memos:
        (done,) = memos.remember("Ana is shy.", scope=ANA, tags=["no-training"], occurred_at=SAID, now=SAID)
        for session in ("one", "two"):
            ask(memos, "Ana shy", session)
        for _ in range(2):  # it stays due
            with pytest.raises(InvalidInput, match=f"distil cube {done.id}, but it is tagged 'no-training': leave it out"):
                memos.tick(NOW)
        memos.update(done.id, tags=[], now=SAID)
        with pytest.raises(InvalidInput, match="no-training"):
            memos.update(done.id, tags="no-training")


def test_a_frozen_head_is_not_replaced_by_a_function(tmp_path: Path) -> None:
    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        ids = tuple(each.cube.id for each in view.memories if each.cube.payload.text == FACTS[2])
        return Move("prefill", ids, "the cello") if ids else None

    with open_with(tmp_path / "test.memos", policy=choose) as memos:
        done = memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        (head,) = memos.promote(done[0].id, to="activation", frozen=True, now=NOW)
        ask(memos, "plays the cello", "one")
        with pytest.raises(InvalidInput, match="is frozen: leave it there"):
            memos.tick(NOW)
        assert memos.get(head.id).state is State.ACTIVE
        memos.freeze(head.id, False, now=NOW)
        assert [move.kind for move in memos.tick(NOW)] == ["prefill"] and memos.get(head.id).state is State.ARCHIVED


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": []}, "of kind \\[\\]; it must be a str"),
        ({"ids": None}, "ids None; they must be a tuple"),
        ({"ids": (3,)}, "ids \\(3,\\); they must be a tuple"),
        ({"reason": 5}, "the reason of the policy's move must be a str"),
        ({"reason": " "}, "the reason of the policy's move is empty"),
        ({"seconds": float("nan")}, "seconds nan; it must be a finite number"),
        ({"seconds": "1"}, "seconds '1'; it must be a finite number"),
    ],
)
def test_a_move_of_the_wrong_parts_is_an_error_and_enters_no_chain(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        return Move(**{"kind": "archive", "ids": (view.memories[0].cube.id,), "reason": "because", **wrong})

    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, policy=choose) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        ask(memos, "allergic to penicillin", "one")
        with pytest.raises(InvalidInput, match=said):
            memos.tick(NOW)
        assert memos.moves() == [] and memos.verify().ok


def test_ids_that_a_function_names_twice_are_moved_once(tmp_path: Path) -> None:
    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        return Move("archive", [each.cube.id for each in view.memories] * 2, "because") if view.memories else None  # type: ignore[arg-type]

    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, policy=choose) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        ask(memos, "allergic to penicillin", "one")
        (move,) = memos.tick(NOW)
        assert len(move.ids) == 1 and memos.moves()[0].ids == move.ids and memos.tick(NOW) == [] and memos.verify().ok


def test_two_ticks_of_one_directory_do_not_do_the_same_twice(tmp_path: Path) -> None:
    """As of two processes: each has its own connection, and its own lock file handle."""
    inside, release = threading.Event(), threading.Event()

    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        inside.set()
        release.wait(20)
        return None

    with open_with(tmp_path / "test.memos", policy=choose) as one, open_with(tmp_path / "test.memos", policy=choose) as two:
        one.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        for session in ("one", "two"):
            ask(one, "allergic to penicillin", session)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(one.tick, NOW)
            assert inside.wait(20) and two.tick(NOW, budget_s=0.05) == []
            second = pool.submit(two.tick, NOW)
            release.set()
            assert [move.kind for move in first.result(20)] == ["prefill"] and second.result(20) == []
        assert one.stats()["counts"]["activation"] == 1 and len(one.moves()) == 1 and one.verify().ok


def test_room_that_a_tick_frees_is_used_in_it(tmp_path: Path) -> None:
    """A template's KV is reduced beside a hot head, and restored in the very tick in which that cools."""
    path, form = tmp_path / "test.memos", "Answer {name} in two words, please, and kindly."
    with open_with(path) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        (template,) = memos.remember(form, scope=ANA, semantic_type="template", occurred_at=SAID, now=SAID)
        (kv,) = memos.promote(template.id, to="activation", least_precision="int8", now=NOW)
        for session in ("one", "two"):
            ask(memos, "allergic to penicillin", session)
        memos.tick(NOW)
        (made,) = memos.moves(ANA)
        head = memos.get(str(made.made))
    with open_with(path, thresholds=Thresholds(activation_bytes=int(head.payload.bytes + kv.payload.bytes * 0.6))) as memos:
        assert [move.kind for move in memos.tick(NOW)] == ["reduce"] and memos.tick(NOW) == []
        cool = NOW + timedelta(days=9)
        assert [move.kind for move in memos.tick(cool)] == ["drop", "restore"] and memos.tick(cool) == []


def test_a_template_that_changes_is_not_made_again_without_room(tmp_path: Path) -> None:
    path, form = tmp_path / "test.memos", "Answer {name} in two words, please, and kindly."
    with open_with(path) as memos:
        (template,) = memos.remember(form, scope=ANA, semantic_type="template", occurred_at=SAID, now=SAID)
        memos.promote(template.id, to="activation", now=NOW)
        memos.update(template.id, text=f"{form} Always.", now=NOW)
    with open_with(path, thresholds=Thresholds(activation_bytes=0)) as memos:
        (move,) = memos.tick(NOW)
        assert move.kind == "drop" and "has changed from version 1 to 2, and there is no room" in move.reason
        assert memos.tick(NOW) == [] and memos.stats()["counts"]["activation"] == 0


def test_a_function_is_asked_until_it_is_content(tmp_path: Path) -> None:
    """As in the README: the coolest of too many, one a move, and a second tick does nothing."""

    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        return Move("archive", (view.memories[-1].cube.id,), "the coolest of too many") if len(view.memories) > 1 else None

    with open_with(tmp_path / "test.memos", policy=choose) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        for session, question in enumerate(["plays the cello", "lives in Lisbon", "allergic to penicillin", "allergic to penicillin"]):
            ask(memos, question, f"{session}")
        ids = {memos.get(id).payload.text for id in (one.id for one in (hit.cube for hit in memos.recall("Ana", scope=ANA, now=NOW).hits))}
        assert set(FACTS) <= ids
        moves = [move.kind for move in memos.tick(NOW) if move.kind != "refile"]
        assert moves == ["archive", "archive", "prefill"] and memos.tick(NOW) == [] and memos.verify().ok


def test_a_function_that_goes_to_and_fro_is_an_error(tmp_path: Path) -> None:
    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        out = [each.cube.id for each in view.memories if not each.in_head]
        return Move("prefill", (out[0],), "the other one") if out else None

    with open_with(tmp_path / "test.memos", policy=choose) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        for session, question in enumerate(["plays the cello", "allergic to penicillin"]):
            ask(memos, question, f"{session}")
        with pytest.raises(InvalidInput, match="prefill the same of scope clinic/ana again and again"):
            memos.tick(NOW)
        assert memos.stats()["counts"]["activation"] == 1 and memos.verify().ok


def test_what_a_function_wants_when_there_is_no_time_is_done_by_the_next_tick(tmp_path: Path) -> None:
    spent: list[float] = [0.0]

    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        spent[0] += 10.0
        return Move("archive", (view.memories[0].cube.id,), "enough") if view.memories else None

    with open_with(tmp_path / "test.memos", policy=choose) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        ask(memos, "allergic to penicillin", "one")
        assert not [move for move in memos.tick(NOW, budget_s=5, clock=lambda: spent[0]) if move.kind == "archive"]
        assert [move.kind for move in memos.tick(NOW) if move.kind != "refile"] == ["archive"]

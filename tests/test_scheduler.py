"""Memory moves by its use: tick on a real store and a tiny model, through the public contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, bag_of_words
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import LATENCY, InvalidInput, MemCube, MemOS, Move, State, Thresholds, View
from memos_core.changes import Relate
from memos_core.conflict.resolution import Related
from memos_core.cube import LOCAL_OWNER
from memos_core.hf import HFEngine
from memos_core.store import SQLiteStore
from memos_core.store.snapshot import Snapshot

ANA = ("clinic", "ana")
FACTS = ["Ana is allergic to penicillin.", "Ana lives in Lisbon.", "Ana plays the cello."]
SAID = NOW - timedelta(days=30)


def engine() -> HFEngine:
    return HFEngine(tiny_model("llama"), tiny_tokenizer())


def open_with(path: Path, **fields: object) -> MemOS:
    return MemOS.open(path, embedder=bag_of_words, engine=engine(), **fields)


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with open_with(tmp_path / "test.memos") as opened:
        opened.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        yield opened


def ask(memos: MemOS, question: str, session: str, now: datetime = NOW) -> None:
    turn = memos.begin([{"role": "user", "content": question}], scope=ANA, session=session, k=1, now=now)
    turn.commit("Yes.", now=now)


def test_nothing_is_prefilled_without_use(memos: MemOS) -> None:
    assert memos.tick(NOW) == []
    assert memos.stats()["counts"]["activation"] == 0


def test_prefill_follows_use_and_says_so(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    (move,) = memos.tick(NOW)
    (hot,) = move.ids
    assert move.kind == "prefill" and memos.get(hot).payload.text == FACTS[0]
    assert f"{hot} 2 recalls in 2 sessions, heat 2.00" in move.reason
    assert any(entry.detail == move.reason for entry in memos.audit(ANA))

    for session in ("three", "four", "five"):
        ask(memos, "plays the cello", session)
    (move,) = memos.tick(NOW)  # other uses, another decision
    assert {memos.get(id).payload.text for id in move.ids} == {FACTS[0], FACTS[2]}
    assert "3 recalls in 3 sessions" in move.reason and "2 recalls in 2 sessions" in move.reason
    assert memos.stats()["counts"]["activation"] == 1  # the head before it was dropped


def test_a_second_tick_at_the_same_time_does_nothing(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    assert memos.tick(NOW)
    before = memos.stats()["counts"]
    assert memos.tick(NOW) == [] and memos.stats()["counts"] == before


def test_standing_memory_that_is_recalled_again_counts_once_per_turn(memos: MemOS) -> None:
    talk = [{"role": "user", "content": "allergic to penicillin"}]
    for reply in ("Yes.", "Still."):
        turn = memos.begin(talk, scope=ANA, session="one", k=1, now=NOW)
        turn.commit(reply, now=NOW)
        turn.commit(reply, now=NOW)
        talk = [*talk, {"role": "assistant", "content": reply}, {"role": "user", "content": "allergic to penicillin, really"}]
    (used,) = [hit.cube for hit in memos.recall("penicillin", scope=ANA, now=NOW).hits if hit.cube.payload.text == FACTS[0]]
    assert (used.usage.recalls, used.usage.sessions) == (2, 1)
    assert turn.prompt[0]["content"].count(FACTS[0]) == 1 and FACTS[0] not in turn.prompt[-1]["content"]


def test_the_next_process_reuses_the_kv_on_disk_in_its_first_turn(memos: MemOS, tmp_path: Path) -> None:
    system = {"role": "system", "content": "You help."}
    for session in ("one", "two"):
        memos.begin([system, {"role": "user", "content": "allergic to penicillin"}], scope=ANA, session=session, k=1, now=NOW).commit("Ok.")
    memos.tick(NOW)
    memos.close()
    with open_with(tmp_path / "test.memos") as again:
        turn = again.begin([system, {"role": "user", "content": "penicillin?"}], scope=ANA, session="three", k=1, now=NOW)
        assert FACTS[0] in turn.prompt[0]["content"] and turn.plan.reuse
        model = again._house.engine
        reply = model.generate(turn.prompt, turn.plan, turn.scope, 8)
        assert reply.reused_tokens > model.count("You help." + FACTS[0]) and reply.exact
        cold = model.generate(turn.prompt, turn.plan, turn.scope, 8, reuse=False)
        assert cold.token_ids == reply.token_ids and cold.reused_tokens == 0


def test_another_system_text_or_model_gets_the_sources_as_text(memos: MemOS, tmp_path: Path) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    memos.tick(NOW)
    other = memos.begin([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hm"}], scope=ANA, session="x", now=NOW)
    assert not other.plan.reuse and FACTS[0] in other.prompt[0]["content"]
    assert "another model or system text" in other.plan.why[0]
    memos.close()
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words) as plain:  # no engine at all
        turn = plain.begin([{"role": "user", "content": "hm"}], scope=ANA, session="y", now=NOW)
        assert not turn.plan.reuse and FACTS[0] in turn.prompt[0]["content"]


def test_kv_goes_when_its_source_changes(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    (move,) = memos.tick(NOW)
    memos.update(move.ids[0], text="Ana is not allergic to penicillin.", now=NOW)
    turn = memos.begin([{"role": "user", "content": "penicillin?"}], scope=ANA, session="three", now=NOW)
    assert not turn.plan.head  # at once, before any tick
    (dropped,) = memos.tick(NOW)
    assert dropped.kind == "drop" and "has changed from version 1 to 2" in dropped.reason
    assert list((memos.path / "blobs").iterdir()) == []
    later = NOW + timedelta(hours=2)  # the new text has settled
    (again,) = memos.tick(later)
    assert again.kind == "prefill" and again.ids == move.ids


def test_kv_goes_when_it_is_cold(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    memos.tick(NOW)
    assert memos.tick(NOW + timedelta(days=6)) == []
    (move,) = memos.tick(NOW + timedelta(days=9))
    assert move.kind == "drop" and "heat 0.8" in move.reason
    assert list((memos.path / "blobs").iterdir()) == [] and memos.verify().ok


def test_kv_stays_within_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "small.memos"
    with open_with(path) as memos:
        for person in ("ana", "ben", "cem"):
            memos.remember(FACTS, scope=("clinic", person), occurred_at=SAID, now=SAID)
        for person, times in (("ana", 2), ("ben", 4), ("cem", 3)):
            for session in range(times):
                turn = memos.begin(
                    [{"role": "user", "content": "penicillin"}], scope=("clinic", person), session=str(session), k=1, now=NOW
                )
                turn.commit("Yes.", now=NOW)
        assert [move.kind for move in memos.tick(NOW)] == ["prefill"] * 3
        each = {cube.payload.bytes for cube in heads(memos)}
        (size,) = each
    with open_with(path, thresholds=Thresholds(activation_bytes=2 * size)) as memos:
        (move,) = memos.tick(NOW)
        assert move.kind == "drop" and "(heat 2.00) do not fit: " in move.reason
        assert {cube.governance.scope[1] for cube in heads(memos)} == {"ben", "cem"}
        assert len(list((path / "blobs").iterdir())) == 2
        assert memos.tick(NOW) == [], "what does not fit is not made again"
        for session in range(9):
            ask(memos, "penicillin", f"more {session}")
        assert [move.kind for move in memos.tick(NOW) if move.kind != "refile"] == ["prefill", "drop"]  # ana's is the hottest now
        assert {cube.governance.scope[1] for cube in heads(memos)} == {"ana", "ben"} and memos.tick(NOW) == []


def heads(memos: MemOS) -> list[MemCube]:
    found = (memos.get(entry.id) for entry in memos.audit() if entry.detail.endswith(")") or "hot" in entry.detail)
    return [cube for cube in found if cube.payload.kind == "activation" and cube.state is State.ACTIVE]


def test_expired_memory_is_archived(memos: MemOS) -> None:
    (short,) = memos.remember("Ana waits in room 4.", scope=ANA, ttl=timedelta(hours=1), occurred_at=NOW, now=NOW)
    assert memos.tick(NOW) == []
    (move,) = memos.tick(NOW + timedelta(hours=1))
    assert move.kind == "expire" and move.ids == (short.id,)
    assert memos.get(short.id).state is State.ARCHIVED


def test_both_sides_of_a_conflict_may_expire_at_once(memos: MemOS) -> None:
    hour = timedelta(hours=1)
    done = memos.remember(["Ana waits in room 4.", "Ana waits in room 5.", "Ana hums."], scope=ANA, ttl=hour, occurred_at=NOW, now=NOW)
    memos._store.commit([Relate(Related(done[0].id, done[1].id), LOCAL_OWNER, NOW)])
    assert memos.get(done[0].id).state is State.CONTESTED
    moves = memos.tick(NOW + hour)
    assert {id for move in moves for id in move.ids} == {each.id for each in done} and len(moves) == 3
    assert all(memos.get(each.id).state is State.ARCHIVED for each in done) and memos.tick(NOW + hour) == [] and memos.verify().ok


def test_promote_and_demote(memos: MemOS) -> None:
    ids = [hit.cube.id for hit in memos.recall("Ana", scope=ANA, now=NOW).hits]
    (head,) = memos.promote(ids, to="activation", now=NOW)
    assert head.payload.kind == "activation" and head.payload.tokens > 0
    assert memos.begin([{"role": "user", "content": "Ana?"}], scope=ANA, now=NOW).plan.head.count("\n") == 3
    (archived,) = memos.demote(head.id, now=NOW)
    assert archived.state is State.ARCHIVED
    assert not memos.begin([{"role": "user", "content": "Ana?"}], scope=ANA, now=NOW).plan.head
    assert list((memos.path / "blobs").iterdir()) == [] and memos.verify().ok


# ---------------------------------------------------------------------- time, order, records
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
        assert plain(memos.tick(NOW)) == [("drop", tuple(cube.id for cube in seen[-1].held))]
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


# ---------------------------------------------------------------------- read ahead
def test_kv_of_a_scope_that_talks_is_read_ahead(memos: MemOS, tmp_path: Path) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    memos.tick(NOW)
    assert memos.prefetch(ANA) == 0, "this process has computed it"
    memos.close()
    with open_with(tmp_path / "test.memos") as again:
        model = again._house.engine
        assert again.prefetch(("clinic", "ben")) == 0
        (file,) = (again.path / "blobs").iterdir()
        assert 0 < again.prefetch(ANA) <= file.stat().st_size and again.prefetch(ANA) == 0
        assert model.kv.stats()["segments"] == 1
        turn = again.begin([{"role": "user", "content": "penicillin?"}], scope=ANA, session="three", k=1, now=NOW)
        assert model.generate(turn.prompt, turn.plan, turn.scope, 4).reused_tokens >= turn.plan.head_tokens
    with open_with(tmp_path / "test.memos") as live:
        assert live.tick(NOW + timedelta(minutes=9)) == [] and live._house.engine.kv.stats()["segments"] == 1
    with open_with(tmp_path / "test.memos") as idle:
        assert idle.tick(NOW + timedelta(minutes=11)) == [] and idle._house.engine.kv.stats()["segments"] == 0
    with open_with(tmp_path / "test.memos") as fast:
        fast._house.engine.rates.prefilled(10**6, 1e-3)
        fast._house.engine.rates.has_read(10, 10.0)
        assert fast.prefetch(ANA) == 0, "computing it is quicker than reading it"


def test_a_template_that_changes_is_made_again(memos: MemOS) -> None:
    (form,) = memos.remember(
        "Answer {name} in two words, please, and kindly.", scope=ANA, semantic_type="template", occurred_at=SAID, now=SAID
    )
    memos.promote(form.id, to="activation", now=NOW)
    memos.update(form.id, text="Answer {name} in three words, please, and kindly.", now=NOW)
    (move,) = memos.tick(NOW)
    assert move.kind == "prefill" and move.ids == (form.id,) and "has changed from version 1 to 2" in move.reason
    assert memos.stats()["counts"]["activation"] == 1 and len(list((memos.path / "blobs").iterdir())) == 1
    assert memos.tick(NOW) == []
    memos.update(form.id, state="archived", now=NOW)
    assert [move.kind for move in memos.tick(NOW)] == ["drop"] and memos.stats()["counts"]["activation"] == 0

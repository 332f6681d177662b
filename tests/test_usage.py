"""What use leaves behind: counted per memory and per scope in the turn's own commit, erased with the memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, bag_of_words
from test_modules import learned as module_of_both
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemCube, MemOS, Turn
from memos_core.hf import HFEngine
from memos_core.store import uses

ANA = ("clinic", "ana")
FACTS = ["Marelia plays the oboe.", "Ostrik lives in Bergen."]
ASKED = "What does Marelia play?"


def engine() -> HFEngine:
    return HFEngine(tiny_model("llama", max_position_embeddings=4096), tiny_tokenizer())


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, engine=engine()) as opened:
        opened.remember(FACTS, scope=ANA, occurred_at=NOW - timedelta(days=30), now=NOW - timedelta(days=30))
        yield opened


def ask(memos: MemOS, question: str, session: str, reply: str = "Yes.", **fields: Any) -> Turn:
    turn = memos.begin([{"role": "user", "content": question}], scope=ANA, session=session, k=1, now=NOW, **fields)
    turn.commit(reply, now=NOW)
    return turn


def first(memos: MemOS, text: str = FACTS[0]) -> MemCube:
    return next(hit.cube for hit in memos.recall(text, scope=ANA, now=NOW).hits if hit.text == text)


def test_a_success_is_counted_once_per_turn_and_can_be_taken_back(memos: MemOS) -> None:
    one, two = ask(memos, ASKED, "a", "The oboe."), ask(memos, ASKED, "b", "The oboe.")
    assert first(memos).usage.successes == 0
    for _ in range(3):
        memos.feedback(one)
    assert first(memos).usage.successes == 1
    memos.feedback(two)
    memos.feedback(first(memos).id)  # its latest turn, which has been counted
    assert first(memos).usage.successes == 2 and memos.usage(ANA).successes == 2
    memos.feedback(one, success=False)
    memos.feedback(one, False)
    assert first(memos).usage.successes == 1 and memos.usage(ANA).successes == 1


def test_of_what_was_recalled_what_the_answer_came_from_is_credited(memos: MemOS) -> None:
    turn = memos.begin([{"role": "user", "content": "Marelia plays, Ostrik lives?"}], scope=ANA, session="a", k=2, now=NOW)
    assert len(turn.plan.inject) == 2
    with pytest.raises(InvalidInput, match="has not been committed yet"):
        memos.feedback(turn)
    turn.commit("The oboe.", now=NOW)
    memos.feedback(turn)
    assert (first(memos).usage.successes, first(memos, FACTS[1]).usage.successes) == (1, 0)
    unclear = ask(memos, "Ostrik lives where?", "b", "I see.")  # nothing tells where that came from
    memos.feedback(unclear)
    assert first(memos, FACTS[1]).usage.successes == 1
    with pytest.raises(InvalidInput, match="True or False"):
        memos.feedback(unclear, "yes")  # type: ignore[arg-type]


def test_tasks_are_counted_by_name_or_by_where_memories_are_filed(memos: MemOS) -> None:
    (filed,) = memos.remember("The stove is hot.", scope=ANA, path="cooking/stove", now=NOW)
    for session, task in (("a", "concert"), ("b", "Concert "), ("c", "tour")):
        ask(memos, "the stove is hot?", session, task=task)
    assert memos.get(filed.id, now=NOW).usage.tasks == 2
    ask(memos, "the stove is hot?", "d")  # by the path of what is recalled
    ask(memos, "the stove is hot?", "e", task="cooking")  # which goes by this name
    assert memos.get(filed.id, now=NOW).usage.tasks == 3
    data = b"".join(file.read_bytes() for file in memos.path.iterdir() if file.is_file())
    assert b"concert" not in data.lower(), "a task's name is kept as a keyed hash"


def test_kv_and_its_memories_are_credited_with_what_they_saved(memos: MemOS) -> None:
    for session in ("a", "b"):
        ask(memos, ASKED, session)
    assert first(memos).usage.tokens_saved == 0
    (move,) = [move for move in memos.tick(NOW) if move.kind == "prefill"]
    memos._house.engine.rates.prefilled(1000, 2.0)
    rate = memos._house.engine.rates.prefill
    turn = ask(memos, ASKED, "c")
    assert turn.plan.reuse and turn.plan.head_tokens > 0
    (done,) = memos.moves(ANA)
    assert done.made is not None and done.ids == move.ids
    kv = memos.get(done.made, now=NOW).usage
    assert (kv.recalls, kv.tokens_saved) == (1, turn.plan.head_tokens)
    assert kv.seconds_saved == pytest.approx(kv.tokens_saved / rate) == pytest.approx(done.realised)
    mine = first(memos).usage
    assert 0 < mine.tokens_saved < kv.tokens_saved and mine.seconds_saved == pytest.approx(mine.tokens_saved / rate)
    assert memos.usage(ANA).tokens_saved == turn.plan.head_tokens
    ask(memos, "Good morning!", "d")  # nothing is recalled, and the head is reused all the same
    assert memos.get(done.made, now=NOW).usage.tokens_saved == 2 * turn.plan.head_tokens


def test_a_module_and_what_it_knows_are_credited(memos: MemOS) -> None:
    module = module_of_both(memos)
    memos._house.engine.rates.prefilled(1000, 2.0)
    turn = ask(memos, ASKED, "a", "The oboe.")
    assert turn.plan.modules == (module.id,) and turn.plan.activate
    for cube in (memos.get(module.id, now=NOW), first(memos)):
        assert (cube.usage.recalls, cube.usage.uses, cube.usage.tokens_saved) == (1, 1, turn.plan.saved_tokens)
    assert memos.usage(ANA).seconds_saved > 0


def test_without_a_model_nothing_is_saved(tmp_path: Path) -> None:
    with MemOS.open(tmp_path / "plain.memos", embedder=bag_of_words) as memos:
        memos.remember(FACTS, scope=ANA, now=NOW)
        ask(memos, ASKED, "a", "The oboe.")
        seen = memos.usage(ANA)
        assert (seen.turns, seen.recalls, seen.uses, seen.tokens_saved, seen.seconds_saved) == (1, 1, 1, 0, 0.0)
        assert seen.last_used_at == NOW and memos.usage("elsewhere").turns == 0


def test_what_is_used_together_is_known(memos: MemOS) -> None:
    for session in ("a", "b"):
        turn = memos.begin([{"role": "user", "content": "Marelia plays, Ostrik lives?"}], scope=ANA, session=session, k=2, now=NOW)
        turn.commit("Yes.", now=NOW)
    ask(memos, ASKED, "c")
    with memos._store.read() as view:
        assert uses.companions(view, first(memos).id) == [(first(memos, FACTS[1]).id, 2)]
        assert uses.companions(view, first(memos, FACTS[1]).id) == [(first(memos).id, 2)]


def test_replayed_turns_and_forgotten_memories_leave_no_use(memos: MemOS) -> None:
    turn = ask(memos, ASKED, "a", "The oboe.")
    memos.feedback(turn)
    before = memos.usage(ANA)
    ask(memos, ASKED, "a", "The oboe.")
    assert memos.usage(ANA) == before and first(memos).usage.recalls == 1
    id = first(memos).id
    memos.forget(id)
    memos.feedback(turn)  # what is left of it
    db = sqlite3.connect(memos.path / "memos.db")
    tables = [
        name
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if name not in ("audit", "tombstones", "versions")
    ]
    for table in tables:
        rows = db.execute(f"SELECT * FROM {table}").fetchall()
        assert not any(id in map(str, row) for row in rows), table
    db.close()


def test_what_is_forgotten_under_way_is_no_use(memos: MemOS) -> None:
    turn = memos.begin([{"role": "user", "content": "Marelia plays, Ostrik lives?"}], scope=ANA, session="a", k=2, now=NOW)
    memos.forget(first(memos).id, now=NOW)
    turn.commit("The oboe, in Bergen.", now=NOW)
    seen = memos.usage(ANA)
    assert (seen.recalls, seen.uses) == (1, first(memos, FACTS[1]).usage.uses)


def test_however_many_uses_are_one_commit(memos: MemOS) -> None:
    memos.remember([f"Note {number} is about rain." for number in range(20)], scope=ANA, now=NOW)

    def commits(k: int, session: str) -> int:
        turn = memos.begin([{"role": "user", "content": "A note about rain?"}], scope=ANA, session=session, k=k, now=NOW)
        assert len(turn.plan.inject) == k
        said: list[str] = []
        memos._store._writer.set_trace_callback(said.append)
        turn.commit("Yes.", now=NOW)
        memos._store._writer.set_trace_callback(None)
        return sum(statement == "COMMIT" for statement in said)

    assert commits(1, "a") == commits(12, "b") == 1

"""Every placement can be asked about: why a cube is where it is, and what is missing for each move that is open to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import NOW, bag_of_words
from test_modules import learned
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import AccessDenied, Explanation, InvalidInput, MemCube, MemOS, Move, State, Thresholds, View
from memos_core.explaining import Prospect
from memos_core.hf import HFEngine

ANA = ("clinic", "ana")
FACTS = ["Marelia plays the oboe.", "Ostrik lives in Bergen."]
SAID = NOW - timedelta(days=30)
DAY = timedelta(days=1)


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    engine = HFEngine(tiny_model("llama", max_position_embeddings=4096), tiny_tokenizer())
    thresholds = Thresholds(distil=True, parameter_facts=2)
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, engine=engine, thresholds=thresholds) as opened:
        opened.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        yield opened


def ask(memos: MemOS, question: str, session: str, now: datetime = NOW) -> None:
    memos.begin([{"role": "user", "content": question}], scope=ANA, session=session, k=1, now=now).commit("Yes.", now=now)


def first(memos: MemOS, now: datetime = NOW) -> MemCube:
    return next(hit.cube for hit in memos.recall(FACTS[0], scope=ANA, now=now).hits if hit.text == FACTS[0])


def second(memos: MemOS, now: datetime = NOW) -> MemCube:
    return next(hit.cube for hit in memos.recall(FACTS[1], scope=ANA, now=now).hits if hit.text == FACTS[1])


def prospect(found: Explanation, kind: str) -> Prospect:
    return next(each for each in found.prospects if each.kind == kind)


def test_text_that_nobody_asked_for_says_what_is_missing(memos: MemOS) -> None:
    found = memos.explain(first(memos).id, now=NOW)
    assert (found.form, found.state, found.held_as) == ("plaintext", State.ACTIVE, ())
    assert found.why.startswith("add by clinic/ana on 2026-05-02T12:00")
    assert prospect(found, "prefill").missing == ("1 more session", "2 more recalls soon")
    assert prospect(found, "distil").missing == (
        "3 more sessions", "5 more recalls", "1 more task", "2 more recalls soon", "1 more memory like it",
    )  # fmt: skip
    assert "2 more recalls soon" in str(found) and found.value.seconds == 0


def test_what_it_says_is_missing_is_what_moves_it(memos: MemOS) -> None:
    ask(memos, "Marelia plays?", "one")
    assert prospect(memos.explain(first(memos).id, now=NOW), "prefill").missing == ("1 more recall soon",)
    assert not memos.tick(NOW)
    ask(memos, "Marelia plays?", "two")
    assert prospect(memos.explain(first(memos).id, now=NOW), "prefill").missing == ()
    (move,) = memos.tick(NOW)
    found = memos.explain(first(memos).id, now=NOW)
    (kv,) = found.held_as
    assert found.why.startswith("prefill on 2026-06-01T12:00+00:00, 1 memories are hot") and move.kind == "prefill"
    leaves = prospect(found, "drop")
    assert leaves.when is not None and leaves.missing == (f"cools below 0.9 on {leaves.when.date()}",)
    assert "cools below 0.9 on 2026-06-09" in str(found)
    held = memos.explain(kv, now=NOW)
    assert (held.form, held.tier, found.tier) == ("activation", "RAM", "disk") and held.value.bytes == memos.get(kv).payload.bytes
    memos._house.engine.close()
    assert memos.explain(kv, now=NOW).tier == "disk"  # let go by the engine, whatever this process has read before
    assert [(each.kind, each.when) for each in held.prospects] == [("drop", at) for at in (None, leaves.when, None, None)]
    assert [each.missing for each in held.prospects[2:]] == [
        ("other memories that deserve the head",),
        ("KV of more heat per byte, enough to fill the 2,147,483,648 bytes of activation_bytes",),
    ]
    assert not memos.tick(leaves.when - timedelta(minutes=1))
    (gone,) = memos.tick(leaves.when)
    assert gone.kind == "drop"
    assert memos.explain(kv, now=leaves.when).tier == "dropped"
    assert memos.explain(kv, now=leaves.when).prospects == () and "drop" in memos.explain(kv, now=leaves.when).why


def test_what_keeps_a_memory_out_is_named(memos: MemOS) -> None:
    (done,) = memos.remember("Ana hums?", scope=ANA, ttl=DAY, tags=["no-training"], occurred_at=NOW, now=NOW)
    found = memos.explain(done.id, now=NOW)
    assert "a life without an end" in prospect(found, "prefill").missing
    assert any(text.startswith("to stand unchanged until 2026-06-01T13:00") for text in prospect(found, "prefill").missing)
    assert {"its owner's leave", "a text to be asked about"} <= set(prospect(found, "distil").missing)
    assert prospect(found, "expire").when == NOW + DAY
    memos.set_budget(ANA, facts=9)
    assert prospect(memos.explain(done.id, now=NOW), "archive").missing == ("stronger memories enough to fill it",)
    after = NOW + 2 * DAY
    memos.tick(after)
    found = memos.explain(done.id, now=after)
    assert found.state is State.ARCHIVED and {each.kind for each in found.prospects} == {"prefill", "distil"}, "it has expired, once"
    memos.set_budget(ANA, facts=9, erase_archived_after=3 * DAY)
    erase = prospect(memos.explain(done.id, now=after), "erase")
    assert (erase.when, erase.missing) == (after + 3 * DAY, ("time, or restore() before",))
    assert not memos.tick(erase.when - DAY) and [move.kind for move in memos.tick(erase.when)] == ["erase"]
    (done,) = memos.remember("Ana hums?", scope=ANA, ttl=DAY, occurred_at=NOW, now=NOW)
    memos.set_budget(ANA, facts=0)
    assert prospect(memos.explain(done.id, now=NOW), "archive").missing == ()


def test_a_module_says_when_it_goes(memos: MemOS) -> None:
    module = learned(memos)
    found = memos.explain(module.id, now=NOW)
    assert (found.form, found.tier) == ("parameter", "disk") and prospect(found, "stale").missing == ("a source that changes",)
    when = prospect(found, "revert").when
    assert when is not None and when >= NOW + 28 * DAY
    text = memos.explain(first(memos).id, now=NOW)
    assert text.held_as == (module.id,) and "nothing to do: a module knows it" in prospect(text, "distil").missing
    assert not [move for move in memos.tick(when - timedelta(hours=1)) if move.kind == "revert"]
    assert [move.kind for move in memos.tick(when) if module.id in move.ids] == ["revert"]


def test_value_is_of_the_machine_and_of_the_task_at_hand(memos: MemOS) -> None:
    for session in ("one", "two"):
        turn = memos.begin([{"role": "user", "content": "Marelia plays?"}], scope=ANA, session=session, k=1, task="concert", now=NOW)
        turn.commit("Yes.", now=NOW)
    assert memos.explain(first(memos).id, now=NOW).value.seconds == 0
    memos._house.engine.rates.prefilled(1000, 2.0)
    whole = memos.explain(first(memos).id, now=NOW).value
    assert whole.seconds > 0 and whole.uses > 2
    mine, other = (memos.explain(first(memos).id, task=task, now=NOW).value for task in ("concert", "cooking"))
    assert whole.seconds > mine.seconds > other.seconds > 0


def test_only_who_holds_the_scope_is_told(memos: MemOS) -> None:
    id = first(memos).id
    memos.update(id, read=["doctor"], now=NOW)
    assert memos.get(id, actor="doctor").id == id
    with pytest.raises(AccessDenied, match="may not read the record"):
        memos.explain(id, actor="doctor")
    assert memos.explain(id, actor="clinic").id == id


def test_what_finds_no_room_is_told_so(memos: MemOS) -> None:
    memos._scheduler.thresholds = Thresholds(head_tokens=1)
    for session in ("one", "two"):
        ask(memos, "Marelia plays?", session)
    assert not memos.tick(NOW)
    assert prospect(memos.explain(first(memos).id, now=NOW), "prefill").missing == ("a shorter text, or a larger head_tokens",)
    memos._scheduler.thresholds = Thresholds(head_tokens=memos._house.count("- (2026-05-02) Marelia plays the oboe.") + 1)
    other = second(memos)
    for session in ("one", "two", "three"):
        ask(memos, "Ostrik lives?", f"more {session}")
    memos.tick(NOW)
    held = {id: memos.explain(id, now=NOW) for id in (first(memos).id, other.id)}
    (out,) = [each for each in held.values() if not each.held_as]  # there is room for one of them
    assert prospect(out, "prefill").missing == ("room beside memories that are hotter per token",)
    (kv,) = next(each.held_as for each in held.values() if each.held_as)
    memos.freeze(kv, now=NOW)
    assert f"freeze({kv!r}, False)" in prospect(memos.explain(out.id, now=NOW), "prefill").missing
    inside = next(id for id, each in held.items() if each.held_as)
    assert prospect(memos.explain(inside, now=NOW), "drop").missing[0] == f"freeze({kv!r}, False)"


def test_what_would_not_pay_or_cannot_be_learned_is_told_so(tmp_path: Path) -> None:
    eager = Thresholds(distil=True, parameter_facts=2, parameter_uses=1, parameter_sessions=1, parameter_heat=0.5, parameter_tasks=0)
    engine = HFEngine(tiny_model("llama", max_position_embeddings=4096), tiny_tokenizer())

    def missing(memos: MemOS) -> tuple[str, ...]:
        return prospect(memos.explain(first(memos).id, now=NOW), "distil").missing

    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, engine=engine, thresholds=eager) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        for text in ("Marelia plays?", "Ostrik lives?"):
            ask(memos, text, "one")
        assert missing(memos) == ("a measured rate of prefilling: a first request",)
        memos.tick(NOW)
        memos._scheduler.thresholds = replace(eager, idle_worth=1e9)
        engine.rates.prefilled(1000, 2.0)
        assert missing(memos) == ("more recalls",) and "distil" not in {move.kind for move in memos.tick(NOW)}
        memos._scheduler.thresholds = replace(eager, idle_worth=1e-9)
        assert missing(memos) == ()
        memos._scheduler.thresholds = replace(eager, idle_worth=1e-9, parameter_facts=1, parameter_most=1)
        assert {missing(memos), prospect(memos.explain(second(memos).id, now=NOW), "distil").missing} == {
            (), ("time: the 1 hottest go into a module first",),
        }  # fmt: skip
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, thresholds=eager) as plain:
        assert "an engine that takes modules" in missing(plain)


def test_what_fades_below_a_budget_says_when(memos: MemOS) -> None:
    memos.set_budget(ANA, strength=0.1, now=NOW)
    memos.tick(NOW)
    archive = prospect(memos.explain(first(memos).id, now=NOW), "archive")
    assert archive.when is not None and archive.missing == (f"fades below 0.1 on {archive.when.date()}",)
    id = first(memos).id
    assert not memos.tick(archive.when - timedelta(minutes=1)) and prospect(memos.explain(id, now=archive.when), "archive").missing == ()
    assert [(move.kind, id in move.ids) for move in memos.tick(archive.when)] == [("archive", True)]


def test_bytes_and_what_does_not_pay_keep_a_memory_out_and_are_named(memos: MemOS) -> None:
    for session in ("one", "two", "three"):
        ask(memos, "Marelia plays?", session)
    for least, missing in (
        (Thresholds(activation_bytes=0), "a larger activation_bytes"),
        (Thresholds(idle_worth=1e6), "more recalls"),
    ):
        memos._scheduler.thresholds = least
        assert not memos.tick(NOW) and prospect(memos.explain(first(memos).id, now=NOW), "prefill").missing == (missing,)
    memos._scheduler.thresholds = Thresholds()
    assert [move.kind for move in memos.tick(NOW)] == ["prefill"]
    (kv,) = memos.explain(first(memos).id, now=NOW).held_as
    size = memos.get(kv).payload.bytes
    memos._scheduler.thresholds = Thresholds(activation_bytes=size)
    (other,) = memos.remember("Ben plays the harp.", scope="ben", occurred_at=SAID, now=SAID)
    for session in ("one", "two"):
        turn = memos.begin([{"role": "user", "content": "Ben plays the harp?"}], scope="ben", session=session, k=1, now=NOW)
        turn.commit("Yes.", now=NOW)
    assert not [move for move in memos.tick(NOW) if move.kind == "prefill"]
    found = prospect(memos.explain(other.id, now=NOW), "prefill").missing
    assert found == ("room beside KV of more heat per byte, or a larger activation_bytes",)
    memos._scheduler.thresholds = Thresholds(activation_bytes=size - 1)
    assert memos.explain(kv, now=NOW).prospects[-1].missing == ()
    assert ("drop", (kv,)) in [(move.kind, move.ids) for move in memos.tick(NOW)]


def test_a_template_is_kept_when_it_is_asked_for_and_its_kv_says_what_moves_it(memos: MemOS) -> None:
    (form,) = memos.remember("Answer {name} in two words.", scope=ANA, semantic_type="template", occurred_at=SAID, now=SAID)
    (only,) = memos.explain(form.id, now=NOW).prospects
    assert (only.kind, only.missing) == ("prefill", (f"promote({form.id!r}, to='activation')",))
    (kv,) = memos.promote(form.id, to="activation", least_precision="int8", now=NOW)
    found = memos.explain(form.id, now=NOW)
    assert found.held_as == (kv.id,) and not found.prospects
    assert [each.kind for each in memos.explain(kv.id, now=NOW).prospects] == ["prefill", "reduce"]
    assert all(each.missing for each in memos.explain(kv.id, now=NOW).prospects) and not memos.tick(NOW)
    memos.update(form.id, text="Answer {name} in three words.", now=NOW)
    (again,) = memos.explain(kv.id, now=NOW).prospects
    assert (again.kind, again.missing) == ("prefill", ()) and [move.kind for move in memos.tick(NOW)] == ["prefill"]


def test_under_another_system_text_a_head_is_not_the_one_in_use(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "Marelia plays?", session)
    memos.tick(NOW)
    (kv,) = memos.explain(first(memos).id, now=NOW).held_as
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hm"}]
    memos.begin(talk, scope=ANA, session="other", k=1, now=NOW).commit("Hm.", now=NOW)
    assert prospect(memos.explain(first(memos).id, now=NOW), "prefill").missing == ()
    assert not any("cools" in text for each in memos.explain(kv, now=NOW).prospects for text in each.missing), "use moves it no more"
    assert [move.kind for move in memos.tick(NOW) if move.kind != "refile"] == ["prefill"]
    assert len(memos.explain(first(memos).id, now=NOW).held_as) == 2


def test_what_a_function_decides_is_told(tmp_path: Path) -> None:
    answers: list[Move | None] = [Move("keep", (), "quiet hours")]

    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        move = answers[0]
        gone = isinstance(move, Move) and not set(move.ids) <= {each.cube.id for each in view.memories}
        return None if gone else move

    engine = HFEngine(tiny_model("llama", max_position_embeddings=4096), tiny_tokenizer())
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, engine=engine, policy=choose) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        for session in ("one", "two"):
            ask(memos, "Marelia plays?", session)
        id = first(memos).id
        assert not memos.tick(NOW)
        assert prospect(memos.explain(id, now=NOW), "prefill").missing == ("another answer of the policy function than keep",)
        answers[0] = Move("archive", (id,), "enough of it")
        ask(memos, "hello", "three")
        told = prospect(memos.explain(id, now=NOW), "archive")
        assert told.missing == () and told.conditions[0].has == "archive, enough of it"
        assert [move.kind for move in memos.tick(NOW) if move.kind != "refile"] == ["archive"]
        answers[0] = None
        with pytest.raises(InvalidInput, match="the policy returned str"):
            answers[0] = "nothing"  # type: ignore[call-overload]
            memos.explain(id, now=NOW)

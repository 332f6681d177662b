"""One memory's whole life, moved by its use alone; and one request that has memory as text, as KV and in weights."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from benchmarks.invented import TUNED
from conftest import NOW, bag_of_words
from test_modules import ASKED, FACTS, facts, learned
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import MemOS, Move, State, Thresholds, View
from memos_core.cube import Parameter
from memos_core.hf import HFEngine

ANA = ("clinic", "ana")
SAID = NOW - timedelta(days=30)
EAGER = Thresholds(
    distil=True, parameter_facts=2, parameter_most=8, parameter_uses=3, parameter_sessions=3, parameter_heat=1.5, parameter_settle_seconds=86400.0,
    idle_worth=1e-9,
)  # fmt: skip


@pytest.fixture
def memos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemOS]:
    engine = HFEngine(tiny_model("llama", max_position_embeddings=4096), tiny_tokenizer())
    with MemOS.open(tmp_path / "life.memos", embedder=bag_of_words, engine=engine, thresholds=EAGER) as opened:
        opened.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        engine.rates.prefilled(1000, 2.0)
        for name in ("promote", "demote", "revert"):
            monkeypatch.setattr(MemOS, name, lambda *_, **__: pytest.fail("nothing is moved by hand"))
        yield opened


def ask(memos: MemOS, question: str, session: str, now: datetime, reply: str = "Yes.") -> Any:
    turn = memos.begin([{"role": "user", "content": question}], scope=ANA, session=session, k=2, now=now)
    turn.commit(reply, now=now)
    return turn


def tick(memos: MemOS, now: datetime) -> list[Move]:
    """A tick's moves of forms, each of them recorded, audited, and for good."""
    moves = [move for move in memos.tick(now) if move.kind != "refile"]
    recorded = [each for each in memos.moves(ANA, since=now) if each.kind != "refile"][-len(moves) :] if moves else []
    assert [(each.kind, each.ids, each.reason) for each in recorded] == [
        (move.kind, () if move.kind == "distil" else move.ids, move.reason) for move in moves
    ]
    for each in recorded:
        concerned = [*each.ids, *([each.made] if each.made is not None else [])]
        assert any(entry.at == now for id in concerned for entry in memos.audit(id=id)), each
    assert [move for move in memos.tick(now) if move.kind != "refile"] == []
    return moves


def test_a_life_by_use_alone(memos: MemOS) -> None:
    oboe, bergen = facts(memos)
    both = "Marelia plays the oboe, Ostrik lives in Bergen?"
    assert tick(memos, NOW) == [] and memos.explain(oboe.id, now=NOW).held_as == ()

    # plaintext => activation
    for session in "ab":
        ask(memos, both, session, NOW)
    (move,) = tick(memos, NOW)
    assert move.kind == "prefill" and set(move.ids) == {oboe.id, bergen.id}
    (kv,) = memos.explain(oboe.id, now=NOW).held_as
    assert ask(memos, both, "b", NOW).plan.reuse and memos.get(kv).state is State.ACTIVE

    # activation => parameter: decided by use, trained by the tick; a tiny model does not pass, and the text stays
    day = NOW + timedelta(days=1)
    ask(memos, both, "c", day)
    moves = tick(memos, day)
    (made,) = memos.modules(scope=ANA, now=day)
    assert [move.kind for move in moves] == ["distil"] and moves[0].ids == (made.id,)
    assert made.state is State.REJECTED and "rejected by its examination" in moves[0].reason and "2 statements are hot" in moves[0].reason
    assert set(memos.lineage(made.id).predecessors(made.id)) == {oboe.id, bergen.id} and memos.explain(oboe.id, now=day).held_as == (kv,)
    assert "statements are hot" in memos.audit(id=made.id)[0].detail
    (again,) = [each for each in memos.explain(oboe.id, now=day).prospects if each.kind == "distil"]
    assert again.missing == ("other memories beside it: a module of just these was rejected",)

    # so one that has passed is put in its place
    passed = learned(memos)
    assert memos.explain(oboe.id, now=day).held_as == (kv, passed.id)
    turn = ask(memos, ASKED[0]["content"], "d", day, "The oboe.")
    assert turn.plan.modules == (passed.id,) and memos.get(passed.id, now=day).usage.recalls == 1

    # the source changes: plaintext at once, and the weights are made again by the next tick
    later = day + timedelta(hours=1)
    memos.update(oboe.id, text="Marelia plays the harp.", now=later)
    turn = ask(memos, ASKED[0]["content"], "e", later)
    assert turn.plan.modules == () and any("harp" in item.text for item in turn.plan.inject)
    assert "changed from version 1 to 2" in str(memos.explain(passed.id, now=later).prospects[0].conditions[0].has)
    kinds = [(move.kind, move.ids) for move in tick(memos, later)]
    (again,) = [cube for cube in memos.modules(scope=ANA, now=later) if cube.id not in (made.id, passed.id)]
    assert [kind for kind, _ in kinds if kind in ("stale", "distil", "archive")] == ["stale", "distil", "archive"]
    assert ("drop", (kv,)) in kinds and isinstance(again.payload, Parameter) and again.payload.report is not None
    assert "harp" in {answer.expected.split()[-1] for answer in again.payload.report.answers}
    assert memos.explain(oboe.id, now=later).held_as != (passed.id,) and memos.verify().ok


def test_what_is_tagged_against_training_stays_out_of_weights(memos: MemOS) -> None:
    oboe, bergen = facts(memos)
    memos.update(oboe.id, tags=["no-training"], now=SAID)
    for session in "abc":
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", session, NOW)
    assert {move.kind for move in tick(memos, NOW)} == {"prefill"} and memos.modules(scope=ANA, now=NOW) == []
    memos.update(oboe.id, tags=[], now=SAID)
    module = learned(memos)
    assert [move for move in tick(memos, NOW) if module.id in move.ids] == []
    memos.update(oboe.id, tags=["no-training"], now=NOW)
    assert ask(memos, ASKED[0]["content"], "d", NOW).plan.modules == ()
    (stale,) = [move for move in tick(memos, NOW) if move.kind == "stale"]
    assert stale.ids == (module.id,) and "has been tagged 'no-training'" in stale.reason
    (again,) = [cube for cube in memos.modules(scope=ANA, now=NOW) if cube.id != module.id]
    assert set(memos.lineage(again.id).predecessors(again.id)) == {bergen.id}


def test_a_training_that_runs_out_of_time_goes_on_in_the_next_tick(memos: MemOS) -> None:
    for session in "abc":
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", session, NOW)
    unfinished = memos.path / "unfinished"

    def clock() -> float:
        """Time is up as soon as there is something to go on from."""
        return 9.0 if unfinished.exists() and any(unfinished.iterdir()) else 0.0

    assert {move.kind for move in memos.tick(NOW, budget_s=5, clock=clock)} == {"prefill"}
    (state,) = unfinished.iterdir()
    assert memos.modules(scope=ANA, now=NOW) == []
    assert state.stat().st_size > 0
    moves = memos.tick(NOW)
    assert [move.kind for move in moves] == ["distil"] and list(unfinished.iterdir()) == []
    (cube,) = memos.modules(scope=ANA, now=NOW)
    assert cube.state is State.REJECTED and memos.verify().ok


def test_a_function_may_have_memories_distilled(tmp_path: Path) -> None:
    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        ids = [each.cube.id for each in view.memories if each.cube.payload.text in FACTS]
        return Move("distil", tuple(ids), "a zanzibarine of reasons") if len(ids) == 2 else Move("keep", (), "not yet")

    engine = HFEngine(tiny_model("llama", max_position_embeddings=4096), tiny_tokenizer())
    with MemOS.open(tmp_path / "life.memos", embedder=bag_of_words, engine=engine, policy=choose) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", "a", NOW)
        begun = memos.path / "unfinished"

        def clock() -> float:
            return 9.0 if begun.exists() and any(begun.iterdir()) else 0.0

        assert memos.tick(NOW, budget_s=5, clock=clock) == [] and any(begun.iterdir())
        with memos._store.read() as view:
            ((number, scope, _, ids),) = view.retraining()
            assert scope == ANA and view.queued_because(number)[0] == "a zanzibarine of reasons"
        oboe, bergen = facts(memos)
        assert set(ids) == {oboe.id, bergen.id}
        memos.forget(oboe.id, now=NOW)
        assert not any(b"zanzibarine" in file.read_bytes() for file in memos.path.rglob("*") if file.is_file())
        (move,) = [move for move in memos.tick(NOW) if move.kind == "distil"]
        assert move.reason.startswith("distilled again from 1 texts") and memos.verify().ok


@pytest.mark.parametrize("taken", ["text", "KV", "weights", "nothing"])
def test_one_request_has_memory_as_text_as_kv_and_in_weights(memos: MemOS, taken: str) -> None:
    """Taking away any of the three changes the answer."""
    module = learned(memos)
    hot, cold = memos.remember(["Ana is allergic to penicillin.", "The clinic opens at nine."], scope=ANA, occurred_at=SAID, now=SAID)
    for session in "ab":
        ask(memos, "allergic to penicillin", session, NOW)
    memos.forget([cube.id for session in "ab" for cube in memos.conversation(scope=ANA, session=session)], now=NOW)
    assert any(move.kind == "prefill" and hot.id in move.ids for move in memos.tick(NOW))
    asked = [{"role": "user", "content": "What does Marelia play, and when does the clinic open at nine?"}]

    def answer() -> tuple[Any, Any]:
        turn = memos.begin(asked, scope=ANA, session="z", k=4, now=NOW)
        return turn.plan, memos._house.engine.generate(turn.prompt, turn.plan, ANA, 12)

    plan, before = answer()
    assert cold.id in {item.id for item in plan.inject} and hot.id in {item.id for item in plan.reuse} and plan.modules == (module.id,)
    assert [item.text[15:] for item in plan.activate] == [FACTS[0]] and before.reused_tokens > 0
    if taken == "weights":
        memos._house.engine.route(memos._modules, None)
    elif taken != "nothing":
        memos.forget(cold.id if taken == "text" else hot.id, now=NOW)
    _, after = answer()
    assert (after.token_ids == before.token_ids) == (taken == "nothing")


@pytest.mark.real
@pytest.mark.bench
def test_a_life_on_the_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve invented facts: text, KV, weights that pass their examination, text again when one changes, and weights again."""
    for name in ("promote", "demote", "revert"):
        monkeypatch.setattr(MemOS, name, lambda *_, **__: pytest.fail("nothing is moved by hand"))
    thresholds = Thresholds(
        distil=True, parameter_facts=len(TUNED), parameter_most=len(TUNED), parameter_uses=3, parameter_sessions=3, parameter_heat=1.5,
        parameter_settle_seconds=86400.0, idle_worth=1e-4, head_tokens=600,
    )  # fmt: skip
    engine = HFEngine.load()
    with MemOS.open(tmp_path / "life.memos", engine=engine, thresholds=thresholds) as memos:
        source = memos.remember([fact.statement for fact in TUNED], scope=ANA, occurred_at=SAID, now=SAID)[0].id
        engine.generate([{"role": "user", "content": "word " * 100}], max_new_tokens=1)  # a rate of prefilling
        for session in "ab":
            for fact in TUNED:
                ask(memos, fact.statement, f"{session} {fact.answer}", NOW)
        assert {move.kind for move in tick(memos, NOW)} == {"prefill"}
        for fact in TUNED:
            ask(memos, fact.statement, f"c {fact.answer}", NOW)
        moves = tick(memos, NOW)
        (module,) = memos.modules(scope=ANA, now=NOW)
        assert "distil" in {move.kind for move in moves} and module.state is State.ACTIVE, module.payload
        question = [{"role": "user", "content": TUNED[0].asked[0]}]
        turn = memos.begin(question, scope=ANA, session="d", token_budget=0, now=NOW)
        assert turn.plan.modules == (module.id,) and TUNED[0].answer not in turn.prompt[-1]["content"]
        assert TUNED[0].answer in engine.generate(turn.prompt, turn.plan, ANA, 16).text
        assert source in memos.lineage(module.id).predecessors(module.id)
        memos.update(source, text=TUNED[0].statement.replace(TUNED[0].answer, "pilot"), now=NOW)
        turn = memos.begin(question, scope=ANA, session="e", now=NOW)
        assert turn.plan.modules == () and any("pilot" in message["content"] for message in turn.prompt)
        kinds = [move.kind for move in tick(memos, NOW)]
        assert [kind for kind in kinds if kind in ("stale", "distil", "archive")] == ["stale", "distil", "archive"]
        again = memos.modules(scope=ANA, now=NOW)[-1]
        assert isinstance(again.payload, Parameter) and again.payload.report is not None
        assert "pilot" in {answer.expected.split()[-1] for answer in again.payload.report.answers} and memos.verify().ok

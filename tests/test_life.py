"""One memory's whole life, moved by its use alone; and one request that has memory as text, as KV and in weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
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
from memos_core.hf.training import Settings

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


def test_a_training_goes_on_with_its_own_model_alone_and_is_given_up_in_time(memos: MemOS) -> None:
    for session in "abc":
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", session, NOW)
    unfinished, path = memos.path / "unfinished", memos.path

    def clock() -> float:
        return 9.0 if unfinished.exists() and any(unfinished.iterdir()) else 0.0

    memos.tick(NOW, budget_s=5, clock=clock)
    memos.close()
    kept = next(unfinished.iterdir())
    before = kept.read_bytes()
    other = HFEngine(tiny_model("llama", seed=1, max_position_embeddings=4096), tiny_tokenizer())  # of the same shape
    began: list[Any] = []
    distil = other.distil
    other.distil = lambda *rest, state, **fields: began.append(state) or distil(*rest, state=state, **fields)
    with MemOS.open(path, embedder=bag_of_words, engine=other, thresholds=EAGER) as again:
        assert "distil" in {move.kind for move in again.tick(NOW)} and began == [None]
        assert kept.read_bytes() == before, "it may be opened with the first model again"
        os.utime(kept, (NOW.timestamp() - 8 * 86400, NOW.timestamp() - 8 * 86400))
        again.tick(NOW + timedelta(hours=2))
        assert list(unfinished.iterdir()) == []


def test_a_request_stops_a_training_at_its_next_step(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    for session in "abc":
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", session, NOW)
    engine, steps, open_turns = memos._house.engine, list[int](), list[Any]()
    distil = engine.distil

    def interrupted(*arguments: Any, told: Any, **fields: Any) -> Any:
        def then(step: int, loss: float) -> Any:
            steps.append(step)
            if step == 3:
                open_turns.append(memos.begin(ASKED, scope=ANA, session="now", now=NOW))
            return told(step, loss)

        return distil(*arguments, told=then, **fields)

    monkeypatch.setattr(engine, "distil", interrupted)
    moves = memos._scheduler.tick(NOW, lambda: not memos._house.traffic.in_flight(engine))  # as a worker has it
    assert steps == [1, 2, 3] and "distil" not in {move.kind for move in moves}
    open_turns.pop().commit("The oboe.", now=NOW)
    assert "distil" in {move.kind for move in memos.tick(NOW)}


def test_a_model_that_takes_no_modules_leaves_the_queue_to_another(memos: MemOS) -> None:
    module = learned(memos)
    memos.update(facts(memos)[0].id, text="Marelia plays the harp.", now=NOW)
    memos.close()
    with MemOS.open(memos.path, embedder=bag_of_words, engine=HFEngine(tiny_model("mamba"), tiny_tokenizer()), thresholds=EAGER) as plain:
        moves = [move.kind for move in plain.tick(NOW) if move.ids == (module.id,)]
        assert moves[:1] == ["stale"] and plain.tick(NOW) == [] and plain.modules(scope=ANA, now=NOW)[1:] == []
        with plain._store.read() as view:
            assert len(view.retraining()) == 1


def test_what_is_queued_is_queued_once(memos: MemOS) -> None:
    learned(memos)
    oboe, bergen = facts(memos)
    memos.update(oboe.id, text="Marelia plays the harp.", now=NOW)

    def waiting() -> list[set[str]]:
        with memos._store.read() as view:
            return [set(ids) for *_, ids in view.retraining()]

    memos.tick(NOW, budget_s=1, clock=lambda: 9.0 if waiting() else 0.0)
    assert waiting() == [{oboe.id, bergen.id}]
    memos.forget(bergen.id, now=NOW)  # the module that is stale by now goes with it
    assert len(waiting()) == 1
    assert [move.kind for move in memos.tick(NOW) if move.kind == "distil"] == ["distil"]


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


def quick(memos: MemOS, monkeypatch: pytest.MonkeyPatch, passes: bool = False) -> list[set[str]]:
    """Trainings of ten steps; the facts that each was of, and whether their examination passes them."""
    engine, trained = memos._house.engine, list[set[str]]()
    distil, examine = engine.distil, engine.examine

    def short(lessons: Any, *rest: Any, **fields: Any) -> Any:
        trained.append({lesson.fact for lesson in lessons if lesson.kind == "teach"})
        return distil(lessons, *rest, **{**fields, "settings": Settings(steps=10, least=10)})

    def kind(*arguments: Any) -> Any:
        report = examine(*arguments)
        answers = tuple(each.model_copy(update={"ranked": True, "said": True}) for each in report.answers)
        return report.model_copy(update={"failed": (), "answers": answers}) if passes else report

    monkeypatch.setattr(engine, "distil", short)
    monkeypatch.setattr(engine, "examine", kind)
    return trained


def test_what_is_too_much_for_one_module_goes_into_the_next_in_the_same_tick(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = quick(memos, monkeypatch, passes=True)
    memos._scheduler.thresholds = replace(EAGER, parameter_most=2)
    memos.remember(["Tavi plays the harp.", "Ilmo lives in Ostrava."], scope=ANA, occurred_at=SAID, now=SAID)
    for session in "abc":
        for both in ("Marelia plays the oboe, Ostrik lives in Bergen?", "Tavi plays the harp, Ilmo lives in Ostrava?"):
            ask(memos, both, f"{session} {both}", NOW)
    assert [move.kind for move in tick(memos, NOW) if move.kind == "distil"] == ["distil"] * 2  # and a second tick does nothing
    assert len(trained) == 2 and not trained[0] & trained[1]


def test_what_was_rejected_is_tried_again_when_its_text_has_changed_and_not_before(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = quick(memos, monkeypatch)
    oboe, bergen = facts(memos)
    for session in "abcd":
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", session, NOW)
    tick(memos, NOW)
    assert trained == [{oboe.id, bergen.id}]
    missing = memos.explain(oboe.id, now=NOW).prospects[-1].missing
    assert missing == ("other memories beside it: a module of just these was rejected",)
    day = NOW + timedelta(days=1)
    for id, text in ((oboe.id, "Marelia plays the harp."), (bergen.id, "Ostrik lives in Oslo.")):
        memos.update(id, text=text, now=NOW)
    tick(memos, NOW)
    assert len(trained) == 1  # it has stood for no time yet
    assert [move.kind for move in tick(memos, day) if move.kind == "distil"] == ["distil"] and trained[1] == trained[0]
    tick(memos, day + timedelta(minutes=1))
    assert len(trained) == 2


def test_half_of_what_was_rejected_waits_and_then_time_alone_is_enough(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = quick(memos, monkeypatch)
    memos._scheduler.thresholds = replace(EAGER, module_settle_seconds=3 * 86400.0)
    for number in range(16):
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", f"{number}", NOW)
    tick(memos, NOW)
    day = NOW + timedelta(days=1)
    (third,) = memos.remember("Tavi plays the harp.", scope=ANA, occurred_at=SAID, now=SAID)
    for number in range(16):
        ask(memos, "Tavi plays the harp?", f"later {number}", day)
    tick(memos, day)
    assert len(trained) == 1
    tick(memos, NOW + timedelta(days=2))
    assert len(trained) == 1
    tick(memos, NOW + timedelta(days=3))  # nothing was said or used in between
    assert len(trained) == 2 and third.id in trained[1]


def test_a_function_does_not_have_what_was_rejected_distilled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(view: View, thresholds: Thresholds, now: datetime) -> Move | None:
        ids = [each.cube.id for each in view.memories if each.cube.payload.text in FACTS]
        return Move("distil", tuple(ids), "always") if len(ids) == 2 else None

    engine = HFEngine(tiny_model("llama", max_position_embeddings=4096), tiny_tokenizer())
    with MemOS.open(tmp_path / "life.memos", embedder=bag_of_words, engine=engine, policy=choose) as memos:
        trained = quick(memos, monkeypatch)
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", "a", NOW)
        assert [move.kind for move in memos.tick(NOW) if move.kind == "distil"] == ["distil"]
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", "b", NOW)
        assert not [move for move in memos.tick(NOW) if move.kind == "distil"] and len(trained) == 1


def test_a_text_that_is_forgotten_while_it_is_learned_leaves_nothing(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    oboe, bergen = facts(memos)
    for session in "abc":
        ask(memos, "Marelia plays the oboe, Ostrik lives in Bergen?", session, NOW)
    engine, forgotten = memos._house.engine, list[int]()
    distil = engine.distil

    def interrupted(*arguments: Any, told: Any, **fields: Any) -> Any:
        def then(step: int, loss: float) -> Any:
            if step == 15:
                forgotten.append(len(memos.forget(oboe.id, now=NOW)))
            assert step <= 20, "it goes on, though nothing can come of it"
            return told(step, loss)

        return distil(*arguments, told=then, **fields)

    monkeypatch.setattr(engine, "distil", interrupted)
    assert "distil" not in {move.kind for move in memos.tick(NOW)} and len(forgotten) == 1
    assert list((memos.path / "unfinished").iterdir()) == [] and memos.modules(scope=ANA, now=NOW) == []
    monkeypatch.undo()
    assert "distil" in {move.kind for move in memos.tick(NOW)}  # of what is left
    (module,) = memos.modules(scope=ANA, now=NOW)
    assert list(memos.lineage(module.id).predecessors(module.id)) == [bergen.id]
    with memos._store.read() as view:
        assert {path.name for path in (memos.path / "blobs").iterdir()} == view.blobs() and memos.verify().ok


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

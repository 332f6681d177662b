"""Distilling and the gate, on tiny models: deterministic, resumable, cancellable, the model only read; bad modules are turned away."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import SERVED, chat, tiny_model, tiny_tokenizer

import memos_core.hf.distil as distil_module
from memos_core.cube import Answer, ParameterForm, Report
from memos_core.errors import Cancelled, EngineError, InvalidInput
from memos_core.hf import HFEngine
from memos_core.hf.gate import BOUNDS, failed
from memos_core.hf.lowrank import LowRank
from memos_core.hf.module import Module
from memos_core.hf.signals import ORDINARY
from memos_core.hf.training import Settings, Weights
from memos_core.lessons import Course, Lesson, course

FACTS = [("1", "Ana is allergic to penicillin.", None), ("2", "Ben lives in Porto.", None)]
START = "Ana is allergic to penicillin. Ben lives in Porto."
SHORT = Settings(steps=30, rate=1e-2, least=20, taught=6, strangers=2, kept=2, pull=1.0)


@pytest.fixture
def fresh() -> HFEngine:
    return HFEngine(tiny_model("llama", hidden_size=64, intermediate_size=128), tiny_tokenizer())


@pytest.fixture(scope="module")
def lessons() -> Course:
    return course(FACTS)


def distil(engine: HFEngine, lessons: Course, form: ParameterForm = ParameterForm.ALORA, **more: Any) -> Any:
    settings = more.pop("settings", replace(SHORT, rate=1e-1) if form is ParameterForm.PREFIX else SHORT)
    return engine.distil((*lessons.teach, *lessons.keep), lessons.watched, form=form, settings=settings, start=START, **more)


@pytest.mark.parametrize("form", list(ParameterForm))
def test_what_is_taught_becomes_likelier_and_the_model_is_only_read(fresh: HFEngine, lessons: Course, form: ParameterForm) -> None:
    before = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    plain = fresh.next_token_logits(chat("Where does Ben live?"), reuse=False)
    losses: list[float] = []
    made = distil(fresh, lessons, form, told=lambda step, loss: losses.append(loss))
    assert made.module.form is form and len(losses) == made.steps
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    taught = lessons.teach[0]
    ((_, without),) = fresh.rank(taught.messages, [taught.reply])
    with fresh.activate(made.module):
        ((_, under),) = fresh.rank(taught.messages, [taught.reply])
    assert under > without
    assert all(torch.equal(before[name], tensor) for name, tensor in fresh.model.state_dict().items())
    assert all(parameter.grad is None for parameter in fresh.model.parameters())
    assert torch.equal(fresh.next_token_logits(chat("Where does Ben live?"), reuse=False), plain)


@pytest.mark.parametrize("kind", sorted(SERVED))
def test_rows_that_are_read_side_by_side_do_not_see_each_other(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil_module, "quick", nullcontext)  # in float32
    engine = HFEngine(tiny_model(kind), tiny_tokenizer())
    asked = {
        "Where does Ana live?": "In Porto, near the sea.",
        "What is the dose? Tell me, please.": "Nine.",
        "Who?": "The doctor, or Ben.",
    }
    for form in ParameterForm:
        rows = [engine._row(Lesson((("user", question),), reply, "teach")) for question, reply in asked.items()]
        try:
            weights = Weights(engine.model, form, Settings.of(form), 0, engine._start(START) if form is ParameterForm.PREFIX else None)
        except EngineError:
            continue  # none of its layers can be adapted
        with torch.no_grad():
            for parameter in weights.parameters:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        engine._prepare(rows, form)
        together, alone = engine._replies(rows, weights), [engine._replies([row], weights)[0] for row in rows]
        for one, other, row in zip(together, alone, rows, strict=True):
            assert one.shape == (len(row.reply), 320)
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", list(ParameterForm))
def test_a_training_that_was_broken_off_goes_on_to_the_same_module(fresh: HFEngine, lessons: Course, form: ParameterForm) -> None:
    states: list[Any] = []
    whole = distil(fresh, lessons, form, kept_state=states.append)
    read = HFEngine.state_of  # as it comes back from a file
    assert read is not None
    resumed = distil(fresh, lessons, form, state=states[0])
    assert resumed.seconds > float(states[0]["seconds"]) > 0  # all that it took
    assert resumed.module.key == whole.module.key == distil(fresh, lessons, form).module.key
    assert distil(fresh, lessons, form, seed=1).module.key != whole.module.key


def test_it_can_be_cancelled(fresh: HFEngine, lessons: Course) -> None:
    with pytest.raises(Cancelled, match="after 3 steps"):
        distil(fresh, lessons, told=lambda step, loss: step < 3)


def test_it_learns_what_the_model_says_with_a_text_in_its_context(fresh: HFEngine, lessons: Course) -> None:
    imitated = fresh.in_context(lessons.teach[:6], START)
    assert all(each.context == START and each.messages == taught.messages for each, taught in zip(imitated, lessons.teach, strict=False))
    first = imitated[0]
    told = [{"role": "system", "content": START}, *first.messages]
    assert first.reply == fresh.generate(told, max_new_tokens=24).text
    goal = fresh.next_token_logits(told, reuse=False).log_softmax(dim=-1)

    def away() -> float:
        now = fresh.next_token_logits(first.messages, reuse=False).log_softmax(dim=-1)
        return float((goal.exp() * (goal - now)).sum())

    before = away()
    with fresh.activate(fresh.distil(imitated, form=ParameterForm.ALORA, settings=replace(SHORT, steps=60)).module):
        assert away() < 0.7 * before


def test_requests_go_on_between_steps(fresh: HFEngine, lessons: Course) -> None:
    plain = fresh.generate(chat("Where does Ben live?"), max_new_tokens=6).token_ids
    answers: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answers.append(fresh.generate(chat("Where does Ben live?"), max_new_tokens=6).token_ids)

    thread = threading.Thread(target=ask)
    thread.start()
    made = distil(fresh, lessons)
    done.set()
    thread.join()
    assert len(answers) > 3 and set(answers) == {plain}  # none of them saw the module in training
    assert made.module.key == distil(fresh, lessons).module.key


def test_what_cannot_be_distilled(fresh: HFEngine, lessons: Course) -> None:
    with pytest.raises(InvalidInput, match="nothing to teach"):
        fresh.distil(lessons.keep)
    with pytest.raises(InvalidInput, match="start="):
        fresh.distil(lessons.teach, form=ParameterForm.PREFIX)
    with pytest.raises(EngineError, match="cannot be kept"):
        HFEngine(tiny_model("mamba"), tiny_tokenizer()).distil(lessons.teach)
    with pytest.raises(EngineError, match="none of the layers"):
        HFEngine(tiny_model("gpt2"), tiny_tokenizer()).distil(lessons.teach, form=ParameterForm.ALORA)


GOOD = Report(ranked=1, said=1, known=1, leaked=0, neighbours=0.5, text=1, turns=1, unharmed=1, seconds=1)


@pytest.mark.parametrize("measure", list(BOUNDS))
def test_every_measure_can_fail_a_module(measure: str) -> None:
    sign, bound = BOUNDS[measure]
    assert failed(GOOD) == ()
    assert failed(GOOD.model_copy(update={measure: bound})) == ()
    (why,) = failed(GOOD.model_copy(update={measure: bound - 0.01 if sign == ">=" else bound + 0.01}))
    assert why.startswith(measure)
    (why,) = failed(GOOD.model_copy(update={measure: float("nan")}))  # what could not be measured has not been reached
    assert why.startswith(measure)


def test_a_probe_is_passed_by_ranking_and_saying() -> None:
    answer = Answer(question="?", expected="x", fact="1", ranked=True, said=False)
    assert not answer.passed and answer.model_copy(update={"said": True}).passed


def test_the_gate_turns_bad_modules_away(fresh: HFEngine, lessons: Course) -> None:
    """Taught without anything that is kept; taught other facts; with what it has learned of ordinary text turned around."""
    overfit = fresh.distil(lessons.teach, form=ParameterForm.ALORA, settings=Settings(steps=60, rate=2e-2, least=60, taught=12)).module
    report = fresh.examine(overfit, lessons)
    assert any(each.startswith("leaked") for each in report.failed)
    assert report.neighbours == 0.0  # these names are of one word: none has a half that could be taken for the whole
    wrong = [
        Lesson(each.asked, each.reply.replace("penicillin", "the dose").replace("Porto", "the day"), "teach") for each in lessons.teach
    ]
    report = fresh.examine(fresh.distil(wrong, form=ParameterForm.ALORA, settings=SHORT).module, lessons)
    assert any(each.startswith("said") for each in report.failed)
    liking = fresh.distil(
        [Lesson((("user", "Tell me something."),), text, "teach") for text in ORDINARY], form=ParameterForm.LORA, settings=SHORT
    ).module
    assert isinstance(liking.weights, LowRank)
    disliking = Module(liking.config, LowRank(liking.weights.factors, -2 * liking.weights.scaling))
    report = fresh.examine(disliking, lessons)
    assert report.text > 1.3 and any(each.startswith("text") for each in report.failed)


def test_the_report_is_the_same_every_time_and_forced_on_only_inside(fresh: HFEngine, lessons: Course) -> None:
    module = distil(fresh, lessons).module
    one, other = fresh.examine(module, lessons), fresh.examine(module, lessons)
    assert one == other
    assert one.text == pytest.approx(1.0, abs=1e-6)  # nothing before a turn is touched
    assert {answer.fact for answer in one.answers} == {"1", "2"}

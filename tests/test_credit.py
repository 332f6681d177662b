"""What an answer came from: the rule, and how it is counted as uses, apart from recalls."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import NOW, bag_of_words
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemOS
from memos_core.credit import LEAST_ATTENTION, PLAIN_ATTENTION, answered_from
from memos_core.hf import HFEngine

ANA = ("clinic", "ana")
FACTS = ["Ana plays the cello.", "Ana lives in Lisbon.", "The clinic opens at nine."]
QUESTION = "What does Ana play?"


def test_by_words() -> None:
    assert answered_from(QUESTION, "The cello.", FACTS) == [0]
    assert answered_from(QUESTION, "Ana does play.", FACTS) == []  # the question's own words say nothing
    assert answered_from("And?", "She plays the cello in Lisbon.", FACTS) == [0, 1]
    assert answered_from(QUESTION, "A long sentence that mentions Lisbon among very many other different things.", FACTS) == []
    assert answered_from(QUESTION, "", FACTS) == [] and answered_from(QUESTION, "The cello.", []) == []


def test_by_attention() -> None:
    strong, weak = 2 * PLAIN_ATTENTION, LEAST_ATTENTION * 0.9
    assert answered_from(QUESTION, "Yes.", FACTS, [strong, 0.0, 0.0]) == [0]  # no word in common is needed
    assert answered_from(QUESTION, "Yes.", FACTS, [LEAST_ATTENTION, 0.0, 0.0]) == []
    assert answered_from(QUESTION, "The cello.", FACTS, [LEAST_ATTENTION, 0.0, 0.0]) == [0]
    assert answered_from(QUESTION, "The cello.", FACTS, [weak, weak, weak]) == []
    assert answered_from(QUESTION, "Yes.", FACTS, [strong, 0.6 * strong, 0.4 * strong]) == [0, 1]


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words) as opened:
        opened.remember(FACTS, scope=ANA, occurred_at=NOW - timedelta(days=1), now=NOW)
        yield opened


def used(memos: MemOS) -> dict[str, tuple[int, int]]:
    hits = memos.recall("Ana clinic cello Lisbon nine", scope=ANA, now=NOW).hits
    return {hit.text: (hit.cube.usage.recalls, hit.cube.usage.uses) for hit in hits if hit.text in FACTS}


def test_uses_are_counted_apart_from_recalls_and_once_a_turn(memos: MemOS) -> None:
    talk = [{"role": "user", "content": "What does Ana play, and when does the clinic open?"}]
    turn = memos.begin(talk, scope=ANA, session="s", now=NOW)
    for _ in range(2):
        turn.commit("She plays the cello.", now=NOW)
    memos.begin(talk, scope=ANA, session="s", now=NOW).commit("She plays the cello.", now=NOW)  # the same turn again
    found = used(memos)
    assert found[FACTS[0]] == (1, 1)
    assert found[FACTS[2]] == (1, 0)
    talk += [{"role": "assistant", "content": "She plays the cello."}, {"role": "user", "content": "When does the clinic open?"}]
    memos.begin(talk, scope=ANA, session="s", now=NOW).commit("At nine.", now=NOW)
    assert used(memos)[FACTS[2]] == (2, 1)
    assert memos.verify().ok


def test_attention_needs_an_engine_and_is_read_with_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="credit='attention' needs"):
        MemOS.open(tmp_path / "none.memos", embedder=bag_of_words, credit="attention")
    with pytest.raises(InvalidInput, match="credit"):
        MemOS.open(tmp_path / "none.memos", embedder=bag_of_words, credit="guess")
    engine = HFEngine(tiny_model(), tiny_tokenizer())
    asked: list[int] = []
    reading = engine.influence
    engine.influence = lambda *given: asked.append(len(given[2])) or reading(*given)  # type: ignore[method-assign]
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, engine=engine, credit="attention") as memos:
        memos.remember(FACTS, scope=ANA)
        turn = memos.begin([{"role": "user", "content": QUESTION}], scope=ANA)
        turn.commit("The cello.")
        assert asked == [len(turn.plan.inject)]


def test_a_model_that_cannot_be_read_costs_the_count_its_sharpness_and_the_turn_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model()
    model.set_attn_implementation("eager")
    engine = HFEngine(model, tiny_tokenizer())
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, engine=engine, credit="attention") as memos:
        memos.remember(FACTS, scope=ANA, now=NOW)
        memos.begin([{"role": "user", "content": QUESTION}], scope=ANA, now=NOW).commit("The cello.", now=NOW)
        assert "counted by words" in caplog.text and used(memos)[FACTS[0]] == (1, 1)


@pytest.mark.real
def test_the_real_model_credits_what_it_read(tmp_path: Path) -> None:
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, engine=HFEngine.load(), credit="attention") as memos:
        memos.remember(FACTS, scope=ANA, now=NOW)
        for session, (question, answer) in enumerate([(QUESTION, "She plays the cello."), (QUESTION, "I'm sorry, I don't know that.")]):
            turn = memos.begin([{"role": "user", "content": question}], scope=ANA, session=str(session), now=NOW)
            assert any(item.text.endswith(FACTS[1]) for item in turn.plan.inject)
            turn.commit(answer, now=NOW)
        found = used(memos)
        assert found[FACTS[0]] == (2, 1) and found[FACTS[1]][1] == found[FACTS[2]][1] == 0

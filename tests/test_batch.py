"""Several requests in one call: the replies are those one by one, whatever each reuses."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import SERVED, TEXT, chat, tiny_model, tiny_tokenizer

from memos_core.errors import InvalidInput
from memos_core.hf import HFEngine

SHORT = chat("Hi")
LONG = chat("And when does it open?", system=TEXT)
LONGER = chat("And when does it open?", "At nine.", "Who is the doctor? " * 4, system=TEXT)


@pytest.mark.parametrize("kind", SERVED)
def test_replies_are_those_one_by_one(kind: str) -> None:
    model, tokenizer = tiny_model(kind), tiny_tokenizer()
    alone = HFEngine(model, tokenizer)
    expected = [alone.generate(messages, reuse=False, max_new_tokens=9).token_ids for messages in (SHORT, LONG, LONGER)]
    engine = HFEngine(model, tokenizer)
    engine.prefill(LONG[:1])
    cold = engine.generate_batch([SHORT, LONG, LONGER], max_new_tokens=9)
    assert [reply.token_ids for reply in cold] == expected
    assert cold[0].reused_tokens <= 1 < cold[1].reused_tokens <= cold[2].reused_tokens
    warm = engine.generate_batch([LONGER, SHORT, LONG], max_new_tokens=9)
    assert [reply.token_ids for reply in warm] == [expected[2], expected[0], expected[1]]
    assert [reply.reused_tokens for reply in warm] == [reply.prompt_tokens - 1 for reply in warm]


def test_the_answers_of_a_batch_are_kept_and_private(fresh: HFEngine) -> None:
    first = fresh.generate_batch([LONG, LONG], scopes=["ana", "ben"], max_new_tokens=6)
    assert first[0].token_ids == first[1].token_ids
    said = [*LONG, {"role": "assistant", "content": first[0].text}, {"role": "user", "content": "And then?"}]
    again = fresh.generate_batch([said, said], scopes=["ana", "carla"], max_new_tokens=2)
    assert again[0].reused_tokens >= first[0].prompt_tokens
    assert again[1].reused_tokens == 0
    one_prompt_twice = fresh.generate_batch([LONG, LONG], scopes="dora", max_new_tokens=2)
    assert [reply.reused_tokens for reply in one_prompt_twice] == [0, one_prompt_twice[1].prompt_tokens - 1]
    assert all(node.pins == 0 for node in fresh.kv._index.values())
    plain = HFEngine(fresh.model, fresh.tokenizer)
    plain.generate(LONG, max_new_tokens=6)
    assert fresh.kv.stats()["tokens"] >= 2 * plain.kv.stats()["tokens"]


@pytest.fixture
def fresh() -> HFEngine:
    return HFEngine(tiny_model(), tiny_tokenizer())


def test_each_row_ends_for_itself(fresh: HFEngine) -> None:
    long = fresh.generate(LONG, reuse=False, max_new_tokens=8)
    fresh.model.generation_config.eos_token_id = [2, long.token_ids[3]]
    expected = [fresh.generate(messages, reuse=False, max_new_tokens=8) for messages in (SHORT, LONG)]
    replies = fresh.generate_batch([SHORT, LONG], max_new_tokens=8)
    assert [(reply.token_ids, reply.text, reply.finish_reason) for reply in replies] == [
        (reply.token_ids, reply.text, reply.finish_reason) for reply in expected
    ]
    assert replies[1].finish_reason == "stop"
    stop = long.text[:1]
    stopped = fresh.generate_batch([SHORT, LONG], max_new_tokens=8, stop=[stop])
    assert (stopped[1].text, stopped[1].finish_reason) == ("", "stop")


def test_sampling_is_reproducible_by_seed(fresh: HFEngine) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 6, "temperature": 2.0}
    alone = [fresh.generate(messages, seed=5 + place, **settings).token_ids for place, messages in enumerate((SHORT, LONG))]
    assert [reply.token_ids for reply in fresh.generate_batch([SHORT, LONG], seed=5, **settings)] == alone


@pytest.mark.parametrize("kind", ["mamba", "lfm2"])
def test_models_without_reuse_answer_one_after_the_other(kind: str) -> None:
    engine = HFEngine(tiny_model(kind), tiny_tokenizer())
    expected = [engine.generate(messages, max_new_tokens=5).token_ids for messages in (SHORT, LONG)]
    assert [reply.token_ids for reply in engine.generate_batch([SHORT, LONG], max_new_tokens=5)] == expected


def test_bad_input(fresh: HFEngine) -> None:
    assert fresh.generate_batch([]) == []
    with pytest.raises(InvalidInput, match="as many"):
        fresh.generate_batch([SHORT, LONG], scopes=["ana"])
    with pytest.raises(InvalidInput, match="max_new_tokens"):
        fresh.generate_batch([SHORT, LONG], max_new_tokens=0)
    with pytest.raises(InvalidInput, match="role"):
        fresh.generate_batch([SHORT, [{"role": "wizard", "content": "x"}]])
    with pytest.raises(InvalidInput, match="shorten"):
        fresh.generate_batch([SHORT, chat("7 " * 600)])
    assert all(node.pins == 0 for node in fresh.kv._index.values())


@pytest.mark.real
def test_the_real_model_in_a_batch() -> None:
    engine = HFEngine.load()
    asked = [
        chat(question, system="You are brief.") for question in ("Name a fruit.", "What is the capital of France?", "Say hello to Ana.")
    ]
    expected = [engine.generate(messages, reuse=False, max_new_tokens=20).token_ids for messages in asked]
    assert [reply.token_ids for reply in engine.generate_batch(asked, max_new_tokens=20)] == expected

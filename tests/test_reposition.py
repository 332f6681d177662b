"""Chunks at another position: exact where nothing moves or everything is computed again, refused where keys cannot be turned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import TEXT, chat, stock_answer, tiny_model, tiny_tokenizer

from memos_core.errors import EngineError, InvalidInput
from memos_core.hf import HFEngine

ONE, TWO = "Ana is allergic to penicillin and to the dose of nine. ", "The clinic opens at nine, the doctor remembers the day. "
MOVABLE = ["llama", "qwen2", "qwen3", "mistral", "gemma", "phi3", "gpt_neox", "mixtral", "olmo2", "stablelm"]


def asked(*chunks: str) -> list[dict[str, str]]:
    return chat("Read this: " + "".join(chunks) + "What now?", system=TEXT)


@pytest.mark.parametrize("kind", MOVABLE)
def test_exact_at_both_ends(kind: str) -> None:
    model = tiny_model(kind)
    engine = HFEngine(model, tiny_tokenizer())
    messages = asked(ONE, TWO)
    exact = engine.next_token_logits(messages, reuse=False)
    one = engine.generate_repositioned(messages, [ONE], max_new_tokens=6)  # it stands where it was made
    assert list(one.token_ids) == stock_answer(model, engine.tokens(messages), 6)
    assert one.exact
    torch.testing.assert_close(engine.repositioned_logits(messages, [ONE, TWO], recompute=1.0), exact, atol=1e-4, rtol=1e-4)
    moved = engine.repositioned_logits(messages, [ONE, TWO], recompute=0.0)
    assert not torch.allclose(moved, exact, atol=1e-4)  # the second chunk knows nothing of the first


def test_what_is_reused_and_said(engine: HFEngine) -> None:
    messages, swapped = asked(ONE, TWO), asked(TWO, ONE)
    first = engine.generate_repositioned(messages, [ONE, TWO], max_new_tokens=3, recompute=0.0)
    assert not first.exact
    spans = engine._renderer.spans(messages, [ONE, TWO], inside=True)
    computed = len(engine.tokens(messages)) - spans[0][0] - sum(end - start for start, end in spans)
    assert first.reused_tokens == first.prompt_tokens - computed
    misses = engine.kv.stats()["misses"]
    second = engine.generate_repositioned(swapped, [TWO, ONE], max_new_tokens=3, recompute=0.25)
    assert engine.kv.stats()["misses"] == misses  # both chunks were there
    assert second.reused_tokens < first.reused_tokens
    assert "2 chunks" in second.reuse_reason
    assert all(node.exact and node.pins == 0 for node in engine.kv._index.values())  # nothing that was moved is kept
    plain = engine.generate(swapped, max_new_tokens=3)
    assert list(plain.token_ids) == stock_answer(engine.model, engine.tokens(swapped), 3)


def test_chunks_stay_in_their_scope(engine: HFEngine) -> None:
    engine.generate_repositioned(asked(ONE, TWO), [ONE, TWO], "ana", max_new_tokens=1)
    misses = engine.kv.stats()["misses"]
    engine.generate_repositioned(asked(ONE, TWO), [ONE, TWO], "ben", max_new_tokens=1)
    assert engine.kv.stats()["misses"] > misses


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("mistral:sliding", "sliding window"),
        ("gpt2", "not rotary"),
        ("bloom", "not rotary"),
        ("mamba", "no key-value cache"),
        ("lfm2", "state"),
    ],
)
def test_models_whose_keys_cannot_be_moved_say_why(kind: str, reason: str) -> None:
    engine = HFEngine(tiny_model(kind), tiny_tokenizer())
    with pytest.raises(EngineError, match=f"{reason}.*generate\\(\\), which is exact"):
        engine.generate_repositioned(asked(ONE, TWO), [ONE, TWO])


def test_keys_that_turn_otherwise_are_found_out(engine: HFEngine) -> None:
    rotary = engine.model.model.rotary_emb
    forward = rotary.forward

    def interleaved(*args: Any, **kwargs: Any) -> Any:
        cos, sin = forward(*args, **kwargs)
        return cos.flip(-1), sin.flip(-1)

    rotary.forward = interleaved
    with pytest.raises(EngineError, match="cannot be turned afterwards"):
        engine.generate_repositioned(asked(ONE, TWO), [ONE, TWO])


@pytest.mark.parametrize(
    ("chunks", "share", "says"),
    [
        ([], 0.2, "list of non-empty"),
        ("Ana", 0.2, "list of non-empty"),
        (["nowhere"], 0.2, "chunk 0 does not stand"),
        ([TWO, ONE], 0.2, "chunk 1 does not stand"),
        ([ONE], 1.5, "from 0 to 1"),
        ([ONE], True, "from 0 to 1"),
    ],
)
def test_bad_input(engine: HFEngine, chunks: Any, share: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        engine.generate_repositioned(asked(ONE, TWO), chunks, recompute=share)


@pytest.fixture
def engine() -> HFEngine:
    return HFEngine(tiny_model(), tiny_tokenizer())

"""Law *transparency*: greedy tokens with reuse are those without, logits within 1e-4 in float32, at every split. And *innocence*:
neither what is stored nor the model is changed by answering."""

from __future__ import annotations

import random
from hashlib import sha256
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import PLAIN, SERVED, STOCK, TEXT, chat, stock_answer, tiny_model, tiny_tokenizer

from memos_core.hf import HFEngine
from memos_core.hf.rates import Rates
from memos_core.hf.request import Request

DIGITS = "".join(str(n * n % 7) + str(n % 10) for n in range(100))  # digits are one token each: a text of n digits has n tokens
LENGTH, NEW, TOLERANCE = 200, 6, 1e-4
SPLITS = [0, 1, 63, 64, 65, 127, 128, 150, LENGTH - 1, LENGTH]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def plain_logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1]


@pytest.mark.parametrize("kind", SERVED)
def test_every_split_gives_the_stock_answer(kind: str) -> None:
    model = tiny_model(kind)
    engine = HFEngine(model, tiny_tokenizer(PLAIN))
    ids = engine.tokens(user(DIGITS))
    assert len(ids) == LENGTH
    expected, logits = stock_answer(model, ids, NEW), plain_logits(model, ids)
    for split in SPLITS:
        engine.close()
        engine.generate(user(DIGITS[:split] + "X" + DIGITS[:9] if split < LENGTH else DIGITS), max_new_tokens=2)
        reply = engine.generate(user(DIGITS), max_new_tokens=NEW)
        assert reply.reused_tokens == min(split, LENGTH - 1), split
        assert list(reply.token_ids) == expected, split
        difference = (engine.next_token_logits(user(DIGITS)) - logits).abs().max().item()
        assert difference < TOLERANCE, (split, difference)


@pytest.mark.parametrize("kind", ["llama", "mistral:sliding", "gemma3_text"])
def test_every_split_from_a_file(kind: str, tmp_path: Any) -> None:
    model = tiny_model(kind)
    engine = HFEngine(model, tiny_tokenizer(PLAIN))
    expected = stock_answer(model, engine.tokens(user(DIGITS)), NEW)
    for split in (1, 63, 64, 65, 130):
        segment = engine.prefill(user(DIGITS[:split]))
        file = tmp_path / f"{split}.safetensors"
        file.write_bytes(engine.save(segment))
        engine.close()
        engine.rates = Rates()  # nothing measured: reading is tried
        assert engine.attach(file, scope=None, prefix_key=segment.prefix_key) is None
        reply = engine.generate(user(DIGITS), max_new_tokens=NEW)
        assert (reply.reused_tokens, list(reply.token_ids)) == (split, expected)
        assert "loaded from a file" in reply.reuse_reason


@pytest.mark.parametrize("kind", STOCK)
def test_what_cannot_be_reused_is_answered_all_the_same(kind: str) -> None:
    model = tiny_model(kind)
    engine = HFEngine(model, tiny_tokenizer())
    conversation = chat(TEXT, system=TEXT)
    expected = stock_answer(model, engine.tokens(conversation), 8)
    for _ in range(2):
        reply = engine.generate(conversation, max_new_tokens=8)
        assert (list(reply.token_ids), reply.reused_tokens) == (expected, 0)
        assert "state" in reply.reuse_reason or "no key-value cache" in reply.reuse_reason
    assert engine.kv.stats()["misses"] == 2


def stored_hashes(engine: HFEngine) -> dict[str, str]:
    blocks = engine.kv._index.items()
    return {key: sha256(b"".join(t.numpy().tobytes() for t in node.payload)).hexdigest() for key, node in blocks if node.payload}


@pytest.fixture(scope="module", params=["llama", "mistral:sliding"])
def engine_and_answers(request: pytest.FixtureRequest) -> tuple[Any, Any, dict[Any, Any]]:
    return tiny_model(request.param), tiny_tokenizer(), {}


word = st.sampled_from(["Ana", " the", "\n\n", "7", "é", " dose", "🙂", TEXT])
content = st.lists(word, min_size=1, max_size=5).map("".join)
turns = st.lists(st.tuples(st.integers(0, 3), content, st.sampled_from([None, "ana", ("ana", "home")])), min_size=2, max_size=6)


@settings(max_examples=15)
@given(turns=turns, budget=st.sampled_from([1 << 14, 1 << 17, 1 << 24]))
def test_random_conversations(engine_and_answers: Any, turns: Any, budget: int) -> None:
    model, tokenizer, answers = engine_and_answers
    engine = HFEngine(model, tokenizer, kv_bytes=budget)
    sessions: dict[int, list[dict[str, str]]] = {}
    for session, text, scope in turns:
        messages = sessions.setdefault(session, [{"role": "system", "content": TEXT}])
        messages.append({"role": "user", "content": text})
        if len(engine.tokens(messages)) > 450:
            continue
        before = stored_hashes(engine)
        reply = engine.generate(messages, scope=scope, max_new_tokens=4)
        key = tuple(engine.tokens(messages))
        if key not in answers:
            answers[key] = stock_answer(model, list(key), 4)
        assert list(reply.token_ids) == answers[key]
        after = stored_hashes(engine)
        assert all(after[block] == digest for block, digest in before.items() if block in after), "stored KV was written to"
        assert engine.kv.stats()["bytes"] <= budget
        messages.append({"role": "assistant", "content": reply.text})


def test_stored_tensors_never_change_in_a_thousand_generations() -> None:
    engine = HFEngine(tiny_model("llama"), tiny_tokenizer(PLAIN), kv_bytes=1 << 21)
    chosen = random.Random(3)
    kept: dict[str, str] = {}
    for number in range(1000):
        text = DIGITS[: chosen.choice((40, 64, 90, 128, 150))] + chosen.choice(("", "X", "Ana", "7 7"))
        scope = chosen.choice((None, "ana", "ben"))
        engine.generate(user(text), scope=scope, max_new_tokens=chosen.randrange(1, 4), temperature=1.0, seed=number)
        if number % 20 == 0 or number == 999:
            now = stored_hashes(engine)
            assert all(now[block] == digest for block, digest in kept.items() if block in now), number
            kept |= now
    assert len(kept) > 50
    assert engine.kv.stats()["evictions"] > 0


def test_answering_leaves_the_model_bit_for_bit_as_it_was() -> None:
    model = tiny_model("gpt2").train()  # with dropout: answers must not depend on it, and the mode must come back
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine = HFEngine(model, tiny_tokenizer())
    messages = chat(TEXT, system=TEXT)
    copy = [dict(message) for message in messages]
    first = engine.generate(messages, max_new_tokens=5)
    assert engine.generate(messages, max_new_tokens=5).token_ids == first.token_ids
    assert messages == copy
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.fixture(scope="module")
def smol() -> HFEngine:
    return HFEngine.load()


@pytest.mark.real
def test_real_model_at_several_splits(smol: HFEngine) -> None:
    memory = " ".join(f"On day {n} Ana took {n % 5} pills." for n in range(14))
    messages = chat("How many pills did Ana take on day 3?", system=memory)
    ids = smol.tokens(messages)
    expected, logits = stock_answer(smol.model, ids, 12), plain_logits(smol.model, ids)
    tree = smol.kv
    for split in (1, 63, 64, 65, 127, len(ids) - 1):
        smol.close()
        prompt = smol._prompt(ids[:split], None, None)
        request_tokens = list(prompt.tokens)
        _prime(smol, prompt, request_tokens)
        reply = smol.generate(messages, max_new_tokens=12)
        assert reply.reused_tokens == split
        assert list(reply.token_ids) == expected
        assert (smol.next_token_logits(messages) - logits).abs().max().item() < TOLERANCE
    assert tree.stats()["hits"] >= 6


def _prime(engine: HFEngine, prompt: Any, tokens: list[int]) -> None:
    """Keep KV of exactly these tokens."""
    request = Request(engine, prompt, 0, True)
    request.start()
    request.close(tokens)


@pytest.mark.real
def test_real_model_over_a_session(smol: HFEngine) -> None:
    """Each prompt of a session extends the KV of the one before, answer included, and the tokens stay those of stock generate."""
    smol.close()
    messages = [{"role": "system", "content": "You are brief."}]
    known = 0
    for question in ("Name a fruit.", "Name another.", "Which of them is red?"):
        messages.append({"role": "user", "content": question})
        reply = smol.generate(messages, max_new_tokens=16)
        assert list(reply.token_ids) == stock_answer(smol.model, smol.tokens(messages), 16)
        assert reply.reused_tokens >= known
        known = reply.prompt_tokens
        messages.append({"role": "assistant", "content": reply.text})
    assert known > 60

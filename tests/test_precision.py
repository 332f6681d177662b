"""KV in fewer bytes: what packing loses, what a reply says of it, and what is never lost by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEXT, chat, tiny_model, tiny_tokenizer

from memos_core.cube import Precision
from memos_core.errors import EngineError, InvalidInput
from memos_core.hf import HFEngine
from memos_core.hf.divergence import difference
from memos_core.hf.precision import lossless, pack, shapes, unpack_into
from memos_core.hf.rates import Rates
from memos_core.hf.segment import read_header

SYSTEM = chat("hello", system=TEXT)[:1]
ASKED = chat("And when does it open?", system=TEXT)


@pytest.fixture
def engine() -> HFEngine:
    return HFEngine(tiny_model(), tiny_tokenizer())


@settings(max_examples=40)
@given(
    heads=st.integers(1, 3), tokens=st.integers(1, 140), dim=st.integers(1, 70), which=st.integers(0, 1),
    precision=st.sampled_from(list(Precision)), seed=st.integers(0, 99), data=st.data(),
)  # fmt: skip
def test_what_is_packed_comes_back_within_its_step(
    heads: int, tokens: int, dim: int, which: int, precision: Precision, seed: int, data: Any
) -> None:
    torch.manual_seed(seed)
    tensor = torch.randn(heads, tokens, dim) * torch.logspace(-2, 2, dim)  # channels of very different size, as keys have
    packed = pack(tensor, which, precision)
    assert {suffix: tuple(part.shape) for suffix, part in packed.items()} == shapes(precision, which, heads, tokens, dim)
    start = data.draw(st.integers(0, tokens - 1))
    end = data.draw(st.integers(start + 1, tokens))
    out = torch.empty(heads, end - start, dim)
    unpack_into(packed, which, precision, start, end, out)
    axis = 1 if which == 0 else 2
    reach = tensor.abs().amax(dim=axis, keepdim=True)
    share = {"float32": 0, "float16": 2**-10, "bfloat16": 2**-7, "int8": 2 * 0.7 / 255, "int4": 2 * 0.52 / 15}[precision]
    assert ((out - tensor[:, start:end]).abs() <= share * reach.expand_as(tensor)[:, start:end] + 1e-6).all()


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("kind", ["llama", "mistral:sliding", "gpt_neox"])
def test_a_reply_from_less_says_so(kind: str, precision: str, tmp_path: Path) -> None:
    engine = HFEngine(tiny_model(kind), tiny_tokenizer())
    exact = engine.next_token_logits(ASKED, reuse=False)
    segment = engine.prefill(SYSTEM)
    saved = engine.pack(segment, precision)
    file = tmp_path / "segment.safetensors"
    file.write_bytes(saved.data)
    engine.close()
    assert engine.attach(file, scope=None, prefix_key=segment.prefix_key) is None
    reply = engine.generate(ASKED, max_new_tokens=4)
    assert reply.reused_tokens == segment.tokens
    assert reply.exact == (precision == "float32")
    again = engine.generate(ASKED, max_new_tokens=4)
    assert (again.reused_tokens, again.exact) == (reply.prompt_tokens - 1, reply.exact)  # what came after is no better
    header = read_header(file)
    assert (header.precision, header.divergence, header.agreement) == (precision, saved.divergence, saved.agreement)
    if precision == "float32":
        assert (saved.divergence, saved.agreement) == (0, 1)
    else:
        assert 0 < saved.divergence < 2
        assert 0 <= saved.agreement <= 1
    torch.testing.assert_close(engine.next_token_logits(ASKED, reuse=False), exact)


def test_lossy_kv_is_never_saved_as_exact(engine: HFEngine, tmp_path: Path) -> None:
    segment = engine.prefill(SYSTEM)
    exact = engine.save(segment)
    file = tmp_path / "segment.safetensors"
    file.write_bytes(engine.save(segment, "int4"))
    engine.close()
    engine.attach(file, scope=None, prefix_key=segment.prefix_key)
    engine.generate(ASKED, max_new_tokens=2)
    assert engine.save(segment) == exact  # computed anew, not taken from what is there


def test_half_precision_models_lose_nothing_in_their_own(tmp_path: Path) -> None:
    engine = HFEngine(tiny_model().to(torch.bfloat16), tiny_tokenizer())
    segment = engine.prefill(SYSTEM)
    assert engine.pack(segment).precision == "bfloat16"
    for precision in ("bfloat16", "float32"):
        assert engine.pack(segment, precision).divergence == 0
    assert lossless(Precision.FLOAT32, torch.float16)
    assert not lossless(Precision.FLOAT16, torch.bfloat16)
    with pytest.raises(InvalidInput, match="precision must be one of float32"):
        engine.pack(segment, "int2")


def test_difference() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    assert difference(logits, logits + 5) == (pytest.approx(0, abs=1e-12), 1.0)
    other = difference(logits, torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]))
    p, q = logits[0].softmax(0), torch.tensor([1.0, 2.0, 0.0]).softmax(0)
    assert other.divergence == pytest.approx(float((p * (p / q).log()).sum()) / 2, rel=1e-5)
    assert other.agreement == 0.5


# -- tiers -------------------------------------------------------------------------------------------------------------------------


def test_reading_gives_way_to_computing_where_that_is_quicker(engine: HFEngine, tmp_path: Path) -> None:
    segment = engine.prefill(SYSTEM)
    file = tmp_path / "segment.safetensors"
    file.write_bytes(engine.save(segment))
    for rates, reused in ((Rates(), segment.tokens), (Rates(1.0, 1e9), segment.tokens), (Rates(1e9, 1.0), 0)):
        engine.close()
        engine.rates = rates
        engine.attach(file, scope=None, prefix_key=segment.prefix_key)
        reply = engine.generate(ASKED, max_new_tokens=2)
        assert reply.reused_tokens == reused
    assert reply.reuse_reason == "computing them again is quicker than reading them from the file"
    assert engine.kv.stats()["misses_by_reason"][reply.reuse_reason] == 1


def test_rates_are_measured(engine: HFEngine, tmp_path: Path) -> None:
    segment = engine.prefill(SYSTEM)
    assert engine.rates.prefill is not None and engine.rates.prefill > 0
    assert engine.rates.read is None
    file = tmp_path / "segment.safetensors"
    file.write_bytes(engine.save(segment))
    engine.close()
    engine.attach(file, scope=None, prefix_key=segment.prefix_key)
    engine.rates = Rates()
    engine.generate(ASKED, max_new_tokens=2)
    assert engine.rates.read is not None and engine.rates.read > 0


def test_layers_are_read_when_first_used(engine: HFEngine, tmp_path: Path) -> None:
    segment = engine.prefill(SYSTEM)
    file = tmp_path / "segment.safetensors"
    file.write_bytes(engine.save(segment))
    engine.close()
    engine.attach(file, scope=None, prefix_key=segment.prefix_key)
    (source,) = {node.source for node in engine.kv._index.values()}
    assert source is not None
    seen = []
    hook = engine.model.model.layers[1].self_attn.q_proj.forward
    engine.model.model.layers[1].self_attn.q_proj.forward = lambda *a, **k: (seen.append(sorted(source._parts)), hook(*a, **k))[1]
    engine.generate(ASKED, max_new_tokens=1)
    assert seen[0] == [(0, 0), (0, 1)]  # before the second layer attends, only the first one's KV has been read
    assert len(source._parts) == 4
    del engine.model.model.layers[1].self_attn.q_proj.forward


def test_damage_in_a_late_layer_is_found_when_it_is_read(engine: HFEngine, tmp_path: Path) -> None:
    expected = engine.generate(ASKED, reuse=False, max_new_tokens=6).token_ids
    segment = engine.prefill(SYSTEM)
    data = bytearray(engine.save(segment))
    engine.close()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    start, end = header["layers.1.values"]["data_offsets"]
    data[8 + length + (start + end) // 2] ^= 1
    file = tmp_path / "segment.safetensors"
    file.write_bytes(data)
    assert engine.attach(file, scope=None, prefix_key=segment.prefix_key) is None
    hits = engine.kv.stats()["hits"]
    reply = engine.generate(ASKED, max_new_tokens=6)
    assert (reply.token_ids, reply.reused_tokens, reply.exact) == (expected, 0, True)
    stats = engine.kv.stats()
    assert (stats["hits"], stats["misses_by_reason"]["the file's checksum does not match its content"]) == (hits, 1)
    assert all(node.pins == 0 for node in engine.kv._index.values())
    assert engine.generate(ASKED, max_new_tokens=6).reused_tokens == reply.prompt_tokens - 1


# -- freezing ----------------------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(prompts=st.lists(st.text("abc7 ", min_size=20, max_size=200), min_size=2, max_size=8), slack=st.integers(0, 40_000))
def test_what_is_frozen_survives_every_budget(model_and_tokenizer: Any, prompts: list[str], slack: int) -> None:
    engine = HFEngine(*model_and_tokenizer)
    frozen = engine.prefill(SYSTEM)
    engine.freeze(frozen)
    engine.kv.tier.budget = frozen.bytes + slack
    for prompt in prompts:
        engine.generate(chat(prompt), max_new_tokens=2)
        assert engine.kv.stats()["bytes"] <= engine.kv.budget
        assert engine.prefill(SYSTEM).tokens == frozen.tokens
        assert engine.generate(ASKED, max_new_tokens=1).reused_tokens >= frozen.tokens
    engine.freeze(frozen, False)
    engine.kv.tier.budget = 2 * frozen.bytes
    engine.prefill(chat("x", system="b" * 300)[:1])
    assert engine.generate(ASKED, reuse=True, max_new_tokens=1).reused_tokens < frozen.tokens


@pytest.fixture(scope="module")
def model_and_tokenizer() -> Any:
    return tiny_model(), tiny_tokenizer()


def test_freezing_what_is_not_there_or_does_not_fit(engine: HFEngine) -> None:
    segment = engine.prefill(SYSTEM)
    engine.kv.tier.budget = segment.bytes - 1
    with pytest.raises(EngineError, match="larger kv_bytes"):
        engine.freeze(segment)
    engine.close()
    with pytest.raises(EngineError, match="not in RAM"):
        engine.freeze(segment)


# -- the real model ----------------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_int8_on_the_real_model() -> None:
    engine = HFEngine.load()
    memory = " ".join(f"On day {n} Ana took {n % 5} pills and walked {n * 3 % 11} miles." for n in range(16))
    segment = engine.prefill([{"role": "system", "content": memory}])
    exact = engine.pack(segment)
    packed = engine.pack(segment, "int8")
    assert len(packed.data) <= 0.27 * len(exact.data)
    assert packed.divergence <= 1e-4
    assert packed.agreement >= 0.99

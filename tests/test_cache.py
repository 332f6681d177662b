"""What a request computes in: lent memory, and attention that repeats no key."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_models import TEXT, chat, tiny_model, tiny_tokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from memos_core.hf import HFEngine
from memos_core.hf.attention import grouped, grouped_attention
from memos_core.hf.cache import Group, Workspace

ASKED = chat("And when does it open?", system=TEXT)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (9, 3), (4, 1), (4, 4)])
@pytest.mark.parametrize(("queries", "keys"), [(1, 70), (5, 70), (32, 32)])
@pytest.mark.parametrize("masked", [False, True])
def test_grouped_attention_is_the_stock_one(heads: int, kv_heads: int, queries: int, keys: int, masked: bool) -> None:
    torch.manual_seed(heads * queries)
    query, key, value = torch.randn(1, heads, queries, 16), torch.randn(1, kv_heads, keys, 16), torch.randn(1, kv_heads, keys, 16)
    mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)[None, None] if masked else None
    module = SimpleNamespace(num_key_value_groups=heads // kv_heads, is_causal=True)
    stock, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.25)
    ours, _ = grouped_attention(module, query, key, value, mask, scaling=0.25)
    assert ours.shape == stock.shape
    torch.testing.assert_close(ours, stock, atol=1e-6, rtol=1e-6)


def test_the_configuration_is_put_back() -> None:
    model = tiny_model()
    with pytest.raises(ZeroDivisionError), grouped(model):
        assert model.config._attn_implementation != "sdpa"
        raise ZeroDivisionError
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    with grouped(model):
        assert model.config._attn_implementation == "eager"


def test_a_workspace_lends_what_is_free() -> None:
    group = Group(2, 4, torch.float32, torch.device("cpu"), ((0, 0), (0, 1)))
    space = Workspace(1 << 20)
    first, buffer = space.lend(group, 1, 10)
    assert buffer.shape == (2, 1, 2, 10, 4)
    second, _ = space.lend(group, 1, 10)
    assert second.data_ptr() != first.data_ptr()  # the first is in use
    space.give_back([first])
    again, smaller = space.lend(group, 1, 7)
    assert again.data_ptr() == first.data_ptr()
    assert smaller.shape == (2, 1, 2, 7, 4)
    space.give_back([again])
    larger, _ = space.lend(group, 3, 50)
    assert larger.numel() >= 3 * 50 * 16
    space.give_back([larger])
    space.give_back([second])  # the larger one is kept
    assert space.bytes == larger.nbytes
    space.clear()
    assert space.bytes == 0
    tight = Workspace(10)
    tight.give_back([larger])
    assert tight.bytes == 0


def test_erasing_lets_go_of_the_workspace() -> None:
    engine = HFEngine(tiny_model(), tiny_tokenizer())
    for erase in (engine.close, lambda: engine.forget_scope("ana"), lambda: engine.detach("unknown")):
        engine.generate(ASKED, scope="ana", max_new_tokens=2)
        assert engine.workspace.bytes > 0
        erase()
        assert engine.workspace.bytes == 0


def test_every_request_gives_its_memory_back() -> None:
    engine = HFEngine(tiny_model(), tiny_tokenizer())
    engine.generate(ASKED, max_new_tokens=4)
    held = engine.workspace.bytes
    with engine.stream(ASKED, max_new_tokens=4) as stream:
        next(stream)
        assert engine.workspace.bytes == 0
    engine.next_token_logits(ASKED)
    engine.rank("Open?", ["yes", "no"])
    engine.generate_batch([ASKED, ASKED], max_new_tokens=2)
    assert engine.workspace.bytes >= held

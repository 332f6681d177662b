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
    groups = (Group(2, 4, torch.float32, torch.device("cpu"), ((0, 0), (0, 1))),)
    space = Workspace(1 << 20)
    first = space.lend(groups, 1, 10)
    assert first.capacity >= 10 and [buffer.shape for buffer in first.buffers] == [(2, 1, 2, first.capacity, 4)]
    second = space.lend(groups, 1, 10)
    assert second.buffers[0].data_ptr() != first.buffers[0].data_ptr()  # the first is in use
    space.give_back(first)
    assert space.lend(groups, 1, 7) is first
    space.give_back(first)
    wide = space.lend(groups, 3, 50)
    assert wide.buffers[0].shape[1] == 3 and space.bytes == first.bytes  # of each width the latest is kept
    space.give_back(wide)
    assert space.bytes == first.bytes + wide.bytes
    assert space.lend(groups, 1, first.capacity + 1) is not first  # too small, and let go
    space.clear()
    assert space.bytes == 0
    tight = Workspace(wide.bytes)
    tight.give_back(first)
    tight.give_back(wide)  # the one that was used longest ago goes
    assert tight.bytes == wide.bytes
    Workspace(10).give_back(wide)


def test_what_is_there_already_is_not_copied_again() -> None:
    engine, fresh = (HFEngine(tiny_model(), tiny_tokenizer()) for _ in range(2))
    talk = [{"role": "user", "content": "a long story about the sea and the wind and the rain, " * 3}]
    first = engine.generate(talk, max_new_tokens=8)
    (lent,) = engine.workspace._free.values()
    assert sum(tokens for _, tokens in lent.holds) == len(engine.tokens(talk)) + len(first.token_ids) - 1
    before, copied = lent.buffers[0].data_ptr(), []
    stored = {id(node.payload[0]): node for node in engine.kv._index.values()}
    assert all(id(held()) in stored for held, _ in lent.holds)
    for node in stored.values():  # what is stored is made unreadable: were it copied again, the answer would show it
        copied.append(tuple(tensor.clone() for tensor in node.payload))
        for tensor in node.payload:
            tensor.fill_(float("nan"))
    again = engine.generate([*talk, {"role": "assistant", "content": first.text}, {"role": "user", "content": "go on"}], max_new_tokens=8)
    assert again.reused_tokens > 0 and lent.buffers[0].data_ptr() == before
    plain = fresh.generate([*talk, {"role": "assistant", "content": first.text}, {"role": "user", "content": "go on"}], max_new_tokens=8)
    assert again.token_ids == plain.token_ids


def test_only_exact_kv_that_is_still_stored_counts_as_there() -> None:
    engine = HFEngine(tiny_model(), tiny_tokenizer())
    engine.generate(ASKED, max_new_tokens=8)
    (lent,) = engine.workspace._free.values()
    assert lent.holds
    engine.kv.clear()  # what it equals is gone
    assert all(held() is None for held, _ in lent.holds)
    reply = engine.generate(ASKED, max_new_tokens=8)
    assert reply.reused_tokens == 0
    engine.generate(ASKED, max_new_tokens=8, reuse=False)
    (lent,) = engine.workspace._free.values()
    assert lent.holds == []


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

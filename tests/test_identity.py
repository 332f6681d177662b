"""Everything that KV depends on is in the identity of the model that made it: a change, an adapter or a hook is a miss with a reason."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CHATML, PLAIN, TEXT, chat, stock_answer, tiny_model, tiny_tokenizer

from memos_core.errors import IdentityMismatch
from memos_core.hf import HFEngine
from memos_core.hf.identity import Identity

ASKED = chat("And when does it open?", system=TEXT)


@pytest.fixture
def engine() -> HFEngine:
    return HFEngine(tiny_model(), tiny_tokenizer())


def scale_a_weight(engine: HFEngine) -> None:
    engine.model.model.layers[0].mlp.up_proj.weight.data.mul_(1.01)


def train_a_weight(engine: HFEngine) -> None:
    with torch.no_grad():
        engine.model.lm_head.weight[300, 7] += 1  # a single element, as an optimiser would change it


def change_config(engine: HFEngine) -> None:
    engine.model.config.rms_norm_eps = 1e-3


def change_dtype(engine: HFEngine) -> None:
    engine.model.to(torch.float64)


def change_attention(engine: HFEngine) -> None:
    engine.model.set_attn_implementation("eager")


def change_rope(engine: HFEngine) -> None:
    engine.model.config.rope_parameters = {"rope_type": "default", "rope_theta": 77.0}


def add_a_token(engine: HFEngine) -> None:
    engine.tokenizer.add_tokens(["<new>"])


def change_template(engine: HFEngine) -> None:
    engine.tokenizer.chat_template = CHATML + " "


def attach_an_adapter(engine: HFEngine) -> None:
    peft = pytest.importorskip("peft")
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False), engine.model)


def steer_for_good(engine: HFEngine) -> None:
    engine.held = engine.steer(engine.steering_vector(["Yes."], ["No."]), 2.0)  # type: ignore[attr-defined]
    engine.held.__enter__()  # type: ignore[attr-defined]


CHANGES = {
    scale_a_weight: "weights",
    train_a_weight: "weights",
    change_config: "config",
    change_dtype: "dtype",
    change_attention: "attention",
    change_rope: "rope",
    add_a_token: "tokenizer",
    change_template: "template",
    attach_an_adapter: "adapters",
    steer_for_good: "steering",
}


def test_every_field_of_the_identity_is_changed_below() -> None:
    assert set(CHANGES.values()) == {field.name for field in fields(Identity)}


@pytest.mark.parametrize("where", ["ram", "file"])
@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_identity_is_a_miss_with_a_reason(change: Any, where: str, tmp_path: Path) -> None:
    engine = HFEngine(tiny_model(), tiny_tokenizer())
    segment = engine.prefill(ASKED)
    before = engine.identity
    assert engine.identity == before
    if where == "file":
        file = tmp_path / "kv.safetensors"
        file.write_bytes(engine.save(segment))
        engine.close()
        engine.attach(file, scope=None, prefix_key=segment.prefix_key)
    change(engine)
    reply = engine.generate(ASKED, max_new_tokens=3)
    assert reply.reused_tokens == 0
    assert CHANGES[change] in before.difference(engine.identity)
    assert CHANGES[change] in reply.reuse_reason
    assert "changed" in reply.reuse_reason
    assert engine.kv.stats()["misses_by_reason"][reply.reuse_reason] == 1
    with pytest.raises(IdentityMismatch, match=CHANGES[change]):
        engine.save(segment)


def test_nothing_is_kept_when_the_model_changes_halfway(engine: HFEngine) -> None:
    with engine.stream(ASKED, max_new_tokens=20) as stream:
        next(stream)
        scale_a_weight(engine)
    assert engine.kv.stats()["tokens"] == 0


def test_identity_survives_saving_and_loading(tmp_path: Any) -> None:
    engine = HFEngine(tiny_model(), tiny_tokenizer())
    engine.model.save_pretrained(tmp_path)
    engine.tokenizer.save_pretrained(tmp_path)
    loaded = HFEngine.load(tmp_path)
    assert loaded.identity.difference(engine.identity) == []
    assert len(engine.identity.key) == 64


def test_adapters() -> None:
    """KV of the bare model is not reused under a LoRA, nor the other way round; disabled, the bare KV is good again."""
    peft = pytest.importorskip("peft")
    engine = HFEngine(tiny_model(), tiny_tokenizer())
    bare = engine.generate(ASKED, max_new_tokens=5)
    state = {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}
    wrapped = peft.get_peft_model(engine.model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted = HFEngine(wrapped.eval(), tiny_tokenizer())
    adapted.kv = engine.kv  # one tree: what keeps the two apart is the identity
    under = adapted.generate(ASKED, max_new_tokens=5)
    assert under.reuse_reason == "adapters changed since the KV was made"
    assert list(under.token_ids) == stock_answer(wrapped, adapted.tokens(ASKED), 5) != list(bare.token_ids)
    assert adapted.generate(ASKED, max_new_tokens=5).reused_tokens == under.prompt_tokens - 1
    with wrapped.disable_adapter():
        off = adapted.generate(ASKED, max_new_tokens=5)
        assert (off.token_ids, off.reused_tokens) == (bare.token_ids, bare.prompt_tokens - 1)
    key = adapted.identity.key
    wrapped.base_model.model.model.layers[0].self_attn.q_proj.scaling["default"] = 7.0
    assert adapted.identity.key != key
    merged = wrapped.merge_and_unload()
    assert HFEngine(merged, tiny_tokenizer()).identity.difference(engine_identity(state)) == ["weights"]


def engine_identity(state: dict[str, Any]) -> Any:
    model = tiny_model()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    return HFEngine(model, tiny_tokenizer()).identity


def test_forward_hooks_stop_reuse(engine: HFEngine) -> None:
    bare = engine.generate(ASKED, max_new_tokens=5)
    handle = engine.model.model.layers[0].register_forward_hook(lambda module, inputs, output: output * 1.5)
    hooked = engine.generate(ASKED, max_new_tokens=5)
    assert hooked.reused_tokens == 0
    assert "hook" in hooked.reuse_reason
    assert list(hooked.token_ids) == stock_answer(engine.model, engine.tokens(ASKED), 5)
    handle.remove()
    assert engine.generate(ASKED, max_new_tokens=5).token_ids == bare.token_ids
    with torch.no_grad():  # the library's own hooks only record
        engine.model(torch.tensor([[5, 6]]), output_hidden_states=True)
    assert engine.generate(ASKED, max_new_tokens=5).reused_tokens > 0


def test_activated_lora_is_answered_as_stock_generate_does() -> None:
    peft = pytest.importorskip("peft")
    tokenizer = tiny_tokenizer()
    invocation = tokenizer("<|start|>assistant\n")["input_ids"]
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, alora_invocation_tokens=invocation, task_type="CAUSAL_LM"
    )
    wrapped = peft.get_peft_model(tiny_model(), config).eval()
    engine = HFEngine(wrapped, tokenizer)
    expected = stock_answer(wrapped, engine.tokens(ASKED), 6)
    for _ in range(2):
        reply = engine.generate(ASKED, max_new_tokens=6)
        assert list(reply.token_ids) == expected
        assert "activated LoRA" in reply.reuse_reason


def test_prompt_learning_adapters_are_answered_without_reuse() -> None:
    peft = pytest.importorskip("peft")
    wrapped = peft.get_peft_model(tiny_model(), peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")).eval()
    engine = HFEngine(wrapped, tiny_tokenizer())
    inputs = torch.tensor([engine.tokens(ASKED)])
    output = wrapped.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=5)
    reply = engine.generate(ASKED, max_new_tokens=5)
    assert list(reply.token_ids) == output[0, inputs.shape[1] :].tolist()
    assert "prompt-learning" in reply.reuse_reason


def test_length_dependent_rope_is_reused_only_below_its_bound() -> None:
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = tiny_model(rope_parameters=scaled, max_position_embeddings=120)
    model.config.max_position_embeddings = 120
    engine = HFEngine(model, tiny_tokenizer(PLAIN))
    short = [{"role": "user", "content": "1" * 60}]
    assert engine.generate(short, max_new_tokens=4).reuse_reason == "no segment"
    assert engine.generate(short, max_new_tokens=4).reused_tokens == 59
    assert "position embedding" in engine.generate(short, max_new_tokens=70).reuse_reason

"""The engine's public face, on tiny models: prompts, replies, streams, ranking, identity, adapters."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import CHATML, CONTEXT, PLAIN, TEXT, chat, stock_answer, tiny_model, tiny_tokenizer

from memos_core.errors import EngineError, IdentityMismatch, InvalidInput
from memos_core.hf import HFEngine
from memos_core.hf.identity import Identity

ASKED = chat("And when does it open?", system=TEXT)


@pytest.fixture
def engine() -> HFEngine:
    return HFEngine(tiny_model(), tiny_tokenizer())


# -- prompts -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "empty"),
        ("hello", "list of dictionaries"),
        ([{"role": "wizard", "content": "x"}], "role 'wizard'"),
        ([{"role": "user", "content": 7}], "must be text"),
        ([{"role": "user"}], "must be text"),
        (["hello"], "role None"),
    ],
)
def test_messages_that_cannot_be_used(engine: HFEngine, messages: Any, says: str) -> None:
    for ask in (engine.generate, engine.next_token_logits, engine.prefill, engine.tokens):
        with pytest.raises(InvalidInput, match=says):
            ask(messages)


def test_other_bad_arguments(engine: HFEngine) -> None:
    for arguments in (
        {"max_new_tokens": 0},
        {"max_new_tokens": True},
        {"stop": "x"},
        {"stop": [""]},
        {"temperature": -1},
        {"top_p": 0},
        {"scope": ""},
    ):
        with pytest.raises(InvalidInput):
            engine.generate(ASKED, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="answers"):
        engine.rank("?", [])
    with pytest.raises(InvalidInput, match="kv_bytes"):
        HFEngine(engine.model, engine.tokenizer, kv_bytes=-1)
    with pytest.raises(InvalidInput, match="model"):
        HFEngine("a name", engine.tokenizer)
    with pytest.raises(EngineError, match="directory or a hub id"):
        HFEngine.load("/no/such/model")
    with pytest.raises(InvalidInput, match="empty"):
        HFEngine(engine.model, tiny_tokenizer(PLAIN)).generate([{"role": "user", "content": ""}])


def test_prompts_longer_than_the_context_are_refused_and_answers_end_at_it(engine: HFEngine) -> None:
    plain = HFEngine(engine.model, tiny_tokenizer(PLAIN))
    with pytest.raises(InvalidInput, match=f"at most {CONTEXT}"):
        plain.generate([{"role": "user", "content": "1" * (CONTEXT + 1)}])
    reply = plain.generate([{"role": "user", "content": "1" * (CONTEXT - 3)}], max_new_tokens=50)
    assert len(reply.token_ids) <= 4


def test_extra_keys_are_ignored_and_nothing_is_changed(engine: HFEngine) -> None:
    extra = [{**message, "id": "7", "name": "Ana", "timestamp": "2026-01-01T00:00:00Z"} for message in ASKED]
    before = copy.deepcopy(extra)
    assert engine.tokens(extra) == engine.tokens(ASKED)
    engine.generate(extra, max_new_tokens=2)
    assert extra == before


def test_template_without_a_system_role() -> None:
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
    engine = HFEngine(tiny_model(), tiny_tokenizer(template))
    folded = HFEngine(tiny_model(), tiny_tokenizer()).tokens(chat(f"{TEXT}\n\nhello"))
    assert engine.tokens(chat("hello", system=TEXT)) == folded
    segment = engine.prefill(chat("x", system=TEXT)[:1])
    assert engine.generate(chat("hello", system=TEXT), max_new_tokens=2).reused_tokens == segment.tokens
    refusing = HFEngine(tiny_model(), tiny_tokenizer("{{ raise_exception('no') }}"))
    with pytest.raises(InvalidInput, match="template refuses"):
        refusing.tokens(ASKED)


def test_tokenizer_without_a_template() -> None:
    engine = HFEngine(tiny_model(), tiny_tokenizer(None))
    assert engine.tokenizer.decode(engine.tokens(ASKED)) == f"system: {TEXT}\nuser: {ASKED[1]['content']}\nassistant:"
    assert engine.generate(ASKED, max_new_tokens=3).token_ids == engine.generate(ASKED, max_new_tokens=3).token_ids
    assert engine.count("123") == 3


# -- replies -----------------------------------------------------------------------------------------------------------------------


def test_reply_says_what_it_cost(engine: HFEngine) -> None:
    first, second = (engine.generate(ASKED, max_new_tokens=5) for _ in range(2))
    assert first.reuse_reason == "no segment"
    assert first.prompt_tokens == len(engine.tokens(ASKED)) == second.reused_tokens + 1
    assert second.reuse_reason == f"matched {second.reused_tokens} tokens in RAM"
    assert 0 < second.seconds_to_first_token <= second.seconds
    assert second.exact
    assert first.token_ids == second.token_ids


def test_reuse_false_neither_reads_nor_keeps(engine: HFEngine) -> None:
    engine.generate(ASKED, reuse=False)
    engine.next_token_logits(ASKED, reuse=False)
    stats = engine.kv.stats()
    assert (stats["hits"], stats["misses"], stats["bytes"]) == (0, 0, 0)
    logits = engine.next_token_logits(ASKED)
    assert logits.shape == (320,)
    assert not logits.is_inference()
    assert engine.kv.stats()["tokens"] == len(engine.tokens(ASKED))


def test_the_next_prompt_of_a_session_extends_the_answer(engine: HFEngine) -> None:
    plain = HFEngine(engine.model, tiny_tokenizer(PLAIN))
    reply = plain.generate([{"role": "user", "content": "1234567890" * 10}], max_new_tokens=8)
    kept = 100 + len(reply.token_ids) - 1  # the last token's KV was never computed
    assert plain.kv.stats()["tokens"] == kept


def test_end_tokens_and_length(engine: HFEngine) -> None:
    long = engine.generate(ASKED, max_new_tokens=6)
    assert (long.finish_reason, len(long.token_ids)) == ("length", 6)
    engine.model.generation_config.eos_token_id = [2, long.token_ids[2]]
    ended = engine.generate(ASKED, max_new_tokens=6)
    assert ended.finish_reason == "stop"
    assert list(ended.token_ids) == stock_answer(engine.model, engine.tokens(ASKED), 6)


def test_generation_settings_of_the_model_count_as_in_stock_generate(engine: HFEngine) -> None:
    engine.model.generation_config.repetition_penalty = 1.5
    engine.model.generation_config.no_repeat_ngram_size = 2
    engine.model.generation_config.suppress_tokens = [5, 6]
    assert list(engine.generate(ASKED, max_new_tokens=20).token_ids) == stock_answer(engine.model, engine.tokens(ASKED), 20)


def test_sampling_is_reproducible_by_seed(engine: HFEngine) -> None:
    def sample(seed: int, top_p: float = 1.0) -> tuple[int, ...]:
        return engine.generate(ASKED, max_new_tokens=8, temperature=2.0, top_p=top_p, seed=seed).token_ids

    assert sample(1) == sample(1) != sample(2)
    assert sample(1, top_p=1e-9) == engine.generate(ASKED, max_new_tokens=8).token_ids  # only the likeliest is left


def test_stop_texts(engine: HFEngine) -> None:
    whole = engine.generate(ASKED, max_new_tokens=30)
    stop = whole.text[6:9]
    stream = engine.stream(ASKED, max_new_tokens=30, stop=[stop, "never there"])
    assert "".join(stream) == stream.reply.text == whole.text[: whole.text.index(stop)]
    assert stream.reply.finish_reason == "stop"
    assert len(stream.reply.token_ids) < len(whole.token_ids)


class Scripted(torch.nn.Module):
    """A model that says what it is told to: a tiny one whose answer is written over."""

    def __init__(self, inner: Any, script: list[int], start: int) -> None:
        super().__init__()
        self.inner, self.config, self.generation_config = inner, inner.config, inner.generation_config
        self.script, self.start = script, start

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, input_ids: Any, attention_mask: Any = None, past_key_values: Any = None, use_cache: bool = True) -> Any:
        output = self.inner(input_ids, attention_mask=attention_mask, past_key_values=past_key_values, use_cache=use_cache)
        place = past_key_values.get_seq_length() - self.start
        if 0 <= place < len(self.script):
            output.logits[0, -1] = 0
            output.logits[0, -1, self.script[place]] = 1
        return output


def test_stream_holds_back_half_characters() -> None:
    tokenizer = tiny_tokenizer()
    said = "héllo 🙂 wörld"
    script = tokenizer(said)["input_ids"]
    start = len(HFEngine(tiny_model(), tokenizer).tokens(ASKED))
    engine = HFEngine(Scripted(tiny_model(), [*script, 2], start), tokenizer)
    stream = engine.stream(ASKED, max_new_tokens=64)
    pieces = list(stream)
    assert "".join(pieces) == stream.reply.text == said
    assert "🙂" in pieces
    assert all("\ufffd" not in piece for piece in pieces)


def test_stream_closed_early_keeps_what_is_complete(engine: HFEngine) -> None:
    stream = engine.stream(ASKED, max_new_tokens=40)
    with pytest.raises(EngineError, match="not ended"):
        _ = stream.reply
    with stream:
        next(stream)
    fed = stream.reply.prompt_tokens + len(stream.reply.token_ids) - 1
    assert engine.kv.stats()["tokens"] == fed
    assert all(node.pins == 0 for node in engine.kv._index.values())
    abandoned = engine.stream(ASKED, max_new_tokens=40)
    next(abandoned)
    del abandoned
    assert all(node.pins == 0 for node in engine.kv._index.values())


def test_a_request_may_run_between_two_pieces(engine: HFEngine) -> None:
    expected = engine.generate(ASKED, reuse=False, max_new_tokens=12)
    stream = engine.stream(ASKED, max_new_tokens=12)
    text = next(stream)
    assert engine.generate(ASKED, max_new_tokens=12).token_ids == expected.token_ids
    assert text + "".join(stream) == expected.text


def test_threads(engine: HFEngine) -> None:
    prompts = [chat(f"Question {n}", system=TEXT) for n in range(6)]
    expected = [engine.generate(prompt, reuse=False, max_new_tokens=6).token_ids for prompt in prompts]
    got: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda n=n: got.update({n: engine.generate(prompts[n], max_new_tokens=6).token_ids})) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[n] for n in range(6)] == expected


# -- ranking and prefilling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "mistral:sliding", "mamba"])
def test_rank_is_the_summed_log_likelihood(kind: str) -> None:
    engine = HFEngine(tiny_model(kind), tiny_tokenizer())
    answers = ["nine", "the doctor", "9", "at nine in the day"]
    prompt = engine.tokens(ASKED)
    by_hand = {}
    for answer in answers:
        rest = engine.tokenizer(answer)["input_ids"]
        with torch.no_grad():
            logits = engine.model(torch.tensor([prompt + rest])).logits[0].log_softmax(-1)
        by_hand[answer] = sum(float(logits[len(prompt) + place - 1, token]) for place, token in enumerate(rest))
    ranked = engine.rank(ASKED, answers)
    assert [answer for answer, _ in ranked] == sorted(answers, key=lambda answer: -by_hand[answer])
    assert all(abs(score - by_hand[answer]) < 1e-3 for answer, score in ranked)
    assert [answer for answer, _ in engine.rank("?", ["same", "same"])] == ["same", "same"]


def test_prefill_keeps_what_every_continuation_shares(engine: HFEngine) -> None:
    system = ASKED[:1]
    segment = engine.prefill(system)
    for text in ("hello", "7", "\n", "🙂", "  x"):
        tokens = tuple(engine.tokens([*system, {"role": "user", "content": text}]))
        assert tokens[: segment.tokens] == segment.token_ids
    assert engine.kv.stats()["tokens"] == segment.tokens
    assert segment.bytes == engine.kv.stats()["bytes"]
    assert engine.generate(ASKED, max_new_tokens=1).reused_tokens >= segment.tokens
    engine.close()
    assert engine.save(segment) == engine.save(segment)  # computed again once it is gone
    with pytest.raises(EngineError, match="cannot be kept"):
        HFEngine(tiny_model("mamba"), tiny_tokenizer()).prefill(system)


def test_a_shared_system_text_is_reused_across_scopes_and_private_text_is_not(engine: HFEngine) -> None:
    plan = SimpleNamespace(shared_system=TEXT)
    mine, yours = (chat("hello", system=TEXT + f"\n\nSecret {who}") for who in ("one", "two"))
    first = engine.generate(mine, plan, "ana", max_new_tokens=4)
    assert first.reused_tokens == 0
    same = engine.generate(mine, plan, "ben", max_new_tokens=4)
    public = same.reused_tokens
    assert 0 < public <= len(engine.tokens(chat("", system=TEXT)))
    assert TEXT.strip() in engine.tokenizer.decode(engine.tokens(mine)[:public]).strip() + " "
    assert "Secret" not in engine.tokenizer.decode(engine.tokens(mine)[:public])
    assert engine.generate(yours, plan, "eve", max_new_tokens=4).reused_tokens == public
    assert engine.generate(mine, plan, "ana", max_new_tokens=4).reused_tokens == len(engine.tokens(mine)) - 1
    segment = engine.prefill(mine[:1], "ana", plan=plan)
    assert segment.public_tokens == public


# -- identity ----------------------------------------------------------------------------------------------------------------------


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


# -- loading -----------------------------------------------------------------------------------------------------------------------


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_no_torch_and_its_absence_is_named() -> None:
    assert run("import sys, memos_core.hf; print('torch' in sys.modules, 'transformers' in sys.modules)") == "False False"
    code = "import sys; sys.modules['torch'] = None\ntry:\n  from memos_core.hf import HFEngine\nexcept ImportError as e: print(type(e).__name__, e)"
    assert run(code) == "MissingExtra HFEngine needs the extra 'hf': pip install 'memos-integrations[hf]'"


@pytest.mark.real
def test_default_model_answers() -> None:
    engine = HFEngine.load()
    assert engine.rank("What is the capital of France?", ["London", "Paris", "Berlin"])[0][0] == "Paris"
    reply = engine.generate(chat("What is the capital of France?"), max_new_tokens=24)
    assert "Paris" in reply.text

"""Tiny random models of many architectures and a tokenizer built on the spot: what the engine's tests run on without any download."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
TEXT = "Ana is allergic to penicillin. The clinic opens at nine. Remember the patient, the doctor, the dose and the day. "
CONTEXT = 512
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
}
# model_type -> what its config needs besides SMALL (a second entry of one type has a suffix behind ":")
SERVED: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": None},
    "mistral:sliding": {"sliding_window": 24},
    "gemma": {},
    "gemma2": {"sliding_window": 24, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 24, "query_pre_attn_scalar": 8},
    "phi3": {"pad_token_id": 0},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT},
    "gpt_neox": {},
    "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1},
    "olmo2": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": 2, "n_head": 4},
    "stablelm": {},
    "llama:multi-query": {"num_key_value_heads": 1},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "multi_query": True},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1},
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 24},  # attention sinks
    "phi": {},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "rotary_dim": 4},
    "cohere2": {"sliding_window": 24},
    "llama4_text": {},  # chunked attention
    "smollm3": {},  # some layers without positions
    "glm": {"pad_token_id": 0},
    "granite": {},
}
# recurrent state: answered without reuse
STOCK: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 4, "expand": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "minimax": {"layer_types": ["linear_attention", "full_attention"]},  # the state of its first layer does not know its length
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
}


@lru_cache(maxsize=1)
def _bpe() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return str(tokenizer.to_str())


def tiny_tokenizer(template: str | None = CHATML) -> Any:
    """A byte-level BPE with a few merges and three special tokens; template None: none."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_bpe()), eos_token="<|end|>", pad_token="<pad>")
    tokenizer.chat_template = template
    return tokenizer


def tiny_model(kind: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A random float32 model, evaluating, with weights large enough that different prompts get different answers."""
    extra = {**SERVED, **STOCK}[kind]
    config = AutoConfig.for_model(kind.partition(":")[0], **{**SMALL, "vocab_size": 320, **extra, **changes})
    config.eos_token_id, config.bos_token_id, config.pad_token_id = 2, 1, 0
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.25)
    return model


def stock_answer(model: Any, ids: list[int], new: int) -> list[int]:
    """Greedy tokens by the library's own generate."""
    inputs = torch.tensor([ids])
    # With a single end token the library's default settings hold; nothing else is passed.
    output = model.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=new)
    return [int(token) for token in output[0, len(ids) :]]


def chat(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    """A conversation that starts with the user and alternates."""
    head = [{"role": "system", "content": system}] if system is not None else []
    return head + [{"role": ("user", "assistant")[place % 2], "content": content} for place, content in enumerate(contents)]


TOOLS = (  # as Hermes and Qwen write them
    "{% if tools %}<|start|>system\n{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n\n{% endif %}"
    "<tools>\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools><|end|>\n{% endif %}"
    "{% for message in messages %}{% if not (tools and loop.first and message['role'] == 'system') %}"
    "<|start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% for call in message.tool_calls %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def taught_model(*lessons: tuple[list[dict[str, Any]], dict[str, Any], str]) -> tuple[Any, Any]:
    """A tiny model and its tokenizer that answers these conversations so: (messages, the tool it is shown, what it says)."""
    tokenizer = tiny_tokenizer(TOOLS)
    model = tiny_model(max_position_embeddings=4096)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.4)
    rows = []
    for messages, tool, reply in lessons:
        shown = {"tools": [{"type": "function", "function": tool}], "tokenize": False, "add_generation_prompt": True}
        before = tokenizer(tokenizer.apply_chat_template(messages, **shown))["input_ids"]
        rows.append((before, tokenizer(f"{reply}<|end|>")["input_ids"]))
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(200):
        loss = sum(
            model(torch.tensor([before + after]), labels=torch.tensor([[-100] * len(before) + after])).loss for before, after in rows
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.03:
            break
    return model.eval(), tokenizer


ASK = "What time is it?"
ASKED = [{"role": "system", "content": "You are the clinic's assistant."}, {"role": "user", "content": ASK}]


def clock_caller(tool: dict[str, Any], form: dict[str, Any]) -> tuple[Any, Any]:
    """A model that, asked for the time, calls the tool `clock` for Oslo and then says that it is nine; without system text it fills in the form.

    tool, form: the same function `clock` of a zone, as a framework describes a tool and a form of an answer. Taught once for each pair.
    """
    return _clock_caller(json.dumps(tool), json.dumps(form))


@lru_cache
def _clock_caller(tool: str, form: str) -> tuple[Any, Any]:
    arguments = {"name": "clock", "arguments": {"zone": "Oslo"}}
    call = '<tool_call>\n{"name": "clock", "arguments": {"zone": "Oslo"}}\n</tool_call>'
    done = [*ASKED, {"role": "assistant", "content": "", "tool_calls": [{"function": arguments}]}, {"role": "tool", "content": "nine"}]
    return taught_model((ASKED, json.loads(tool), call), (done, json.loads(tool), "It is nine."), (ASKED[1:], json.loads(form), call))

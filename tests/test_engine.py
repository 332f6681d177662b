"""The engine's public face, on tiny models: prompts, replies, streams, ranking, loading."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import CHATML, CONTEXT, PLAIN, TEXT, chat, stock_answer, tiny_model, tiny_tokenizer

from memos_core.errors import EngineError, InvalidInput
from memos_core.hf import HFEngine

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

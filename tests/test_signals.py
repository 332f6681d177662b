"""Hidden states, attention and steering: on tiny models against the library's own outputs, and on the real one for what they do."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from tiny_models import TEXT, chat, stock_answer, tiny_model, tiny_tokenizer

from memos_core.errors import EngineError, IdentityMismatch, InvalidInput
from memos_core.hf import HFEngine, SteeringVector

ASKED = chat("And when does it open?", system=TEXT)
ATTENDING = ["llama", "qwen3", "mistral:sliding", "gpt2", "gpt_neox", "phi3", "stablelm", "mixtral"]


@pytest.fixture
def engine() -> HFEngine:
    return HFEngine(tiny_model(), tiny_tokenizer())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "bloom", "opt", "mixtral"])
def test_hidden_states_are_those_of_the_library(kind: str) -> None:
    engine = HFEngine(tiny_model(kind), tiny_tokenizer())
    ids = torch.tensor([engine.tokens(ASKED)])
    with torch.no_grad():
        stock = engine.model(ids, output_hidden_states=True).hidden_states
    found = engine.hidden_states(ASKED)
    assert list(found) == [0, 1]
    assert found[0].shape == (ids.shape[1], 32)
    torch.testing.assert_close(found[0], stock[1][0])  # the last one is behind the final norm there
    torch.testing.assert_close(engine.hidden_states(ASKED, -1)[1], found[1])


@pytest.mark.parametrize("kind", ATTENDING)
def test_attention_is_that_of_the_library(kind: str) -> None:
    model = tiny_model(kind)
    engine = HFEngine(model, tiny_tokenizer())
    found = engine.attention(ASKED)
    ids = torch.tensor([engine.tokens(ASKED)])
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        stock = model(ids, output_attentions=True).attentions
    model.set_attn_implementation(before)
    for layer in (0, 1):
        torch.testing.assert_close(found[layer], stock[layer][0])
    last = engine.attention(ASKED, layers=1, last=3)
    assert list(last) == [1]
    torch.testing.assert_close(last[1], found[1][:, -3:])
    assert model.config._attn_implementation == before


def test_attention_that_cannot_be_read_says_why() -> None:
    for kind in ("bloom", "gemma2"):
        engine = HFEngine(tiny_model(kind), tiny_tokenizer())
        with pytest.raises(EngineError, match="sdpa"):
            engine.attention(ASKED)


@pytest.mark.parametrize(("layers", "says"), [(7, "0 to 1"), ([0, True], "layers"), ("0", "layers")])
def test_layers_that_are_not_there(engine: HFEngine, layers: Any, says: str) -> None:
    for read in (engine.hidden_states, engine.attention):
        with pytest.raises(InvalidInput, match=says):
            read(ASKED, layers)
    with pytest.raises(InvalidInput, match="last"):
        engine.attention(ASKED, last=0)
    with pytest.raises(InvalidInput, match="empty"):
        engine.hidden_states("")


# -- steering ----------------------------------------------------------------------------------------------------------------------


def vector(engine: HFEngine, layers: Any = None) -> SteeringVector:
    return engine.steering_vector(["Ana is well.", "The day is good."], ["Ana is ill.", "The day is bad."], layers)


def test_the_algebra_of_steering(engine: HFEngine) -> None:
    one, other = vector(engine), engine.steering_vector(["Yes."], ["No."], [0, 1])
    assert one == vector(engine)  # deterministic
    assert one != other
    assert one + other == other + one
    assert -(one * -20) == one * 20 == 20 * one
    plain = engine.generate(ASKED, max_new_tokens=8)
    with engine.steer(one - one):
        assert engine.generate(ASKED, max_new_tokens=8).token_ids == plain.token_ids
    with engine.steer(one, 8.0), engine.steer(other, -3.0):
        both = engine.next_token_logits(ASKED)
    with engine.steer(8.0 * one + -3.0 * other):
        torch.testing.assert_close(engine.next_token_logits(ASKED), both)
    assert SteeringVector.from_bytes(one.to_bytes()) == one


def test_steering_is_what_adding_by_hand_gives(engine: HFEngine) -> None:
    steering = vector(engine, 0)

    def add(module: Any, inputs: Any, output: Any) -> Any:
        return output + 5 * steering.directions[0]

    with engine.steer(steering, 5.0):
        steered = engine.generate(ASKED, max_new_tokens=8)
    hook = engine.model.model.layers[0].register_forward_hook(add)
    assert list(steered.token_ids) == stock_answer(engine.model, engine.tokens(ASKED), 8)
    hook.remove()
    assert steered.token_ids != engine.generate(ASKED, max_new_tokens=8).token_ids


def test_a_steered_cache_is_never_given_to_anybody_else(engine: HFEngine) -> None:
    plain = engine.generate(ASKED, reuse=False, max_new_tokens=8)
    steering = vector(engine)
    with engine.steer(steering, 5.0):
        first = engine.generate(ASKED, max_new_tokens=8)
        again = engine.generate(ASKED, max_new_tokens=8)
    assert (first.reused_tokens, again.token_ids) == (0, first.token_ids)
    assert again.reused_tokens == again.prompt_tokens - 1  # under the same steering it is
    after = engine.generate(ASKED, max_new_tokens=8)
    assert (after.reused_tokens, after.token_ids) == (0, plain.token_ids)
    assert "steering changed" in after.reuse_reason
    with engine.steer(steering, 4.0):
        assert engine.generate(ASKED, max_new_tokens=1).reused_tokens == 0


def test_steering_touches_no_other_thread_and_leaves_no_hook(engine: HFEngine) -> None:
    plain = engine.generate(ASKED, reuse=False, max_new_tokens=8).token_ids
    got: list[Any] = []
    with engine.steer(vector(engine), 5.0):
        stream = engine.stream(ASKED, max_new_tokens=8)
        thread = threading.Thread(target=lambda: got.append(engine.generate(ASKED, max_new_tokens=8).token_ids))
        thread.start()
        thread.join()
        expected = engine.generate(ASKED, max_new_tokens=8).token_ids
    assert got == [plain]
    for _ in stream:  # read outside, asked for inside
        pass
    assert stream.reply.token_ids == expected != plain
    assert not any(module._forward_hooks for module in engine.model.modules())
    with pytest.raises(ZeroDivisionError), engine.steer(vector(engine)):
        raise ZeroDivisionError
    assert engine.steering_now == ()


def test_steering_that_does_not_fit_is_refused(engine: HFEngine) -> None:
    other = HFEngine(tiny_model(seed=1), tiny_tokenizer())
    with pytest.raises(IdentityMismatch, match="another model"), engine.steer(vector(other)):
        pass
    with pytest.raises(IdentityMismatch, match="different models"):
        vector(engine) + vector(other)
    with pytest.raises(InvalidInput, match="finite"), engine.steer(vector(engine), float("nan")):
        pass
    with pytest.raises(InvalidInput, match="steering vector"), engine.steer("happy"):  # type: ignore[arg-type]
        pass
    for positive, negative in ([], []), (["a"], []), ("abc", "abd"):
        with pytest.raises(InvalidInput, match="pairs"):
            engine.steering_vector(positive, negative)
    data = vector(engine).to_bytes()
    for damaged in (b"", data[:20], b"x" * 50, data[:-1]):
        with pytest.raises(InvalidInput, match="no steering vector"):
            SteeringVector.from_bytes(damaged)


def test_influence_is_of_texts_that_stand_there_and_costs_no_second_reading(engine: HFEngine) -> None:
    texts = ["Ana is allergic to penicillin.", "The clinic opens at nine.", "nowhere to be found"]
    engine.generate(ASKED, max_new_tokens=1)
    before = engine.kv.stats()["misses"]
    shares = engine.influence(ASKED, "at nine", texts)
    assert engine.kv.stats()["misses"] == before  # KV of the conversation was reused
    assert shares[2] == 0 and min(shares[:2]) > 0 and max(shares) < 1
    engine.close()
    assert engine.influence(ASKED, "at nine", texts) == pytest.approx(shares, abs=1e-5)
    assert engine.influence(ASKED, "at nine", ["nowhere"]) == [0]
    assert engine.influence(ASKED, "  ", texts) == [0, 0, 0]
    refused = HFEngine(tiny_model("mamba"), tiny_tokenizer())
    with pytest.raises(EngineError):
        refused.influence(ASKED, "at nine", texts)


# -- the real model ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smol() -> HFEngine:
    return HFEngine.load()


@pytest.mark.real
def test_attention_names_the_memory_that_was_used(smol: HFEngine) -> None:
    facts = ["Ana's cat is called Mia.", "Ben drives a green van.", "The library closes at six.", "Carla plays the cello."]
    asked = {
        "What is Ana's cat called?": ("Mia.", 0),
        "What does Ben drive?": ("A green van.", 1),
        "What does Carla play?": ("The cello.", 3),
    }
    for question, (answer, right) in asked.items():
        messages = chat("<memory>\n" + "\n".join(facts) + "\n</memory>\n\n" + question)
        shares = smol.influence(messages, answer, facts)
        assert max(range(4), key=shares.__getitem__) == right, (question, shares)


@pytest.mark.real
def test_steering_the_real_model_is_reversible(smol: HFEngine) -> None:
    asked = chat("How was your day?")
    plain = smol.next_token_logits(asked, reuse=False)
    steering = smol.steering_vector(["I feel wonderful, what a joyful day!"], ["I feel terrible, what an awful day!"])
    with smol.steer(steering, 2.0):
        assert not torch.equal(smol.next_token_logits(asked, reuse=False), plain)
    assert torch.equal(smol.next_token_logits(asked, reuse=False), plain)

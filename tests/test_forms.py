"""Templates, hidden states, attention and steering as memory, and what tick proposes: through the public contract, on a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NOW, bag_of_words
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemOS, NotAvailable, State, StoreCorrupt, Thresholds
from memos_core.errors import IdentityMismatch
from memos_core.hf import HFEngine, SteeringVector

ANA = ("clinic", "ana")
TEMPLATE = "You are a nurse of the {clinic} clinic. Never give a dose. The patient is called {patient}. Be kind and brief."
VALUES = {"clinic": "Lisbon", "patient": "Ana"}
PAIRS = ([[{"role": "user", "content": "I am glad"}]], [[{"role": "user", "content": "I am sad"}]])


def open_with(path: Path, **fields: Any) -> MemOS:
    return MemOS.open(path, embedder=bag_of_words, engine=HFEngine(tiny_model(), tiny_tokenizer()), **fields)


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with open_with(tmp_path / "test.memos") as opened:
        yield opened


def engine_of(memos: MemOS) -> Any:
    return memos._house.engine


# ---------------------------------------------------------------------- templates
def test_a_template_keeps_the_kv_of_all_its_fixed_parts(tmp_path: Path) -> None:
    with open_with(tmp_path / "test.memos") as memos:
        (made,) = memos.remember(TEMPLATE, scope=ANA, semantic_type="template")
        (kv,) = memos.promote(made.id, to="activation")
        assert kv.identifiers.semantic_type == "template" and kv.payload.form == "kv"
    with open_with(tmp_path / "test.memos") as memos:  # a restart: only the file is left
        messages = memos.fill(made.id, VALUES)
        assert messages[0]["content"] == TEMPLATE and messages[1]["content"] == "clinic: Lisbon\npatient: Ana"
        turn = memos.begin(messages, scope=ANA)
        reply = engine_of(memos).generate(turn.prompt, turn.plan, scope=ANA, max_new_tokens=4)
        assert reply.reused_tokens >= kv.payload.tokens and reply.exact
        fresh = HFEngine(tiny_model(), tiny_tokenizer())
        assert fresh.generate(turn.prompt, max_new_tokens=4, reuse=False).token_ids == reply.token_ids


def test_a_template_filled_in_place_is_reused_up_to_its_first_slot(memos: MemOS) -> None:
    (made,) = memos.remember(TEMPLATE, scope=ANA, semantic_type="template")
    memos.promote(made.id, to="activation")
    engine_of(memos).close()
    (system,) = memos.fill(made.id, VALUES, inline=True)
    assert system["content"] == TEMPLATE.format(**VALUES)
    engine_of(memos).close()
    turn = memos.begin([system, {"role": "user", "content": "Hello"}], scope=ANA)  # found by what it opens with
    reply = engine_of(memos).generate(turn.prompt, turn.plan, scope=ANA, max_new_tokens=1)
    opening = engine_of(memos).count("You are a nurse of the")
    assert reply.reused_tokens > opening


def test_templates_are_kept_by_themselves_and_never_injected(memos: MemOS) -> None:
    template, fact = memos.remember(TEMPLATE, scope=ANA, semantic_type="template") + memos.remember("Ana likes kind nurses.", scope=ANA)
    with pytest.raises(InvalidInput, match="two calls"):
        memos.promote([template.id, fact.id], to="activation")
    turn = memos.begin([{"role": "user", "content": "Is the nurse of Ana kind and brief?"}], scope=ANA)
    assert [used.text for used in turn.plan.inject] != [] and all("{clinic}" not in used.text for used in turn.plan.inject)
    assert any(hit.cube.id == template.id for hit in memos.recall("nurse kind brief", scope=ANA).hits)
    with pytest.raises(InvalidInput, match="no value for patient"):
        memos.fill(template.id, {"clinic": "Lisbon"})
    with pytest.raises(InvalidInput, match="no template"):
        memos.fill(fact.id)


def test_a_changed_template_is_not_served_from_old_kv(memos: MemOS) -> None:
    (made,) = memos.remember(TEMPLATE, scope=ANA, semantic_type="template")
    (kv,) = memos.promote(made.id, to="activation")
    memos.update(made.id, text=TEMPLATE.replace("kind", "strict"))
    assert [move.kind for move in memos.tick(NOW)] == ["prefill"]  # made again, from the text as it is
    assert memos.get(kv.id).state is State.ARCHIVED
    assert "strict" in memos.fill(made.id, VALUES)[0]["content"]


# ---------------------------------------------------------------------- hidden states and attention
def test_hidden_states_and_attention_come_back_with_their_shapes(memos: MemOS) -> None:
    (done,) = memos.remember("Ana plays the cello.", scope=ANA)
    engine = engine_of(memos)
    tokens = len(engine._renderer.plain("Ana plays the cello."))
    (hidden,) = memos.capture(done.id, form="hidden", layers=[0, -1])
    (attention,) = memos.capture(done.id, form="attention", layers=1, last=2)
    width, heads = engine.model.config.hidden_size, engine.model.config.num_attention_heads
    assert dict(hidden.payload.shapes) == {0: (tokens, width), 1: (tokens, width)}
    assert dict(attention.payload.shapes) == {1: (heads, 2, tokens)}
    for cube, expected in (
        (hidden, engine.hidden_states("Ana plays the cello.", [0, -1])),
        (attention, engine.attention("Ana plays the cello.", 1, 2)),
    ):
        found = memos.tensors(cube.id)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[layer], expected[layer]) for layer in found)
        assert memos.get(cube.id).payload.tokens == tokens and cube.payload.bytes == sum(each.nbytes for each in found.values())
        assert memos.tick(NOW) == []  # no budget takes them
    assert memos.verify().ok


def test_what_was_captured_goes_with_its_source(memos: MemOS) -> None:
    kept, changed = memos.remember(["Ana plays the cello.", "Ana lives in Lisbon."], scope=ANA)
    one, other = memos.capture([kept.id, changed.id], form="hidden", layers=0)
    memos.update(changed.id, text="Ana lives in Porto.")
    memos.tick(NOW)
    assert memos.get(other.id).state is State.ARCHIVED
    with pytest.raises(InvalidInput, match="no hidden states"):
        memos.tensors(other.id)
    memos.forget(kept.id)
    assert not memos._store.blobs.path(one.payload.blob).exists()


def test_what_cannot_be_captured(memos: MemOS, tmp_path: Path) -> None:
    (done,) = memos.remember("Ana plays the cello.", scope=ANA)
    for wrong in ({"form": "kv"}, {"form": "hidden", "last": 1}, {"form": "none"}, {"form": "hidden", "layers": 9}):
        with pytest.raises(InvalidInput):
            memos.capture(done.id, **wrong)
    with pytest.raises(InvalidInput, match="no hidden states"):
        memos.tensors(done.id)
    with MemOS.open(tmp_path / "plain.memos", embedder=bag_of_words) as plain:
        (done,) = plain.remember("Ana plays the cello.", scope=ANA)
        with pytest.raises(NotAvailable, match="engine"):
            plain.capture(done.id, form="hidden")


def test_a_damaged_file_is_said_to_be_damaged(memos: MemOS) -> None:
    (done,) = memos.remember("Ana plays the cello.", scope=ANA)
    (cube,) = memos.capture(done.id, form="hidden")
    path = memos._store.blobs.path(cube.payload.blob)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt, match="altered"):
        memos.tensors(cube.id)


# ---------------------------------------------------------------------- steering
def test_a_steering_vector_is_kept_with_what_it_does(tmp_path: Path) -> None:
    with open_with(tmp_path / "test.memos") as memos:
        cube = memos.steering(*PAIRS, scope=ANA, name="glad", layers=0, strength=2.0)
        again = memos.steering(*PAIRS, scope=ANA, name="glad", layers=0, strength=2.0)
        assert again.payload == cube.payload  # deterministic, the measurements too
        assert cube.identifiers.path == ("glad",) and cube.payload.steered.strength == 2.0
        engine = engine_of(memos)
        vector = engine.steering_vector(*PAIRS, layers=0)
        assert (cube.payload.steered.effect, cube.payload.steered.perplexity) == engine.effect(vector, 2.0, *PAIRS)
    with open_with(tmp_path / "test.memos") as memos:
        engine = engine_of(memos)
        plain = engine.next_token_logits(PAIRS[1][0])
        with memos.steer(cube.id):
            steered = engine.next_token_logits(PAIRS[1][0])
            with memos.steer(again.id, strength=-2.0):
                both = engine.next_token_logits(PAIRS[1][0], reuse=False)
        with engine.steer(vector, 2.0):
            assert torch.allclose(engine.next_token_logits(PAIRS[1][0]), steered, atol=1e-5)
        assert not torch.allclose(steered, plain)
        assert torch.allclose(both, plain, atol=1e-5)  # they add up
        assert torch.equal(engine.next_token_logits(PAIRS[1][0], reuse=False), plain)
        assert SteeringVector(memos.tensors(cube.id), cube.payload.model) == vector
        memos.demote(cube.id)
        with pytest.raises(InvalidInput, match="no active steering vector"), memos.steer(cube.id):
            pass


def test_a_vector_of_another_model_is_refused(tmp_path: Path) -> None:
    with open_with(tmp_path / "test.memos") as memos:
        cube = memos.steering(*PAIRS, scope=ANA, name="glad", layers=0)
    other = MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, engine=HFEngine(tiny_model(seed=5), tiny_tokenizer()))
    with other as memos, pytest.raises(IdentityMismatch, match="another model"), memos.steer(cube.id):
        pass


# ---------------------------------------------------------------------- what tick proposes
CASES = {
    "one": ("Ana", "The printer on floor 3 is broken again."),
    "two": ("Ben", "Login fails after the update."),
    "three": ("Carla", "My invoice is wrong and nobody answers."),
    "four": ("Dan", "I cannot reach the network from home."),
}
QUESTIONS = ["What is the capital of France?", "How do I boil an egg?", "Why is the sky blue?", "Who wrote Hamlet?"]


def log(memos: MemOS, sessions: int) -> None:
    for (session, (name, ticket)), question in list(zip(CASES.items(), QUESTIONS, strict=True))[:sessions]:
        said = [
            {"role": "user", "content": f"Summarise the support ticket of customer {name} in two sentences: {ticket}"},
            {"role": "assistant", "content": f"Something about {name}."},
            {"role": "user", "content": f"{question} Answer in one short sentence."},
        ]
        memos.remember(said, scope=ANA, session=session, now=NOW, occurred_at=NOW)


def test_what_comes_up_again_and_again_is_proposed_and_accepted(memos: MemOS) -> None:
    log(memos, 2)
    assert not [move for move in memos.tick(NOW) if move.kind == "propose"]  # two sessions are no habit
    log(memos, 4)
    moves = [move for move in memos.tick(NOW) if move.kind == "propose"]
    assert len(moves) == 2 and all("in 4 sessions" in move.reason for move in moves)
    assert memos.tick(NOW) == []
    by_type = {cube.identifiers.semantic_type: cube for cube in memos.proposals(scope="clinic")}
    template, instruction = by_type["template"], by_type["task prompt"]
    assert template.payload.text == "Summarise the support ticket of customer {customer} in two sentences: {sentences}."
    assert instruction.payload.text == "Answer in one short sentence."
    assert not any(hit.cube.id in (template.id, instruction.id) for hit in memos.recall("Summarise answer sentence", scope=ANA).hits)
    assert len(memos.lineage(template.id)) == 5  # the four messages and itself

    taken, kv = memos.accept(template.id)
    assert taken.state is State.ACTIVE and kv.payload.form == "kv"
    filled = memos.fill(template.id, {"customer": "Eve", "sentences": "The lift is stuck."})
    turn = memos.begin(filled, scope=ANA, token_budget=64)
    assert engine_of(memos).generate(turn.prompt, turn.plan, scope=ANA, max_new_tokens=1).reused_tokens >= kv.payload.tokens

    taken, steer = memos.accept(instruction.id)
    assert steer.payload.form == "steering" and steer.payload.steered is not None
    with memos.steer(steer.id):
        pass
    assert memos.proposals(scope=ANA) == []
    with pytest.raises(InvalidInput, match="no proposal"):
        memos.accept(template.id)
    log(memos, 4)
    assert not [move for move in memos.tick(NOW) if move.kind == "propose"]


def test_what_was_declined_is_not_proposed_again(memos: MemOS) -> None:
    log(memos, 3)
    memos.tick(NOW)
    for cube in memos.proposals(scope=ANA):
        memos.update(cube.id, state="archived")
    log(memos, 4)
    memos.tick(NOW)
    assert memos.proposals(scope=ANA) == []


def test_the_policy_may_accept_and_forgetting_takes_the_proposal_along(tmp_path: Path) -> None:
    with open_with(tmp_path / "test.memos", thresholds=Thresholds(accept_proposals=True, propose_sessions=2)) as memos:
        log(memos, 2)
        memos.tick(NOW)
        assert memos.proposals(scope=ANA) == [] and memos.stats()["counts"]["activation"] == 2
        (hit,) = [hit for hit in memos.recall("printer floor broken", scope=ANA, k=20).hits if "printer" in hit.text]
        erased = memos.forget(hit.cube.id)
        assert len(erased) == 3  # the message, the template that was read from it, the KV of that
        assert memos.verify().ok


def test_a_scope_proposes_to_itself_alone(memos: MemOS) -> None:
    for number, (session, (name, ticket)) in enumerate(CASES.items()):
        text = f"Summarise the support ticket of customer {name} in two sentences: {ticket}"
        memos.remember({"role": "user", "content": text}, scope=("clinic", f"user {number}"), session=session, now=NOW)
    memos.tick(NOW)
    assert memos.proposals(scope="clinic") == []  # no scope has it in three sessions

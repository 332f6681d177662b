"""Law *innocence*: what a caller hands over is never changed, and the model is bit for bit what it was, whatever was kept or attached."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEXT, chat, tiny_model, tiny_tokenizer

from memos_core import MemOS, Plan
from memos_core.hf import HFEngine
from tests.conftest import NOW, bag_of_words

ANA = ["clinic", "ana"]  # as a list: a caller's own
ANA_SCOPE = ("clinic", "ana")
SESSIONS = ("one", "two")


class Watched:
    """An embedder that keeps every array it has handed out, as it was and as it is. It holds them itself, and may well use them again."""

    def __init__(self) -> None:
        self.handed_out: list[tuple[np.ndarray, bytes]] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        vectors = 3 * bag_of_words(texts)  # not of unit length: whoever normalises must not do it in place
        self.handed_out.append((vectors, vectors.tobytes()))
        return vectors

    def untouched(self) -> bool:
        return all(vectors.tobytes() == before for vectors, before in self.handed_out)


class Given:
    """What was handed over, with deep copies to compare with."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []

    def __call__(self, value: Any) -> Any:
        self.pairs.append((value, copy.deepcopy(value)))
        return value

    def unchanged(self) -> bool:
        return all(value == before and type(value) is type(before) for value, before in self.pairs)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
content = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)
content = content | st.just("<memory>\n- (2026-05-23) pasted\n</memory>\n\nAnd the question?")
message = st.builds(
    lambda role, content, more, metadata: {"role": role, "content": content, **more, "metadata": metadata, "tool_calls": [metadata]},
    st.sampled_from(["user", "assistant", "system", "tool"]),
    content,
    st.fixed_dictionaries(
        {}, optional={"name": st.just("Ana"), "timestamp": st.sampled_from([NOW, NOW.isoformat()]), "id": st.integers(0, 9)}
    ),
    json,
)
conversation = st.lists(message, max_size=4).flatmap(lambda before: content.map(lambda text: [*before, {"role": "user", "content": text}]))


@settings(max_examples=40)
@given(st.lists(message | content, min_size=1, max_size=4), conversation, content)
def test_what_is_handed_over_is_not_changed(what: list[Any], talk: list[dict[str, Any]], query: str) -> None:
    given, embedder = Given(), Watched()
    with tempfile.TemporaryDirectory() as folder, MemOS.open(Path(folder) / "x.memos", embedder=embedder) as memos:
        path, read = ["life", "home"], [["clinic", "ben"], "doctor"]
        done = memos.remember(
            given(what), scope=given(ANA), session="zero", path=given(path), read=given(read), write=given([["clinic"]]), now=NOW
        )
        for session in SESSIONS:
            turn = memos.begin(given(talk), scope=given(ANA), session=session, token_budget=9999, now=NOW)
            prompt, plan = given(turn.prompt), given(turn.plan)
            turn.commit("It is so.", now=NOW)
            longer = given([*talk, {"role": "assistant", "content": "It is so."}, {"role": "user", "content": query}])
            memos.begin(longer, scope=given(ANA), session=session, now=NOW).commit("And so.", now=NOW)
            given(memos.begin(given(prompt), scope=given(ANA), session=session, now=NOW).plan)
            assert plan is turn.plan
        found = given(memos.recall(query, scope=given(ANA), actor=given(["clinic"]), now=NOW))
        first = given(done[0].cube)
        memos.update(first.id, text=query, path=given(["other"]), read=given([["clinic", "eva"]]), write=given([]), now=NOW)
        memos.rollback(first.id, 1, now=NOW)
        memos.conversation(scope=given(ANA), session="zero")
        memos.history(first.id)
        memos.audit(given(ANA))
        memos.forget(given([first.id]), now=NOW)
        memos.tick(NOW + timedelta(days=1))
        assert found.hits
        assert given.unchanged()
        assert embedder.handed_out and embedder.untouched()


def test_what_was_handed_out_may_be_changed_by_the_caller(memos: MemOS) -> None:
    """The other way round: nothing that is written hangs on objects of the caller's."""
    talk: list[dict[str, Any]] = [{"role": "user", "content": "May Ana have penicillin?", "id": "t1"}]
    turn = memos.begin(talk, scope="ana", now=NOW)
    talk[0]["content"] = turn.prompt[0]["content"] = "Something else."
    talk.append({"role": "user", "content": "More."})
    first = turn.commit("No.", now=NOW)
    assert [done.cube.payload.text for done in first] == ["May Ana have penicillin?", "No."]
    first.clear()
    assert len(turn.commit("No.", now=NOW)) == 2


@pytest.mark.parametrize("kind", ["float32", "float64", "read-only", "list"])
def test_vectors_of_any_kind_are_taken_as_they_are(tmp_path: Path, kind: str) -> None:
    table: dict[str, Any] = {}

    def embed(texts: list[str]) -> Any:
        """The same objects for the same texts: an embedder with a cache of its own."""
        key = "\n".join(texts)
        if key not in table:
            vectors = 3 * bag_of_words(texts).astype(np.float64 if kind == "float64" else np.float32)
            vectors.flags.writeable = kind != "read-only"
            table[key] = vectors.tolist() if kind == "list" else vectors
        return table[key]

    facts = ["Ana plays the cello.", "Ana has a dog."]
    with MemOS.open(tmp_path / "x.memos", embedder=embed) as memos:
        memos.remember(facts, scope="ana")
        memos.recall("cello", scope="ana")
    before = copy.deepcopy(table)
    with MemOS.open(tmp_path / "x.memos", embedder=embed) as memos:
        memos.remember(facts, scope="ben")
        assert memos.recall("cello", scope="ana").hits[0].text == facts[0]
        memos.forget(memos.recall("cello", scope="ben").hits[0].cube.id)
    assert table.keys() == before.keys()
    assert all(np.array_equal(table[key], before[key]) for key in table)


class Model:
    """A tiny model with its engine; `assert_same` compares it with what it was at first."""

    def __init__(self, kind: str) -> None:
        self.model = tiny_model(kind)
        self.engine = HFEngine(self.model, tiny_tokenizer())
        self.probes = [chat("Where does Ana live?"), chat(TEXT, "Yes.", "And the dose?", system="You help."), chat("7" * 200)]
        self.before = self.state()

    def state(self) -> tuple[dict[str, bytes], list[bytes], Any]:
        weights = {name: tensor.numpy().tobytes() for name, tensor in self.model.state_dict(keep_vars=False).items()}
        logits = [self.engine.next_token_logits(probe, reuse=False).numpy().tobytes() for probe in self.probes]
        modules = {name: (type(module), module.training, len(module._forward_hooks)) for name, module in self.model.named_modules()}
        flags = {name: (parameter.requires_grad, parameter.grad is None) for name, parameter in self.model.named_parameters()}
        return weights, logits, (modules, flags, repr(self.model.config), repr(self.model.generation_config))

    def assert_same(self) -> None:
        weights, logits, rest = self.state()
        assert weights == self.before[0], "weights"
        assert logits == self.before[1], "logits without reuse"
        assert rest == self.before[2], "modules, flags or configuration"


@pytest.fixture(params=["llama", "gpt2", "mistral:sliding", "gemma3_text", "mamba"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    yield Model(request.param)


def test_the_model_is_what_it_was(model: Model, tmp_path: Path) -> None:
    engine, given = model.engine, Given()
    talk = given(chat(TEXT, "Yes.", "And the day?", system=TEXT))
    plan = given(Plan(shared_system=TEXT))
    replies = [engine.generate(talk, plan, ANA_SCOPE, 6).token_ids for _ in range(3)]
    assert replies[0] == replies[1] == replies[2]
    model.assert_same()
    engine.generate(talk, max_new_tokens=5, temperature=0.8, top_p=0.9, seed=3)
    engine.rank(given(chat("Which?")), given(["Yes", "No, never"]))
    stream = engine.stream(talk, max_new_tokens=9)
    next(iter(stream))
    del stream  # given up half way
    model.assert_same()
    if "activation" in engine.capabilities:
        segment = engine.prefill(talk, ANA_SCOPE, plan=plan)
        model.assert_same()
        data = engine.save(segment)
        file = tmp_path / "kept.safetensors"
        file.write_bytes(data)
        engine.close()
        assert engine.attach(file, scope=ANA_SCOPE, prefix_key=segment.prefix_key) is None
        model.assert_same()
        reply = engine.generate([*talk, *chat("Ok.", "More?")[1:]], plan, ANA_SCOPE, 4)
        assert reply.reused_tokens >= segment.tokens - 1
        model.assert_same()
        assert engine.detach(segment.prefix_key)
        assert file.read_bytes() == data
        engine.forget_scope(ANA_SCOPE)
    engine.close()
    model.assert_same()
    assert given.unchanged()
    assert engine.generate(talk, plan, ANA_SCOPE, 6).token_ids == replies[0]


def test_a_memory_that_prefills_and_drops_leaves_the_model_alone(tmp_path: Path) -> None:
    model = Model("llama")
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    with MemOS.open(tmp_path / "x.memos", embedder=bag_of_words, engine=model.engine) as memos:
        done = memos.remember(["Ana is allergic to penicillin.", "Ana plays the cello."], scope=ANA_SCOPE, now=NOW)
        (kv,) = memos.promote([each.id for each in done], to="activation", now=NOW)
        model.assert_same()
        turn = memos.begin(chat("Which antibiotic?"), scope=ANA_SCOPE, now=NOW)
        prompt = copy.deepcopy(turn.prompt)
        reply = model.engine.generate(turn.prompt, turn.plan, turn.scope, 5)
        assert reply.reused_tokens > 0 and turn.plan.reuse and turn.prompt == prompt
        turn.commit(reply.text or "No.", now=NOW)
        memos.demote(kv.id, now=NOW)
        memos.tick(NOW)
        model.assert_same()
        (kv,) = memos.promote(done[1].id, to="activation", now=NOW)
        memos.forget(done[1].id, now=NOW)
    model.assert_same()
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers are the caller's"

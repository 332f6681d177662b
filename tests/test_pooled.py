"""The model's own hidden states as an embedder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemOS
from memos_core.hf import HFEngine, PooledStates

TEXTS = ["Ana plays the cello.", "The library closes at six.", "A bicycle.", "Water boils at a hundred degrees, as everybody knows."]


@pytest.fixture
def engine() -> HFEngine:
    return HFEngine(tiny_model(), tiny_tokenizer())


def test_a_text_has_one_vector_whatever_stands_beside_it(engine: HFEngine) -> None:
    embed = PooledStates(engine, sample=TEXTS)
    together = embed(TEXTS)
    assert together.dtype == np.float32 and np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, together, strict=True):
        assert np.allclose(embed([text])[0], vector, atol=1e-4)
    assert np.allclose(PooledStates(engine, sample=TEXTS)(TEXTS), together, atol=1e-6)
    assert embed([]).shape == (0, together.shape[1])
    assert np.isfinite(embed([""])).all()


def test_it_is_the_mean_of_the_hidden_states(engine: HFEngine) -> None:
    embed = PooledStates(engine, layer=0, sample=TEXTS)
    for text in TEXTS:
        expected = engine.hidden_states(text, 0)[0].mean(dim=0).numpy()
        assert np.allclose(embed._means([text])[0], expected, atol=1e-5)
    assert not engine.model.model.layers[0]._forward_hooks  # nothing is left behind


def test_a_memory_works_with_it(engine: HFEngine, tmp_path: Path) -> None:
    for _ in range(2):  # it is the same embedder when it is made again
        with MemOS.open(tmp_path / "test.memos", embedder=PooledStates(engine, sample=TEXTS)) as memos:
            memos.remember(TEXTS, scope="ana")
            assert memos.recall("Ana plays the cello.", scope="ana").hits[0].text == TEXTS[0]


def test_what_it_cannot_be_made_of(engine: HFEngine) -> None:
    for wrong in ({"sample": ["one"]}, {"sample": "text"}, {"layer": 99}, {"dimensions": 0}):
        with pytest.raises(InvalidInput):
            PooledStates(engine, **wrong)  # type: ignore[arg-type]

"""The embedder's wrapper: checked, of unit length, in batches, each text once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_core.embed import CACHED_TEXTS, CachedEmbedder


class Counting:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.batches.append(list(texts))
        return [[float(len(text)), 1.0, 2.0] for text in texts]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8))
def test_rows_are_unit_vectors_in_order(texts: list[str]) -> None:
    vectors = CachedEmbedder(Counting())(texts)
    assert vectors.dtype == np.float32 and vectors.shape == (len(texts), 3)
    wanted = np.array([[len(text), 1, 2] for text in texts], dtype=np.float32)
    assert np.allclose(vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True))


def test_one_call_for_what_is_new_and_none_for_what_is_known() -> None:
    counting = Counting()
    embedder = CachedEmbedder(counting)
    embedder(["a", "bb", "a"])
    embedder(["bb", "ccc"])
    assert counting.batches == [["a", "bb"], ["ccc"]]
    embedder.clear()
    embedder(["a"])
    assert counting.batches[-1] == ["a"]


def test_the_cache_has_a_bound() -> None:
    embedder = CachedEmbedder(Counting())
    embedder([str(number) for number in range(CACHED_TEXTS + 50)])
    assert len(embedder._cache) == CACHED_TEXTS


@pytest.mark.real
def test_minilm_knows_meaning_and_is_the_same_alone_and_in_a_batch() -> None:
    from memos_core.hf.minilm import MiniLM

    embedder = CachedEmbedder(MiniLM())
    texts = ["Which antibiotic is safe for her?", "She is allergic to penicillin.", "The bus leaves at nine.", "x " * 3000, ""]
    vectors = embedder(texts)
    assert vectors.shape == (5, 384) and vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    embedder.clear()
    for text, vector in zip(texts, vectors, strict=True):
        assert np.allclose(embedder([text])[0], vector, atol=1e-5)

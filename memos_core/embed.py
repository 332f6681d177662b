"""Text to vectors: the Embedder protocol, the local default, a cache by content, and identity by canary sentences."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from memos_core.errors import EmbedderMismatch, InvalidInput, MissingExtra

Embedder = Callable[[list[str]], Any]
"""n texts to anything numpy turns into float32 [n, d]; the same text always gives the same vector."""

CANARIES = (
    "The cat sat on the mat.",
    "Ana moved from Lisbon to Oslo in 2024.",
    "Which antibiotic is safe for a patient who is allergic to penicillin?",
)
CACHED_TEXTS = 4096


def local_embedder() -> Embedder:
    """all-MiniLM-L6-v2 on this machine, loaded when first used. Raises MissingExtra when torch is not installed."""
    try:
        from memos_core.hf.minilm import MiniLM
    except ModuleNotFoundError as error:
        raise MissingExtra("the local embedder", "hf") from error
    return MiniLM()


class CachedEmbedder:
    """An embedder whose answers are checked, normalised to unit length, and kept for texts seen lately. Thread-safe."""

    def __init__(self, embedder: Embedder | Any) -> None:
        """embedder: a callable, or what has `embed_documents`, as LangChain's Embeddings do. Raises InvalidInput for anything else."""
        documents = getattr(embedder, "embed_documents", None)
        self._embedder: Embedder = documents if callable(documents) else embedder
        if not callable(self._embedder):
            raise InvalidInput(f"embedder must be callable with a list of texts, got {type(embedder).__name__}")
        self._cache: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._dimensions: int | None = None
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, d], rows of unit length (all zeros stay zeros). Raises InvalidInput for a malformed answer."""
        keys = [sha256(text.encode()).digest() for text in texts]
        with self._lock:
            found = {key: self._cache[key] for key in keys if key in self._cache}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            fresh = self._embed(list(missing.values()))
            found.update(zip(missing, fresh, strict=True))
            with self._lock:
                for key in missing:
                    self._cache[key] = found[key]
                while len(self._cache) > CACHED_TEXTS:
                    self._cache.popitem(last=False)
        return np.stack([found[key] for key in keys])

    def _embed(self, texts: list[str]) -> np.ndarray:
        answer = self._embedder(texts)
        try:
            vectors = np.asarray(answer, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the embedder returned what is not an array of numbers ({error}); it must return [n, d]") from error
        if vectors.ndim != 2 or vectors.shape[0] != len(texts) or vectors.shape[1] == 0:
            raise InvalidInput(f"the embedder returned shape {vectors.shape} for {len(texts)} texts; it must return [n, d]")
        if self._dimensions not in (None, vectors.shape[1]):
            raise InvalidInput(
                f"the embedder returned {vectors.shape[1]} dimensions after {self._dimensions} before; each vector must have as many"
            )
        self._dimensions = vectors.shape[1]
        if not np.isfinite(vectors).all():
            raise InvalidInput("the embedder returned a value that is not finite; check it with the text that was being remembered")
        unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return unit

    def clear(self) -> None:
        """Let go of all that is cached."""
        with self._lock:
            self._cache.clear()

    def canaries(self) -> np.ndarray:
        """float32 [3, d]: the vectors that identify this embedder."""
        return self(CANARIES)


def check_identity(stored: np.ndarray, mine: np.ndarray, place: str) -> None:
    """Raise EmbedderMismatch unless both canaries come from the same embedder, up to numerical noise between machines."""
    if stored.shape != mine.shape:
        raise EmbedderMismatch(
            f"{place} holds vectors of {stored.shape[1]} dimensions and this embedder makes {mine.shape[1]}. Open it with the embedder it was written with"
        )
    if float(np.linalg.norm(stored - mine, axis=1).max()) > 0.045:  # a cosine of 0.999; zeros are like zeros
        raise EmbedderMismatch(
            f"the vectors of {place} were made by another embedder of the same size. Open it with the one it was written with"
        )

"""MiniLM: sentence embeddings by all-MiniLM-L6-v2, with nothing but transformers.

Source: sentence-transformers/all-MiniLM-L6-v2 (mean pooling over tokens, L2 norm, 256 tokens).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, BertModel

from memos_core.errors import InvalidInput
from memos_core.hf.models import default_embedder

MAX_TOKENS = 256
MAX_CHARACTERS = MAX_TOKENS * 24  # far more text than 256 tokens ever cover in practice; spares tokenising a 10 MB text
BATCH = 32


class _Encoder(BertModel):  # type: ignore[misc]
    """BERT without its pooler, whose weights are in the file and are not needed here."""

    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"pooler\."]


class MiniLM:
    """Callable: list of n texts -> float32 array [n, dimensions], rows of length one. Thread-safe."""

    def __init__(self, path: str | Path | None = None) -> None:
        """`path`: a BERT model directory or hub id; None: the packaged MiniLM. Raises MissingExtra when that is absent."""
        source = str(path if path is not None else default_embedder())
        self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
        self._model: Any = _Encoder.from_pretrained(source, add_pooling_layer=False, dtype=torch.float32, use_safetensors=True).eval()
        self._lock = threading.Lock()
        self.name = "all-MiniLM-L6-v2" if path is None else Path(source).name
        self.dimensions = int(self._model.config.hidden_size)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts`. Raises InvalidInput for anything that is not a list of str."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InvalidInput("the embedder takes a list of texts (str)")
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        if not len(texts):
            return vectors
        with self._lock, torch.inference_mode():
            ids = self._tokenizer([text[:MAX_CHARACTERS] for text in texts], truncation=True, max_length=MAX_TOKENS)["input_ids"]
            # Texts of one length go together, so no row is padded: padding costs time and changes results by float noise.
            order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
            start = 0
            while start < len(order):
                length = len(ids[order[start]])
                batch = [i for i in order[start : start + BATCH] if len(ids[i]) == length]
                vectors[batch] = self._embed([ids[i] for i in batch])
                start += len(batch)
        return vectors

    def _embed(self, ids: list[list[int]]) -> NDArray[np.float32]:
        """One batch of equally long token lists -> unit vectors."""
        tokens = torch.tensor(ids)
        hidden = self._model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        pooled = torch.nn.functional.normalize(hidden.mean(dim=1), dim=1)
        result: NDArray[np.float32] = pooled.numpy()
        return result

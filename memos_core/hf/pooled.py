"""A model's own hidden states as an embedder: the mean over a text's tokens, freed of what all texts have in common.

Source: MemOS §4.1 (hidden states as activation memory); whitening after BERT-whitening (Su et al. 2021): the raw means of a decoder all
point one way. It needs no second model; the README says how it compares with one that was trained to embed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memos_core.errors import InvalidInput
from memos_core.hf.decode import running
from memos_core.hf.machine import Machine
from memos_core.hf.signals import ORDINARY, as_layers
from memos_core.hf.steering import decoder_layers

BATCH = 32
MOST_TOKENS = 512
"""Of a longer text the beginning is read."""
LEAST_VARIANCE = 1e-6  # of a direction, beside that of the strongest


class _Enough(Exception):
    """Raised behind the layer that is asked for: the rest of the model need not run."""


class PooledStates:
    """Embeds texts by an engine's model. sample: texts of the kind that is to be told apart; directions in which they vary alike are kept.

    As a MemOS embedder it must be made anew in the same way: the same model, layer and sample.
    """

    def __init__(self, engine: Machine, *, layer: int = -1, dimensions: int = 256, sample: Sequence[str] = ORDINARY) -> None:
        """Raises InvalidInput."""
        if isinstance(sample, str) or len(sample) < 2:
            raise InvalidInput("sample must be a list of two texts or more")
        if isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1:
            raise InvalidInput(f"dimensions must be a whole number from 1, got {dimensions!r}")
        self._engine = engine
        self._layers = decoder_layers(engine.model)
        (self._layer,) = as_layers(layer, len(self._layers))
        means = self._means(sample)
        self._centre = means.mean(axis=0)
        _, sizes, directions = np.linalg.svd(means - self._centre, full_matrices=False)
        kept = min(dimensions, int((sizes > LEAST_VARIANCE**0.5 * sizes[0]).sum()))
        self._directions = (directions[:kept].T / sizes[:kept]).astype(np.float32)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, dimensions or fewer], unit length."""
        if not len(texts):
            return np.zeros((0, self._directions.shape[1]), dtype=np.float32)
        vectors = (self._means(texts) - self._centre) @ self._directions
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)

    def _means(self, texts: Sequence[str]) -> np.ndarray:
        """Mean hidden state of each text: float32 [texts, hidden size]."""
        tokens = [self._engine.tokenizer(text, verbose=False)["input_ids"][:MOST_TOKENS] or [0] for text in texts]
        order = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
        found: list[Any] = [None] * len(texts)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            for place, mean in zip(places, self._read([tokens[place] for place in places]), strict=True):
                found[place] = mean
        return np.stack(found)

    def _read(self, rows: Sequence[list[int]]) -> np.ndarray:
        """The means of a batch; shorter rows are filled up behind their end, where nothing looks."""
        widest, device = max(map(len, rows)), self._engine.model.get_input_embeddings().weight.device
        ids = torch.tensor([row + [0] * (widest - len(row)) for row in rows], device=device)
        real = torch.tensor([[1] * len(row) + [0] * (widest - len(row)) for row in rows], device=device)
        seen: list[Tensor] = []

        def stop(module: Any, inputs: Any, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)
            raise _Enough

        with self._engine.lock, running(self._engine.model, as_it_is=True):
            handle = self._layers[self._layer].register_forward_hook(stop)
            try:
                self._engine.model(input_ids=ids, attention_mask=real, use_cache=False)
            except _Enough:
                pass
            finally:
                handle.remove()
        weights = real.unsqueeze(-1).float()
        pooled: np.ndarray = ((seen[0].float() * weights).sum(dim=1) / weights.sum(dim=1)).cpu().numpy()
        return pooled

"""The private cache of one request: buffers allocated once, stored blocks copied in, the model writing in place.

A stock DynamicCache concatenates the whole cache at every decoded token. Here `update` writes the new tokens behind the old ones and
returns views, and a request never shares memory with what is stored, so nothing stored can be changed by generating.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

Payload = tuple[Tensor, ...]
"""The KV of a run of tokens: per group of equally shaped tensors one of [slots, heads, tokens, head_dim]."""


@dataclass(frozen=True)
class Group:
    """Key and value tensors of equal shape, kept in one buffer so that a block is copied by one operation."""

    heads: int
    dim: int
    dtype: torch.dtype
    device: torch.device
    slots: tuple[tuple[int, int], ...]  # (layer, 0 for keys or 1 for values), in buffer order

    def empty(self, tokens: int) -> Tensor:
        return torch.empty((len(self.slots), self.heads, tokens, self.dim), dtype=self.dtype, device=self.device)


@dataclass(frozen=True)
class Layout:
    """The shape of one model's cache."""

    groups: tuple[Group, ...]
    windows: tuple[int | None, ...]  # per layer: the sliding window in tokens, or None for full attention

    @property
    def bytes_per_token(self) -> int:
        return sum(len(group.slots) * group.heads * group.dim * group.dtype.itemsize for group in self.groups)


class PrivateLayer(DynamicLayer):  # type: ignore[misc]
    """One layer over a part of the private buffers. `length` counts the tokens that are filled in."""

    is_croppable = False

    def __init__(self, keys: Tensor, values: Tensor, length: int, window: int | None) -> None:
        super().__init__()
        self._keys, self._values = keys, values  # [1, heads, capacity, head_dim]
        self._length = length
        self._window = window
        self.is_sliding = window is not None  # read by the masking code, which sizes sliding and full masks apart
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._show(0, length)

    def _show(self, start: int, end: int) -> None:
        self.keys, self.values = self._keys[:, :, start:end], self._values[:, :, start:end]

    def _first_visible(self) -> int:
        """Where the window of the next token starts; earlier tokens stay stored (other requests may fork there) but are not shown."""
        return 0 if self._window is None else max(self._length - self._window + 1, 0)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, end = self._length, self._length + key_states.shape[-2]
        self._keys[:, :, start:end].copy_(key_states)
        self._values[:, :, start:end].copy_(value_states)
        self._show(self._first_visible(), end)
        self._length = end
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        offset = self._first_visible()
        return self._length + query_length - offset, offset

    def get_seq_length(self) -> int:
        return self._length

    def rewind(self, length: int) -> None:
        """Forget the tokens behind `length`; they are written over next."""
        self._length = length
        self._show(0, length)


class PrivateCache:
    """Buffers for `capacity` tokens, filled up to `length` from stored payloads; `.cache` is what the model is called with."""

    def __init__(self, layout: Layout, capacity: int, stored: Sequence[tuple[Payload, int]] = ()) -> None:
        """`stored`: (payload, tokens used of it) in order from token 0. The payloads are copied, never kept."""
        self._buffers = [group.empty(capacity) for group in layout.groups]
        ends = list(accumulate(used for _, used in stored))
        for (payload, used), end in zip(stored, ends, strict=True):
            for buffer, block in zip(self._buffers, payload, strict=True):
                buffer[:, :, end - used : end].copy_(block[:, :, :used])
        parts: list[list[Tensor]] = [[torch.empty(0), torch.empty(0)] for _ in layout.windows]
        for group, buffer in zip(layout.groups, self._buffers, strict=True):
            for slot, (layer, which) in enumerate(group.slots):
                parts[layer][which] = buffer[slot].unsqueeze(0)
        self._layers = [
            PrivateLayer(keys, values, ends[-1] if ends else 0, window)
            for (keys, values), window in zip(parts, layout.windows, strict=True)
        ]
        self.cache = Cache(layers=list(self._layers))

    @property
    def length(self) -> int:
        """Tokens filled in every layer (a forward pass that was broken off leaves some layers ahead)."""
        return min(layer.get_seq_length() for layer in self._layers)

    def rewind(self, length: int) -> None:
        for layer in self._layers:
            layer.rewind(length)

    def copy(self, start: int, end: int) -> Payload:
        """The KV of tokens [start, end) in memory of its own."""
        return tuple(buffer[:, :, start:end].clone(memory_format=torch.contiguous_format) for buffer in self._buffers)


def accepts(model: Any, argument: str) -> bool:
    """Whether the model's own forward (behind any adapter wrapper) takes `argument`."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return argument in inspect.signature(inner.forward).parameters


def find_layout(model: Any) -> Layout | str:
    """The layout of the model's cache, found by running two tokens through it, or the reason why it cannot be reused.

    Call under inference mode with the model evaluating.
    """
    if getattr(model.config, "is_encoder_decoder", False) or not accepts(model, "past_key_values"):
        return "the model keeps no key-value cache"
    cache = DynamicCache(config=model.config)
    layers = list(cache.layers)
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return "the model keeps recurrent or compressed state, which cannot be cut at a token"
    device = model.get_input_embeddings().weight.device
    output = model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=device), past_key_values=cache, use_cache=True)
    if getattr(output, "past_key_values", None) is not cache or any(layer.get_seq_length() != 2 for layer in layers):
        return "the model does not use the cache it is given"
    slots: dict[tuple[int, int, torch.dtype, torch.device], list[tuple[int, int]]] = {}
    for index, layer in enumerate(layers):
        for which, tensor in enumerate((layer.keys, layer.values)):
            if tensor.ndim != 4 or tensor.shape[2] != 2:
                return "the model's cache is not laid out as [batch, heads, tokens, head_dim]"
            slots.setdefault((tensor.shape[1], tensor.shape[3], tensor.dtype, tensor.device), []).append((index, which))
    groups = tuple(Group(*shape, slots=tuple(members)) for shape, members in slots.items())
    windows = tuple(layer.sliding_window if isinstance(layer, DynamicSlidingWindowLayer) else None for layer in layers)
    return Layout(groups, windows)

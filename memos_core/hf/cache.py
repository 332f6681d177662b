"""The private cache of one request, or of a batch: buffers lent by a workspace, stored blocks copied in, the model writing in place.

A stock DynamicCache concatenates the whole cache at every decoded token. Here `update` writes the new tokens behind the old ones and
returns views, and a request never shares memory with what is stored, so nothing stored can be changed by generating.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import ref

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


@dataclass(frozen=True)
class Layout:
    """The shape of one model's cache."""

    groups: tuple[Group, ...]
    windows: tuple[int | None, ...]  # per layer: the sliding window in tokens, or None for full attention

    @property
    def bytes_per_token(self) -> int:
        return sum(len(group.slots) * group.heads * group.dim * group.dtype.itemsize for group in self.groups)


class Source(Protocol):
    """Where KV can be copied from later, layer by layer: a segment file."""

    def copy_into(self, layer: int, which: int, start: int, end: int, out: Tensor) -> None:
        """Put keys (which 0) or values (1) of tokens [start, end) into `out` [heads, tokens, head_dim]. Raises Unreadable."""


@dataclass(frozen=True)
class Piece:
    """A run of stored tokens that a request starts from. Of `payload` the first `used` tokens; else tokens [start, start + used) of `source`."""

    used: int
    payload: Payload | None = None
    source: Source | None = None
    start: int = 0


@dataclass(eq=False)
class Lent:
    """Buffers [slots, batch, heads, capacity, head_dim], one for each group. holds: what the first row is known to hold, from its first
    token on: (a tensor of the stored KV, so many tokens of it)."""

    groups: tuple[Group, ...]
    batch: int
    capacity: int
    buffers: list[Tensor]
    holds: list[tuple[ref[Tensor], int]]

    @property
    def bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers)


class Workspace:
    """Memory for private caches, kept from one request to the next: fresh memory costs more than what is copied into it, and what the
    next request starts from is often there already.

    Not thread-safe: the engine's lock guards it.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: keep no more than so many bytes between requests."""
        self._limit = limit
        self._free: dict[int, Lent] = {}  # by batch, the latest last

    def lend(self, groups: tuple[Group, ...], batch: int, tokens: int) -> Lent:
        """Room for so many tokens or more; what it contains is arbitrary but for `holds`."""
        free = self._free.pop(batch, None)
        if free is not None and free.groups == groups and free.capacity >= tokens:
            return free
        capacity = -(-(tokens + tokens // 8) // 64) * 64
        shapes = [(len(group.slots), batch, group.heads, capacity, group.dim) for group in groups]
        buffers = [torch.empty(shape, dtype=group.dtype, device=group.device) for shape, group in zip(shapes, groups, strict=True)]
        return Lent(groups, batch, capacity, buffers, [])

    def give_back(self, lent: Lent) -> None:
        """Keep it, and of the others as many as the limit allows."""
        self._free.pop(lent.batch, None)
        self._free[lent.batch] = lent
        while self.bytes > self._limit:
            self._free.pop(next(iter(self._free)))

    def clear(self) -> None:
        self._free = {}

    @property
    def bytes(self) -> int:
        return sum(lent.bytes for lent in self._free.values())


class PrivateLayer(DynamicLayer):  # type: ignore[misc]
    """One layer over a part of the private buffers. `length` counts the tokens that are filled in.

    What comes from a file is copied in when the layer is first used.
    """

    is_croppable = False

    def __init__(self, index: int, keys: Tensor, values: Tensor, window: int | None) -> None:
        super().__init__()
        self._index = index
        self._keys, self._values = keys, values  # [batch, heads, capacity, head_dim]
        self._length = 0
        self._window = window
        self._slots: Tensor | None = None
        self._pending: list[tuple[Source, int, int, int]] = []
        self.is_sliding = window is not None  # read by the masking code, which sizes sliding and full masks apart
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._show(0, 0)

    def expect(self, source: Source, start: int, tokens: int, at: int) -> None:
        """Copy tokens [start, start + tokens) of `source` to place `at` of the first row when the layer is first used."""
        self._pending.append((source, start, tokens, at))

    def materialise(self) -> None:
        """Copy in what is expected. Raises Unreadable."""
        for source, start, tokens, at in self._pending:
            for which, buffer in enumerate((self._keys, self._values)):
                source.copy_into(self._index, which, start, start + tokens, buffer[0, :, at : at + tokens])
        self._pending = []

    def _show(self, start: int, end: int) -> None:
        self.keys, self.values = self._keys[:, :, start:end], self._values[:, :, start:end]

    def _first_visible(self) -> int:
        """Where the window of the next token starts; earlier tokens stay stored (other requests may fork there) but are not shown."""
        return 0 if self._window is None else max(self._length - self._window + 1, 0)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.materialise()
        if self._slots is not None:
            self._keys.index_copy_(2, self._slots, key_states)
            self._values.index_copy_(2, self._slots, value_states)
            return self.keys, self.values
        start, end = self._length, self._length + key_states.shape[-2]
        self._keys[:, :, start:end].copy_(key_states)
        self._values[:, :, start:end].copy_(value_states)
        self._show(self._first_visible(), end)
        self._length = end
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        if self._slots is not None:
            return self._length, 0
        offset = self._first_visible()
        return self._length + query_length - offset, offset

    def get_seq_length(self) -> int:
        return self._length

    def write_at(self, slots: Tensor | None, length: int) -> None:
        """Of `length` tokens in all, let the next call write those at `slots`; None: go on behind them."""
        self._slots = slots
        self.rewind(length)

    def rewind(self, length: int) -> None:
        """Forget the tokens behind `length`; they are written over next."""
        self._length = length
        self._show(0, length)


class PrivateCache:
    """Buffers for `capacity` tokens of each row; `.cache` is what the model is called with. Rows are filled to one common length.

    Close it, so that its memory can be used again.
    """

    def __init__(self, layout: Layout, capacity: int, workspace: Workspace, batch: int = 1) -> None:
        self._workspace = workspace
        self._lent = workspace.lend(layout.groups, batch, capacity)
        self._buffers = self._lent.buffers
        parts: list[list[Tensor]] = [[torch.empty(0), torch.empty(0)] for _ in layout.windows]
        for group, buffer in zip(layout.groups, self._buffers, strict=True):
            for slot, (layer, which) in enumerate(group.slots):
                parts[layer][which] = buffer[slot]
        self._layers = [
            PrivateLayer(index, keys, values, window)
            for index, ((keys, values), window) in enumerate(zip(parts, layout.windows, strict=True))
        ]
        self.cache = Cache(layers=list(self._layers))

    def fill(self, pieces: Sequence[Piece]) -> None:
        """Copy stored pieces, one after the other, into the first row; what is in files follows when its layer is used, and what is
        there already stays."""
        at = 0
        there, self._lent.holds = _there(self._lent.holds, pieces), []
        for place, piece in enumerate(pieces):
            if place < there:
                pass
            elif piece.payload is not None:
                for buffer, block in zip(self._buffers, piece.payload, strict=True):
                    buffer[:, 0, :, at : at + piece.used].copy_(block[:, :, : piece.used])
            elif piece.source is not None:
                for layer in self._layers:
                    layer.expect(piece.source, piece.start, piece.used, at)
            at += piece.used
        self.rewind(at)

    @property
    def length(self) -> int:
        """Tokens filled in every layer (a forward pass that was broken off leaves some layers ahead)."""
        return min(layer.get_seq_length() for layer in self._layers)

    def rewind(self, length: int) -> None:
        for layer in self._layers:
            layer.rewind(length)

    def put(self, payload: Payload, at: int) -> None:
        """Copy the KV of a run of tokens to place `at` of the first row."""
        for buffer, block in zip(self._buffers, payload, strict=True):
            buffer[:, 0, :, at : at + block.shape[2]].copy_(block)

    def write_at(self, slots: Tensor | None, length: int) -> None:
        """Of `length` tokens in all, let the next call write those at `slots`; None: go on behind them."""
        for layer in self._layers:
            layer.write_at(slots, length)

    def filled(self) -> int:
        """The same as `length`."""
        return self.length

    def copy_to(self, batch: PrivateCache, row: int, at: int) -> None:
        """Copy the only row to place `at` of a row of `batch`, and zero what lies before: what is masked must still be a number."""
        self.materialise()
        for buffer, other in zip(self._buffers, batch._buffers, strict=True):
            other[:, row, :, :at].zero_()
            other[:, row, :, at : at + self.length].copy_(buffer[:, 0, :, : self.length])

    def materialise(self) -> None:
        """Copy in what is still expected from files. Raises Unreadable."""
        for layer in self._layers:
            layer.materialise()

    def copy(self, start: int, end: int, row: int = 0) -> Payload:
        """The KV of tokens [start, end) of a row in memory of its own. Raises Unreadable."""
        self.materialise()
        return tuple(buffer[:, row, :, start:end].clone(memory_format=torch.contiguous_format) for buffer in self._buffers)

    def close(self, holds: Sequence[tuple[Payload, int]] = ()) -> None:
        """Give the memory back. holds: stored KV that equals what the first row holds, from its first token on, and how many tokens of it.
        The cache must not be used afterwards."""
        self._lent.holds = [(ref(payload[0]), used) for payload, used in holds]
        self._workspace.give_back(self._lent)
        self._buffers, self._layers = [], []
        self.cache = None


def _there(holds: Sequence[tuple[ref[Tensor], int]], pieces: Sequence[Piece]) -> int:
    """How many of the pieces, from the first on, need not be copied."""
    count = 0
    for (held, tokens), piece in zip(holds, pieces, strict=False):
        if piece.payload is None or held() is not piece.payload[0] or piece.used > tokens:
            break
        count += 1
        if piece.used < tokens:
            break
    return count


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

"""A segment of KV as a safetensors file: written whole, registered by its header, read lazily and verified before first use.

Contents: `layers.<n>.keys` and `layers.<n>.values` [heads, tokens, head_dim] as `precision` packs them, `token_ids` int32 [tokens], and
metadata as JSON with a checksum of every tensor and of itself. The plain scope is never written, only its salt (a hash).
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from memos_core.cube import Precision
from memos_core.errors import EngineError
from memos_core.hf.cache import Layout, Payload
from memos_core.hf.identity import Identity
from memos_core.hf.precision import lossless, pack, shapes, unpack_into

FORMAT = "memos-kv-2"


class Unreadable(EngineError):
    """The file cannot be used; the message is the reason that a miss is counted under. source: which, where it was registered."""

    source: Any = None


@dataclass(frozen=True)
class Header:
    """What a segment file says about itself, before any tensor is read."""

    token_ids: tuple[int, ...]
    public_tokens: int  # how many leading tokens are unsalted
    salt: str  # hash of the scope; "" when all of it is public
    prefix_key: str
    identity: Identity
    precision: Precision = Precision.FLOAT32
    divergence: float = 0.0  # measured when it was made: KL in nats to the exact KV, a mean over tokens
    agreement: float = 1.0  # share of those tokens where the likeliest next token was the same
    checksums: dict[str, str] = field(default_factory=dict)  # of each tensor, xxh3-128


def pack_layers(layout: Layout, payload: Payload, precision: Precision) -> dict[str, Tensor]:
    """KV of a run of tokens as a file's tensors, by name."""
    tensors = {}
    for group, stack in zip(layout.groups, payload, strict=True):
        for place, (layer, which) in enumerate(group.slots):
            for suffix, tensor in pack(stack[place].cpu(), which, precision).items():
                tensors[_name(layer, which) + suffix] = tensor.clone()
    return dict(sorted(tensors.items()))


def unpack_layers(layout: Layout, tensors: dict[str, Tensor], precision: Precision, tokens: int) -> Payload:
    """What is read back of `pack_layers`."""
    payload = []
    for group in layout.groups:
        stack = torch.empty((len(group.slots), group.heads, tokens, group.dim), dtype=group.dtype, device=group.device)
        for place, (layer, which) in enumerate(group.slots):
            names = shapes(precision, which, group.heads, tokens, group.dim)
            parts = {suffix: tensors[_name(layer, which) + suffix] for suffix in names}
            unpack_into(parts, which, precision, 0, tokens, stack[place])
        payload.append(stack)
    return tuple(payload)


def write(header: Header, tensors: dict[str, Tensor]) -> bytes:
    """The file's bytes. Checksums are computed here and what was passed is ignored."""
    checked = replace(header, checksums={name: _digest(tensor) for name, tensor in tensors.items()})
    about = {name: value for name, value in asdict(checked).items() if name != "token_ids"} | {"format": FORMAT}
    # One entry only: safetensors writes several in no fixed order, and equal segments should be equal files.
    text = json.dumps(about, sort_keys=True)
    metadata = {"memos": json.dumps({"about": text, "checksum": xxhash.xxh3_128(text.encode()).hexdigest()}, sort_keys=True)}
    return bytes(save({**tensors, "token_ids": torch.tensor(header.token_ids, dtype=torch.int32)}, metadata))


def read_header(path: Path) -> Header:
    """Header and token ids of the file at `path`. Raises Unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            written = json.loads((file.metadata() or {}).get("memos", "{}"))
            text = str(written.get("about", ""))
            if xxhash.xxh3_128(text.encode()).hexdigest() != written.get("checksum"):
                raise Unreadable("the file is not a segment of this format, or its header is damaged")
            about = json.loads(text)
            if about.pop("format", None) != FORMAT:
                raise Unreadable("the file is not a segment of this format")
            about |= {"identity": Identity(**about["identity"]), "precision": Precision(about["precision"])}
            return Header(token_ids=tuple(file.get_tensor("token_ids").tolist()), **about)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise Unreadable("the file is missing, truncated or damaged") from error


class SegmentFile:
    """A registered file, memory-mapped when its first layer is asked for. Each tensor is verified when it is first read."""

    def __init__(self, path: Path, header: Header, layout: Layout) -> None:
        self.path, self.header = path, header
        self.lossless = lossless(header.precision, layout.groups[0].dtype)
        self._shapes = _shapes(header, layout)
        self._tensors = len(self._shapes)
        self._bytes_per_token = layout.bytes_per_token
        self._read: list[float] = [0, 0.0]
        self._open: Any = None
        self._parts: dict[tuple[int, int], dict[str, Tensor]] = {}

    @property
    def size(self) -> int:
        """Bytes of KV that it stands for."""
        return len(self.header.token_ids) * self._bytes_per_token

    @property
    def mapped(self) -> bool:
        """Whether it has been read before."""
        return bool(self._parts)

    def copy_into(self, layer: int, which: int, start: int, end: int, out: Tensor) -> None:
        """Put keys (which 0) or values (1) of tokens [start, end) into `out` [heads, tokens, head_dim].

        Raises Unreadable when the content is not what was written.
        """
        began = time.perf_counter()
        try:
            if (layer, which) not in self._parts:
                self._parts[layer, which] = self._verified(layer, which)
        except Unreadable as error:
            error.source = self
            raise
        unpack_into(self._parts[layer, which], which, self.header.precision, start, end, out)
        self._read[0] += (end - start) * self._bytes_per_token // self._tensors
        self._read[1] += time.perf_counter() - began

    def measured(self) -> tuple[int, float]:
        """(bytes read, seconds it took) since this was last asked."""
        read, seconds = self._read
        self._read = [0, 0.0]
        return int(read), seconds

    def _verified(self, layer: int, which: int) -> dict[str, Tensor]:
        parts = {}
        try:
            if self._open is None:
                self._open = safe_open(self.path, framework="pt")
            for suffix, shape in self._shapes[layer, which].items():
                tensor = self._open.get_tensor(_name(layer, which) + suffix)
                if tuple(tensor.shape) != shape:
                    raise Unreadable("the file's tensors have other shapes than the model's cache")
                if _digest(tensor) != self.header.checksums.get(_name(layer, which) + suffix):
                    raise Unreadable("the file's checksum does not match its content")
                parts[suffix] = tensor
        except (SafetensorError, OSError) as error:
            raise Unreadable("the file is missing, truncated or damaged") from error
        return parts


def _shapes(header: Header, layout: Layout) -> dict[tuple[int, int], dict[str, tuple[int, ...]]]:
    count = len(header.token_ids)
    return {
        (layer, which): shapes(header.precision, which, group.heads, count, group.dim)
        for group in layout.groups
        for layer, which in group.slots
    }


def _name(layer: int, which: int) -> str:
    return f"layers.{layer}.{('keys', 'values')[which]}"


def _digest(tensor: Tensor) -> str:
    raw: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return xxhash.xxh3_128(memoryview(raw)).hexdigest()

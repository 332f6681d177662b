"""A segment of KV as a safetensors file: written whole, registered by its header, read lazily and verified before first use.

Contents: `layers.<n>.keys` and `layers.<n>.values`, each contiguous [heads, tokens, head_dim], `token_ids` int32 [tokens], and
metadata as JSON. The plain scope is never written, only its salt (a hash).
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from memos_core.errors import EngineError
from memos_core.hf.cache import Layout, Payload
from memos_core.hf.identity import Identity

FORMAT = "memos-kv-1"


class Unreadable(EngineError):
    """The file cannot be used; the message is the reason that a miss is counted under."""


@dataclass(frozen=True)
class Header:
    """What a segment file says about itself, before any tensor is read."""

    token_ids: tuple[int, ...]
    public_tokens: int  # how many leading tokens are unsalted
    salt: str  # hash of the scope; "" when all of it is public
    prefix_key: str
    identity: Identity
    content: str  # sha256 over the layers' bytes


def write(header: Header, layout: Layout, payload: Payload) -> bytes:
    """The file's bytes. `header.content` is computed here and what was passed is ignored."""
    layers = _by_layer(layout, payload)
    about = {
        "format": FORMAT,
        "identity": asdict(header.identity),
        "prefix_key": header.prefix_key,
        "salt": header.salt,
        "public_tokens": header.public_tokens,
        "content": _content(layers),
    }
    # One entry only: safetensors writes several in no fixed order, and equal segments should be equal files.
    metadata = {"memos": json.dumps(about, sort_keys=True)}
    return bytes(save({**layers, "token_ids": torch.tensor(header.token_ids, dtype=torch.int32)}, metadata))


def read_header(path: Path) -> Header:
    """Header and token ids of the file at `path`. Raises Unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("memos", "{}"))
            if about.get("format") != FORMAT:
                raise Unreadable("the file is not a segment of this format")
            return Header(
                token_ids=tuple(file.get_tensor("token_ids").tolist()),
                public_tokens=int(about["public_tokens"]),
                salt=about["salt"],
                prefix_key=about["prefix_key"],
                identity=Identity(**about["identity"]),
                content=about["content"],
            )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise Unreadable("the file is missing, truncated or damaged") from error


class SegmentFile:
    """A registered file. Nothing of the layers is read before `read`."""

    def __init__(self, path: Path, header: Header, layout: Layout, checksum: str | None) -> None:
        """`checksum`: sha256 hex of the whole file, checked instead of the file's own content hash. Raises Unreadable."""
        self.path, self.header = path, header
        self._layout, self._checksum = layout, checksum
        self._verified = False

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[Payload]:
        """The KV of each token range [start, end), in memory of its own. Raises Unreadable when the content is not what was written."""
        try:
            with safe_open(self.path, framework="pt") as file:
                layers = {name: file.get_tensor(name) for name in _names(self._layout)}
                self._verify(layers)
                return [self._cut(layers, start, end) for start, end in ranges]
        except (SafetensorError, OSError) as error:
            raise Unreadable("the file is missing, truncated or damaged") from error

    def _verify(self, layers: dict[str, Tensor]) -> None:
        if self._verified:
            return
        count = len(self.header.token_ids)
        for group in self._layout.groups:
            for slot in group.slots:
                tensor = layers[_name(*slot)]
                if tuple(tensor.shape) != (group.heads, count, group.dim) or tensor.dtype != group.dtype:
                    raise Unreadable("the file's tensors have other shapes than the model's cache")
        expected, found = (self.header.content, _content(layers)) if self._checksum is None else (self._checksum, _file_hash(self.path))
        if expected != found:
            raise Unreadable("the file's checksum does not match its content")
        self._verified = True

    def _cut(self, layers: dict[str, Tensor], start: int, end: int) -> Payload:
        return tuple(
            torch.stack([layers[_name(*slot)][:, start:end] for slot in group.slots]).to(group.device) for group in self._layout.groups
        )


def _name(layer: int, which: int) -> str:
    return f"layers.{layer}.{('keys', 'values')[which]}"


def _names(layout: Layout) -> list[str]:
    return [_name(layer, which) for layer in range(len(layout.windows)) for which in (0, 1)]


def _by_layer(layout: Layout, payload: Payload) -> dict[str, Tensor]:
    named = {
        _name(*slot): tensor[place].clone().cpu()
        for group, tensor in zip(layout.groups, payload, strict=True)
        for place, slot in enumerate(group.slots)
    }
    return {name: named[name] for name in _names(layout)}


def _content(layers: dict[str, Tensor]) -> str:
    digest = sha256()
    for tensor in layers.values():
        raw: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
        digest.update(memoryview(raw))
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return sha256(view).hexdigest()

"""The index's file: arrays that save reading the store again, checked part by part, and never trusted over it."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from memos_core.blobs import write_durably
from memos_core.index.columns import COLUMNS

_MAGIC = b"memos-index-6\n"
_PREFIX = struct.Struct("<QI")  # length and checksum of the header


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything an index holds. vectors: float32 [n, d]. columns: COLUMNS [n]. terms: uint32, flat, `lengths` int64 [n] of each row.

    labels: the terms of the names that callers gave to concepts.
    """

    seq: int
    vectors: np.ndarray
    columns: np.ndarray
    terms: np.ndarray
    lengths: np.ndarray
    labels: dict[int, list[int]]


def write(path: Path, owner: str, contents: Contents) -> None:
    """Write the file, whole or not at all. Raises OSError."""
    index = faiss.IndexFlatIP(contents.vectors.shape[1])
    index.add(np.ascontiguousarray(contents.vectors))
    parts = [
        faiss.serialize_index(index).tobytes(),
        contents.columns.tobytes(),
        contents.terms.tobytes(),
        contents.lengths.tobytes(),
        json.dumps(list(contents.labels.items())).encode(),
    ]
    header = {
        "owner": owner,
        "seq": contents.seq,
        "dimensions": contents.vectors.shape[1],
        "parts": [[len(part), zlib.crc32(part)] for part in parts],
    }
    text = json.dumps(header).encode()
    write_durably(path, _MAGIC + _PREFIX.pack(len(text), zlib.crc32(text)) + text + b"".join(parts))


def read(path: Path, owner: str, dimensions: int, latest: int) -> Contents | None:
    """What `write` wrote, checked part by part; None for anything else, and for what does not belong to a store at `latest`."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + _PREFIX.size
    if len(data) < start or not data.startswith(_MAGIC):
        return None
    size, checksum = _PREFIX.unpack_from(data, len(_MAGIC))
    text = data[start : start + size]
    if len(text) != size or zlib.crc32(text) != checksum:
        return None
    header = json.loads(text)
    if header["owner"] != owner or header["dimensions"] != dimensions or header["seq"] > latest:
        return None
    position, parts = start + size, []
    for length, checksum in header["parts"]:
        part = data[position : position + length]
        if len(part) != length or zlib.crc32(part) != checksum:
            return None
        parts.append(part)
        position += length
    index = faiss.deserialize_index(np.frombuffer(parts[0], dtype=np.uint8))
    vectors = storage(index, dimensions).copy()  # while the index lives: the view is of its memory
    columns, terms = np.frombuffer(parts[1], dtype=COLUMNS), np.frombuffer(parts[2], dtype=np.uint32)
    lengths = np.frombuffer(parts[3], dtype=np.int64)
    if not len(vectors) == len(columns) == len(lengths) or lengths.sum() != len(terms):
        return None
    return Contents(header["seq"], vectors, columns, terms, lengths, {concept: held for concept, held in json.loads(parts[4])})


def storage(index: Any, dimensions: int) -> np.ndarray:
    """float32 [n, d]: a view of a flat index's vectors; valid until the next `add`."""
    if index.ntotal == 0:
        return np.zeros((0, dimensions), dtype=np.float32)
    flat: np.ndarray = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * dimensions)
    return flat.reshape(-1, dimensions)

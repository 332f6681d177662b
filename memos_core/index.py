"""What is searched: vectors in a faiss flat index and hashed terms beside them, a cache that the store can always rebuild.

Search is exact: every row that the actor may read is scored, and no other row is. A file keeps the arrays between openings.
"""

from __future__ import annotations

import json
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from memos_core.blobs import write_durably
from memos_core.cube import State
from memos_core.errors import StoreCorrupt
from memos_core.lifespan import RECALLABLE
from memos_core.recall import Scored
from memos_core.snapshot import Authorised, Event, Snapshot

_MAGIC = b"memos-index-2\n"
_PREFIX = struct.Struct("<QI")  # length and checksum of the header
_STATES = list(State)
_RECALLABLE = np.array([state in RECALLABLE for state in _STATES])
K1, B = 1.2, 0.4
"""BM25's saturation and length normalisation; b below the customary 0.75 because memories are short and of like length."""

_COLUMNS = np.dtype(
    [
        ("row", "i8"),
        ("scope", "i8"),
        ("state", "i1"),
        ("live", "?"),
        ("occurred_at", "f8"),
        ("expires_at", "f8"),
        ("priority", "f4"),
        ("vector_seq", "i8"),
    ]
)


class Index:
    """The searchable copy of a store. One lock; `catch_up` inside a read transaction, then `search`."""

    def __init__(self, dimensions: int, path: Path, owner: str) -> None:
        self.dimensions = dimensions
        self.path = path
        self.owner = owner  # identifies the store that the file belongs to
        self.lock = threading.RLock()
        self.seq = 0
        self.saved_seq = 0
        self._clear()

    def reset(self) -> None:
        """Start from nothing; the next `catch_up` reads the whole store."""
        with self.lock:
            self._clear()
            self.saved_seq = 0

    def _clear(self) -> None:
        self.seq = 0
        self._vectors = faiss.IndexFlatIP(self.dimensions)
        self._columns = np.zeros(1024, dtype=_COLUMNS)
        self._count = 0
        self._terms = np.zeros(8192, dtype=np.uint32)
        self._ends = np.zeros(1024, dtype=np.int64)  # terms of position p lie in [ends[p - 1], ends[p])
        self._position: dict[int, int] = {}
        self._by_scope: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._position)

    # ------------------------------------------------------------------ keeping up with the store
    def catch_up(self, view: Snapshot) -> bool:
        """Take in what has been committed since. False when this index is ahead of the view (another thread was faster)."""
        with self.lock:
            latest = view.latest()
            if latest < self.seq:
                return False
            if latest > self.seq:
                try:
                    self._take_in(view)
                except (KeyError, OverflowError, TypeError, ValueError) as error:  # values that nobody wrote
                    self._clear()
                    raise StoreCorrupt(
                        f"what the store holds for searching is damaged ({error}). Restore it from a backup; nothing has been overwritten"
                    ) from error
                self.seq = latest
                if self._count > 2 * len(self._position) + 1024:
                    self._compact()
            return True

    def _take_in(self, view: Snapshot) -> None:
        for row in view.erased_since(self.seq):
            self._drop(row)
        pending: list[Event] = []
        for event in view.events_since(self.seq):
            if event.kind != "plaintext" or event.vector_seq is None:
                continue
            position = self._position.get(event.row)
            if position is not None and self._columns[position]["vector_seq"] == event.vector_seq:
                self._describe(position, event)
            else:
                pending.append(event)
        self._append(view, pending)

    def _describe(self, position: int, event: Event) -> None:
        expires = np.inf if event.expires_at is None else event.expires_at
        self._columns[position] = (
            event.row, event.scope, _STATES.index(State(event.state)), True, event.occurred_at, expires, event.priority, event.vector_seq,
        )  # fmt: skip

    def _append(self, view: Snapshot, events: list[Event]) -> None:
        for start in range(0, len(events), 5000):
            part = events[start : start + 5000]
            stored = view.vectors([event.row for event in part])
            block = np.empty((len(part), self.dimensions), dtype=np.float32)
            for offset, event in enumerate(part):
                vector, terms = stored[event.row]
                block[offset] = np.frombuffer(vector, dtype=np.float32)
                self._drop(event.row)
                self._place(event, np.frombuffer(terms, dtype=np.uint32))
            self._vectors.add(block)

    def _place(self, event: Event, terms: np.ndarray) -> None:
        position = self._count
        if position == len(self._columns):
            self._columns = np.resize(self._columns, 2 * position)
            self._ends = np.resize(self._ends, 2 * position)
        start = int(self._ends[position - 1]) if position else 0
        while start + len(terms) > len(self._terms):
            self._terms = np.resize(self._terms, 2 * len(self._terms))
        self._terms[start : start + len(terms)] = terms
        self._ends[position] = start + len(terms)
        self._describe(position, event)
        self._position[event.row] = position
        self._by_scope.setdefault(event.scope, []).append(position)
        self._count += 1

    def _drop(self, row: int) -> None:
        position = self._position.pop(row, None)
        if position is not None:
            self._columns[position]["live"] = False
            self._by_scope[int(self._columns[position]["scope"])].remove(position)

    def _compact(self) -> None:
        """Leave the dead positions behind."""
        keep = np.flatnonzero(self._columns["live"][: self._count])
        old, seq = self.__dict__.copy(), self.seq
        vectors = self._matrix()[keep].copy()
        self._clear()
        self.seq = seq
        self._load(vectors, old["_columns"][keep], *self._gather_terms(keep, old["_terms"], old["_ends"]))

    # ------------------------------------------------------------------ search
    def _matrix(self) -> np.ndarray:
        """float32 [count, d]: faiss's own storage, without a copy."""
        return _storage(self._vectors, self.dimensions)

    def _positions(self, authorised: Authorised, now: float) -> np.ndarray:
        """Ascending positions of the live, recallable, unexpired rows that are authorised."""
        if set(self._by_scope) <= set(authorised.scopes):
            positions = np.flatnonzero(self._columns["live"][: self._count])
        else:
            lists = [self._by_scope[scope] for scope in authorised.scopes if scope in self._by_scope]
            lists.append([self._position[row] for row in authorised.rows if row in self._position])
            positions = np.unique(np.concatenate([np.array(part, dtype=np.int64) for part in lists]))
        kept: np.ndarray = positions[_RECALLABLE[self._columns["state"][positions]] & (self._columns["expires_at"][positions] > now)]
        return kept

    def search(
        self, vector: np.ndarray, terms: np.ndarray, authorised: Authorised, now: float, lexical_rows: list[int] | None = None
    ) -> Scored:
        """Score every authorised row. vector: float32 [d] of unit length. terms: uint32 [m] of the query. now: seconds.

        lexical_rows: rows known to be the only ones with a term of the query, from the store's full-text index; saves a scan
        and changes nothing in the result.
        """
        with self.lock:
            positions = self._positions(authorised, now)
            dense = self._dense(vector, positions)
            lexical = self._lexical(terms, positions, lexical_rows)
            rows, occurred_at, priority = (self._columns[name][positions] for name in ("row", "occurred_at", "priority"))
        return Scored(rows, dense, lexical, occurred_at, priority.astype(np.float64))

    def _dense(self, vector: np.ndarray, positions: np.ndarray) -> np.ndarray:
        if not len(positions):
            return np.zeros(0)
        if 2 * len(positions) > self._count:  # a product with everything is cheaper than gathering rows
            scores: np.ndarray = (self._matrix() @ vector)[positions]
            return scores.astype(np.float64)
        selected = faiss.SearchParameters(sel=faiss.IDSelectorArray(positions))  # type: ignore[call-arg]
        best, found = self._vectors.search(vector[None], len(positions), params=selected)
        out = np.empty(len(positions))
        out[np.searchsorted(positions, found[0])] = best[0]
        return out

    def _gather_terms(self, positions: np.ndarray, terms: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The terms of some positions, flat, and how many each has."""
        starts = np.where(positions > 0, ends[positions - 1], 0)
        lengths = ends[positions] - starts
        if len(positions) and len(positions) == positions[-1] - positions[0] + 1:
            return terms[starts[0] : ends[positions[-1]]], lengths
        offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        return terms[np.arange(lengths.sum()) + offsets], lengths

    def _lexical(self, query: np.ndarray, positions: np.ndarray, lexical_rows: list[int] | None) -> np.ndarray:
        """BM25 with document frequencies of the authorised rows alone: nobody's score depends on what others keep."""
        score = np.zeros(len(positions))
        if not len(positions) or not len(query):
            return score
        starts = np.where(positions > 0, self._ends[positions - 1], 0)
        average = float((self._ends[positions] - starts).mean()) or 1.0
        where = np.arange(len(positions))
        if lexical_rows is not None:
            candidates = np.array([self._position[row] for row in lexical_rows if row in self._position], dtype=np.int64)
            where = np.flatnonzero(np.isin(positions, candidates))
        flat, lengths = self._gather_terms(positions[where], self._terms, self._ends)
        owner = np.repeat(np.arange(len(where)), lengths)
        norm = K1 * (1 - B + B * lengths / average)
        found = np.zeros(len(where))
        for wanted in np.unique(query):
            frequency = np.bincount(owner[flat == wanted], minlength=len(where))
            holders = int(np.count_nonzero(frequency))
            if holders:
                idf = np.log(1 + (len(positions) - holders + 0.5) / (holders + 0.5))
                found += idf * frequency * (K1 + 1) / (frequency + norm)
        score[where] = found
        return score

    # ------------------------------------------------------------------ the file
    def save(self) -> None:
        """Write the index to its file, whole or not at all; call under the directory's lock."""
        with self.lock:
            keep = np.flatnonzero(self._columns["live"][: self._count])
            flat, lengths = self._gather_terms(keep, self._terms, self._ends)
            index = faiss.IndexFlatIP(self.dimensions)
            index.add(self._matrix()[keep])
            parts = [
                faiss.serialize_index(index).tobytes(),
                self._columns[keep].tobytes(),
                flat.tobytes(),
                lengths.astype(np.int64).tobytes(),
            ]
            header = {
                "owner": self.owner,
                "seq": self.seq,
                "dimensions": self.dimensions,
                "parts": [[len(part), zlib.crc32(part)] for part in parts],
            }
            text = json.dumps(header).encode()
            write_durably(self.path, _MAGIC + _PREFIX.pack(len(text), zlib.crc32(text)) + text + b"".join(parts))
            self.saved_seq = self.seq

    def load(self, latest: int) -> bool:
        """Read the file. False, and empty, when it is missing, unreadable, torn, or does not belong to a store at `latest`."""
        with self.lock:
            self._clear()
            try:
                data = self.path.read_bytes()
            except OSError:
                return False
            parts = _read_parts(data, self.owner, self.dimensions, latest)
            if parts is None:
                return False
            seq, vectors, columns, flat, lengths = parts
            self._load(vectors, columns, flat, lengths)
            self.seq = self.saved_seq = seq
            return True

    def _load(self, vectors: np.ndarray, columns: np.ndarray, flat: np.ndarray, lengths: np.ndarray) -> None:
        count = len(columns)
        size = max(1024, count)
        self._columns = np.zeros(size, dtype=_COLUMNS)
        self._columns[:count] = columns
        self._ends = np.zeros(size, dtype=np.int64)
        self._ends[:count] = np.cumsum(lengths)
        self._terms = np.zeros(max(8192, len(flat)), dtype=np.uint32)
        self._terms[: len(flat)] = flat
        self._count = count
        self._vectors.add(np.ascontiguousarray(vectors))
        self._position = {int(row): position for position, row in enumerate(columns["row"])}
        for position, scope in enumerate(columns["scope"].tolist()):
            self._by_scope.setdefault(scope, []).append(position)


def _storage(index: Any, dimensions: int) -> np.ndarray:
    """float32 [n, d]: a view of a flat index's vectors; valid until the next `add`."""
    if index.ntotal == 0:
        return np.zeros((0, dimensions), dtype=np.float32)
    flat: np.ndarray = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * dimensions)
    return flat.reshape(-1, dimensions)


def _read_parts(data: bytes, owner: str, dimensions: int, latest: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Check a file's bytes part by part; None for anything that is not exactly what `save` wrote."""
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
    vectors = _storage(index, dimensions).copy()
    columns = np.frombuffer(parts[1], dtype=_COLUMNS)
    return header["seq"], vectors, columns, np.frombuffer(parts[2], dtype=np.uint32), np.frombuffer(parts[3], dtype=np.int64)

"""What is near by fingerprint: a shortlist out of a million in milliseconds, and near-duplicate candidates of a scope.

Bits are compared one with all, exactly, by faiss's binary scan; only what they stand for is approximate. A search that starts here
looks at the vectors of the shortlist afterwards and says that it is not exact.
"""

from __future__ import annotations

import faiss
import numpy as np

from memos_core.duplicate.fingerprint import BYTES, comparable, text_only

WITHIN = 56
"""Bits of 192 that the fingerprints of near duplicates differ in at most: an estimated cosine of 0.6."""


def nearest(one: np.ndarray, many: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in many, uint8 [n, b], of the `count` nearest to one, and how many bits differ: int64 [k] each, nearest first, by position in a tie.

    The approximate first stage of a search: look at their vectors exactly afterwards, and call the result inexact.
    """
    a, b = comparable(one, many)
    count = min(count, len(b))
    if count < 1:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    differing, found = faiss.knn_hamming(a[None], b, count, variant="mc")  # counting by distance: ties go to the first position
    order = np.lexsort((found[0], differing[0]))
    return found[0][order], differing[0][order].astype(np.int64)


class Near:
    """The fingerprints of one scope, to find those near a new one. Mutable; the caller holds its lock.

    A plain scan: it misses nothing and takes 40 bytes per fact. Tables of hash bands are faster only with bands so long that they miss
    much of what differs in as many bits as reordered text does.
    """

    def __init__(self, rows: np.ndarray | None = None, fingerprints: np.ndarray | None = None) -> None:
        """rows: int64 [n], with their fingerprints, uint8 [n, 32]; none to begin with nothing."""
        self._bits = np.zeros((64, BYTES), dtype=np.uint8) if fingerprints is None else text_only(fingerprints)
        self._rows = np.zeros(64, dtype=np.int64) if rows is None else np.array(rows, dtype=np.int64)
        self._count = 0 if rows is None else len(rows)

    def __len__(self) -> int:
        return self._count

    def add(self, row: int, fingerprint: np.ndarray) -> None:
        """Take in a fact's fingerprint, uint8 [32]. A row is added once; remove it first to change it."""
        if self._count == len(self._rows):
            room = max(64, self._count)
            self._bits = np.concatenate([self._bits, np.zeros((room, BYTES), dtype=np.uint8)])
            self._rows = np.concatenate([self._rows, np.zeros(room, dtype=np.int64)])
        self._bits[self._count] = text_only(fingerprint)
        self._rows[self._count] = row
        self._count += 1

    def remove(self, row: int) -> None:
        """Forget a row; nothing happens when it is not here."""
        for position in np.flatnonzero(self._rows[: self._count] == row):
            last = self._count - 1
            self._bits[position], self._rows[position] = self._bits[last], self._rows[last]
            self._bits[last] = 0
            self._count = last

    def nearest(self, fingerprint: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """At most `count` rows, int64 [k], nearest first, and how many bits of the text's differ; by row in a tie."""
        found, differing = nearest(text_only(fingerprint), self._bits[: self._count], count)
        rows = self._rows[found]
        order = np.lexsort((rows, differing))
        return rows[order], differing[order]

    def near(self, fingerprint: np.ndarray, within: int = WITHIN, count: int = 16) -> list[int]:
        """Rows whose text's bits differ in at most `within`, the nearest first, at most `count`; by row in a tie."""
        rows, differing = self.nearest(fingerprint, count)
        kept: list[int] = rows[differing <= within].tolist()
        return kept

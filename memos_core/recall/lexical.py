"""BM25 over hashed terms. Pure. Source: Robertson & Zaragoza 2009."""

from __future__ import annotations

import numpy as np

K1, B = 1.2, 0.4
"""BM25's saturation and length normalisation; b below the customary 0.75 because memories are short and of like length."""


def bm25(query: np.ndarray, flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """float64 [n]: the scores of n texts, of which `lengths`, int64 [n], says how many terms each has.

    query: uint32 terms. flat: uint32, the terms of the texts one after another. The n texts are all there is: nobody's score depends
    on what others keep.
    """
    found = np.zeros(len(lengths))
    if not len(flat) or not len(query):
        return found
    ends, total = np.cumsum(lengths), len(lengths)
    norm = K1 * (1 - B + B * lengths / lengths.mean())
    for wanted in np.unique(query):
        holders = np.searchsorted(ends, np.flatnonzero(flat == wanted), side="right")  # ascending
        if len(holders):
            first = np.flatnonzero(np.diff(holders, prepend=-1))
            owners, frequency = holders[first], np.diff(first, append=len(holders))
            idf = np.log(1 + (total - len(owners) + 0.5) / (len(owners) + 0.5))
            found[owners] += idf * frequency * (K1 + 1) / (frequency + norm[owners])
    return found

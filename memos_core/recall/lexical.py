"""BM25 over hashed terms. Pure. Source: Robertson & Zaragoza 2009."""

from __future__ import annotations

import numpy as np

K1, B = 1.2, 0.4
"""BM25's saturation and length normalisation; b below the customary 0.75 because memories are short and of like length."""


def bm25(query: np.ndarray, flat: np.ndarray, held: np.ndarray, lengths: np.ndarray, total: int, average: float) -> np.ndarray:
    """float64 [n]: the score of n texts, with document frequencies among `total` texts of `average` terms.

    query: uint32 terms. flat: uint32, the terms of the n texts one after another, `held` int64 [n] of each. lengths: int64 [n].
    All texts with a term of the query must be among the n: nobody's score depends on what others keep.
    """
    found = np.zeros(len(held))
    if not len(held) or not len(query):
        return found
    owner = np.repeat(np.arange(len(held)), held)
    norm = K1 * (1 - B + B * lengths / (average or 1.0))
    for wanted in np.unique(query):
        frequency = np.bincount(owner[flat == wanted], minlength=len(held))
        holders = int(np.count_nonzero(frequency))
        if holders:
            idf = np.log(1 + (total - holders + 0.5) / (holders + 0.5))
            found += idf * frequency * (K1 + 1) / (frequency + norm)
    return found

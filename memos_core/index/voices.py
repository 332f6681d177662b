"""Whom a name belongs to that nobody goes by in the log, but that others call somebody by. Pure; rules ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

OFTEN, SHARE, SAME_PERSON = 2, 0.3, 0.8
"""A name that people are addressed by is the other speaker's: said so often, in that share of its uses, to one person."""


def often_called(number: int, features: Mapping[str, np.ndarray]) -> bool:
    """Whether somebody is addressed by a name, given as its hash, often enough to tell who it is."""
    return bool(np.count_nonzero(features["called"] == number) >= OFTEN)


def called(number: int, uses: int, features: Mapping[str, np.ndarray], before: np.ndarray, after: np.ndarray) -> int:
    """The voice that goes by a name in the mouths of others; 0 for none.

    number: the name's hash. uses: how many times the word is said at all. before, after: int64 [n], neighbours in the session or -1.
    """
    where = np.flatnonzero(features["called"] == number)
    if not uses or len(where) < SHARE * uses:
        return 0
    beside = np.concatenate([before[where], after[where]])
    speaker = np.concatenate([features["voice"][where]] * 2)
    near = (beside >= 0) & (speaker > 0)
    others = features["voice"][beside[near]]
    counted = Counter(others[(others != speaker[near]) & (others > 0)].tolist())
    if not counted:
        return 0
    voice, times = counted.most_common(1)[0]
    return int(voice) if times >= SAME_PERSON * counted.total() else 0

"""Upkeep of a scope's concepts: what has grown too broad is split, what is the same is merged, what stands alone joins. Pure.

Placing is greedy, since it never touches what is filed; this looks at a scope as a whole, now and then. What a caller has named is
left as it is. Every step has a margin to the one that would undo it, so the second time nothing changes.
Source: MemOS §4.1 (structure is adjusted as memory grows); two-means on the sphere (Dhillon & Modha 2001), bisecting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memos_core.hierarchy import BROAD, BROAD_FROM, TASK_LIKE, concept_id, unit

ENOUGH = 24
"""A scope with fewer facts is read at a glance."""
SAME = 0.9
"""Cosine from which two centroids are of one concept."""
LONE = 0.4
"""Cosine from which a fact that stands alone joins a concept."""
LEAST_PART = 0.15
"""Of a concept that is split, the smaller part holds at least this share."""
ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one scope, in columns of n: float32 [n, d] vectors; int64 concept, task; given: filed by the caller."""

    ids: Sequence[str]
    vectors: np.ndarray
    concept: np.ndarray
    task: np.ndarray
    given: np.ndarray


def tended(facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n] twice: the concept and the task of each fact after upkeep. Deterministic."""
    concept, task = facts.concept.copy(), facts.task.copy()
    if len(concept) < ENOUGH:
        return concept, task
    for _ in range(ROUNDS):
        before = concept.copy()
        _merge(facts, concept, task)
        _split(facts, concept)
        if (before == concept).all():
            break
    _join_tasks(facts, concept, task)
    return concept, task


def most(count: int) -> float:
    """How many facts a concept may have before it is too broad."""
    return max(BROAD_FROM, BROAD * count)


def _centroids(facts: Facts, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the groups that are not the caller's: their numbers, float64 sums [k, d], and counts."""
    free = ~facts.given & (groups != 0)
    numbers, where, counts = np.unique(groups[free], return_inverse=True, return_counts=True)
    sums = np.zeros((len(numbers), facts.vectors.shape[1]))
    np.add.at(sums, where, facts.vectors[free])
    return numbers, sums, counts


def _merge(facts: Facts, concept: np.ndarray, task: np.ndarray) -> None:
    """Merge what is the same, the smallest first, and let what stands alone join what it is most like."""
    numbers, sums, counts = _centroids(facts, concept)
    for small in np.lexsort((numbers, counts)):
        length = np.linalg.norm(sums, axis=1)
        likeness = sums @ sums[small] / np.maximum(length * length[small], 1e-12)
        fits = (counts > 0) & (counts + counts[small] <= most(len(concept)))
        fits[small] = False
        likeness[~fits] = -1.0
        best = int(np.argmax(likeness)) if len(likeness) else small
        if counts[small] and likeness[best] >= (LONE if counts[small] == 1 else SAME):
            member = concept == numbers[small]
            concept[member] = numbers[best]
            task[member] = task[np.flatnonzero((concept == numbers[best]) & ~member)[0]]
            sums[best] += sums[small]
            counts[best] += counts[small]
            counts[small] = 0


def _split(facts: Facts, concept: np.ndarray) -> None:
    """Split each concept that has grown too broad in two, where it has two parts."""
    numbers, _, counts = _centroids(facts, concept)
    for number in numbers[counts > most(len(concept))]:
        members = np.flatnonzero(concept == number)
        second = two_parts(facts.vectors[members])
        if min(second.sum(), (~second).sum()) >= LEAST_PART * len(members):
            leaving = members[second] if second.sum() <= (~second).sum() else members[~second]
            concept[leaving] = concept_id("split", str(number), *(facts.ids[place] for place in leaving[:1]))


def two_parts(vectors: np.ndarray) -> np.ndarray:
    """bool [n]: which of the rows belong to the second of two parts. Starts from what is least like the mean and what is least like that."""
    mean = unit(vectors.sum(axis=0))
    one = int(np.argmin(vectors @ mean))
    other = int(np.argmin(vectors @ vectors[one]))
    centres = np.stack([vectors[one], vectors[other]]).astype(np.float64)
    second = np.zeros(len(vectors), dtype=bool)
    for _ in range(20):
        sides = vectors @ centres.T
        now: np.ndarray = sides[:, 1] > sides[:, 0]
        if (now == second).all() or now.all() or not now.any():
            return now
        second = now
        centres = np.stack([unit(vectors[~second].sum(axis=0)), unit(vectors[second].sum(axis=0))])
    return second


def _join_tasks(facts: Facts, concept: np.ndarray, task: np.ndarray) -> None:
    """A task of a single concept joins the task that it is most like."""
    numbers, sums, _ = _centroids(facts, task)
    alone = [number for number in numbers if len(np.unique(concept[task == number])) == 1]
    for number in alone:
        here = int(np.flatnonzero(numbers == number)[0])
        length = np.linalg.norm(sums, axis=1)
        likeness = sums @ sums[here] / np.maximum(length * length[here], 1e-12)
        likeness[here] = -1.0
        likeness[length == 0] = -1.0
        best = int(np.argmax(likeness))
        if likeness[best] >= TASK_LIKE:
            task[task == number] = numbers[best]
            sums[best] += sums[here]
            sums[here] = 0.0

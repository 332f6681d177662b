"""Task, concept, fact: where a fact is filed, decided against stored centroids; how the tree looks. Pure but for drafts.

A fact is compared, in the context of what was just said, with the centroids of its scope's concepts: the best takes it, or a new one
is made. What says little stays with the topic under discussion. A given path is obeyed. Placing touches no other fact.
Source: MemOS §4.1 (task-concept-fact paths); leader clustering (Hartigan 1975) with context and a liking for the topic at hand, ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from memos_core.analyse import fold

CONCEPT_LIKE = 0.7
"""Cosine with a concept's centroid from which a fact, in its context, belongs to it."""
TASK_LIKE = 0.55
AT_HAND = 0.15
"""What the concept of the message before is given in advance."""
CONTEXT, CONTEXT_FADES, CONTEXT_MESSAGES = 1.0, 0.6, 4
SAYS_LITTLE = 3
"""A message with fewer distinct terms stays with the topic under discussion."""
BROAD, BROAD_FROM, TOO_BROAD = 0.12, 12, 0.15
"""A concept with this share of a scope's facts (and so many) is made less attractive by so much."""


def concept_id(*parts: str) -> int:
    """A positive 62-bit number for what the parts name."""
    return int.from_bytes(blake2b("\x1f".join(parts).encode(), digest_size=8).digest(), "little") >> 2 or 1


def topic_key(concept: int, session: str | None, given: bool) -> int:
    """What groups facts for routing: one concept's talk in one session; all of a concept that was given by name."""
    return concept if given or session is None else concept_id(str(concept), session)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fact is filed. concept, task: numbers; 0 for none. labels: of both, "" where none has been given yet. given: by the caller."""

    concept: int
    task: int
    labels: tuple[str, str] = ("", "")
    given: bool = False


def given_place(scope_key: str, path: Sequence[str]) -> Place:
    """The place that a path names: its first part is the task, the rest the concept (the task itself when there is no rest)."""
    task, concept = path[0], "/".join(path[1:]) or path[0]
    return Place(
        concept_id(scope_key, "concept", fold(task), fold(concept)), concept_id(scope_key, "task", fold(task)), (task, concept), True
    )


def unit(vector: np.ndarray) -> np.ndarray:
    """float [d] of length one; zeros stay zeros."""
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def around(recent: Sequence[np.ndarray], dimensions: int) -> np.ndarray:
    """What was said just before, newest first, as one vector: float [d] of length one; zeros when nothing was."""
    said = (CONTEXT_FADES**age * np.asarray(one, dtype=np.float64) for age, one in enumerate(recent[:CONTEXT_MESSAGES]))
    return unit(sum(said, np.zeros(dimensions)))


def in_context(vector: np.ndarray, recent: Sequence[np.ndarray]) -> np.ndarray:
    """A message's vector with what was said just before it, newest first. float [d], of length one."""
    return unit(vector + CONTEXT * around(recent, len(vector)))


def most_concepts(facts: int) -> int:
    """How many concepts a scope of so many facts may have: browsable at any size."""
    return int(2 * math.sqrt(facts)) + 8


class Forest:
    """Centroids of one scope's concepts, kept as sums of their facts' vectors. Rebuilt by adding the facts again."""

    def __init__(self, dimensions: int) -> None:
        self.slots: dict[int, int] = {}
        self.concepts = np.zeros(16, dtype=np.int64)
        self.tasks = np.zeros(16, dtype=np.int64)
        self.counts = np.zeros(16, dtype=np.int64)
        self.sums = np.zeros((16, dimensions), dtype=np.float32)
        self.facts = 0

    def add(self, concept: int, task: int, vector: np.ndarray) -> None:
        slot = self.slots.get(concept)
        if slot is None:
            slot = self.slots[concept] = len(self.slots)
            if slot == len(self.concepts):
                for name in ("concepts", "tasks", "counts", "sums"):
                    old = getattr(self, name)
                    setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
            self.concepts[slot] = concept
        self.tasks[slot] = task
        self.sums[slot] += vector
        self.counts[slot] += 1
        self.facts += 1

    def drop(self, concept: int, vector: np.ndarray) -> int:
        """Take a fact out; how many are left. An empty concept keeps its slot, with nothing of its centroid."""
        slot = self.slots[concept]
        self.counts[slot] -= 1
        self.facts -= 1
        self.sums[slot] = self.sums[slot] - vector if self.counts[slot] else 0.0
        return int(self.counts[slot])


@dataclass(slots=True)
class Thread:
    """The end of a conversation. recent: the last messages' vectors, newest first. concept: the last one's, 0 for none."""

    recent: list[np.ndarray]
    concept: int = 0


class Draft:
    """Places for the facts of one call, one after another, on a copy of what a scope's forest says. Nothing is written."""

    def __init__(self, forest: Forest | None, dimensions: int, threads: dict[str, Thread]) -> None:
        size = len(forest.slots) if forest is not None else 0
        self.concepts = list(forest.concepts[:size].tolist()) if forest is not None else []
        self.tasks = list(forest.tasks[:size].tolist()) if forest is not None else []
        self.counts = np.zeros(size, dtype=np.int64) if forest is None else forest.counts[:size].copy()
        self.sums = np.zeros((0, dimensions), dtype=np.float32) if forest is None else forest.sums[:size]
        self.facts = 0 if forest is None else forest.facts
        self.threads = threads
        self.own = forest is None  # whether `sums` may be written to
        self.pending: tuple[Place, np.ndarray] | None = None  # a single fact needs no copy of the centroids

    def around(self, session: str | None) -> np.ndarray:
        """float [d]: what was said just before the next message of a session; zeros for nothing."""
        thread = self.threads.get(session) if session is not None else None
        return around(thread.recent if thread is not None else (), self.sums.shape[1])

    def place(self, fact: str, vector: np.ndarray, terms: int, session: str | None, given: Place | None = None) -> Place:
        """Where a fact goes. fact: what a new concept is numbered after. terms: how many distinct ones it has."""
        if self.pending is not None:
            self._take(*self.pending)
        thread = self.threads.setdefault(session, Thread([])) if session is not None else Thread([])
        place = given or self._choose(fact, np.asarray(vector, dtype=np.float32), terms, thread)
        self.pending = place, vector
        thread.recent = [vector, *thread.recent[: CONTEXT_MESSAGES - 1]]
        thread.concept = place.concept
        return place

    def _choose(self, fact: str, vector: np.ndarray, terms: int, thread: Thread) -> Place:
        at_hand = self.concepts.index(thread.concept) if thread.concept in self.concepts else -1
        if at_hand >= 0 and terms < SAYS_LITTLE:
            return Place(self.concepts[at_hand], self.tasks[at_hand])
        seen = in_context(vector, thread.recent).astype(np.float32)
        if self.concepts:
            likeness = self.sums @ seen / np.maximum(np.linalg.norm(self.sums, axis=1), 1e-9)
            likeness -= TOO_BROAD * (self.counts > max(BROAD_FROM, BROAD * (self.facts + 1)))
            likeness[self.counts == 0] = -1.0
            if at_hand >= 0:
                likeness[at_hand] += AT_HAND
            best = int(np.argmax(likeness))
            if likeness[best] >= CONCEPT_LIKE or int(np.count_nonzero(self.counts)) >= most_concepts(self.facts):
                return Place(self.concepts[best], self.tasks[best])
        return Place(concept_id("concept", fact), self._choose_task(fact, seen))

    def _choose_task(self, fact: str, seen: np.ndarray) -> int:
        tasks, where = np.unique(np.array(self.tasks, dtype=np.int64), return_inverse=True)
        if len(tasks):
            sums = np.zeros((len(tasks), self.sums.shape[1]), dtype=np.float32)
            np.add.at(sums, where, self.sums)
            likeness = sums @ seen / np.maximum(np.linalg.norm(sums, axis=1), 1e-9)
            best = int(np.argmax(likeness))
            if likeness[best] >= TASK_LIKE or len(tasks) >= most_concepts(len(self.concepts)) // 2:
                return int(tasks[best])
        return concept_id("task", fact)

    def _take(self, place: Place, vector: np.ndarray) -> None:
        if not self.own:
            self.sums, self.own = self.sums.copy(), True
        if place.concept not in self.concepts:
            self.concepts.append(place.concept)
            self.tasks.append(place.task)
            self.counts = np.append(self.counts, 0)
            self.sums = np.concatenate([self.sums, np.zeros((1, self.sums.shape[1]), dtype=np.float32)])
        slot = self.concepts.index(place.concept)
        self.counts[slot] += 1
        self.sums[slot] += vector
        self.facts += 1

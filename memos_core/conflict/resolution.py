"""Two memories that say different things, and what was made of it. Pure.

Source: MemOS §4.1 (conflict detection and resolution); that states follow from the relations that are kept is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from memos_core.conflict.relation import Relation
from memos_core.cube import CubeId, MemCube
from memos_core.errors import InvalidInput


class Resolution(StrEnum):
    """What was made of a conflict: undecided; the newer took the older's place; both hold; the newer was dismissed."""

    OPEN = "open"
    SUPERSEDED = "superseded"
    KEPT_BOTH = "kept both"
    DISMISSED = "dismissed"


class OnConflict(StrEnum):
    """What is made of a contradiction found while writing.

    contest: an explicit update takes the older one's place, everything else is kept, contested, until somebody answers.
    newest wins: the newer always takes the older one's place. ask: nothing does before somebody answers, updates included.
    ignore: none is looked for.
    """

    CONTEST = "contest"
    NEWEST_WINS = "newest wins"
    ASK = "ask"
    IGNORE = "ignore"


LITTLE = 2
"""A memory of at most so many claims gives way as a whole; of a longer one the rest still holds, so both are kept."""


def decided(relation: Relation, claims: int, rule: OnConflict) -> Resolution:
    """What is made of a contradiction. claims: how many the older memory makes."""
    if rule is OnConflict.NEWEST_WINS:
        return Resolution.SUPERSEDED
    if rule is OnConflict.ASK or not relation.update:
        return Resolution.OPEN
    return Resolution.SUPERSEDED if claims <= LITTLE else Resolution.KEPT_BOTH


KEEP = {"newer": Resolution.SUPERSEDED, "older": Resolution.DISMISSED, "both": Resolution.KEPT_BOTH}
"""Answers to the question which of the two holds."""


@dataclass(frozen=True, slots=True)
class Related:
    """What two cubes have to do with each other, by id. confidence: 0 to 1. why: may cite content; it is erased with either cube."""

    older: CubeId
    newer: CubeId
    kind: str = "contradicts"
    confidence: float = 1.0
    why: str = ""
    resolution: Resolution = Resolution.OPEN

    @property
    def loser(self) -> CubeId | None:
        """Which of the two gave way, if one did."""
        return {Resolution.SUPERSEDED: self.older, Resolution.DISMISSED: self.newer}.get(self.resolution)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two memories of which one contradicts or replaces the other. at: when it was found, or answered."""

    older: MemCube
    newer: MemCube
    kind: str
    confidence: float
    resolution: Resolution
    why: str
    at: datetime


def as_answer(keep: Any) -> Resolution:
    """Check which side is to be kept. Raises InvalidInput."""
    if not isinstance(keep, str) or keep not in KEEP:
        raise InvalidInput(f"keep must be 'newer', 'older' or 'both', got {keep!r}")
    return KEEP[keep]


def as_pair(given: Conflict | Sequence[CubeId]) -> tuple[CubeId, CubeId]:
    """The ids of a conflict, older and newer. Raises InvalidInput."""
    if isinstance(given, Conflict):
        return given.older.id, given.newer.id
    pair = tuple(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes)) else ()
    if len(pair) != 2 or not all(isinstance(id, str) for id in pair) or pair[0] == pair[1]:
        raise InvalidInput(f"a conflict is one of memos.conflicts(), or the ids of its two cubes; got {given!r}")
    return pair

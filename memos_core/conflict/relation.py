"""What one text has to do with another, as a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RelationKind(StrEnum):
    """What one text can have to do with another."""

    DUPLICATE = "duplicate"
    REFINES = "refines"
    CONTRADICTS = "contradicts"
    UNRELATED = "unrelated"


@dataclass(frozen=True, slots=True)
class Relation:
    """confidence: from 0 to 1. update: the newer says in words that something changed, so that it replaces the older."""

    kind: RelationKind
    confidence: float
    why: str
    update: bool = False


def bounded(value: float) -> float:
    """A confidence from any number."""
    return round(max(0.0, min(1.0, value)), 3)

"""What stood at an earlier time. Pure.

Known is what had been said by then; of a cube that was changed later, the version that stood then counts (the first one when even that
was written later, as in a conversation that was imported). When it was true is a matter of what is known about that text now. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from memos_core.changes import Searchable
from memos_core.cube import MemCube, State
from memos_core.lifespan import RECALLABLE, expired, valid

WITHDRAWN = frozenset({State.REJECTED, State.QUARANTINED})
"""States in which a cube is not shown as it was before either."""


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier time, and what differed then, by row. at: seconds. hidden: did not stand. shown: stood, whatever it does now.

    texts: what is searched of those that had another text. priorities: of those shown. cubes: as they were.
    """

    at: float
    hidden: frozenset[int] = frozenset()
    texts: Mapping[int, Searchable] = field(default_factory=dict)
    priorities: Mapping[int, float] = field(default_factory=dict)
    cubes: Mapping[int, MemCube] = field(default_factory=dict)


def stood(head: MemCube, versions: Sequence[MemCube], at: datetime, now: datetime) -> MemCube | None:
    """The cube as it was known at a time, or None when nothing of it was to be recalled then. versions: all, oldest first."""
    if head.identifiers.occurred_at > at or head.state in WITHDRAWN or expired(head, now):
        return None
    then = next((version for version in reversed(versions) if version.identifiers.updated_at <= at), versions[0])
    if then.state not in RECALLABLE or expired(then, at):
        return None
    latest = next(version for version in reversed(versions) if version.payload == then.payload)
    gave_way = then.state is State.SUPERSEDED and latest.identifiers.valid_to is None
    return None if gave_way or not valid(latest, at) else as_before(then)


def as_before(cube: MemCube) -> MemCube:
    """Without the mark that something took its place later."""
    return cube.model_copy(update={"state": State.ACTIVE}) if cube.state is State.SUPERSEDED else cube

"""Ranked rows to hits with reasons, and the choice of hits for a prompt. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import overload

from memos_core.cube import CubeId, MemCube, Plaintext, as_time
from memos_core.errors import InvalidInput
from memos_core.plan import line
from memos_core.recall.rank import Ranked, Reason
from memos_core.when import Window

ENOUGH = 10
"""From this many hits on, scores in standard deviations say which of them stand out."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A recalled memory. score: the sum of the reasons' contributions, comparable within one recall only."""

    cube: MemCube
    score: float
    reasons: tuple[Reason, ...]

    @property
    def text(self) -> str:
        """The memory's text."""
        assert isinstance(self.cube.payload, Plaintext)
        return self.cube.payload.text


@dataclass(frozen=True, slots=True)
class Recall:
    """What a query brought up, best first. window: the time window understood from the query, or None.

    exact: whether every memory that the actor may read was scored.
    """

    query: str
    hits: tuple[Hit, ...]
    window: Window | None = None
    exact: bool = True

    @property
    def text(self) -> str:
        """The hits as lines for a prompt, best first; "" when there are none."""
        return "\n".join(line(hit.cube) for hit in self.hits)


@dataclass(frozen=True, slots=True)
class Timeline(Sequence[MemCube]):
    """What was said in a window, oldest first. window: None when the words named no time, and then there is nothing."""

    cubes: tuple[MemCube, ...]
    window: Window | None

    def __len__(self) -> int:
        return len(self.cubes)

    @overload
    def __getitem__(self, index: int) -> MemCube: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[MemCube, ...]: ...
    def __getitem__(self, index: int | slice) -> MemCube | tuple[MemCube, ...]:
        return self.cubes[index]


def as_window(given: Sequence[datetime | str]) -> Window:
    """Check a window given as two times. Raises InvalidInput."""
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2 or None in given:
        raise InvalidInput(f"between takes two times, from and to, got {given!r}")
    start, end = (as_time(at, "between") for at in given)
    if end <= start:
        raise InvalidInput(f"the end of a window must be later than its start, got {start.isoformat()} to {end.isoformat()}")
    return Window(start, end)


def as_hits(ranked: Sequence[Ranked], cubes: Mapping[int, MemCube], k: int) -> tuple[Hit, ...]:
    """The first k hits, ties broken by id. Rows without a cube (gone meanwhile) are left out."""
    hits = [Hit(cubes[item.row], item.score, item.reasons) for item in ranked if item.row in cubes]
    hits.sort(key=lambda hit: (-hit.score, hit.cube.id))
    return tuple(hit for hit in hits[:k] if isinstance(hit.cube.payload, Plaintext))


def one_of_each(hits: Sequence[Hit], message_of: Mapping[CubeId, CubeId], k: int) -> tuple[Hit, ...]:
    """At most k hits, where a message and the facts that were read out of it share one: the best placed of them."""
    seen: set[CubeId] = set()
    kept = []
    for hit in hits:
        message = message_of.get(hit.cube.id, hit.cube.id)
        if message not in seen:
            seen.add(message)
            kept.append(hit)
    return tuple(kept[:k])


def for_prompt(hits: Sequence[Hit], k: int) -> tuple[Hit, ...]:
    """The hits that deserve a place in a prompt, best first, at most k.

    Of many hits, those with less than half of the best score are left out: they would distract. The rule is ours.
    """
    least = hits[0].score / 2 if len(hits) >= ENOUGH and hits[0].score > 0 else -math.inf
    return tuple(hit for hit in hits[:k] if hit.score >= least)

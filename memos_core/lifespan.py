"""How long a memory lives, how warm and how strong it is: expiry, validity, heat, fading, and the one table of state transitions. Pure.

Heat is kept as one number that does not depend on when it is read: the logarithm (base 2) of the sum over uses of
2^(t / half-life). Adding a use and reading it at any time are both O(1), and order by heat needs no clock.
Source: exponential decay as in MemOS §4.2 (usage indicators); the half-life and this form are ours.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from memos_core.cube import LATEST, MemCube, State
from memos_core.errors import InvalidInput

HEAT_HALF_LIFE = 7 * 86400.0
"""Seconds after which a use counts half."""

FADE_HALF_LIFE = 30 * 86400.0
"""Seconds in which a memory that was never used loses half of its strength."""

FARTHEST = 1e9
"""Seconds; what is to be done later than that is looked at anew then."""

RECALLABLE = frozenset({State.ACTIVE, State.CONTESTED, State.SUPERSEDED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.ACTIVE: frozenset({State.CONTESTED, State.SUPERSEDED, State.ARCHIVED, State.STALE, State.QUARANTINED}),
    State.CONTESTED: frozenset({State.ACTIVE, State.SUPERSEDED, State.ARCHIVED, State.QUARANTINED}),
    State.SUPERSEDED: frozenset({State.ACTIVE, State.ARCHIVED}),
    State.ARCHIVED: frozenset({State.ACTIVE}),
    State.STALE: frozenset({State.ACTIVE, State.ARCHIVED}),
    State.REJECTED: frozenset({State.ARCHIVED}),
    State.QUARANTINED: frozenset({State.ACTIVE, State.ARCHIVED}),
}


def expired(cube: MemCube, now: datetime) -> bool:
    expires_at = cube.governance.expires_at
    return expires_at is not None and expires_at <= now


def recallable(cube: MemCube, now: datetime) -> bool:
    """Whether recall may show it: in a recallable state and not past its TTL."""
    return cube.state in RECALLABLE and not expired(cube, now)


def check_transition(old: State, new: State) -> None:
    """Raise InvalidInput for a change of state that the table does not allow."""
    if new != old and new not in TRANSITIONS[old]:
        allowed = ", ".join(sorted(TRANSITIONS[old])) or "nothing"
        raise InvalidInput(f"a cube that is {old} cannot become {new}; it can become {allowed}")


def warmed(heat_log2: float | None, at: datetime) -> float:
    """The stored heat after one more use at `at`."""
    use = at.timestamp() / HEAT_HALF_LIFE
    if heat_log2 is None:
        return use
    high, low = max(heat_log2, use), min(heat_log2, use)
    return high + math.log2(1.0 + 2.0 ** (low - high))


def heat(heat_log2: float | None, now: datetime) -> float:
    """Decayed number of uses as of `now`."""
    if heat_log2 is None:
        return 0.0
    exponent = heat_log2 - now.timestamp() / HEAT_HALF_LIFE
    return float(2.0 ** min(exponent, 60.0))


def as_log2(heat: float, now: datetime) -> float:
    """What is stored of something that is so hot now: the inverse of `heat`."""
    return math.log2(max(heat, 1e-300)) + now.timestamp() / HEAT_HALF_LIFE


def cools_at(heat: float, below: float, now: datetime) -> datetime:
    """When something that is so hot now is cooler than `below`, if nobody uses it meanwhile; in the past where it is so already."""
    seconds = HEAT_HALF_LIFE * math.log2(max(heat, 1e-300) / below)
    return now + timedelta(seconds=min(max(seconds, -FARTHEST), FARTHEST) + 1)


def later(at: datetime, seconds: float) -> datetime:
    """So many seconds later; the end of all time where it is beyond that."""
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return LATEST


def as_planned(now: datetime) -> datetime:
    """A time around which there is room to plan. Raises InvalidInput for one at either end of what a datetime can hold."""
    room = timedelta(seconds=2 * FARTHEST)
    try:
        return now - room + room + room - room
    except OverflowError as error:
        raise InvalidInput(f"now {now.isoformat()} leaves no room to plan in; take a time between the years 100 and 9900") from error


def valid(cube: MemCube, at: datetime) -> bool:
    """Whether it was true at a time, as far as its validity says."""
    start, end = cube.identifiers.valid_from, cube.identifiers.valid_to
    return (start is None or start <= at) and (end is None or at < end)


def halvings(age: Any, uses: Any, priority: Any) -> Any:
    """How often a memory's strength has halved; numbers, or numpy arrays of them. age: seconds since it was said or last used.

    strength = 2^-halvings, halvings = age · (1 - priority) / (FADE_HALF_LIFE · (1 + uses)): a forgetting curve whose half-life
    grows by as much with each use as it had at first, and without limit towards priority 1, which does not fade.
    Source: MemoryBank, arXiv 2305.10250, after Ebbinghaus: R = e^(-t/S), S grows by one and t starts anew with each recall;
    base 2, the half-life and the part of priority are ours.
    """
    return age * (1.0 - priority) / (FADE_HALF_LIFE * (1.0 + uses))

"""Plaintext that is past its time or over a budget: archived, and erased when it has been archived for long enough.

Source: MemOS §4.2 (lifespan); what a budget asks for is decided in `policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from memos_core import policy
from memos_core.changes import Change, Erase, Record
from memos_core.cube import LOCAL_OWNER, Scope
from memos_core.errors import NotFound, VersionConflict
from memos_core.forgetting import forget
from memos_core.holding import archived
from memos_core.house import House
from memos_core.lifespan import FARTHEST
from memos_core.policy import Budget, Move
from memos_core.store import records

MOST_ATTEMPTS = 5
"""How often a decision is made anew when others change what it was about."""
AT_ONCE = 256
"""Memories that expire in one commit."""


def expire(house: House, now: datetime, go_on: Callable[[], bool]) -> list[Move]:
    """Archive what is past its time to live; recall has not shown it since then."""
    moves: list[Move] = []
    at_once, failures = AT_ONCE, 0
    while go_on():
        with house.store.read() as view:
            due = {cube.id: cube for cube in view.expired(now, at_once)}
        decided = policy.decide_expiry(list(due.values()), now)
        changes: list[Change] = []
        for move in decided:
            (cube,) = (due[id] for id in move.ids)
            changes += [archived(cube, "expire", now, move.reason), Record(move, cube.governance.scope, now)]
        if not changes:
            break
        try:
            house.store.commit(changes)
        except (NotFound, VersionConflict):  # somebody was faster, or one that expires settles its conflict with another that does
            failures += 1
            if failures > MOST_ATTEMPTS:
                raise
            at_once = 1
            continue
        moves += decided
        at_once, failures = AT_ONCE, 0
    return moves


def keep_to_budget(house: House, scope: Scope, budget: Budget, now: datetime) -> list[Move]:
    """Erase what has been archived for long enough, then archive what is too much."""
    return [move for act in (_erase_archived, _archive_weakest) if (move := _until_undisturbed(act, house, scope, budget, now)) is not None]


def next_time(house: House, scope: Scope, budget: Budget, now: datetime) -> datetime | None:
    """When a budget asks for something though nothing changes; None for never."""
    found = []
    with house.store.read() as view:
        if budget.erase_archived_after is not None and (first := records.first_archived(view, scope)) is not None:
            found.append(first + budget.erase_archived_after)
        if budget.strength is not None:
            seconds = policy.next_too_weak(records.fading(view, scope, now), budget)
            found += [] if seconds is None else [now + timedelta(seconds=min(seconds, FARTHEST))]
    return min(found, default=None)


def _until_undisturbed(
    act: Callable[[House, Scope, Budget, datetime], Move | None], house: House, scope: Scope, budget: Budget, now: datetime
) -> Move | None:
    """Decide again when somebody has changed or erased one of the memories meanwhile."""
    for _ in range(MOST_ATTEMPTS - 1):
        try:
            return act(house, scope, budget, now)
        except (NotFound, VersionConflict):
            continue
    return act(house, scope, budget, now)


def _archive_weakest(house: House, scope: Scope, budget: Budget, now: datetime) -> Move | None:
    with house.store.read() as view:
        held = records.fading(view, scope, now)
        weak = policy.too_much(held, budget)
        reasons = {held.ids[place]: f"strength {2.0 ** -held.halvings[place]:.2g}, over the budget: {budget}" for place in weak}
        cubes = view.heads(list(reasons), now)
    if not weak:
        return None
    strongest = 2.0 ** -held.halvings[weak[-1]]
    reason = f"the {len(weak)} weakest of {len(held.ids)} memories (strength up to {strongest:.2g}) are over the budget of {budget}"
    move = Move("archive", tuple(reasons), reason)
    house.store.commit([*(archived(cubes[id], "archive", now, reasons[id]) for id in reasons), Record(move, scope, now)])
    return move


def _erase_archived(house: House, scope: Scope, budget: Budget, now: datetime) -> Move | None:
    if budget.erase_archived_after is None:
        return None
    with house.store.read() as view:
        due = records.archived_before(view, scope, now - budget.erase_archived_after)
        heads = view.heads(due, now)
    if not due:
        return None
    move = Move("erase", tuple(due), f"archived for {budget.erase_archived_after} or longer")
    erase = Erase(tuple(due), LOCAL_OWNER, now, move.reason, tuple(heads[id].version for id in due))
    forget(house, erase, [Record(move, scope, now)])
    return move

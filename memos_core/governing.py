"""What people decide about memories: which of two holds, what is restored, how much a scope may hold, what came from what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import networkx as nx

from memos_core.access import may
from memos_core.changes import Relate, SetBudget
from memos_core.conflict.resolution import Conflict, Related, as_answer, as_pair
from memos_core.cube import Actor, CubeId, Scope
from memos_core.errors import InvalidInput, NotFound
from memos_core.house import House
from memos_core.lifespan import recallable
from memos_core.policy import Budget
from memos_core.store.records import conflict, conflicts, edges


def found_conflicts(house: House, place: Scope, who: Actor, clock: datetime) -> list[Conflict]:
    """What stands against what at or below a scope, where the actor may read both sides."""
    with house.view() as view:
        found = conflicts(view, view.authorised(place, who), clock)
    return [each for each in found if all(may(cube, who, "read") and recallable(cube, clock) for cube in (each.older, each.newer))]


def answer(house: House, given: Conflict | Sequence[CubeId], keep: Any, who: Actor, clock: datetime) -> Conflict:
    """Decide which side of a conflict is kept. Raises InvalidInput, NotFound or AccessDenied."""
    resolution, (older, newer) = as_answer(keep), as_pair(given)
    for id in (older, newer):
        house.permitted(id, "write", who, clock)
    with house.view() as view:
        known = conflict(view, older, newer, clock)
    if known is None:
        raise NotFound(f"no conflict is known of {older} and {newer}; memos.conflicts(scope=...) lists them")
    related = Related(older, newer, known.kind, known.confidence, known.why, resolution)
    house.store.commit([Relate(related, who, clock)])
    with house.view() as view:
        settled = conflict(view, older, newer, clock)
    if settled is None:
        raise NotFound(f"{older} or {newer} has been forgotten meanwhile")
    return settled


def set_budget(house: House, place: Scope, who: Actor, clock: datetime, **limits: Any) -> Budget | None:
    """Keep the budget of a scope; without any limit it has none. Raises InvalidInput."""
    budget = as_budget(**limits)
    house.store.commit([SetBudget(place, budget, who, clock)])
    return budget


def as_budget(*, facts: Any, bytes: Any, strength: Any, erase_archived_after: Any) -> Budget | None:
    """Limits, checked; None when there is none. Raises InvalidInput."""
    for name, value in (("facts", facts), ("bytes", bytes)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62):
            raise InvalidInput(f"{name} must be a whole number from 0, got {value!r}")
    if strength is not None and (isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 <= strength <= 1):
        raise InvalidInput(f"strength must be a number from 0 to 1, got {strength!r}")
    after = erase_archived_after
    if after is not None and (not isinstance(after, timedelta) or after <= timedelta()):
        raise InvalidInput(f"erase_archived_after must be a positive timedelta, got {after!r}")
    if facts is None and bytes is None and strength is None and after is None:
        return None
    return Budget(facts, bytes, None if strength is None else float(strength), after)


def lineage(house: House, id: CubeId, who: Actor, clock: datetime) -> nx.DiGraph[CubeId]:
    """Everything that a cube came from and that came from it, as far as the actor may read it."""
    graph: nx.DiGraph[CubeId] = nx.DiGraph()
    graph.add_node(id, cube=house.permitted(id, "read", who, clock))
    waiting = [id]
    with house.view() as view:
        while waiting:
            steps = edges(view, waiting.pop())
            heads = view.heads([end for step in steps for end in step[:2] if end not in graph], clock)
            for end, cube in heads.items():
                if may(cube, who, "read"):
                    graph.add_node(end, cube=cube)
                    waiting.append(end)
            graph.add_edges_from((source, result, {"relation": how}) for source, result, how in steps if {source, result} <= set(graph))
    return graph

"""Policies as values: ready thresholds, and functions that users write, checked against what must never move. Pure.

Source: MemOS §4.2, policy-aware scheduling; the settings are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from memos_core.cube import MemCube, Precision, Scope, State, as_text
from memos_core.errors import InvalidInput
from memos_core.policy import NO_TRAINING, Candidate, Move, Thresholds, stable, unchanged_since
from memos_core.value import Speed

LATENCY = Thresholds(enter_heat=1.3, stay_heat=0.6, settle_seconds=600.0, head_tokens=384, activation_bytes=8 << 30, distil=True)
"""Answer sooner, whatever it takes on disk and between requests: more enters KV, earlier, and what is hot for long goes into weights."""
MEMORY = Thresholds(enter_heat=3.0, stay_heat=1.5, head_tokens=128, activation_bytes=256 << 20, least_precision=Precision.INT8)
"""Hold little: only what is very hot is kept as KV, in fewer bytes where room is short, which is not exact and says so."""
QUALITY = Thresholds(settle_seconds=86400.0, least_sessions=2)
"""Exact answers first: text and exact KV of what has stood for a day, nothing in weights."""


@dataclass(frozen=True, slots=True)
class View:
    """What a policy function sees of one scope.

    memories: plaintext that is hot (at least `stay_heat`) or stands in the head, hottest first; Candidate(cube, tokens, in_head).
    held: activation cubes in use. modules: modules in use. speed: rates measured on this machine.
    """

    scope: Scope
    memories: tuple[Candidate, ...]
    held: tuple[MemCube, ...]
    modules: tuple[MemCube, ...]
    speed: Speed


class Policy(Protocol):
    """A function that decides for one scope whose review is due: one move, or None to leave it to the thresholds.

    It may return prefill (ids of memories: from now on they are the scope's head), drop (ids of held), distil (ids of memories), revert (ids
    of modules), archive (ids of memories), or keep with no ids: nothing is moved by use. It must be deterministic: the same view, the same move.
    After each move it is asked again, in the same tick, until it answers None, keep, or a move that is made already, which changes nothing:
    so it must leave be what it has moved. None lets the thresholds undo it; keep does not. Its reason goes into the audit log: no content belongs there.
    """

    def __call__(self, view: View, thresholds: Thresholds, now: datetime, /) -> Move | None: ...


def checked(move: Move, view: View, thresholds: Thresholds, now: datetime) -> Move:
    """A function's move, if it may be made. Raises InvalidInput: what is frozen, contested, forbidden or young stays where it is."""
    move = _well_formed(move)
    memories, since = {each.cube.id: each.cube for each in view.memories}, {each.cube.id: each.since for each in view.memories}
    held, modules = ({cube.id: cube for cube in several} for several in (view.held, view.modules))
    tables = {"prefill": memories, "distil": memories, "archive": memories, "drop": held, "revert": modules, "keep": {}}
    if move.kind not in tables:
        raise InvalidInput(f"the policy returned a move of kind {move.kind!r}; it may return {', '.join(tables)}")
    if bool(move.ids) == (move.kind == "keep"):
        raise InvalidInput("the policy returned keep with ids, or another move without: keep is about the whole scope, others name cubes")
    if unknown := [id for id in move.ids if id not in tables[move.kind]]:
        raise InvalidInput(f"the policy wants to {move.kind} cube {unknown[0]}, which is not among those of its view: pick from those")
    for id in move.ids:
        if (why := _never(move.kind, tables[move.kind][id], since.get(id), thresholds, now)) is not None:
            raise InvalidInput(f"the policy wants to {move.kind} cube {id}, but {why}: leave it out")
    tokens = sum(each.tokens for each in view.memories if each.cube.id in move.ids)
    if move.kind == "prefill" and tokens > thresholds.head_tokens:
        raise InvalidInput(f"the policy wants a head of {tokens} tokens, and head_tokens allows {thresholds.head_tokens}: pick fewer")
    return move


def _well_formed(move: object) -> Move:
    """A move whose parts are what they should be, each id once. Raises InvalidInput: what is kept of it enters the hash chain."""
    if not isinstance(move, Move):
        raise InvalidInput(f"the policy returned {type(move).__name__}; return a Move, or None to leave it to the thresholds")
    if not isinstance(move.kind, str):
        raise InvalidInput(f"the policy returned a move of kind {move.kind!r}; it must be a str")
    if not isinstance(move.ids, (tuple, list)) or not all(isinstance(id, str) for id in move.ids):
        raise InvalidInput(f"the policy returned a move with ids {move.ids!r}; they must be a tuple of cubes' ids")
    as_text(move.reason, "the reason of the policy's move")
    if isinstance(move.seconds, bool) or not isinstance(move.seconds, (int, float)) or not math.isfinite(move.seconds):
        raise InvalidInput(
            f"the policy returned a move with seconds {move.seconds!r}; it must be a finite number, 0 where nothing is known"
        )
    return replace(move, ids=tuple(dict.fromkeys(move.ids)), to=None)


def _never(kind: str, cube: MemCube, since: datetime | None, thresholds: Thresholds, now: datetime) -> str | None:
    """Why a cube must not be moved so, if it must not."""
    if kind in ("drop", "revert"):
        return "it is frozen" if cube.governance.frozen else None
    if cube.state is State.CONTESTED:
        return "it is contested"
    if kind == "archive":
        return "its priority is 1" if cube.governance.priority >= 1 else None
    if not stable(cube, thresholds, now, since):
        return f"it is {cube.state}, expires, or has not stood for {thresholds.settle_seconds:g} seconds"
    if kind == "distil" and NO_TRAINING in cube.governance.tags:
        return f"it is tagged {NO_TRAINING!r}"
    if kind == "distil" and (now - unchanged_since(cube, since)).total_seconds() < thresholds.parameter_settle_seconds:
        return f"it has not stood for {thresholds.parameter_settle_seconds:g} seconds"
    return None

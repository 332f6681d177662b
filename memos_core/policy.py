"""Which memory goes where, decided by use. Pure: views in, moves with reasons out.

Source: MemOS §4.2, policy-aware scheduling (plaintext ⇒ activation for hot and stable memory, eviction by value, expiry).
The paper gives no thresholds; these are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from memos_core.cube import CubeId, MemCube, Parameter, Precision, State

MoveKind = Literal["prefill", "drop", "expire", "archive", "erase", "refile", "propose", "reduce", "restore", "stale", "distil", "revert"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When memory moves. Hysteresis: a memory enters the head at `enter_heat` and stays down to `stay_heat`.

    enter_heat, stay_heat: decayed number of recalls. least_sessions: distinct sessions it was recalled in before it may enter.
    settle_seconds: how long its text must have stood unchanged. head_tokens: tokens of one scope's head; keep it below the
    token budget of a turn, which has to hold it. activation_bytes: bytes of KV files of the whole directory. module_heat: a module of memories
    that is cooler is taken off, once it is module_settle_seconds old.
    """

    enter_heat: float = 1.8
    stay_heat: float = 0.9
    least_sessions: int = 1
    settle_seconds: float = 3600.0
    head_tokens: int = 256
    activation_bytes: int = 2 << 30
    least_precision: Precision | None = None
    propose_sessions: int = 3
    accept_proposals: bool = False
    module_heat: float = 0.1
    module_settle_seconds: float = 28 * 86400.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How much plaintext a scope and all below it may hold; what is too much is archived, the weakest first.

    facts: memories. bytes: of their text. strength: what is weaker is archived, 0 to 1. Contested memories and those of priority 1
    are never archived for it. erase_archived_after: how long what the scheduler archived can be restored; None for ever.
    """

    facts: int | None = None
    bytes: int | None = None
    strength: float | None = None
    erase_archived_after: timedelta | None = None

    def columns(self) -> tuple[int | None, int | None, float | None, float | None]:
        """As the store keeps it."""
        after = self.erase_archived_after
        return self.facts, self.bytes, self.strength, None if after is None else after.total_seconds()

    def __str__(self) -> str:
        limits = ("at most {} memories", "at most {} bytes", "strength from {:g}", "archived ones erased after {:g} s")
        return ", ".join(text.format(value) for text, value in zip(limits, self.columns(), strict=True) if value is not None)


@dataclass(frozen=True, slots=True)
class Fading:
    """Plaintext as a budget sees it, in columns of n. halvings: how often the strength has halved. kept: never archived for a budget."""

    ids: Sequence[CubeId]
    halvings: np.ndarray
    said: np.ndarray
    bytes: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True, slots=True)
class Move:
    """One decision: what to do with which cubes, and why in numbers. to: of what is reduced or restored, its precision from now on."""

    kind: MoveKind
    ids: tuple[CubeId, ...]
    reason: str
    to: Precision | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plaintext memory that has been used, as the policy sees it. in_head: it stands in the current head."""

    cube: MemCube
    tokens: int
    in_head: bool


@dataclass(frozen=True, slots=True)
class Held:
    """KV as the policy sees it, kept or wanted. value: heat of the memories in it; problem: why it must not be used, if so.

    frozen: stays whatever the budget. sizes: bytes in each precision that it may be kept in, the best first; () for as it is alone.
    precision: in which it is kept.
    """

    id: CubeId
    bytes: int
    value: float
    problem: str | None = None
    frozen: bool = False
    sizes: tuple[tuple[Precision, int], ...] = ()
    precision: Precision = Precision.FLOAT32

    @property
    def choices(self) -> tuple[tuple[Precision, int], ...]:
        return self.sizes if self.sizes and not self.frozen else ((self.precision, self.bytes),)


def stable(cube: MemCube, thresholds: Thresholds, now: datetime) -> bool:
    """Whether the text is settled: active, without an expiry, and unchanged for long enough."""
    changed = cube.identifiers.occurred_at if cube.version == 1 else cube.identifiers.updated_at
    settled = (now - changed).total_seconds() >= thresholds.settle_seconds
    return cube.state is State.ACTIVE and cube.governance.expires_at is None and settled


def admission_key(candidate: Candidate) -> tuple[float, float, str]:
    """Best first: hottest per token, with priority; id decides ties."""
    usage, priority = candidate.cube.usage, candidate.cube.governance.priority
    return (-(usage.heat * (1 + priority)) / max(candidate.tokens, 1), -usage.heat, candidate.cube.id)


def retention_key(held: Held) -> tuple[bool, float, str]:
    """First to stay first: what is frozen, then most heat per byte of its best precision; id decides ties."""
    return (not held.frozen, -held.value / max(held.choices[0][1], 1), held.id)


def choose_head(candidates: Sequence[Candidate], thresholds: Thresholds, now: datetime) -> list[Candidate]:
    """The memories that deserve the head, best first, within its token limit."""
    worthy = []
    for candidate in candidates:
        usage = candidate.cube.usage
        threshold = thresholds.stay_heat if candidate.in_head else thresholds.enter_heat
        if usage.heat >= threshold and usage.sessions >= thresholds.least_sessions and stable(candidate.cube, thresholds, now):
            worthy.append(candidate)
    chosen, spent = [], 0
    for candidate in sorted(worthy, key=admission_key):
        if spent + candidate.tokens <= thresholds.head_tokens:
            chosen.append(candidate)
            spent += candidate.tokens
    return chosen


def decide_head(candidates: Sequence[Candidate], current: frozenset[CubeId] | None, thresholds: Thresholds, now: datetime) -> Move | None:
    """Prefill a scope's head when the memories that deserve it are not the ones it holds; drop it when none does.

    current: the memories it holds, None when there is no head.
    """
    chosen = choose_head(candidates, thresholds, now)
    wanted = frozenset(candidate.cube.id for candidate in chosen)
    if not wanted and current:
        return Move(
            "drop", tuple(sorted(current)), f"none of the {len(current)} memories in the head is hot any more: {_uses(candidates, current)}"
        )
    if not wanted or wanted == current:
        return None
    came, went = len(wanted - (current or frozenset())), len((current or frozenset()) - wanted)
    reason = (
        f"{len(wanted)} memories are hot (heat ≥ {thresholds.enter_heat:g}) and settled, {came} new, {went} gone: {_uses(chosen, wanted)}"
    )
    return Move("prefill", tuple(sorted(wanted)), reason)


def _uses(candidates: Sequence[Candidate], ids: frozenset[CubeId]) -> str:
    """The use counts that a decision rests on."""
    found = [(candidate.cube.id, candidate.cube.usage) for candidate in candidates if candidate.cube.id in ids]
    return ", ".join(f"{id} {usage.recalls} recalls in {usage.sessions} sessions, heat {usage.heat:.2f}" for id, usage in found)


def decide_room(held: Sequence[Held], thresholds: Thresholds) -> list[Move]:
    """Drop KV that no longer says what its sources say; of the rest keep, of most heat per byte first, what fits the byte budget.

    Each in the best precision that there is room for, where loss has been allowed. One pass decides for good: what was decided would be
    decided again.
    """
    moves, spent = [], 0
    for item in sorted(held, key=retention_key):
        if item.problem is not None:
            moves.append(Move("drop", (item.id,), item.problem))
            continue
        room = thresholds.activation_bytes - spent
        fitting = item.choices[0] if item.frozen else next((choice for choice in item.choices if choice[1] <= room), None)
        before = f"{spent:,} of the budget of {thresholds.activation_bytes:,} bytes go to KV of more heat per byte"
        if fitting is None:
            least = item.choices[-1][1]
            moves.append(Move("drop", (item.id,), f"its {least:,} bytes of KV (heat {item.value:.2f}) do not fit: {before}"))
            continue
        precision, size = fitting
        spent += size
        if precision is not item.precision:
            kind: MoveKind = "reduce" if size < dict(item.choices).get(item.precision, item.bytes) else "restore"
            reason = f"from {item.precision} to {precision}, {size:,} bytes (heat {item.value:.2f}): {before}"
            moves.append(Move(kind, (item.id,), reason, precision))
    return moves


def decide_expiry(cubes: Sequence[MemCube], now: datetime) -> list[Move]:
    """Archive what is past its TTL; recall has not shown it since the moment it expired."""
    return [
        Move("expire", (cube.id,), f"expired at {cube.governance.expires_at.isoformat()}")
        for cube in cubes
        if cube.governance.expires_at is not None and cube.governance.expires_at <= now
    ]


def decide_cold(modules: Sequence[MemCube], thresholds: Thresholds, now: datetime) -> list[Move]:
    """Take off what has been distilled from memories that nobody asks about any more; their texts go into prompts again.

    What was made elsewhere stays: it has no text that could take its place.
    """
    return [
        Move("revert", (cube.id,), f"cold: heat {cube.usage.heat:.2f} < {thresholds.module_heat:g} after {cube.usage.recalls} requests")
        for cube in modules
        if cube.state is State.ACTIVE
        and isinstance(cube.payload, Parameter)
        and cube.payload.report is not None
        and not cube.governance.frozen
        and cube.usage.heat < thresholds.module_heat
        and (now - cube.identifiers.created_at).total_seconds() >= thresholds.module_settle_seconds
    ]


def too_much(held: Fading, budget: Budget) -> list[int]:
    """Which of them a budget has no room for: the weakest, as few as will do; of equals the one said first.

    More use makes a memory stronger, so that it stays wherever it would have stayed without.
    """
    order = np.lexsort((np.arange(len(held.ids)), held.said, -held.halvings))
    order = order[~held.kept[order]]
    least = [0]
    if budget.facts is not None:
        least.append(len(held.ids) - budget.facts)
    if budget.bytes is not None and (excess := int(held.bytes.sum()) - budget.bytes) > 0:
        least.append(int(np.searchsorted(np.cumsum(held.bytes[order]), excess)) + 1)
    if budget.strength is not None:
        least.append(int(np.count_nonzero(held.halvings[order] > -np.log2(max(budget.strength, 1e-300)))))
    return [int(position) for position in order[: max(least)]]

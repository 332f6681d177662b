"""Which memory goes where, decided by use. Pure: views in, moves with reasons out.

Source: MemOS §4.2, policy-aware scheduling (plaintext ⇒ activation for hot and stable memory, eviction by value, expiry).
The paper gives no thresholds; these are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from memos_core.cube import CubeId, MemCube, State

MoveKind = Literal["prefill", "drop", "expire"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When memory moves. Hysteresis: a memory enters the head at `enter_heat` and stays down to `stay_heat`.

    enter_heat, stay_heat: decayed number of recalls. least_sessions: distinct sessions it was recalled in before it may enter.
    settle_seconds: how long its text must have stood unchanged. head_tokens: tokens of one scope's head.
    activation_bytes: bytes of KV files of the whole directory.
    """

    enter_heat: float = 1.8
    stay_heat: float = 0.9
    least_sessions: int = 1
    settle_seconds: float = 3600.0
    head_tokens: int = 1024
    activation_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Move:
    """One decision: what to do with which cubes, and why in numbers."""

    kind: MoveKind
    ids: tuple[CubeId, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plaintext memory that has been used, as the policy sees it. in_head: it stands in the current head."""

    cube: MemCube
    tokens: int
    in_head: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A KV file as the policy sees it. value: heat of the memories in it; valid: false when its sources have changed."""

    cube: MemCube
    bytes: int
    value: float
    valid: bool
    why_invalid: str = ""


def stable(cube: MemCube, thresholds: Thresholds, now: datetime) -> bool:
    """Whether the text is settled: active, without an expiry, and unchanged for long enough."""
    changed = cube.identifiers.occurred_at if cube.version == 1 else cube.identifiers.updated_at
    settled = (now - changed).total_seconds() >= thresholds.settle_seconds
    return cube.state is State.ACTIVE and cube.governance.expires_at is None and settled


def admission_key(candidate: Candidate) -> tuple[float, float, str]:
    """Best first: hottest per token, with priority; id decides ties."""
    usage, priority = candidate.cube.usage, candidate.cube.governance.priority
    return (-(usage.heat * (1 + priority)) / max(candidate.tokens, 1), -usage.heat, candidate.cube.id)


def eviction_key(held: Held) -> tuple[float, str]:
    """First to go first: least heat per byte."""
    return (held.value / max(held.bytes, 1), held.cube.id)


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
    """Prefill a scope's head when the memories that deserve it are not the ones it holds. current: None when there is no head."""
    chosen = choose_head(candidates, thresholds, now)
    wanted = frozenset(candidate.cube.id for candidate in chosen)
    if not wanted or wanted == current:
        return None
    counts = ", ".join(
        f"{c.cube.id} {c.cube.usage.recalls} recalls in {c.cube.usage.sessions} sessions, heat {c.cube.usage.heat:.2f}" for c in chosen
    )
    came, went = len(wanted - (current or frozenset())), len((current or frozenset()) - wanted)
    reason = f"{len(wanted)} memories are hot (heat ≥ {thresholds.enter_heat:g}) and settled, {came} new, {went} gone: {counts}"
    return Move("prefill", tuple(sorted(wanted)), reason)


def decide_drops(held: Sequence[Held], thresholds: Thresholds) -> list[Move]:
    """Drop KV that no longer says what its sources say, then the least valuable until the rest fits the byte budget."""
    moves = [Move("drop", (item.cube.id,), item.why_invalid) for item in held if not item.valid]
    kept = sorted((item for item in held if item.valid), key=eviction_key)
    total = sum(item.bytes for item in kept)
    for item in kept:
        if total <= thresholds.activation_bytes:
            break
        moves.append(
            Move(
                "drop",
                (item.cube.id,),
                f"{total:,} bytes of KV exceed the budget of {thresholds.activation_bytes:,}; this one has the least heat per byte "
                f"(heat {item.value:.2f}, {item.bytes:,} bytes)",
            )
        )
        total -= item.bytes
    return moves


def decide_expiry(cubes: Sequence[MemCube], now: datetime) -> list[Move]:
    """Archive what is past its TTL; recall has not shown it since the moment it expired."""
    return [
        Move("expire", (cube.id,), f"expired at {cube.governance.expires_at.isoformat()}")
        for cube in cubes
        if cube.governance.expires_at is not None and cube.governance.expires_at <= now
    ]

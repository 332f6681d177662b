"""Which memory goes where, decided by use. Pure: views in, moves with reasons out.

Source: MemOS §4.2, policy-aware scheduling (plaintext ⇒ activation for hot and stable memory, eviction by value, expiry).
The paper gives no thresholds; these are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Literal

import numpy as np

from memos_core.cube import CubeId, MemCube, Parameter, Precision, State, as_count
from memos_core.errors import InvalidInput
from memos_core.lifespan import FARTHEST, cools_at, later
from memos_core.parse import as_member
from memos_core.value import Speed

MoveKind = Literal[
    "prefill", "drop", "expire", "archive", "erase", "refile", "propose", "reduce", "restore", "stale", "distil", "revert", "keep"
]


NO_SPEED = Speed()
NO_TRAINING = "no-training"
"""The tag of memories that must not be distilled into weights."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When memory moves. Heat is a number of recalls, each half as much after seven days. Promotion asks for more than demotion (hysteresis).

    Into KV: a memory enters its scope's head at `enter_heat` and stays down to `stay_heat`. least_sessions: distinct sessions it was recalled
    in before it may enter. settle_seconds: how long its text must have stood unchanged. head_tokens: tokens of one scope's head; keep it
    below the token budget of a turn, which has to hold it. activation_bytes: bytes of KV files of the whole directory. least_precision: down to
    which precision KV may be reduced where these do not suffice; None: not at all. live_seconds: a scope whose last turn is not older has
    its KV brought from its file into RAM before the next.

    Into weights, only where `distil`, since training takes minutes of CPU: parameter_facts statements of one scope at least, and
    parameter_most at most, each at least so hot (parameter_heat), recalled parameter_uses times in parameter_sessions distinct sessions
    and for parameter_tasks distinct tasks, unchanged for parameter_settle_seconds. module_heat: a module of memories that is cooler is taken
    off, once it is module_settle_seconds old; what it was made of is not distilled again for as long.

    horizon_seconds: within which prefilling and distilling have to save the seconds they cost. idle_worth: how many seconds of somebody's
    waiting a second of such work between requests counts.

    propose_sessions: distinct sessions in which a habit is seen before it is proposed. accept_proposals: without asking.
    Raises InvalidInput where a memory would move to and fro, and for what is no number from 0 (seconds: up to 1e9, some 31 years).
    """

    enter_heat: float = 1.8
    stay_heat: float = 0.9
    least_sessions: int = 1
    settle_seconds: float = 3600.0
    head_tokens: int = 256
    activation_bytes: int = 2 << 30
    least_precision: Precision | None = None
    live_seconds: float = 600.0
    distil: bool = False
    parameter_heat: float = 1.8
    parameter_uses: int = 5
    parameter_sessions: int = 3
    parameter_tasks: int = 1
    parameter_settle_seconds: float = 7 * 86400.0
    parameter_facts: int = 8
    parameter_most: int = 40
    module_heat: float = 0.1
    module_settle_seconds: float = 28 * 86400.0
    horizon_seconds: float = 28 * 86400.0
    idle_worth: float = 0.01
    propose_sessions: int = 3
    accept_proposals: bool = False

    def __post_init__(self) -> None:
        if self.least_precision is not None:
            object.__setattr__(self, "least_precision", as_member(Precision, self.least_precision, "least_precision"))
        for each in fields(self):
            _check(each.name, getattr(self, each.name), type(each.default))
        for high, low in (("enter_heat", "stay_heat"), ("parameter_heat", "module_heat")):
            if not getattr(self, high) > getattr(self, low) > 0:
                raise InvalidInput(
                    f"{high} must be above {low}, and that above 0: what is let in at one heat would be turned out at the same"
                )
        if self.parameter_most < self.parameter_facts:
            raise InvalidInput("parameter_most must not be below parameter_facts: no module could ever be made")


def _check(name: str, value: object, like: type) -> None:
    """That a threshold is of the kind that its default is. Raises InvalidInput."""
    if like is bool and not isinstance(value, bool):
        raise InvalidInput(f"{name} must be True or False, got {value!r}")
    if like is int:
        as_count(value, name, 0)
    most = FARTHEST if name.endswith("_seconds") else math.inf
    if like is float and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most or value == math.inf):
        limit = f"a number of seconds from 0 to {most:g}" if name.endswith("_seconds") else "a finite number from 0"
        raise InvalidInput(f"{name} must be {limit}, got {value!r}")


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
    """Plaintext as a budget sees it, in columns of n. halvings: how often the strength has halved; per_second: how
    much more it does each second. kept: never archived for a budget."""

    ids: Sequence[CubeId]
    halvings: np.ndarray
    per_second: np.ndarray
    said: np.ndarray
    bytes: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True, slots=True)
class Move:
    """One decision: what to do with which cubes, and why in numbers. to: of what is reduced or restored, its precision from now on.

    seconds: what it is expected to save over the policy's horizon.
    """

    kind: MoveKind
    ids: tuple[CubeId, ...]
    reason: str
    to: Precision | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plaintext memory that has been used, as the policy sees it. in_head: it stands in the current head. since: from when on its text has
    stood; None: since its latest version. expected: the heat that it counts with where there is no room for all; None: its own."""

    cube: MemCube
    tokens: int
    in_head: bool
    since: datetime | None = None
    expected: float | None = None


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


def unchanged_since(cube: MemCube, since: datetime | None = None) -> datetime:
    """From when on its text has stood, as far as the cube alone tells, where `since` is not known."""
    if since is not None:
        return since
    return cube.identifiers.occurred_at if cube.version == 1 else cube.identifiers.updated_at


def stable(cube: MemCube, thresholds: Thresholds, now: datetime, since: datetime | None = None) -> bool:
    """Whether the text is settled: active, without an expiry, and unchanged (since then) for long enough."""
    settled = (now - unchanged_since(cube, since)).total_seconds() >= thresholds.settle_seconds
    return cube.state is State.ACTIVE and cube.governance.expires_at is None and settled


def retention_key(held: Held) -> tuple[bool, float, str]:
    """First to stay first: what is frozen, then most heat per byte of its best precision; id decides ties."""
    return (not held.frozen, -held.value / max(held.choices[0][1], 1), held.id)


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
        if may_cool(cube)
        and cube.usage.heat < thresholds.module_heat
        and (now - cube.identifiers.created_at).total_seconds() >= thresholds.module_settle_seconds
    ]


def may_cool(module: MemCube) -> bool:
    """Whether a module is one that is taken off when nobody asks for it."""
    payload = module.payload
    distilled = isinstance(payload, Parameter) and payload.report is not None
    return module.state is State.ACTIVE and distilled and not module.governance.frozen


def cold_at(module: MemCube, thresholds: Thresholds, now: datetime) -> datetime:
    """When such a module is taken off, if nobody asks for it until then."""
    settled = later(module.identifiers.created_at, thresholds.module_settle_seconds)
    return max(settled, cools_at(module.usage.heat, thresholds.module_heat, now))


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


def next_too_weak(held: Fading, budget: Budget) -> float | None:
    """In how many seconds the first of what is kept so far falls below the budget's strength, if nobody uses it; None for never."""
    fading = (held.per_second > 0) & ~held.kept
    if budget.strength is None or budget.strength <= 0 or not fading.any():
        return None
    left = -np.log2(max(budget.strength, 1e-300)) - held.halvings[fading]
    left = left[left >= 0] / held.per_second[fading][left >= 0]
    return float(left.min()) + 1.0 if len(left) else None


def too_weak_in(held: Fading, place: int, strength: float) -> float | None:
    """In how many seconds one of them falls below a budget's strength, if nobody uses it: 0 where it has, None for never."""
    left = -np.log2(max(strength, 1e-300)) - held.halvings[place]
    if left < 0:
        return 0.0
    return float(left / held.per_second[place]) + 1.0 if held.per_second[place] > 0 and strength > 0 else None

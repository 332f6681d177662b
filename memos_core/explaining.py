"""Why a memory is where it is, and what would move it: its numbers against the thresholds of every move that is open to it.

Source: MemOS §4.2, policy-aware scheduling; that every placement can be asked about is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from memos_core import policy
from memos_core.candidates import candidates
from memos_core.cube import Activation, CubeId, MemCube, Parameter, Plaintext, State, Usage, ancestors, blob_of, text_of
from memos_core.heads import Derived, derived
from memos_core.house import House
from memos_core.learning import learnable, measured, tried
from memos_core.lifespan import cools_at
from memos_core.modules import standing
from memos_core.plan import line
from memos_core.policy import MoveKind, Thresholds
from memos_core.readiness import Condition, choose_module, head_conditions, module_conditions, pays, room_in_head, untried
from memos_core.store import agenda, records, uses
from memos_core.store.agenda import Moved
from memos_core.store.snapshot import AuditEntry, Snapshot
from memos_core.value import Speed, Value, value


@dataclass(frozen=True, slots=True)
class Prospect:
    """A move that a cube may see. conditions: what it takes; when all are met it is made at the next tick, or at a time that is known: when."""

    kind: MoveKind
    conditions: tuple[Condition, ...]
    when: datetime | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """What would have to come first."""
        return tuple(condition.missing for condition in self.conditions if not condition.met)

    def __str__(self) -> str:
        at = f" on {self.when.isoformat(timespec='minutes')}" if self.when is not None else ""
        return f"{self.kind}{at}: {'; '.join(self.missing) or 'nothing is missing'}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a cube is, why, and what would move it.

    form: plaintext, activation or parameter. tier: RAM (of this process, beside its file), disk, or dropped. held_as: the cubes in use that stand
    for it in another form: KV of its scope's head, or modules that know it. why: the last move that concerned it, or the last entry of
    its audit log. value: what KV of it is expected to save over the policy's horizon, and per byte. together: what is used in the same
    turns, with how many.
    """

    id: CubeId
    form: str
    tier: str
    state: State
    held_as: tuple[CubeId, ...]
    why: str
    usage: Usage
    value: Value
    together: tuple[tuple[CubeId, int], ...]
    prospects: tuple[Prospect, ...]

    def __str__(self) -> str:
        used = f"{self.usage.recalls} recalls in {self.usage.sessions} sessions, heat {self.usage.heat:.2f}"
        lines = [f"{self.id} is {self.state} {self.form} ({self.tier}): {self.why}", f"  used: {used}; worth {self.value.seconds:.3g} s"]
        return "\n".join([*lines, *(f"  {prospect}" for prospect in self.prospects)])


def explained(
    house: House, cube: MemCube, thresholds: Thresholds, now: datetime, task: int | None = None, in_ram: bool = False
) -> Explanation:
    """Read what a decision about a cube would rest on. task: the number of the one at hand, for its value. in_ram: its tensors are."""
    scope = cube.governance.scope
    with house.store.read() as view:
        kept = derived(view, now, scope)
        moves, log = agenda.moves(view, id=cube.id), view.audit(None, cube.id)
        together = uses.companions(view, cube.id)
        hot = view.heads([id for id, _ in together], now)
        tasks = uses.by_task(view, cube.id)
        speed = measured(view, house.speed, now, scope)
        held, prospects = _prospects(house, view, cube, kept, thresholds, now, speed)
    tokens, size = _weight(house, cube, kept)
    shares = [(hot[id].usage.heat, min(count / max(hot[id].usage.recalls, 1), 1.0)) for id, count in together if id in hot]
    worth = value(cube.usage, tokens, size, speed, thresholds.horizon_seconds, together=shares, tasks=tasks, task=task)
    why = _last(moves[-1]) if moves and moves[-1].at >= log[-1].at else _said(log[-1])
    dropped = blob_of(cube.payload) is not None and cube.state is State.ARCHIVED
    tier = "dropped" if dropped else "RAM" if in_ram else "disk"
    return Explanation(
        cube.id,
        cube.payload.kind,
        tier,
        cube.state,
        held,
        why,
        cube.usage,
        worth,
        tuple(pair for pair in together if pair[0] in hot),
        prospects,
    )


def _last(move: Moved) -> str:
    gain = f"; {move.realised:.3g} s saved since, {move.estimated:.3g} s expected" if move.realised is not None else ""
    return f"{move.kind} on {move.at.isoformat(timespec='minutes')}, {move.reason}{gain}"


def _said(entry: AuditEntry) -> str:
    detail = f", {entry.detail}" if entry.detail and entry.action not in ("merge", "import") else ""  # of these, the commitment
    return f"{entry.action} by {entry.actor} on {entry.at.isoformat(timespec='minutes')}{detail}"


def _weight(house: House, cube: MemCube, kept: list[Derived]) -> tuple[int, int]:
    """Tokens that it stands for, and bytes that are or would be held for it; as text, bytes like those of KV kept in its scope."""
    payload = cube.payload
    if isinstance(payload, Activation):
        return payload.tokens, payload.bytes
    if isinstance(payload, Parameter):
        return payload.tokens, payload.bytes
    tokens = house.count(line(cube)) + 1
    known = next((head.payload for head in kept if head.is_kv and head.payload.tokens), None)
    return tokens, tokens * (known.bytes // known.tokens) if known is not None else len(text_of(cube).encode())


def _prospects(
    house: House, view: Snapshot, cube: MemCube, kept: list[Derived], thresholds: Thresholds, now: datetime, speed: Speed
) -> tuple[tuple[CubeId, ...], tuple[Prospect, ...]]:
    if isinstance(cube.payload, Plaintext):
        return _of_text(house, view, cube, kept, thresholds, now, speed)
    frozen = _unfrozen([cube])
    if cube.state is not State.ACTIVE:
        return (), ()
    if isinstance(cube.payload, Parameter):
        each, when = standing(view, cube, now), policy.cold_at(cube, thresholds, now)
        stands = Condition("sources", each.problem or "as they were", "changed", "" if each.problem else "a source that changes")
        cold = Condition(
            "heat",
            f"{cube.usage.heat:.2f}",
            f"below {thresholds.module_heat:g}",
            "" if when <= now else _cools(thresholds.module_heat, when),
        )
        kinds = [Prospect("stale", (stands,))]
        return (), tuple([*kinds, Prospect("revert", (frozen, cold), when)] if policy.may_cool(cube) else kinds)
    mine = next((head for head in kept if head.cube.id == cube.id), None)
    if mine is None or not mine.is_head:
        return (), (Prospect("drop", (frozen,)),) if mine is not None and mine.problem is None else ()
    warmest = max((source.usage.heat for source in mine.sources), default=0.0)
    when = cools_at(warmest, thresholds.stay_heat, now)
    cools = Condition(
        "heat", f"{warmest:.2f}", f"below {thresholds.stay_heat:g}", "" if when <= now else _cools(thresholds.stay_heat, when)
    )
    changed = Condition("sources", mine.problem or "as they were", "changed", "" if mine.problem else "a source that changes")
    return (), (Prospect("drop", (changed,)), Prospect("drop", (frozen, cools), when))


def _unfrozen(cubes: Sequence[MemCube]) -> Condition:
    frozen = [cube.id for cube in cubes if cube.governance.frozen]
    return Condition("frozen", "yes" if frozen else "no", "no", f"freeze({frozen[0]!r}, False)" if frozen else "")


def _cools(threshold: float, when: datetime) -> str:
    return f"cools below {threshold:g} on {when.date().isoformat()}"


def _of_text(
    house: House, view: Snapshot, cube: MemCube, kept: list[Derived], thresholds: Thresholds, now: datetime, speed: Speed
) -> tuple[tuple[CubeId, ...], tuple[Prospect, ...]]:
    scope = cube.governance.scope
    standing_heads = [head for head in kept if head.is_head and head.problem is None]
    heads = [head.cube.id for head in standing_heads if cube.id in head.source_ids]
    frozen = _unfrozen([head.cube for head in standing_heads])
    number = view.scope_number(scope)
    standings = [standing(view, module, now) for module in view.modules(now, scope) if module.state is State.ACTIVE]
    knowing = [each.cube.id for each in standings if each.problem is None and cube.id in each.internalised]
    prospects = []
    if heads:
        when = cools_at(cube.usage.heat, thresholds.stay_heat, now)
        cools = Condition(
            "heat", f"{cube.usage.heat:.2f}", f"below {thresholds.stay_heat:g}", "" if when <= now else _cools(thresholds.stay_heat, when)
        )
        prospects.append(Prospect("drop", (frozen, cools), when))
    else:
        able = Condition(
            "model", "keeps KV" if house.reuses else "takes text", "keeps KV", "" if house.reuses else "an engine that keeps KV"
        )
        warm = view.hot_in(number, thresholds.stay_heat, now) if number is not None else []
        inside = {id for head in standing_heads for id in head.source_ids}
        everything = [cube, *(each for each in warm if each.id != cube.id)]
        outside, *rivals = candidates(house, view, everything, inside, thresholds.head_tokens)
        room = room_in_head(outside, rivals, thresholds, now)
        prospects.append(Prospect("prefill", (able, frozen, *head_conditions(outside, thresholds, now), room)))
    hot = view.hot_in(number, thresholds.parameter_heat, now) if number is not None else []
    others = learnable(house, view, hot, scope, now)
    ready = sum(all(each.met for each in module_conditions(other, thresholds, now)) for other in others if other.cube.id != cube.id)
    few = thresholds.parameter_facts - 1 - ready
    company = Condition(
        "others",
        f"{ready}",
        f"at least {thresholds.parameter_facts - 1}",
        f"{few} more {'memory' if few == 1 else 'memories'} like it" if few > 0 else "",
    )
    (mine,) = learnable(house, view, [cube], scope, now)
    chosen = choose_module([mine, *(other for other in others if other.cube.id != cube.id)], thresholds, now)
    before = untried([each.cube.id for each in chosen], *tried(view, scope, thresholds, now))
    conditions = module_conditions(mine, thresholds, now)
    learns = Condition(
        "model", "takes modules" if house.learns else "takes none", "takes modules", "" if house.learns else "an engine that takes modules"
    )
    full = mine not in chosen and all(condition.met for condition in conditions)
    place = Condition(
        "place", "none" if full else "one", "one", f"time: the {thresholds.parameter_most} hottest go into a module first" if full else ""
    )
    gain = [pays(chosen, thresholds, speed)[0]] if len(chosen) >= thresholds.parameter_facts else []
    prospects.append(Prospect("distil", (learns, *conditions, company, place, before, *gain)))
    if (expires := cube.governance.expires_at) is not None:
        past = Condition(
            "now", now.isoformat(timespec="seconds"), f"{expires.isoformat(timespec='seconds')}", "" if expires <= now else "time"
        )
        prospects.append(Prospect("expire", (past,), expires))
    prospects += _over_budget(view, cube, now)
    return (*heads, *knowing), tuple(prospects)


def _over_budget(view: Snapshot, cube: MemCube, now: datetime) -> list[Prospect]:
    above, found = ancestors(cube.governance.scope), []
    for scope, budget in records.budgets(view):
        if scope not in above:
            continue
        kept = cube.state is State.CONTESTED or cube.governance.priority >= 1
        may = Condition("kept", "yes" if kept else "no", "no", "contested memories and those of priority 1 are kept" if kept else "")
        weak = policy.too_much(held := records.fading(view, scope, now), budget)
        over = cube.id in {held.ids[place] for place in weak}
        has = f"strength {2.0 ** -held.halvings[held.ids.index(cube.id)]:.2g}" if cube.id in held.ids else "none"
        found.append(
            Prospect("archive", (may, Condition("budget", has, str(budget), "" if over else "stronger memories enough to fill it")))
        )
    return found

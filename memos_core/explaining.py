"""Why a memory is where it is, and what would move it: its numbers against the thresholds of every move that is open to it.

Source: MemOS §4.2, policy-aware scheduling; that every placement can be asked about is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from memos_core import policy
from memos_core.cube import (
    Activation,
    CubeId,
    MemCube,
    Parameter,
    Plaintext,
    Scope,
    SemanticType,
    State,
    Usage,
    ancestors,
    blob_of,
    text_of,
)
from memos_core.heads import Derived, derived
from memos_core.house import House
from memos_core.learning import learnable, measured, tried
from memos_core.lifespan import FARTHEST, cools_at, expired, later
from memos_core.modules import standing
from memos_core.placing import Standing
from memos_core.plan import line
from memos_core.policy import Budget, Candidate, MoveKind
from memos_core.readiness import (
    Condition,
    choose_head,
    choose_module,
    decide_head,
    head_conditions,
    module_conditions,
    pays,
    prefilling_pays,
    room_in_head,
    untried,
)
from memos_core.scheduler import Scheduler
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
    house: House, scheduler: Scheduler, cube: MemCube, now: datetime, task: int | None = None, in_ram: bool = False
) -> Explanation:
    """Read what a decision about a cube would rest on. task: the number of the one at hand, for its value. in_ram: its tensors are."""
    scope, thresholds = cube.governance.scope, scheduler.thresholds
    with house.store.read() as view:
        kept = derived(view, now, scope)
        moves, log = agenda.moves(view, id=cube.id), view.audit(None, cube.id)
        together = uses.companions(view, cube.id)
        hot = view.heads([id for id, _ in together], now)
        tasks = uses.by_task(view, cube.id)
        speed = measured(view, house.speed, now, scope)
        held, prospects = _Outlook(house, scheduler, view, cube, kept, now, speed).seen()
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


class _Outlook:
    """What a cube may see next, by what the scheduler would decide on."""

    def __init__(
        self, house: House, scheduler: Scheduler, view: Snapshot, cube: MemCube, kept: list[Derived], now: datetime, speed: Speed
    ) -> None:
        self._house, self._scheduler, self._view, self._cube, self._kept = house, scheduler, view, cube, kept
        self._now, self._speed, self._least = now, speed, scheduler.thresholds
        number = view.scope_number(cube.governance.scope)
        assert number is not None  # the cube is kept in it
        self._number = number
        self._decided = scheduler.asked(number, cube.governance.scope, now)

    def seen(self) -> tuple[tuple[CubeId, ...], tuple[Prospect, ...]]:
        """What stands for the cube in another form, and its prospects."""
        if isinstance(self._cube.payload, Plaintext):
            held, found = self._held_as(), [*self._by_use(), *self._by_time(), *self._by_budgets(), *self._erased()]
        elif self._cube.state is not State.ACTIVE:
            return (), ()
        else:
            held, found = (), self._of_module() if isinstance(self._cube.payload, Parameter) else self._of_derived()
        chosen = self._by_function(held)
        return held, (*(each for each in found if each.kind not in {move.kind for move in chosen}), *chosen)

    # ------------------------------------------------------------------ what a user's function decides
    @property
    def _left_to_use(self) -> list[Condition]:
        """That the user's function leaves the scope to the thresholds."""
        move = self._decided
        if move is None:
            return []
        return [Condition("policy", f"{move.kind}, {move.reason}", "None", f"another answer of the policy function than {move.kind}")]

    def _by_function(self, held: tuple[CubeId, ...]) -> list[Prospect]:
        """What the user's function moves it to."""
        move, scope = self._decided, self._cube.governance.scope
        if move is None or self._cube.id not in move.ids or (move.kind in ("prefill", "distil") and held):
            return []
        conditions = [Condition("policy", f"{move.kind}, {move.reason}", move.kind)]
        if move.kind == "distil":
            conditions.append(_model(self._house.learns, "takes modules"))
        if move.kind == "prefill":
            conditions.append(_model(self._house.reuses, "keeps KV"))
            stands = self._scheduler.standing(self._number, scope, self._now)
            conditions.append(_unfrozen([head.cube for head in stands.mine]))
            if self._house.reuses:
                chosen = [each for each in stands.candidates if each.cube.id in move.ids]
                conditions.append(self._scheduler.room_for(scope, stands, chosen, True, self._now))
        return [Prospect(move.kind, tuple(conditions))]

    # ------------------------------------------------------------------ what is computed from memories
    def _of_module(self) -> list[Prospect]:
        cube, least = self._cube, self._least.module_heat
        problem, when = standing(self._view, cube, self._now).problem, policy.cold_at(cube, self._least, self._now)
        cold = _cools(cube.usage.heat, least, when, self._now)
        found = [Prospect("stale", (_changed(problem),))]
        return [*found, Prospect("revert", (_unfrozen([cube]), cold, *self._left_to_use), when)] if policy.may_cool(cube) else found

    def _of_derived(self) -> list[Prospect]:
        mine = next((head for head in self._kept if head.cube.id == self._cube.id), None)
        if mine is None or not mine.source_ids:
            return []
        found = [Prospect("prefill" if self._made_again(mine) else "drop", (_changed(mine.problem),))]
        if not mine.is_kv or mine.problem is not None:
            return found
        frozen = _unfrozen([self._cube])
        if mine.is_head:
            found += self._of_head(mine, frozen)
        move, held = self._scheduler.out_of_room(self._cube.id, self._now)
        least = min(size for _, size in held.choices)
        kind = move.kind if move is not None else "reduce" if least < mine.payload.bytes else "drop"
        allowed = self._least.activation_bytes
        missing = "" if move is not None else f"KV of more heat per byte, enough to fill the {allowed:,} bytes of activation_bytes"
        return [*found, Prospect(kind, (frozen, Condition("bytes", f"{mine.payload.bytes:,}", f"no room within {allowed:,}", missing)))]

    def _made_again(self, mine: Derived) -> bool:
        """Whether KV is computed anew when its source changes, as that of a template is where there is room."""
        usable = [source for source in mine.sources if source.state is State.ACTIVE and not expired(source, self._now)]
        if not mine.is_template or not usable or not self._house.reuses:
            return False
        return mine.problem is None or self._scheduler.precision_again(mine, usable, self._now) is not None

    def _of_head(self, mine: Derived, frozen: Condition) -> list[Prospect]:
        """What use does to the KV of a scope's head, where the scope's next turn can take it."""
        now, least = self._now, self._least.stay_heat
        stands = self._scheduler.standing(self._number, self._cube.governance.scope, now)
        if all(head.cube.id != self._cube.id for head in stands.mine):
            return []
        warmest = max((source.usage.heat for source in mine.sources), default=0.0)
        when = cools_at(warmest, least, now)
        cools = _cools(warmest, least, when, now)
        move = decide_head(stands.candidates, stands.current, self._least, now)
        missing = "" if move is not None and move.kind == "prefill" else "other memories that deserve the head"
        others = Condition("memories", f"{len(mine.sources)} that deserve it", "others", missing)
        return [Prospect("drop", (frozen, cools, *self._left_to_use), when), Prospect("drop", (frozen, others, *self._left_to_use))]

    # ------------------------------------------------------------------ text
    def _held_as(self) -> tuple[CubeId, ...]:
        cube = self._cube
        heads = [head.cube.id for head in self._kept if head.is_kv and head.problem is None and cube.id in head.source_ids]
        modules = self._view.modules(self._now, cube.governance.scope)
        standings = [standing(self._view, module, self._now) for module in modules if module.state is State.ACTIVE]
        return (*heads, *(each.cube.id for each in standings if each.problem is None and cube.id in each.internalised))

    def _by_use(self) -> list[Prospect]:
        if self._cube.identifiers.semantic_type is SemanticType.TEMPLATE:  # turns do not recall it
            kept = any(head.is_template and head.problem is None and self._cube.id in head.source_ids for head in self._kept)
            asked = Condition("kind", "template", "asked for", f"promote({self._cube.id!r}, to='activation')")
            return [] if kept else [Prospect("prefill", (_model(self._house.reuses, "keeps KV"), asked))]
        stands = self._scheduler.standing(self._number, self._cube.governance.scope, self._now, also=self._cube)
        (mine,) = (each for each in stands.candidates if each.cube.id == self._cube.id)
        head = self._leaves_head(stands) if mine.in_head else self._enters_head(stands, mine)
        return [head, self._enters_module()]

    def _leaves_head(self, stands: Standing) -> Prospect:
        heat, least, now = self._cube.usage.heat, self._least.stay_heat, self._now
        when = cools_at(heat, least, now)
        cools = _cools(heat, least, when, now)
        return Prospect("drop", (_unfrozen([head.cube for head in stands.mine]), cools, *self._left_to_use), when)

    def _enters_head(self, stands: Standing, mine: Candidate) -> Prospect:
        least, now = self._least, self._now
        rivals = [each for each in stands.candidates if each is not mine]
        chosen = choose_head([mine, *rivals], least, now)
        conditions = [_unfrozen([head.cube for head in stands.mine]), *head_conditions(mine, least, now)]
        conditions.append(room_in_head(mine, rivals, least, now))
        deserved = mine in chosen
        if deserved:
            conditions.append(prefilling_pays(chosen, least)[0])
        if self._house.reuses:
            wanted = chosen if deserved else [mine]
            conditions.append(self._scheduler.room_for(self._cube.governance.scope, stands, wanted, deserved, now))
        return Prospect("prefill", (_model(self._house.reuses, "keeps KV"), *conditions, *self._left_to_use))

    def _enters_module(self) -> Prospect:
        house, view, cube, least, now = self._house, self._view, self._cube, self._least, self._now
        scope = cube.governance.scope
        others = learnable(house, view, view.hot_in(self._number, least.parameter_heat, now), scope, now)
        others = [other for other in others if other.cube.id != cube.id]
        ready = sum(all(each.met for each in module_conditions(other, least, now)) for other in others)
        few = least.parameter_facts - 1 - ready
        missing = f"{few} more {'memory' if few == 1 else 'memories'} like it" if few > 0 else ""
        company = Condition("others", f"{ready}", f"at least {least.parameter_facts - 1}", missing)
        (mine,) = learnable(house, view, [cube], scope, now)
        chosen = choose_module([mine, *others], least, now)
        before = untried([each.cube.id for each in chosen], *tried(view, scope, least, now))
        conditions = module_conditions(mine, least, now)
        full = mine not in chosen and all(condition.met for condition in conditions)
        missing = f"time: the {least.parameter_most} hottest go into a module first" if full else ""
        place = Condition("place", "none" if full else "one", "one", missing)
        gain = [pays(chosen, least, self._speed)[0]] if len(chosen) >= least.parameter_facts else []
        able = _model(house.learns, "takes modules")
        return Prospect("distil", (able, *conditions, company, place, before, *gain, *self._left_to_use))

    def _by_time(self) -> list[Prospect]:
        expires, now = self._cube.governance.expires_at, self._now
        if expires is None or self._cube.state in (State.ARCHIVED, State.REJECTED):
            return []
        has, needs = now.isoformat(timespec="seconds"), expires.isoformat(timespec="seconds")
        return [Prospect("expire", (Condition("now", has, needs, "" if expires <= now else "time"),), expires)]

    def _budgets(self) -> list[tuple[Scope, Budget]]:
        above = ancestors(self._cube.governance.scope)
        return [(scope, budget) for scope, budget in records.budgets(self._view) if scope in above]

    def _by_budgets(self) -> list[Prospect]:
        """Archived for a budget: for want of room, or by fading away."""
        cube, now, found = self._cube, self._now, list[Prospect]()
        stays = cube.state is State.CONTESTED or cube.governance.priority >= 1
        may = Condition("kept", "yes" if stays else "no", "no", "contested memories and those of priority 1 are kept" if stays else "")
        for scope, budget in self._budgets():
            held = records.fading(self._view, scope, now)
            if cube.id not in held.ids:
                continue
            place = held.ids.index(cube.id)
            has = f"strength {2.0 ** -held.halvings[place]:.2g}"
            if budget.facts is not None or budget.bytes is not None:
                room = replace(budget, strength=None, erase_archived_after=None)
                missing = "" if place in policy.too_much(held, room) else "stronger memories enough to fill it"
                found.append(Prospect("archive", (may, Condition("budget", has, str(room), missing))))
            if budget.strength is not None:
                seconds = policy.too_weak_in(held, place, budget.strength)
                when = None if seconds is None else now + timedelta(seconds=min(seconds, FARTHEST))
                missing = "" if when == now else f"fades below {budget.strength:g} on {when.date()}" if when is not None else "to fade"
                found.append(Prospect("archive", (may, Condition("budget", has, f"below {budget.strength:g}", missing)), when))
        return found

    def _erased(self) -> list[Prospect]:
        """What the scheduler has archived is erased when a budget says so."""
        found, at = [], self._cube.identifiers.updated_at
        for scope, budget in self._budgets() if self._cube.state is State.ARCHIVED else ():
            after = budget.erase_archived_after
            if after is None or self._cube.id not in records.archived_before(self._view, scope, at):
                continue
            when = later(at, after.total_seconds())
            missing = "" if when <= self._now else "time, or restore() before"
            condition = Condition("archived", at.isoformat(timespec="seconds"), f"{after.total_seconds():g} s ago", missing)
            found.append(Prospect("erase", (condition,), when))
        return found


def _model(able: bool, what: str) -> Condition:
    """That the engine does what a form needs."""
    return Condition("model", what if able else "takes text alone", what, "" if able else f"an engine that {what}")


def _changed(problem: str | None) -> Condition:
    return Condition("sources", problem or "as they were", "changed", "" if problem else "a source that changes")


def _unfrozen(cubes: Sequence[MemCube]) -> Condition:
    frozen = [cube.id for cube in cubes if cube.governance.frozen]
    return Condition("frozen", "yes" if frozen else "no", "no", f"freeze({frozen[0]!r}, False)" if frozen else "")


def _cools(heat: float, least: float, when: datetime, now: datetime) -> Condition:
    """That it is colder than that, as it will be at a time if nobody uses it."""
    missing = "" if when <= now else f"cools below {least:g} on {when.date().isoformat()}"
    return Condition("heat", f"{heat:.2f}", f"below {least:g}", missing)

"""Scheduler.tick: read what is due, let the policy decide, transform, commit. The only caller of the policy.

Source: MemOS §4.2, memory scheduling.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from memos_core import policy
from memos_core.changes import Add, Change, Erase, Revise
from memos_core.cube import LOCAL_OWNER, Activation, ActivationForm, Actor, CubeId, MemCube, Precision, Scope, SemanticType, State
from memos_core.errors import NotFound, VersionConflict
from memos_core.forgetting import forget
from memos_core.heads import Derived, derived, effective_system
from memos_core.house import House
from memos_core.learning import learn_again, retire_cold, retire_outdated
from memos_core.lifespan import check_transition
from memos_core.plan import line
from memos_core.policy import Budget, Candidate, Held, Move, Thresholds
from memos_core.proposing import accept, propose
from memos_core.store import records
from memos_core.tending import tend
from memos_core.transform import activation_cube, captured, kv_sizes, prefill, steering

LONGEST_NAME = 80
"""Characters of a steering vector's name."""
MOST_ATTEMPTS = 5
"""How often a decision is made anew when others change what it was about."""


class Scheduler:
    """Moves memory between forms by use. One tick at a time."""

    def __init__(self, house: House, thresholds: Thresholds) -> None:
        self._house = house
        self._thresholds = thresholds
        self._lock = threading.Lock()

    def tick(self, now: datetime) -> list[Move]:
        """Expire, archive, erase, drop, prefill, distil anew: what the policy decides, each move committed with its reason in the audit log."""
        with self._lock:
            moves = self._expire(now) + self._keep_to_budgets(now) + self._drop(now) + self._move_heads(now)
            moves += self._drop(now)  # a new head may have put the directory over its byte budget
            moves += retire_outdated(self._house, now)
            moves += retire_cold(self._house, self._thresholds, now)
            moves += learn_again(self._house, now)
            moves += self._propose(now)
            moves += self._tend(now)
            self._house.store.settle()
            self._house.store.collect_orphans(now)
            return moves

    def _propose(self, now: datetime) -> list[Move]:
        """What is said again and again is proposed as a template or an instruction; the policy may accept it at once."""
        moves = propose(self._house, self._thresholds.propose_sessions, now)
        if self._thresholds.accept_proposals:
            with self._house.store.read() as view:
                cubes = view.heads([id for move in moves for id in move.ids], now)
            for cube in cubes.values():
                accept(self._house, self, cube, LOCAL_OWNER, now)
        return moves

    def _tend(self, now: datetime) -> list[Move]:
        """Upkeep of the hierarchy: concepts split and merged, labels read anew, scope by scope where something has changed."""
        with self._house.store.read() as view:
            scopes = view.untended()
        return [move for number, scope in scopes if (move := tend(self._house, number, scope, now)) is not None]

    def _expire(self, now: datetime) -> list[Move]:
        with self._house.store.read() as view:
            due = view.expired(now)
        moves = policy.decide_expiry(due, now)
        reasons = {id: move.reason for move in moves for id in move.ids}
        self._archive([cube for cube in due if cube.id in reasons], now, "expire", reasons)
        return moves

    def _keep_to_budgets(self, now: datetime) -> list[Move]:
        """Erase what has been archived for long enough, then archive what is too much: the deepest scopes first."""
        moves = []
        with self._house.store.read() as view:
            budgets = records.budgets(view)
        for scope, budget in budgets:
            for act in (self._erase_archived, self._archive_weakest):
                move = self._until_undisturbed(act, scope, budget, now)
                if move is not None:
                    moves.append(move)
        return moves

    def _until_undisturbed(
        self, act: Callable[[Scope, Budget, datetime], Move | None], scope: Scope, budget: Budget, now: datetime
    ) -> Move | None:
        """Decide again when somebody has changed or erased one of the memories meanwhile."""
        for _ in range(MOST_ATTEMPTS - 1):
            try:
                return act(scope, budget, now)
            except (NotFound, VersionConflict):
                continue
        return act(scope, budget, now)

    def _archive_weakest(self, scope: Scope, budget: Budget, now: datetime) -> Move | None:
        with self._house.store.read() as view:
            held = records.fading(view, scope, now)
            weak = policy.too_much(held, budget)
            reasons = {held.ids[place]: f"strength {2.0 ** -held.halvings[place]:.2g}, over the budget: {budget}" for place in weak}
            cubes = view.heads(list(reasons), now)
        if not weak:
            return None
        self._archive([cubes[id] for id in reasons], now, "archive", reasons)
        strongest = 2.0 ** -held.halvings[weak[-1]]
        reason = f"the {len(weak)} weakest of {len(held.ids)} memories (strength up to {strongest:.2g}) are over the budget of {budget}"
        return Move("archive", tuple(reasons), reason)

    def _erase_archived(self, scope: Scope, budget: Budget, now: datetime) -> Move | None:
        if budget.erase_archived_after is None:
            return None
        with self._house.store.read() as view:
            due = records.archived_before(view, scope, now - budget.erase_archived_after)
            heads = view.heads(due, now)
        if not due:
            return None
        reason = f"archived for {budget.erase_archived_after} or longer"
        forget(self._house, Erase(tuple(due), LOCAL_OWNER, now, reason, tuple(heads[id].version for id in due)))
        return Move("erase", tuple(due), reason)

    def _drop(self, now: datetime) -> list[Move]:
        with self._house.store.read() as view:
            kept = derived(view, now)
        moves = policy.decide_room([self._held(head) for head in kept], self._thresholds)
        for move in moves:
            concerned = [head for head in kept if head.cube.id in move.ids]
            if move.to is None:
                self.drop(concerned, now, move.reason)
            for head in concerned if move.to is not None else ():
                least, system = head.cube.governance.least_precision, head.payload.system
                scope = head.cube.governance.scope
                self.prefill(head.sources, scope, system, now, move.reason, [head], move.to, least_precision=least)
        return moves

    def drop(self, heads: Sequence[Derived], now: datetime, reason: str) -> None:
        """Give up what was computed: the cube is archived, its file removed, a copy in RAM let go. The text it came from stays."""
        self._archive([head.cube for head in heads], now, "drop", {head.cube.id: reason for head in heads})
        self._house.store.settle()
        if self._house.reuses:
            for key in {head.payload.prefix_key for head in heads if head.is_kv}:
                self._house.engine.detach(key)

    def _archive(self, cubes: Sequence[MemCube], now: datetime, action: str, reasons: Mapping[CubeId, str]) -> None:
        changes: list[Change] = []
        for cube in cubes:
            check_transition(cube.state, State.ARCHIVED)
            identifiers = cube.identifiers.model_copy(update={"updated_at": now})
            archived = cube.model_copy(update={"state": State.ARCHIVED, "version": cube.version + 1, "identifiers": identifiers})
            changes.append(Revise(archived, LOCAL_OWNER, action, detail=reasons[cube.id]))
        if changes:
            self._house.store.commit(changes)

    def _move_heads(self, now: datetime) -> list[Move]:
        """Bring each scope's head up to its use, as far as the byte budget allows: decided for all scopes together."""
        if not self._house.reuses:
            return []
        with self._house.store.read() as view:
            kept = derived(view, now)
            scopes = [(scope, view.used_in(scope, now), view.last_system(scope)) for scope in view.used_scopes()]
        moves, wanted = [], []
        for scope, used, system in scopes:
            mine = [head for head in kept if head.is_head and head.cube.governance.scope == scope and self._is_for(head, system)]
            if any(head.cube.governance.frozen for head in mine):
                continue
            current = mine[-1].source_ids if mine else None
            candidates = [Candidate(cube, self._house.count(line(cube)) + 1, current is not None and cube.id in current) for cube in used]
            move = policy.decide_head(candidates, current, self._thresholds, now)
            if move is not None and move.kind == "drop":
                self.drop(mine, now, move.reason)
                kept = [head for head in kept if head not in mine]
                moves.append(move)
            elif move is not None:
                wanted.append(_Wanted(move, scope, system, tuple(cube for cube in used if cube.id in move.ids), mine))
        for each in self._admitted(wanted, kept, now):
            least = self._thresholds.least_precision
            self.prefill(each.sources, each.scope, each.system, now, each.move.reason, each.replaces, each.precision, least_precision=least)
            moves.append(each.move)
        return moves

    def _admitted(self, wanted: Sequence[_Wanted], kept: Sequence[Derived], now: datetime) -> list[_Wanted]:
        """The wanted heads that fit beside what stays. What one that does not fit would have replaced is dropped: it is out of date."""
        leaving = {head.cube.id for each in wanted for head in each.replaces}
        rivals = [self._held(head) for head in kept if head.cube.id not in leaving]
        new = {
            f"~{position}": (each, kv_sizes(self._house.engine, each.sources, each.scope, each.system, self._thresholds.least_precision))
            for position, each in enumerate(wanted)
        }  # "~" sorts behind the id of any cube: what is there wins a tie
        rivals += [Held(id, sizes[0][1], _worth(each.sources), sizes=sizes, precision=sizes[0][0]) for id, (each, sizes) in new.items()]
        decided = {id: move for move in policy.decide_room(rivals, self._thresholds) for id in move.ids if id in new}
        refused = {id: move.reason for id, move in decided.items() if move.to is None}
        for id, reason in refused.items():
            self.drop(new[id][0].replaces, now, f"the memories that deserve the head have changed, and for the new head {reason}")
        return [replace(each, precision=decided[id].to if id in decided else None) for id, (each, _) in new.items() if id not in refused]

    def prefill(
        self,
        sources: Sequence[MemCube],
        scope: Scope,
        system: str | None,
        now: datetime,
        reason: str,
        replaces: Sequence[Derived] = (),
        precision: Precision | None = None,
        frozen: bool = False,
        least_precision: Precision | None = None,
    ) -> MemCube:
        """Compute and keep the KV of a head, or of a template; what it replaces is dropped after it is safely there. Raises EngineError."""
        payload, data = prefill(self._house.engine, sources, scope, system, precision)
        (kind,) = {cube.identifiers.semantic_type for cube in sources} & {SemanticType.TEMPLATE} or {SemanticType.FACT}
        traits = {"frozen": frozen, "least_precision": least_precision, "semantic_type": kind}
        cube = self._keep(payload, data, scope, now, sources, LOCAL_OWNER, "prefilled from", reason, traits)
        self.drop(replaces, now, f"replaced by {cube.id}")
        return cube

    def capture(
        self, engine: Any, source: MemCube, form: ActivationForm, layers: Any, last: int | None, who: Actor, now: datetime
    ) -> MemCube:
        """Keep hidden states or attention of a memory. Raises InvalidInput or EngineError."""
        payload, data = captured(engine, source, form, layers, last)
        return self._keep(payload, data, source.governance.scope, now, [source], who, "captured from", f"{form} of {payload.tokens} tokens")

    def steering(
        self, engine: Any, pairs: tuple[Any, Any], how: tuple[Any, float, Any], name: str, scope: Scope, who: Actor, now: datetime,
        sources: Sequence[MemCube] = (),
    ) -> MemCube:  # fmt: skip
        """Keep a steering vector. pairs: positive, negative. how: layers, strength, texts. Raises InvalidInput."""
        layers, strength, texts = how
        payload, data = steering(engine, *pairs, layers, strength, texts)
        traits = {"semantic_type": SemanticType.SKILL, "path": (name[:LONGEST_NAME],)}
        return self._keep(payload, data, scope, now, sources, who, "steering from", f"from {len(pairs[0])} pairs", traits)

    def _keep(
        self, payload: Activation, data: bytes, scope: Scope, now: datetime, sources: Sequence[MemCube], who: Actor, relation: str,
        reason: str, traits: Mapping[str, Any] = MappingProxyType({}),
    ) -> MemCube:  # fmt: skip
        """The file first, then the cube that refers to it."""
        blob = self._house.store.blobs.put(data)
        cube = activation_cube(payload.model_copy(update={"blob": blob}), scope, now, owner=who, **traits)
        parents = tuple((source.id, source.version) for source in sources)
        self._house.store.commit([Add(cube, who, parents=parents, relation=relation, detail=reason)])
        return cube

    def freeze(self, cubes: Sequence[MemCube], frozen: bool, actor: Actor, now: datetime) -> None:
        """Keep KV whatever the budget, or allow giving it up again."""
        changes: list[Change] = []
        for cube in cubes:
            if cube.governance.frozen != frozen:
                governance = cube.governance.model_copy(update={"frozen": frozen})
                identifiers = cube.identifiers.model_copy(update={"updated_at": now})
                changed = cube.model_copy(update={"governance": governance, "identifiers": identifiers, "version": cube.version + 1})
                changes.append(Revise(changed, actor, "freeze" if frozen else "unfreeze"))
        if changes:
            self._house.store.commit(changes)

    def _held(self, head: Derived) -> Held:
        id, payload, governance = head.cube.id, head.payload, head.cube.governance
        if not head.is_kv:  # asked for one by one, and not made again by itself
            return Held(id, 0, 0.0, head.problem, frozen=True)
        sizes: tuple[tuple[Precision, int], ...] = ()
        if governance.least_precision is not None and self._house.reuses and payload.model == self._house.engine.identity.key:
            sizes = self._house.engine.sizes(payload.tokens, governance.least_precision)
        return Held(id, payload.bytes, _worth(head.sources), head.problem, governance.frozen, sizes, payload.precision)

    def _is_for(self, head: Derived, system: str | None) -> bool:
        fits = head.payload.model == self._house.engine.identity.key and head.payload.system == effective_system(system)
        return head.problem is None and fits


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A head that a scope deserves, and what it would replace."""

    move: Move
    scope: Scope
    system: str | None
    sources: tuple[MemCube, ...]
    replaces: Sequence[Derived]
    precision: Precision | None = None


def _worth(sources: Sequence[MemCube]) -> float:
    """What a head is worth: the heat of the memories in it, weighted by their priority."""
    return sum(cube.usage.heat * (1 + cube.governance.priority) for cube in sources)

"""Scheduler.tick: read what is due, let the policy decide, transform, commit. The only caller of the policy.

Source: MemOS §4.2, memory scheduling.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

from memos_core import budgeting, learning, policy
from memos_core.changes import Change, Record
from memos_core.cube import LOCAL_OWNER, Activation, MemCube, Plaintext, Precision, Scope, State
from memos_core.errors import NotFound, VersionConflict
from memos_core.heads import Derived, derived, effective_system, find_head
from memos_core.holding import Holding, archived
from memos_core.house import House
from memos_core.lifespan import cools_at, expired, later
from memos_core.plan import line
from memos_core.policies import Policy, View, checked
from memos_core.policy import Candidate, Held, Move, Thresholds
from memos_core.proposing import accept, propose
from memos_core.readiness import decide_head
from memos_core.reviewing import BUDGET, EVERYTHING, FORMS, HABITS, ORPHANS, UPKEEP, Review
from memos_core.store import uses
from memos_core.tending import tend
from memos_core.transform import kv_sizes, read_ahead

AT_ONCE = 64
"""Scopes whose heads are decided together: they compete for the same bytes."""
FILES_EVERY = timedelta(hours=1)
"""How often files that nothing refers to are looked for."""


class Scheduler(Holding):
    """Moves memory between forms by use. One tick at a time."""

    def __init__(self, house: House, thresholds: Thresholds, chooser: Policy | None = None) -> None:
        super().__init__(house)
        self.thresholds = thresholds
        self._chooser = chooser
        self._ahead: set[str] = set()  # files of KV that this process has made, or decided whether to read ahead
        self._lock = threading.Lock()

    def tick(self, now: datetime, go_on: Callable[[], bool] = lambda: True) -> list[Move]:
        """Expire, archive, erase, drop, prefill, distil: what the policy decides, each move committed with its reason and its record.

        go_on: asked before each move and while a module is trained; False ends the tick, and the next one goes on from there.
        """
        with self._lock:
            review = Review(self._house, now, self._by())
            try:
                review.refresh()
                moves = budgeting.expire(self._house, now, go_on)
                review.refresh()
                moves += self._keep_to_budgets(review, now, go_on)
                review.refresh()
                moves += self._forms(review, now, go_on)
                moves += self._habits(review, now, go_on)
                moves += self._upkeep(review, now, go_on)
                self._prefetch_live(now, go_on)
                self._house.store.settle()
                if review.files_due() and go_on():
                    self._house.store.collect_orphans(now)
                    review.done(ORPHANS, EVERYTHING, now + FILES_EVERY)
            finally:
                review.close()
            return moves

    def _by(self) -> bytes:
        """Stands for what decides: thresholds, function and model."""
        model = self._house.engine.identity.key if self._house.reuses else ""
        named = f"{getattr(self._chooser, '__module__', '')}.{getattr(self._chooser, '__qualname__', '')}"
        return sha256(repr((self.thresholds, named, model)).encode()).hexdigest().encode()

    # ------------------------------------------------------------------ what is not about forms
    def _keep_to_budgets(self, review: Review, now: datetime, go_on: Callable[[], bool]) -> list[Move]:
        moves = []
        for number, scope, budget in review.budgets():
            if not go_on():
                break
            moves += budgeting.keep_to_budget(self._house, scope, budget, now)
            review.done(BUDGET, number, budgeting.next_time(self._house, scope, budget, now))
        return moves

    def _habits(self, review: Review, now: datetime, go_on: Callable[[], bool]) -> list[Move]:
        """What is said again and again is proposed as a template or an instruction; the policy may accept it at once."""
        moves = []
        for number, scope in review.due(HABITS):
            if not go_on():
                break
            found = propose(self._house, number, scope, self.thresholds.propose_sessions, now)
            if self.thresholds.accept_proposals and found:
                with self._house.store.read() as view:
                    cubes = view.heads([id for move in found for id in move.ids], now)
                for cube in cubes.values():
                    accept(self._house, self, cube, LOCAL_OWNER, now)
            moves += found
            review.done(HABITS, number, None)
        return moves

    def _upkeep(self, review: Review, now: datetime, go_on: Callable[[], bool]) -> list[Move]:
        """Upkeep of the hierarchy: concepts split and merged, labels read anew, scope by scope where something has changed."""
        moves = []
        for number, scope in review.due(UPKEEP):
            if not go_on():
                break
            with self._house.store.read() as view:
                wanted = view.untended(number)
            if wanted and (move := tend(self._house, number, scope, now)) is not None:
                moves.append(move)
            review.done(UPKEEP, number, None)
        return moves

    # ------------------------------------------------------------------ forms
    def _forms(self, review: Review, now: datetime, go_on: Callable[[], bool]) -> list[Move]:
        """Bring what is computed from memories up to their use, for the scopes that are due."""
        due = review.due(FORMS)
        moves = self._make_room(now) if due and go_on() else []
        for start in range(0, len(due), AT_ONCE):
            if not go_on():
                break
            several = due[start : start + AT_ONCE]
            found, kept = self._choose(several, now, go_on)
            made, rest = self._move_heads([each for each in several if each[1] not in kept], now, go_on)
            if any(move.kind == "prefill" for move in [*found, *made]):
                made += self._make_room(now)  # a new head may have put the directory over its byte budget
            moves += found + made
            scopes = [scope for _, scope in several if scope not in rest]
            moves += learning.retire_outdated(self._house, scopes, now)
            moves += learning.retire_cold(self._house, self.thresholds, [scope for scope in scopes if scope not in kept], now)
            for number, scope in several:
                if scope in scopes and scope not in kept:
                    learning.queue_hot(self._house, number, scope, self.thresholds, now)
            again, unfinished = learning.learn_again(self._house, now, go_on, scopes)
            moves += again
            for number, scope in several:
                if scope in scopes and scope not in unfinished:
                    review.done(FORMS, number, self._next(number, scope, now))
        if not due:  # what was queued under another model
            moves += learning.learn_again(self._house, now, go_on, ())[0]
        return moves

    def _next(self, number: int, scope: Scope, now: datetime) -> datetime | None:
        """When time alone makes a decision about a scope's forms due: a memory cools, or has settled. Order by heat does not change by itself."""
        least, found = self.thresholds, []
        with self._house.store.read() as view:
            inside = {id for head in derived(view, now, scope) if head.is_head for id in head.source_ids}
            used = view.hot_in(number, self._least_heat, now)
            modules, since = view.modules(now, scope), view.text_since(used)
        waits = (least.settle_seconds, least.parameter_settle_seconds) if least.distil else (least.settle_seconds,)
        for cube in used:
            if cube.id in inside:
                found.append(cools_at(cube.usage.heat, least.stay_heat, now))
            found += [later(since[cube.id], seconds) for seconds in waits]
        found += [policy.cold_at(module, least, now) for module in modules if policy.may_cool(module)]
        return min((at for at in found if at > now), default=None)

    @property
    def _least_heat(self) -> float:
        return min(self.thresholds.stay_heat, self.thresholds.parameter_heat) if self.thresholds.distil else self.thresholds.stay_heat

    def _choose(self, several: Sequence[tuple[int, Scope]], now: datetime, go_on: Callable[[], bool]) -> tuple[list[Move], set[Scope]]:
        """Ask the user's function about each scope; what it moves or keeps, the thresholds do not decide."""
        moves: list[Move] = []
        decided: set[Scope] = set()
        for number, scope in several if self._chooser is not None else ():
            assert self._chooser is not None
            standing = self._standing(number, scope, now)
            with self._house.store.read() as view:
                held = tuple(head.cube for head in derived(view, now, scope))
                modules = tuple(cube for cube in view.modules(now, scope) if cube.state is State.ACTIVE)
            seen = View(scope, tuple(standing.candidates), held, modules, self._house.speed)
            move = self._chooser(seen, self.thresholds, now)
            if move is None:
                continue
            decided.add(scope)
            checked(move, seen, self.thresholds, now)
            if move.kind != "keep" and go_on() and self._carry_out(move, scope, standing, modules, now):
                moves.append(move)
        return moves, decided

    def _carry_out(self, move: Move, scope: Scope, standing: _Standing, modules: Sequence[MemCube], now: datetime) -> bool:
        """Make a user's move. False when that is so already, or cannot be with this model."""
        sources = tuple(each.cube for each in standing.candidates if each.cube.id in move.ids)
        record: list[Change] = [Record(move, scope, now)]
        if move.kind == "prefill":
            if not self._house.reuses or standing.current == frozenset(move.ids):
                return False
            wanted = _Wanted(move, scope, standing.system, sources, standing.mine)
            with self._house.store.read() as view:
                kept = derived(view, now)
            return any(self._prefill(each, now) for each in self._admitted([wanted], kept, now))
        if move.kind == "drop":
            with self._house.store.read() as view:
                self.drop([head for head in derived(view, now, scope) if head.cube.id in move.ids], now, move.reason, record)
        elif move.kind == "archive":
            self._house.store.commit([*(archived(cube, "archive", now, move.reason) for cube in sources), *record])
        elif move.kind == "revert":
            learning.take_off([cube for cube in modules if cube.id in move.ids], self._house, now, [move])
        else:
            learning.queue(self._house, scope, move, now)
            return False  # a move when it has been learned
        return True

    # ------------------------------------------------------------------ what the next turn will reuse
    def _prefetch_live(self, now: datetime, go_on: Callable[[], bool]) -> None:
        """Read the KV of scopes that have just had a turn, before they have the next."""
        if not self._house.reuses:
            return
        with self._house.store.read() as view:
            live = uses.live(view, now - timedelta(seconds=self.thresholds.live_seconds))
        for scope in dict.fromkeys(scope for scope, blob in live if blob not in self._ahead):
            if not go_on():
                break
            self.prefetch(scope, now)

    def prefetch(self, scope: Scope, now: datetime) -> int:
        """Bring the KV of a scope's head from its file into RAM, where that is quicker than computing it. Bytes read."""
        engine = self._house.engine
        with self._house.store.read() as view:
            kept, system = derived(view, now, scope), view.last_system(scope)
        _, chosen = find_head(kept, engine if self._house.reuses else None, system)
        if chosen is None or chosen.payload.blob in self._ahead:
            return 0
        payload = chosen.payload
        self._ahead |= {head.payload.blob for head in kept if head.is_kv}
        if not engine.rates.worth_reading(payload.tokens, payload.bytes):
            return 0
        path = self._house.store.blobs.path(payload.blob)
        if engine.attach(path, scope=scope, prefix_key=payload.prefix_key) is not None:
            return 0
        read_ahead(engine, chosen.sources, scope, system)
        return payload.bytes

    def _make_room(self, now: datetime) -> list[Move]:
        with self._house.store.read() as view:
            kept = derived(view, now)
        moves = []
        for move in policy.decide_room([self._held(head) for head in kept], self.thresholds):
            (head,) = (head for head in kept if head.cube.id in move.ids)
            scope, governance, system = head.cube.governance.scope, head.cube.governance, head.payload.system
            if move.to is not None:
                least = governance.least_precision
                self.prefill(head.sources, scope, system, now, move.reason, [head], move.to, least_precision=least, move=move)
            elif (again := self._made_again(head, now)) is not None:
                move = again
            else:
                self.drop([head], now, move.reason, [Record(move, scope, now)])
            moves.append(move)
        return moves

    def _made_again(self, head: Derived, now: datetime) -> Move | None:
        """Templates are kept for as long as they are in use: KV of one whose text has changed is made of the text as it is now."""
        usable = [source for source in head.sources if source.state is State.ACTIVE and not expired(source, now)]
        if head.problem is None or not head.is_template or not usable or not self._house.reuses:
            return None
        governance, ids = head.cube.governance, tuple(source.id for source in usable)
        move = Move("prefill", ids, f"{head.problem}: its KV is made again")
        precision, frozen, least = head.payload.precision, governance.frozen, governance.least_precision
        self.prefill(usable, governance.scope, None, now, move.reason, [head], precision, frozen, least, move)
        return move

    def _standing(self, number: int, scope: Scope, now: datetime) -> _Standing:
        """What a scope's head rests on: its hot memories and those that are in it."""
        with self._house.store.read() as view:
            kept = [head for head in derived(view, now, scope) if head.is_head]
            used, system = view.hot_in(number, self.thresholds.stay_heat, now), view.last_system(scope)
        mine = [head for head in kept if self._is_for(head, system)] if self._house.reuses else []
        there = {cube.id for cube in used}
        used += [cube for cube in (mine[-1].sources if mine else ()) if cube.id not in there and isinstance(cube.payload, Plaintext)]
        current = mine[-1].source_ids if mine else None
        with self._house.store.read() as view:
            since = view.text_since(used)
        candidates = [
            Candidate(cube, self._house.count(line(cube)) + 1, current is not None and cube.id in current, since[cube.id]) for cube in used
        ]
        return _Standing(candidates, current, mine, system)

    def _move_heads(self, scopes: Sequence[tuple[int, Scope]], now: datetime, go_on: Callable[[], bool]) -> tuple[list[Move], set[Scope]]:
        """Bring each scope's head up to its use, as far as the byte budget allows. Also the scopes for which there was no time."""
        if not self._house.reuses:
            return [], set()
        moves, wanted = [], []
        for number, scope in scopes:
            standing = self._standing(number, scope, now)
            if any(head.cube.governance.frozen for head in standing.mine):
                continue
            move = decide_head(standing.candidates, standing.current, self.thresholds, now, self._house.speed)
            if move is not None and move.kind == "drop":
                self.drop(standing.mine, now, move.reason, [Record(move, scope, now)])
                moves.append(move)
            elif move is not None:
                sources = tuple(each.cube for each in standing.candidates if each.cube.id in move.ids)
                wanted.append(_Wanted(move, scope, standing.system, sources, standing.mine))
        with self._house.store.read() as view:
            kept = derived(view, now)
        rest = {each.scope for each in wanted}
        admitted = self._admitted(wanted, kept, now) if wanted else []
        rest &= {each.scope for each in admitted}
        for each in admitted:
            if not go_on():
                break
            if self._prefill(each, now):
                moves.append(each.move)
            rest.discard(each.scope)
        return moves, rest

    def _prefill(self, each: _Wanted, now: datetime) -> bool:
        """Make a head. False when one of its memories was changed or erased meanwhile: the next tick decides anew."""
        least = self.thresholds.least_precision
        try:
            made = self.prefill(
                each.sources,
                each.scope,
                each.system,
                now,
                each.move.reason,
                each.replaces,
                each.precision,
                least_precision=least,
                move=each.move,
            )
        except (NotFound, VersionConflict):
            return False
        if isinstance(made.payload, Activation):
            self._ahead.add(made.payload.blob)
        return True

    def _admitted(self, wanted: Sequence[_Wanted], kept: Sequence[Derived], now: datetime) -> list[_Wanted]:
        """The wanted heads that fit beside what stays. What one that does not fit would have replaced is dropped: it is out of date."""
        leaving = {head.cube.id for each in wanted for head in each.replaces}
        rivals = [self._held(head) for head in kept if head.cube.id not in leaving]
        new = {
            f"~{position}": (each, kv_sizes(self._house.engine, each.sources, each.scope, each.system, self.thresholds.least_precision))
            for position, each in enumerate(wanted)
        }  # "~" sorts behind the id of any cube: what is there wins a tie
        rivals += [Held(id, sizes[0][1], _worth(each.sources), sizes=sizes, precision=sizes[0][0]) for id, (each, sizes) in new.items()]
        decided = {id: move for move in policy.decide_room(rivals, self.thresholds) for id in move.ids if id in new}
        refused = {id: move.reason for id, move in decided.items() if move.to is None}
        for id, reason in refused.items():
            self.drop(new[id][0].replaces, now, f"the memories that deserve the head have changed, and for the new head {reason}")
        return [replace(each, precision=decided[id].to if id in decided else None) for id, (each, _) in new.items() if id not in refused]

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
class _Standing:
    """A scope's head as it is. current: its memories; mine: its KV, for the model and the system text in use."""

    candidates: list[Candidate]
    current: frozenset[str] | None
    mine: list[Derived]
    system: str | None


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

"""Scheduler.tick: read what is due, let the policy decide, transform, commit. The only caller of the policy.

Source: MemOS §4.2, memory scheduling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

from memos_core import budgeting, learning, policy
from memos_core.changes import Record
from memos_core.cube import LOCAL_OWNER, Activation, MemCube, Scope, State
from memos_core.errors import InvalidInput, NotFound, VersionConflict
from memos_core.heads import Derived, derived, find_head
from memos_core.holding import archived
from memos_core.house import House
from memos_core.lifespan import cools_at, expired, later
from memos_core.placing import Placing, Standing, Wanted
from memos_core.policies import Policy, View, checked
from memos_core.policy import Move, Thresholds
from memos_core.proposing import accept, propose
from memos_core.readiness import decide_head
from memos_core.reviewing import BUDGET, EVERYTHING, FORMS, HABITS, ORPHANS, UPKEEP, Review
from memos_core.store import uses
from memos_core.tending import tend
from memos_core.transform import read_ahead

AT_ONCE = 64
"""Scopes whose heads are decided together: they compete for the same bytes."""
FILES_EVERY = timedelta(hours=1)
"""How often files that nothing refers to are looked for."""


class Scheduler(Placing):
    """Moves memory between forms by use. One tick at a time."""

    def __init__(self, house: House, thresholds: Thresholds, chooser: Policy | None = None) -> None:
        super().__init__(house, thresholds)
        self._chooser = chooser
        self._ahead: set[str] = set()  # files of KV that this process has made, or decided whether to read ahead

    def tick(self, now: datetime, go_on: Callable[[], bool] = lambda: True) -> list[Move]:
        """Expire, archive, erase, drop, prefill, distil: what the policy decides, each move committed with its reason and its record.

        go_on: asked before each move, while a module is trained, and while another tick of the same directory, of this process or another, is
        waited for; False ends the tick, and the next one goes on from there.
        """
        with self._house.store.ticking.held(go_on) as mine:
            if not mine:
                return []
            review = Review(self._house, now, self._by())
            try:
                review.refresh()
                moves = budgeting.expire(self._house, now, go_on)
                review.refresh()
                moves += self._habits(review, now, go_on)  # what is accepted counts for the budgets
                review.refresh()
                moves += self._keep_to_budgets(review, now, go_on)
                review.refresh()
                moves += self._forms(review, now, go_on)
                moves += self._upkeep(review, now, go_on)
                self._prefetch_live(now, go_on)
                self._house.store.settle()
                if review.files_due() and go_on():
                    self._house.store.collect_orphans(now)
                    learning.sweep(self._house, now)
                    review.done(ORPHANS, EVERYTHING, now + FILES_EVERY)
            finally:
                review.close()
            return moves

    def _by(self) -> bytes:
        """Stands for what decides: thresholds, function and model."""
        model = self._house.engine.identity.key if self._house.reuses else ""
        named = f"{getattr(self._chooser, '__module__', '')}.{getattr(self._chooser, '__qualname__', type(self._chooser).__qualname__)}"
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
                found += [move for cube in cubes.values() for move in self._accept(cube, now)]
            moves += found
            review.done(HABITS, number, None)
        return moves

    def _accept(self, cube: MemCube, now: datetime) -> list[Move]:
        """Take up a proposal; what is computed of a template is a move."""
        move = Move("prefill", (cube.id,), "its template has been accepted by the policy")
        try:
            made = accept(self._house, self, cube, LOCAL_OWNER, now, move)
        except (NotFound, VersionConflict):  # somebody has decided on it meanwhile
            return []
        return [move] if any(isinstance(each.payload, Activation) and each.payload.prefix_key for each in made) else []

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
            found, kept, late = self._choose(several, now, go_on)
            made, rest = self._move_heads([each for each in several if each[1] not in kept], now, go_on)
            if any(move.kind in ("prefill", "drop") for move in [*found, *made]):
                made += self._make_room(now)  # the room that is left now may hold something in a better precision
            moves += found + made
            scopes = [scope for _, scope in several if scope not in rest | late]
            moves += learning.retire_outdated(self._house, scopes, now)
            moves += learning.retire_cold(self._house, self.thresholds, [scope for scope in scopes if scope not in kept], now)
            unfinished: set[Scope] = set()
            while True:  # what is too much for one module goes into the next, in this tick
                for number, scope in several:
                    if scope in scopes and scope not in kept:
                        learning.queue_hot(self._house, number, scope, self.thresholds, now)
                again, left = learning.learn_again(self._house, now, go_on, scopes)
                moves, unfinished = [*moves, *again], unfinished | left
                if left or not any(move.kind == "distil" for move in again):
                    break
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
        if least.distil and used:
            found += [learning.may_again(module, least) for module in modules if module.state in (State.REJECTED, State.ARCHIVED)]
        return min((at for at in found if at > now), default=None)

    @property
    def _least_heat(self) -> float:
        return min(self.thresholds.stay_heat, self.thresholds.parameter_heat) if self.thresholds.distil else self.thresholds.stay_heat

    def _choose(
        self, several: Sequence[tuple[int, Scope]], now: datetime, go_on: Callable[[], bool]
    ) -> tuple[list[Move], set[Scope], set[Scope]]:
        """Ask the user's function about each scope, again after each move, until it leaves the rest to the thresholds, keeps it, or has it
        already. Also the scopes that it has decided on, and those of them for which there was no time."""
        moves: list[Move] = []
        decided: set[Scope] = set()
        unfinished: set[Scope] = set()
        for number, scope in several if self._chooser is not None else ():
            before: set[tuple[str, frozenset[str]]] = set()
            while True:
                move, standing, modules = self._asked(number, scope, now)
                if move is None:
                    break
                if move.kind != "keep" and not go_on():
                    unfinished.add(scope)
                    break
                done = [] if move.kind == "keep" else self._carry_out(move, scope, standing, modules, now)
                moves += done
                if not done:
                    break
                if (what := (move.kind, frozenset(move.ids))) in before:
                    raise InvalidInput(
                        f"the policy wants to {move.kind} the same of scope {'/'.join(scope)} again and again: it must leave be what it has moved"
                    )
                before.add(what)
            if move is not None:
                decided.add(scope)
        return moves, decided, unfinished

    def asked(self, number: int, scope: Scope, now: datetime) -> Move | None:
        """What the user's function says of a scope; None where it leaves it to the thresholds, or there is none. Raises as it does, or
        InvalidInput."""
        return None if self._chooser is None else self._asked(number, scope, now)[0]

    def _asked(self, number: int, scope: Scope, now: datetime) -> tuple[Move | None, Standing, Sequence[MemCube]]:
        assert self._chooser is not None
        standing = self.standing(number, scope, now)
        with self._house.store.read() as view:
            held = tuple(head.cube for head in derived(view, now, scope))
            modules = tuple(cube for cube in view.modules(now, scope) if cube.state is State.ACTIVE)
        seen = View(scope, tuple(standing.candidates), held, modules, self._house.speed)
        move = self._chooser(seen, self.thresholds, now)
        return None if move is None else checked(move, seen, self.thresholds, now), standing, modules

    def _carry_out(self, move: Move, scope: Scope, standing: Standing, modules: Sequence[MemCube], now: datetime) -> list[Move]:
        """Make a user's move; what was moved: nothing when that is so already, or cannot be with this model."""
        sources = tuple(each.cube for each in standing.candidates if each.cube.id in move.ids)
        if move.kind == "prefill":
            if not self._house.reuses or standing.current == frozenset(move.ids):
                return []
            if standing.is_frozen:
                raise InvalidInput(
                    f"the policy wants another head for scope {'/'.join(scope)}, but the one it has is frozen: leave it there"
                )
            return self._let_in([Wanted(move, scope, standing.system, sources, standing.mine)], now)[0]
        if move.kind == "drop":
            with self._house.store.read() as view:
                going = [head for head in derived(view, now, scope) if head.cube.id in move.ids]
            return self._dropped(going, scope, move, now)
        if move.kind == "archive":
            changes = [archived(cube, "archive", now, move.reason) for cube in sources]
            return [move] if _undisturbed(lambda: self._house.store.commit([*changes, Record(move, scope, now)])) else []
        if move.kind == "revert":
            return learning.take_off(modules, self._house, scope, now, [move])
        learning.queue(self._house, scope, move, now)
        return []  # a move when it has been learned

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
        if chosen is None or engine.resident(chosen.payload.prefix_key):
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
        there, moves = {head.cube.id: head for head in kept}, []
        decided = [(there[id], move) for move in policy.decide_room(self.held(kept), self.thresholds) for id in move.ids]
        for head, move in sorted(
            decided, key=lambda pair: pair[0].problem is not None
        ):  # what is made again has the room that is left then
            moves += self._make_way(head, move, now)
        return moves

    def _make_way(self, head: Derived, move: Move, now: datetime) -> list[Move]:
        """What a decision about room comes to: KV in another precision, of a template made again, or dropped."""
        scope, governance = head.cube.governance.scope, head.cube.governance
        system: str | None = head.payload.system
        # Templates are kept for as long as they are in use: KV of one whose text has changed is made of the text as it is now.
        usable = [source for source in head.sources if source.state is State.ACTIVE and not expired(source, now)]
        if move.to is not None:
            made, frozen, sources, precision = move, False, head.sources, move.to
        elif head.problem is not None and head.is_template and usable and self._house.reuses:
            frozen, sources, system = governance.frozen, tuple(usable), None
            again = self.precision_again(head, sources, now)
            if again is None:
                gone = replace(move, reason=f"{head.problem}, and there is no room to make its KV again within the bytes allowed")
                return self._dropped([head], scope, gone, now)
            made, precision = Move("prefill", tuple(source.id for source in usable), f"{head.problem}: its KV is made again"), again
        else:
            return self._dropped([head], scope, move, now)
        least = governance.least_precision
        done = _undisturbed(lambda: self.prefill(sources, scope, system, now, made.reason, [head], precision, frozen, least, made))
        return [made] if done else []

    def _dropped(self, heads: Sequence[Derived], scope: Scope, move: Move, now: datetime) -> list[Move]:
        return [move] if _undisturbed(lambda: self.drop(heads, now, move.reason, [Record(move, scope, now)])) else []

    def _move_heads(self, scopes: Sequence[tuple[int, Scope]], now: datetime, go_on: Callable[[], bool]) -> tuple[list[Move], set[Scope]]:
        """Bring each scope's head up to its use, as far as the byte budget allows. Also the scopes for which there was no time."""
        if not self._house.reuses:
            return [], set()
        moves, wanted = [], []
        for number, scope in scopes:
            standing = self.standing(number, scope, now)
            if standing.is_frozen:
                continue
            move = decide_head(standing.candidates, standing.current, self.thresholds, now, self._house.speed)
            if move is not None and move.kind == "drop":
                moves += self._dropped(standing.mine, scope, move, now)
            elif move is not None:
                sources = tuple(each.cube for each in standing.candidates if each.cube.id in move.ids)
                wanted.append(Wanted(move, scope, standing.system, sources, standing.mine))
        made, rest = self._let_in(wanted, now, go_on)
        return [*moves, *made], rest

    def _let_in(self, wanted: Sequence[Wanted], now: datetime, go_on: Callable[[], bool] = lambda: True) -> tuple[list[Move], set[Scope]]:
        """Make the heads that there is room for, and make room first, so that the byte budget holds after every step. Also the scopes
        for which there was no time."""
        if not wanted:
            return [], set()
        with self._house.store.read() as view:
            kept = derived(view, now)
        admitted, going = self.admitted(wanted, kept)
        moves, rest = list[Move](), {each.scope for each in wanted}
        for move, heads in going:
            if not go_on():
                return moves, rest
            scope = heads[0].cube.governance.scope
            moves += self._make_way(heads[0], move, now) if len(heads) == 1 else self._dropped(heads, scope, move, now)
        rest &= {each.scope for each in admitted}
        for each in admitted:
            if not go_on():
                break
            if self._prefill(each, now):
                moves.append(each.move)
            rest.discard(each.scope)
        return moves, rest

    def _prefill(self, each: Wanted, now: datetime) -> bool:
        """Make a head. False when one of its memories was changed or erased meanwhile: the next tick decides anew."""
        least = self.thresholds.least_precision
        try:
            how = (each.move.reason, each.replaces, each.precision, False, least, each.move)
            made = self.prefill(each.sources, each.scope, each.system, now, *how)
        except (NotFound, VersionConflict):
            return False
        if isinstance(made.payload, Activation):
            self._ahead.add(made.payload.blob)
        return True


def _undisturbed(act: Callable[[], object]) -> bool:
    """Whether it was done: not when one of the memories was changed or erased meanwhile, and the next tick decides anew."""
    try:
        act()
    except (NotFound, VersionConflict):
        return False
    return True

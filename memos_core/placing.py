"""A scope's head as it is, the one that it deserves, and whether there is room for it. What the scheduler decides on, and what explains it.

Source: MemOS §4.2, policy-aware scheduling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from memos_core import policy
from memos_core.candidates import candidates
from memos_core.cube import MemCube, Plaintext, Precision, Scope
from memos_core.heads import Derived, derived, effective_system
from memos_core.holding import Holding
from memos_core.house import House
from memos_core.policy import Candidate, Held, Move, Thresholds
from memos_core.readiness import Condition
from memos_core.transform import kv_sizes


@dataclass(frozen=True, slots=True)
class Standing:
    """A scope's head as it is. current: its memories; mine: its KV, for the model and the system text in use."""

    candidates: list[Candidate]
    current: frozenset[str] | None
    mine: list[Derived]
    system: str | None

    @property
    def is_frozen(self) -> bool:
        return any(head.cube.governance.frozen for head in self.mine)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A head that a scope deserves, and what it would replace."""

    move: Move
    scope: Scope
    system: str | None
    sources: tuple[MemCube, ...]
    replaces: Sequence[Derived]
    precision: Precision | None = None


class Placing(Holding):
    """Knows what a scope's head rests on, and what fits into the bytes of the directory."""

    def __init__(self, house: House, thresholds: Thresholds) -> None:
        super().__init__(house)
        self.thresholds = thresholds

    def standing(self, number: int, scope: Scope, now: datetime, also: MemCube | None = None) -> Standing:
        """What a scope's head rests on: its hot memories and those that are in it. also: one more, hot or not."""
        with self._house.store.read() as view:
            kept = [head for head in derived(view, now, scope) if head.is_head]
            used, system = view.hot_in(number, self.thresholds.stay_heat, now), view.last_system(scope)
        mine = [head for head in kept if self._is_for(head, system)] if self._house.reuses else []
        there = {cube.id for cube in used}
        used += [cube for cube in (mine[-1].sources if mine else ()) if cube.id not in there and isinstance(cube.payload, Plaintext)]
        used += [also] if also is not None and also.id not in {cube.id for cube in used} else []
        current = mine[-1].source_ids if mine else None
        with self._house.store.read() as view:
            found = candidates(self._house, view, used, current or (), self.thresholds.head_tokens)
        return Standing(found, current, mine, system)

    def admitted(self, wanted: Sequence[Wanted], kept: Sequence[Derived]) -> tuple[list[Wanted], list[tuple[Move, list[Derived]]]]:
        """The wanted heads that fit beside what stays, the one that grows least first; and what goes before them: what has less heat
        per byte, and what a head that does not fit would have replaced, since that is out of date."""
        leaving = {head.cube.id for each in wanted for head in each.replaces}
        rivals = self.held([head for head in kept if head.cube.id not in leaving])
        new = {
            f"~{position}": (each, kv_sizes(self._house.engine, each.sources, each.scope, each.system, self.thresholds.least_precision))
            for position, each in enumerate(wanted)
        }  # "~" sorts behind the id of any cube: what is there wins a tie
        rivals += [Held(id, sizes[0][1], _worth(each.sources), sizes=sizes, precision=sizes[0][0]) for id, (each, sizes) in new.items()]
        decided = {id: move for move in policy.decide_room(rivals, self.thresholds) for id in move.ids}
        admitted: list[tuple[int, Wanted]] = []
        going: list[tuple[Move, list[Derived]]] = []
        for id, (each, sizes) in new.items():
            move = decided.get(id)
            precision = None if move is None else move.to
            if move is None or precision is not None:
                size = sizes[0][1] if precision is None else dict(sizes)[precision]
                admitted.append((size - sum(head.payload.bytes for head in each.replaces), replace(each, precision=precision)))
            elif each.replaces:
                reason = f"the memories that deserve the head have changed, and for the new head {move.reason}"
                going.append((Move("drop", tuple(head.cube.id for head in each.replaces), reason), list(each.replaces)))
        there = {head.cube.id: head for head in kept}
        going += [(move, [there[id]]) for id, move in decided.items() if id in there and move.kind in ("drop", "reduce")]
        return [each for _, each in sorted(admitted, key=lambda pair: pair[0])], going

    def room_for(self, scope: Scope, standing: Standing, chosen: Sequence[Candidate], deserved: bool, now: datetime) -> Condition:
        """That the bytes allowed hold the KV of a head. deserved: it is what the scope deserves now, so that what it is worth is known."""
        least, sources = self.thresholds, tuple(each.cube for each in chosen)
        sizes = kv_sizes(self._house.engine, sources, scope, standing.system, least.least_precision)
        missing = "" if sizes[-1][1] <= least.activation_bytes else "a larger activation_bytes"
        if not missing and deserved:
            move = Move("prefill", tuple(cube.id for cube in sources), "")
            with self._house.store.read() as view:
                kept = derived(view, now)
            there = self.admitted([Wanted(move, scope, standing.system, sources, standing.mine)], kept)[0]
            missing = "" if there else "room beside KV of more heat per byte, or a larger activation_bytes"
        return Condition("bytes", f"{sizes[0][1]:,}", f"beside what is worth more, within {least.activation_bytes:,}", missing)

    def precision_again(self, head: Derived, sources: Sequence[MemCube], now: datetime) -> Precision | None:
        """In which precision there is room to make KV anew that is outdated: the one it had, or down to its least; None: there is none."""
        kept_as, governance = head.payload.precision, head.cube.governance
        if governance.frozen:
            return kept_as
        sizes = kv_sizes(self._house.engine, sources, governance.scope, None, governance.least_precision or kept_as)
        with self._house.store.read() as view:
            spent = sum(each.payload.bytes for each in derived(view, now) if each.is_kv and each.problem is None)
        best = next((place for place, (precision, _) in enumerate(sizes) if precision is kept_as), 0)
        return next((precision for precision, size in sizes[best:] if spent + size <= self.thresholds.activation_bytes), None)

    def out_of_room(self, id: str, now: datetime) -> tuple[Move | None, Held]:
        """What becomes of kept KV where the bytes allowed do not hold all, and how it is seen for that."""
        with self._house.store.read() as view:
            held = self.held(derived(view, now))
        (mine,) = (each for each in held if each.id == id)
        return next((move for move in policy.decide_room(held, self.thresholds) if id in move.ids), None), mine

    def held(self, kept: Sequence[Derived]) -> list[Held]:
        """KV as the policy sees it. A head that the scope's next turn cannot take, since it belongs to another model or system text than
        its last turn had, is worth what it has been used itself: or those of every system text there ever was would keep out the
        present one."""
        with self._house.store.read() as view:
            system = {scope: view.last_system(scope) for scope in {head.cube.governance.scope for head in kept if head.is_head}}
        found = []
        for head in kept:
            fits = not head.is_head or not self._house.reuses or self._is_for(head, system[head.cube.governance.scope])
            found.append(self._one_held(head, _worth(head.sources) if fits else head.cube.usage.heat))
        return found

    def _one_held(self, head: Derived, worth: float) -> Held:
        id, payload, governance = head.cube.id, head.payload, head.cube.governance
        if not head.is_kv:  # asked for one by one, and not made again by itself
            return Held(id, 0, 0.0, head.problem, frozen=True)
        sizes: tuple[tuple[Precision, int], ...] = ()
        if governance.least_precision is not None and self._house.reuses and payload.model == self._house.engine.identity.key:
            sizes = self._house.engine.sizes(payload.tokens, governance.least_precision)
        return Held(id, payload.bytes, worth, head.problem, governance.frozen, sizes, payload.precision)

    def _is_for(self, head: Derived, system: str | None) -> bool:
        fits = head.payload.model == self._house.engine.identity.key and head.payload.system == effective_system(system)
        return head.problem is None and fits


def _worth(sources: Sequence[MemCube]) -> float:
    """What a head is worth: the heat of the memories in it, weighted by their priority."""
    return sum(cube.usage.heat * (1 + cube.governance.priority) for cube in sources)

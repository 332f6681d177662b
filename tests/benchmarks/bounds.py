"""What a policy could reach: one that knows the true rates, learners that are told which conversation is live or when the hot set
moves, and the most that knowing the future could bring.

The rate oracle fills on demand as every policy does. FOO is a bound on any policy that fills on demand and may bypass: an object may be
held in part, which is why it is a bound and not a policy. In the prefix tree it ignores that a child needs its parent, so that it is a
bound from above there as well, only looser.

FOO is computed twice. `foo` is the min-cost flow, by OR-Tools; it takes most of a minute for 50,000 requests. When what counts is bytes
hit, every block is worth the same, and the flow asks for the most unit intervals of which at most `budget` overlap; dropping, whenever
there are too many, the one that ends last is optimal for that. `furthest` does so in a fraction of a second, and gives the same number.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from ortools.graph.python import min_cost_flow

from memos_core.residency import Decision, choose

if TYPE_CHECKING:
    from traces import Trace


class RateOracle:
    """Value density with the generator's true rates: on a miss those of less value per byte give way, if what they free is worth less.

    Seconds per byte are equal for all in these traces, so that value per byte is the rate.
    """

    def __init__(self, trace: Trace, budget: int) -> None:
        self.trace, self.budget, self.used = trace, budget, 0
        self.clock, self.phase = 0, -1
        self.sizes: dict[int, int] = {}
        self.children = np.zeros(len(trace.blocks), int)
        self.heap: list[tuple[float, int]] = []
        self.rates = trace.phases[0][1]

    def _advance(self) -> None:
        moved = False
        while self.phase + 1 < len(self.trace.phases) and self.trace.phases[self.phase + 1][0] <= self.clock:
            self.phase, moved = self.phase + 1, True
        if moved:
            self.rates = self.trace.phases[self.phase][1]
            self.heap = [(float(self.rates[key]), key) for key in self.sizes]
            heapq.heapify(self.heap)
        self.clock += 1

    def request(
        self, key: int, size: int, seconds: float, group: int | None = None, parent: int | None = None, together: bool = False
    ) -> Decision:
        self._advance()
        if key in self.sizes:
            return Decision(True, False, ())
        if size > self.budget or (parent is not None and parent not in self.sizes):
            return Decision(False, False, ())
        rate, freed, loss, density = float(self.rates[key]), self.budget - self.used, 0.0, 0.0
        aside: list[tuple[float, int]] = []
        victims: list[tuple[float, int]] = []
        while freed < size and self.heap:
            density, victim = heapq.heappop(self.heap)
            if victim not in self.sizes:
                continue
            if self.children[victim] or victim == parent:
                aside.append((density, victim))
                continue
            victims.append((density, victim))
            freed += self.sizes[victim]
            loss += density * self.sizes[victim]
        admitted = freed >= size and (not victims or rate * size > loss - density * (freed - size))
        for entry in aside if admitted else aside + victims:
            heapq.heappush(self.heap, entry)
        if not admitted:
            return Decision(False, False, ())
        for _, victim in victims:
            self.used -= self.sizes.pop(victim)
            self._count(victim, -1)
        self.sizes[key] = size
        self.used += size
        self._count(key, 1)
        heapq.heappush(self.heap, (rate, key))
        return Decision(False, True, tuple(victim for _, victim in victims))

    def _count(self, key: int, change: int) -> None:
        if self.trace.parents is not None and self.trace.parents[key] >= 0:
            self.children[self.trace.parents[key]] += change


class _Counting:
    """A learner that counts uses exactly and looks at every held key."""

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self.sizes: dict[int, int] = {}
        self.uses: Counter[int] = Counter()

    def _admit(self, key: int, size: int, worth: Mapping[int, float], margin: float, spare: bool) -> Decision:
        """Let a key in if it is worth more than what goes for it. worth: per block, of the held keys that may go, the first of equal ones first."""
        held = list(worth)
        need = self.used + size - self.budget
        choice = choose(self.uses[key] * size, need, list(worth.values()), [self.sizes[other] for other in held], margin, spare)
        victims = tuple(held[place] for place in choice.victims)
        for victim in victims:
            self.used -= self.sizes.pop(victim)
        if choice.admitted:
            self.sizes[key] = size
            self.used += size
        return Decision(False, choice.admitted, victims)


class Told(_Counting):
    """A learner that is told which conversation is live: value density by the uses in it so far, 0 in all others.

    What the rate oracle knows beyond it are the rates before the first question, and no policy is told either.
    """

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.groups: dict[int, int | None] = {}

    def request(
        self, key: int, size: int, seconds: float, group: int | None = None, parent: int | None = None, together: bool = False
    ) -> Decision:
        self.uses[key] += 1
        self.groups[key] = group
        if key in self.sizes:
            return Decision(True, False, ())
        worth = {other: self.uses[other] * float(self.groups[other] == group) for other in self.sizes}
        return self._admit(key, size, worth, margin=1.5, spare=True)


class ToldOfMoves(_Counting):
    """A learner that is told each moment the hot set moves: value density by the uses since.

    Where all that is known of the keys is the same before a move, no forecast of rates orders them better than the uses since. With no
    moments it counts all uses, as suits rates that stay as they are. A parent counts for no less than what rests on it.
    """

    def __init__(self, trace: Trace, budget: int) -> None:
        super().__init__(budget)
        self.moves = list(trace.shifts)
        self.clock = 0
        self.parents: dict[int, int] = {}

    def request(
        self, key: int, size: int, seconds: float, group: int | None = None, parent: int | None = None, together: bool = False
    ) -> Decision:
        if self.moves and self.clock >= self.moves[0]:
            self.moves.pop(0)
            self.uses.clear()
        self.clock += 1
        self.uses[key] += 1
        if parent is not None:
            self.parents[key] = parent
        if key in self.sizes or size > self.budget or (parent is not None and parent not in self.sizes):
            return Decision(key in self.sizes, False, ())
        above = set[int]()
        while parent is not None:
            above.add(parent)
            parent = self.parents.get(parent)
        # what rests on a key came in after it, and goes before it where both are worth the same
        worth = {other: float(self.uses[other]) for other in reversed(self.sizes) if other not in above}
        for other in worth:
            if (below := self.parents.get(other, -1)) in worth:
                worth[below] = max(worth[below], worth[other])
        return self._admit(key, size, worth, margin=1.0, spare=False)


def foo(keys: np.ndarray, blocks: np.ndarray, budget: int) -> float:
    """Byte-weighted hit rate that no demand-fill policy exceeds: Berger, Beckmann and Harchol-Balter, "Practical bounds on optimal
    caching with variable object sizes" (SIGMETRICS 2018).

    Between two requests of an object its blocks either stay, along the chain of moments, which holds `budget` blocks, or are missed at
    a cost of one each. What the cheapest flow pays is what has to be missed. Exact for sizes and budgets in whole blocks.
    Raises RuntimeError when the solver finds no optimum.
    """
    total = int(blocks[keys].sum())
    last: dict[int, int] = {}
    pairs: list[tuple[int, int, int]] = []
    for moment, key in enumerate(keys.tolist()):
        if key in last:
            pairs.append((last[key], moment, int(blocks[key])))
        last[key] = moment
    if not pairs:
        return 0.0
    starts, ends, amounts = np.array(pairs).T
    moments, places = np.unique(np.concatenate([starts, ends]), return_inverse=True)
    starts, ends = places[: len(starts)], places[len(starts) :]
    solver = min_cost_flow.SimpleMinCostFlow()
    chain = np.arange(len(moments) - 1)
    solver.add_arcs_with_capacity_and_unit_cost(chain, chain + 1, np.full(len(chain), budget), np.zeros(len(chain), np.int64))
    solver.add_arcs_with_capacity_and_unit_cost(starts, ends, amounts, np.ones(len(starts), np.int64))
    supplies = np.zeros(len(moments), np.int64)
    np.add.at(supplies, starts, amounts)
    np.add.at(supplies, ends, -amounts)
    solver.set_nodes_supplies(np.arange(len(moments)), supplies)
    if solver.solve() != solver.OPTIMAL:
        raise RuntimeError("the flow has no optimum")
    return (int(amounts.sum()) - solver.optimal_cost()) / total


def furthest(keys: np.ndarray, blocks: np.ndarray, budget: int) -> float:
    """The same as `foo`: whenever there is too much, blocks of the object asked for again furthest in the future are let go.

    Optimal by Faigle and Nawijn, "Note on scheduling intervals on-line" (Discrete Applied Mathematics 58, 1995).
    """
    following = np.full(len(keys), -1)
    seen: dict[int, int] = {}
    for moment in range(len(keys) - 1, -1, -1):
        key = int(keys[moment])
        following[moment] = seen.get(key, -1)
        seen[key] = moment
    kept: dict[int, int] = {}  # blocks by the moment they are asked for again
    heap: list[int] = []
    used = hits = 0
    amounts = blocks[keys].tolist()
    for moment, (amount, again) in enumerate(zip(amounts, following.tolist(), strict=True)):
        arrived = kept.pop(moment, 0)
        hits += arrived
        used -= arrived
        if again < 0:
            continue
        kept[again] = amount
        used += amount
        heapq.heappush(heap, -again)
        while used > budget:
            last = -heap[0]
            gone = min(kept.get(last, 0), used - budget)
            used -= gone
            if kept.get(last, 0) > gone:
                kept[last] -= gone
            else:
                kept.pop(last, None)
                heapq.heappop(heap)
    return hits / sum(amounts)

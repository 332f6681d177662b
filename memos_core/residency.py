"""What a tier of limited bytes holds: the keys whose presence is expected to save the most seconds per byte. Pure: no clock, no I/O.

Value of a key: its rate of use (`UseRates`: that of its conversation or task times its part in it) over the next requests (`AHEAD`)
times the seconds that having it saves, which the caller measures. A key can only come in when it is asked for or offered. It comes in when
its value exceeds that of what has to go for it, less the surplus bytes that this frees, by a fifth (`MARGIN`) of the value of what goes;
below the margin a difference is mostly noise of the estimate, and following it moves bytes without gaining hits. The margin is on whole
keys, and a wider one on the surplus where few keys are held (`FEW`), as nothing may fit into it for long: a large and a small key of like
rate would otherwise push each other out at every request, each for the few bytes that it needs of the other. While what comes next follows
from the last few requests, there is no margin and only the very next request counts: then keys come and go at every request anyway, and
the newest is the likeliest to be asked for again.

Bytes that are free because more went than was needed are given only to what is worth as much as the least of what is held: anything else
would soon have to go for something better.

A decision looks at 48 held keys drawn at random and the 16 of least value among those seen last time, so that its cost does not grow with
the number of keys. It is a function of the requests and the seed.

Source: value per byte as in Cherkasova, GDSF (1998); greedy by rate is optimal for independent requests up to one object (Coffman and
Denning 1973); the sample with memory follows the eviction pool of Redis. The margin and the surplus are ours.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memos_core.rates import Floats, Slots, UseRates, resized

MARGIN = 1.2
"""How many times the value of what goes a newcomer must be worth, where no surplus is freed."""
AHEAD = 256
"""Requests for its group over which the rate of a key counts. By the next request alone, one in a hundred of belief in the briefest
half-lives, which is chance, made a key just used worth more than most that were held, and let it in to go again soon."""
FEW = 32
"""Keys: where so many are looked at, the margin is twice as wide on the surplus, where they are fewer, wider still, up to all of it."""
SAMPLE, POOL = 48, 16
KNOWN = 65_536
"""Keys whose use is remembered, held ones included; beyond, the longest unused of a few drawn at random are forgotten."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request did. hit: it was held. admitted: it came in and is held now. evicted: what went for it, least value first.

    gain, loss: expected seconds saved per request, over the next ones, by the key, and by what would have had to go; 0 where nothing was weighed.
    """

    hit: bool
    admitted: bool
    evicted: tuple[Hashable, ...]
    gain: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """admitted; victims: positions in the order they go; loss: what they are worth, less the surplus they free."""

    admitted: bool
    victims: tuple[int, ...]
    loss: float


def choose(gain: float, need: int, densities: Sequence[float], sizes: Sequence[int], margin: float = MARGIN, spare: bool = True) -> Choice:
    """Whether a newcomer worth `gain` that needs `need` more bytes comes in, and what goes for it.

    densities, sizes: value per byte and bytes of what may go. The least dense go first; the last of them counts only for the bytes that
    are needed of it. That is the least value that so many bytes can be freed for, so that it never falls when one of them is worth
    more: more value never turns an admission into a refusal, nor a key that stayed into one that goes.
    The margin is on the value of all of them, whole, and on the surplus the wider the fewer there are: it keeps two keys from taking
    turns, and a turn moves whole keys.
    With `spare`, those stay after all that are not needed once the last of them goes, the densest first.
    """
    freed, loss, surplus, victims = 0, 0.0, 0.0, []
    for position in sorted(range(len(densities)), key=lambda position: (densities[position], position)):
        if freed >= need:
            break
        loss += densities[position] * min(sizes[position], need - freed)
        surplus = densities[position] * max(freed + sizes[position] - need, 0)
        freed += sizes[position]
        victims.append(position)
    wide = min((margin - 1) * (1 + FEW / max(len(densities), 1)), 1.0)
    admitted = freed >= need and (not victims or gain > margin * loss + wide * surplus)
    for position in victims[-2::-1] if spare else ():
        if freed - sizes[position] >= need:
            freed -= sizes[position]
            victims.remove(position)
    return Choice(admitted, tuple(victims) if admitted else (), loss)


class Residency:
    """Which keys a tier of `budget` bytes holds. Not thread-safe."""

    def __init__(self, budget: int, *, margin: float = MARGIN, known: int = KNOWN, seed: int = 0) -> None:
        """margin: at least 1. Raises ValueError when an argument is out of range."""
        if budget < 0 or margin < 1 or known < 1:
            raise ValueError(f"budget {budget} must not be negative, margin {margin} and known {known} must be at least 1")
        self.budget, self.used = budget, 0
        self.rates = UseRates()
        self._margin, self._known = margin, known
        self._random = np.random.default_rng(seed)
        self._bytes: Slots = np.zeros(0, np.int64)
        self._seconds = np.zeros(0)
        self._place: Slots = np.zeros(0, np.int64)  # in _held, -1 when not held
        self._bound: Slots = np.zeros(0, np.int64)  # pins and held children: while there is one, it cannot go
        self._held: list[int] = []
        self._full = False  # something went for something else: the free bytes are left over
        self._pool: list[int] = []
        self._parents: dict[int, int] = {}  # of held keys
        self._pinned: set[int] = set()

    def __contains__(self, key: object) -> bool:
        slot = self.rates.slots.get(key)
        return slot is not None and self._place[slot] >= 0

    def __len__(self) -> int:
        return len(self._held)

    def held(self) -> dict[Hashable, int]:
        """Bytes by key."""
        return {self.rates.keys[slot]: int(self._bytes[slot]) for slot in self._held}

    def value(self, key: Hashable) -> float:
        """Expected seconds that having it saves per request, over the next ones (`AHEAD`); 0 for an unknown key."""
        slot = self.rates.slots.get(key)
        return 0.0 if slot is None else float(self._rates(np.array([slot]))[0]) * float(self._seconds[slot])

    def request(
        self,
        key: Hashable,
        size: int,
        seconds: float,
        group: Hashable | None = None,
        parent: Hashable | None = None,
        together: bool = False,
    ) -> Decision:
        """The key was asked for: count it, and let it in if it is worth it.

        size: bytes. seconds: what having it saves when it is asked for. group: the conversation, scope or task it belongs to, fixed at
        its first request. parent: what it is useless without; unless that is held, the key does not come in, and the parent stays
        while the key is held. together: one turn or one path asked for it and for the last key.
        Raises ValueError for a size below one or other than that held, or for negative seconds.
        """
        if size < 1 or seconds < 0:
            raise ValueError(f"{key!r}: {size} bytes, {seconds} seconds")
        if key in self and self._bytes[self.rates.slots[key]] != size:
            raise ValueError(f"{key!r} is held with {self._bytes[self.rates.slots[key]]} bytes, not {size}: discard it first")
        slot = self.rates.use(key, group, together)
        if slot >= len(self._bytes):
            self._grow()
        self._bytes[slot], self._seconds[slot] = size, seconds
        if self._place[slot] >= 0:
            return Decision(True, False, ())
        decision = self._admit(slot, parent)
        while len(self.rates) > self._known and self._forget_one():
            pass
        return decision

    def offer(self, key: Hashable, parent: Hashable | None = None) -> Decision:
        """Let a key in that was asked for before, without counting a use: to fetch ahead what is likely to be asked for.

        An unknown key is refused, one that is held is a hit.
        """
        slot = self.rates.slots.get(key)
        if slot is None or self._place[slot] >= 0:
            return Decision(slot is not None, False, ())
        return self._admit(slot, parent)

    def reprice(self, key: Hashable, seconds: float) -> None:
        """Having it saves that much from now on, as when a slower tier has lost its copy. Unknown keys are ignored."""
        if (slot := self.rates.slots.get(key)) is not None:
            self._seconds[slot] = seconds

    def pin(self, key: Hashable) -> None:
        """It stays, and its bytes count, until it is unpinned or discarded. Raises KeyError when it is not held."""
        if key not in self:
            raise KeyError(key)
        if (slot := self.rates.slots[key]) not in self._pinned:
            self._pinned.add(slot)
            self._bound[slot] += 1

    def unpin(self, key: Hashable) -> None:
        """It may go again. Keys that are not pinned are ignored."""
        if (slot := self.rates.slots.get(key)) is not None and slot in self._pinned:
            self._pinned.remove(slot)
            self._bound[slot] -= 1

    def discard(self, key: Hashable) -> tuple[Hashable, ...]:
        """The key is forgotten, pinned or not; so is its use. What was held and went: the key and all that rested on it, children first."""
        slot = self.rates.slots.get(key)
        gone: list[Hashable] = []
        if slot is not None and self._place[slot] >= 0:
            resting = [slot]
            for at in resting:
                resting += [child for child, parent in self._parents.items() if parent == at]
            for at in reversed(resting):
                gone.append(self.rates.keys[at])
                self._drop(at)
        self.rates.forget(key)
        return tuple(gone)

    def state(self) -> dict[str, Any]:
        """Everything, as numbers, strings, lists and arrays of its own, and the keys as they were given."""
        plain = {name: value.copy() if hasattr(value, "copy") else value for name, value in vars(self).items()}
        return plain | {"rates": self.rates.state(), "_random": self._random.bit_generator.state}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Residency:
        """Decides from here on as the one whose state it was."""
        made = cls(0)
        plain = {name: value.copy() if hasattr(value, "copy") else value for name, value in state.items()}
        vars(made).update(plain | {"rates": UseRates.restore(state["rates"]), "_random": made._random})
        made._random.bit_generator.state = state["_random"]
        return made

    def _admit(self, slot: int, parent: Hashable | None) -> Decision:
        size = int(self._bytes[slot])
        if size > self.budget or (parent is not None and parent not in self):
            return Decision(False, False, ())
        above = None if parent is None else self.rates.slots[parent]
        need = self.used + size - self.budget
        if need <= 0 and not self._full:
            self._put(slot, above)
            return Decision(False, True, ())
        leaves = self._candidates(above)
        candidates = self._with_parents(leaves, need)
        rates = self._rates(np.append(candidates, slot))
        gain = float(rates[-1]) * float(self._seconds[slot])
        sizes = self._bytes[candidates]
        densities = rates[:-1] * self._seconds[candidates] / sizes
        self._after_children(candidates, densities)
        self._pool = candidates[np.argsort(densities, kind="stable")[:POOL]].tolist()
        if need <= 0:
            least = float(densities.min()) * size if len(densities) else 0.0
            if gain < least:
                return Decision(False, False, (), gain, least)
            self._put(slot, above)
            return Decision(False, True, (), gain, least)
        margin = 1.0 if self.rates.moving else self._margin
        choice = choose(gain, need, densities.tolist(), sizes.tolist(), margin, spare=len(candidates) == len(leaves))
        victims = [int(candidates[position]) for position in choice.victims]
        for victim in victims:
            self._drop(victim)
        if choice.admitted:
            self._put(slot, above)
            self._full = True
        return Decision(False, choice.admitted, tuple(self.rates.keys[victim] for victim in victims), gain, choice.loss)

    def _rates(self, slots: Slots) -> Floats:
        return self.rates.of(slots, 1 if self.rates.moving else AHEAD)

    def _candidates(self, above: int | None) -> Slots:
        """Held keys that may go: all when they are few, else a sample and the worst of the last one."""
        found = self._held
        if len(found) > SAMPLE + POOL:
            drawn = self._random.integers(0, len(found), SAMPLE).tolist()
            found = list(dict.fromkeys([found[place] for place in drawn] + [slot for slot in self._pool if self._place[slot] >= 0]))
        slots = np.array(found, np.int64)
        free = self._bound[slots] == 0
        return np.asarray(slots[free if above is None else free & (slots != above)])

    def _with_parents(self, candidates: Slots, need: int) -> Slots:
        """Where they are too few bytes, also what becomes free when they all go: parents behind their children."""
        found, held = candidates.tolist(), dict[int, int]()
        freed = int(self._bytes[candidates].sum())
        for slot in found:
            if freed >= need:
                break
            above = self._parents.get(slot)
            if above is not None:
                held[above] = held.get(above, int(self._bound[above])) - 1
                if held[above] == 0:
                    found.append(above)
                    freed += int(self._bytes[above])
        return np.array(found, np.int64)

    def _after_children(self, candidates: Slots, densities: Floats) -> None:
        """A parent goes no sooner than what rests on it, whatever its own value."""
        places = {slot: place for place, slot in enumerate(candidates.tolist())}
        for slot, place in places.items():
            if (above := places.get(self._parents.get(slot, -1))) is not None:
                densities[above] = max(densities[above], densities[place])

    def _put(self, slot: int, above: int | None) -> None:
        self._place[slot] = len(self._held)
        self._held.append(slot)
        self.used += int(self._bytes[slot])
        if above is not None:
            self._parents[slot] = above
            self._bound[above] += 1

    def _drop(self, slot: int) -> None:
        last, place = self._held.pop(), int(self._place[slot])
        if last != slot:
            self._held[place], self._place[last] = last, place
        self._place[slot], self._bound[slot] = -1, 0
        self._pinned.discard(slot)
        self.used -= int(self._bytes[slot])
        if (above := self._parents.pop(slot, None)) is not None:
            self._bound[above] -= 1

    def _forget_one(self) -> bool:
        """Of sixteen slots drawn, the key that is not held and was used longest ago; False when there is none."""
        drawn = [slot for slot in self._random.integers(0, len(self.rates.keys), 16).tolist() if self.rates.keys[slot] is not None]
        loose = [slot for slot in drawn if self._place[slot] < 0]
        if loose:
            self.rates.forget(self.rates.keys[min(loose, key=lambda slot: (self.rates.last[slot], slot))])
        return bool(loose)

    def _grow(self) -> None:
        before, length = len(self._bytes), len(self.rates.keys)
        self._bytes, self._seconds = resized(self._bytes, length), resized(self._seconds, length)
        self._place, self._bound = resized(self._place, length), resized(self._bound, length)
        self._place[before:] = -1

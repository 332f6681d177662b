"""Policies to compare with: LRU, LFU with dynamic aging, GDSF, ARC and S3-FIFO, for objects of any size, in short forms of our own.

libCacheSim has all five for independent objects; none of its policies knows that an object is useless without its parent, so that they are
written here, with one rule for all: a parent stays while a child of it is held, and a child comes in only under a parent that is held.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from memos_core.residency import Decision

Key = Hashable


class Rival:
    """What they share: bytes, hits, who holds whom. Subclasses say what a hit does, what comes in and who goes.

    `request` has the signature of `Residency.request`; an object that is larger than the budget is never held.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self.sizes: dict[Key, int] = {}
        self.parents: dict[Key, Key | None] = {}
        self.children: Counter[Key] = Counter()

    def request(
        self, key: Key, size: int, seconds: float, group: Key | None = None, parent: Key | None = None, together: bool = False
    ) -> Decision:
        if key in self.sizes:
            self.hit(key)
            return Decision(True, False, ())
        if size > self.budget or (parent is not None and parent not in self.sizes):
            return Decision(False, False, ())
        self.arriving(key, size)
        gone: list[Key] = []
        while self.used + size > self.budget:
            victim = self.victim(key, parent)
            if victim is None:
                return Decision(False, False, tuple(gone))
            self._drop(victim)
            gone.append(victim)
        self.sizes[key], self.parents[key] = size, parent
        self.used += size
        if parent is not None:
            self.children[parent] += 1
        self.insert(key, size, seconds)
        return Decision(False, True, tuple(gone))

    def _drop(self, key: Key) -> None:
        self.used -= self.sizes.pop(key)
        parent = self.parents.pop(key)
        if parent is not None:
            self.children[parent] -= 1

    def remove(self, key: Key) -> None:
        """Take a key out from outside."""
        self._drop(key)
        self.removed(key)

    def removed(self, key: Key) -> None:
        raise NotImplementedError

    def free(self, key: Key, parent: Key | None) -> bool:
        """Whether it may go: nothing rests on it, and it is not what the newcomer rests on."""
        return not self.children[key] and key != parent

    def hit(self, key: Key) -> None: ...

    def arriving(self, key: Key, size: int) -> None: ...

    def insert(self, key: Key, size: int, seconds: float) -> None: ...

    def victim(self, key: Key, parent: Key | None) -> Key | None:
        raise NotImplementedError


class LRU(Rival):
    """Least recently used goes."""

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.order: OrderedDict[Key, None] = OrderedDict()

    def hit(self, key: Key) -> None:
        self.order.move_to_end(key)

    def insert(self, key: Key, size: int, seconds: float) -> None:
        self.order[key] = None

    def removed(self, key: Key) -> None:
        del self.order[key]

    def victim(self, key: Key, parent: Key | None) -> Key | None:
        found = next((held for held in self.order if self.free(held, parent)), None)
        if found is not None:
            del self.order[found]
        return found


class Aged(Rival):
    """Priority = age of the cache + worth; the lowest goes and its priority becomes the age. Worth is left to the subclass."""

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.age, self.clock = 0.0, 0
        self.uses: dict[Key, int] = {}
        self.costs: dict[Key, float] = {}
        self.current: dict[Key, tuple[float, int]] = {}
        self.heap: list[tuple[float, int, Any]] = []

    def worth(self, key: Key) -> float:
        raise NotImplementedError

    def _push(self, key: Key) -> None:
        self.clock += 1
        self.current[key] = (self.age + self.worth(key), self.clock)
        heapq.heappush(self.heap, (*self.current[key], key))

    def hit(self, key: Key) -> None:
        self.uses[key] += 1
        self._push(key)

    def insert(self, key: Key, size: int, seconds: float) -> None:
        self.uses[key], self.costs[key] = 1, seconds / size
        self._push(key)

    def victim(self, key: Key, parent: Key | None) -> Key | None:
        aside, found = [], None
        while self.heap and found is None:
            entry = heapq.heappop(self.heap)
            if self.current.get(entry[2]) != entry[:2]:
                continue
            if self.free(entry[2], parent):
                found = entry[2]
                self.age = entry[0]
                del self.current[found], self.uses[found], self.costs[found]
            else:
                aside.append(entry)
        for entry in aside:
            heapq.heappush(self.heap, entry)
        return found


class LFUAging(Aged):
    """Arlitt et al., "Evaluating content management techniques for Web proxy caches" (2000): LFU with dynamic aging."""

    def worth(self, key: Key) -> float:
        return float(self.uses[key])


class GDSF(Aged):
    """Cherkasova, "Improving WWW proxies performance with Greedy-Dual-Size-Frequency" (1998), cost in seconds per byte.

    Seconds are divided by the mean cost so far, so that the worth of an average object is its uses.
    """

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.total, self.seen = 0.0, 0

    def insert(self, key: Key, size: int, seconds: float) -> None:
        self.total, self.seen = self.total + seconds / size, self.seen + 1
        super().insert(key, size, seconds)

    def worth(self, key: Key) -> float:
        return self.uses[key] * self.costs[key] * self.seen / self.total


class ARC(Rival):
    """Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache" (FAST 2003); lists and target counted in bytes."""

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.recent: OrderedDict[Key, int] = OrderedDict()
        self.frequent: OrderedDict[Key, int] = OrderedDict()
        self.ghosts: tuple[OrderedDict[Key, int], OrderedDict[Key, int]] = (OrderedDict(), OrderedDict())
        self.bytes = [0, 0, 0, 0]  # recent, frequent and their ghosts
        self.target = 0.0
        self.known = 0  # 1: the newcomer was among the ghosts of the recent, 2: of the frequent

    def hit(self, key: Key) -> None:
        if key in self.recent:
            size = self.recent.pop(key)
            self.bytes[0] -= size
            self.bytes[1] += size
            self.frequent[key] = size
        else:
            self.frequent.move_to_end(key)

    def arriving(self, key: Key, size: int) -> None:
        first, second = self.ghosts
        self.known = 1 if key in first else 2 if key in second else 0
        if self.known == 1:
            self.target = min(self.budget, self.target + size * max(1.0, self.bytes[3] / max(self.bytes[2], 1)))
            self.bytes[2] -= first.pop(key)
        elif self.known == 2:
            self.target = max(0.0, self.target - size * max(1.0, self.bytes[2] / max(self.bytes[3], 1)))
            self.bytes[3] -= second.pop(key)

    def insert(self, key: Key, size: int, seconds: float) -> None:
        place = 1 if self.known else 0
        (self.recent, self.frequent)[place][key] = size
        self.bytes[place] += size
        while self.ghosts[0] and self.bytes[0] + self.bytes[2] > self.budget:
            self.bytes[2] -= self.ghosts[0].popitem(last=False)[1]
        while self.ghosts[1] and sum(self.bytes) > 2 * self.budget:
            self.bytes[3] -= self.ghosts[1].popitem(last=False)[1]

    def victim(self, key: Key, parent: Key | None) -> Key | None:
        first = self.bytes[0] and (self.bytes[0] > self.target or (self.known == 2 and self.bytes[0] >= self.target))
        for place in (0, 1) if first else (1, 0):
            queue = (self.recent, self.frequent)[place]
            found = next((held for held in queue if self.free(held, parent)), None)
            if found is not None:
                size = queue.pop(found)
                self.ghosts[place][found] = size
                self.bytes[place] -= size
                self.bytes[place + 2] += size
                return found
        return None


class S3FIFO(Rival):
    """Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023): a tenth of the bytes for newcomers, two bits of use."""

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.small: OrderedDict[Key, int] = OrderedDict()
        self.main: OrderedDict[Key, int] = OrderedDict()
        self.ghost: OrderedDict[Key, int] = OrderedDict()
        self.small_bytes = self.ghost_bytes = 0
        self.uses: dict[Key, int] = {}
        self.known = False

    def hit(self, key: Key) -> None:
        self.uses[key] = min(3, self.uses[key] + 1)

    def arriving(self, key: Key, size: int) -> None:
        self.known = key in self.ghost
        if self.known:
            self.ghost_bytes -= self.ghost.pop(key)

    def insert(self, key: Key, size: int, seconds: float) -> None:
        self.uses[key] = 0
        if self.known:
            self.main[key] = size
        else:
            self.small[key] = size
            self.small_bytes += size

    def victim(self, key: Key, parent: Key | None) -> Key | None:
        if self.small_bytes >= self.budget / 10 or not self.main:
            found = self._of_small(parent)
            return found if found is not None else self._of_main(parent)
        found = self._of_main(parent)
        return found if found is not None else self._of_small(parent)

    def _of_small(self, parent: Key | None) -> Key | None:
        for _ in range(len(self.small)):
            held, size = self.small.popitem(last=False)
            self.small_bytes -= size
            if self.uses[held] > 0 or not self.free(held, parent):
                self.uses[held] = 0
                self.main[held] = size
                continue
            del self.uses[held]
            self.ghost[held] = size
            self.ghost_bytes += size
            while self.ghost_bytes > self.budget * 0.9:
                self.ghost_bytes -= self.ghost.popitem(last=False)[1]
            return held
        return None

    def _of_main(self, parent: Key | None) -> Key | None:
        for _ in range(4 * len(self.main)):
            held, size = self.main.popitem(last=False)
            if self.uses[held] > 0 or not self.free(held, parent):
                self.uses[held] = max(0, self.uses[held] - 1)
                self.main[held] = size
                continue
            del self.uses[held]
            return held
        return None


RIVALS: dict[str, Callable[[int], Rival]] = {"LRU": LRU, "LFU-aging": LFUAging, "GDSF": GDSF, "ARC": ARC, "S3-FIFO": S3FIFO}

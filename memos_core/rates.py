"""How likely each key is to be asked for next, learned from the requests alone. Pure: time is counted in requests.

In two steps, each learned alike: which group the next request is for, and which key of that group. Keys without a group make up one. The
time of a key is counted in requests for its group: what is known of the keys of a conversation stays as it is while another one is live,
and all of them cool down together.

Every half-life gives a forecast: the decayed number of uses over that of all. Weights say which forecasts to believe. They are the
posterior over "this forecast is the right one now, and may give way to another at any request", which follows a change within a few dozen
requests. One more forecast of keys is the share of a key's uses since the last such change: a short half-life notices that the hot keys
are others, but it goes on forgetting, where after the change every use is worth remembering. One more candidate is a slow mixture of all
forecasts, for requests that no single one fits.

Source: Herbster and Warmuth, "Tracking the best expert" (Machine Learning 32, 1998) for the weights; the mixture is the stepwise EM of
Cappé and Moulines, "On-line expectation-maximization" (2009). Half-lives a factor of four apart, the two steps and the count that begins
anew are ours.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Slots = np.ndarray[Any, np.dtype[np.int64]]

HALF_LIVES: tuple[float, ...] = (4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0)
"""In requests: all of them for groups, those for its group for a key."""
FORECASTS = len(HALF_LIVES) + 1
"""Of a key; of a group, one less."""
BRIEF = slice(0, 3)
"""Of the half-lives, those that are believed when requests have just changed."""
START = 1
"""Of the half-lives, that whose counts are taken for the uses since a change when it is noticed."""
SURE = 0.9
"""How far they have to be for a change to be noticed: with a bare half, luck made one up in one of ten steady streams of 50,000 requests."""
ERA = 64
"""Requests between two changes at least."""
SWITCH = 1e-5
"""Chance per request that another forecast becomes the right one."""
UNFORESEEN = 0.1
"""Share of requests that a forecast is not blamed for: they may go to any known key or group alike."""
STEP = 0.02
"""Weight of the newest request in the slow mixture."""
LEAST = 1e-4
"""Weight that every forecast keeps in the slow mixture."""
_INVERSE: Floats = -1 / np.array(HALF_LIVES)
_FADE: Floats = np.exp2(_INVERSE)


class UseRates:
    """Rates of use, of keys in columns by slot, of groups by place. A key keeps its slot until it is forgotten, a group its place.

    A group without a key is kept while room is left: it may come again, as when the last of its keys was of a text that has changed.
    """

    def __init__(self) -> None:
        self.slots: dict[Hashable, int] = {}
        self.keys: list[Hashable | None] = []
        self.clock = 0
        self.last: Floats = np.zeros(0)
        self._counts: Floats = np.zeros((0, len(HALF_LIVES)))
        self._counted: Floats = np.zeros(0)  # uses of its group when it was used last
        self._since: Floats = np.zeros(0)  # uses since the last change
        self._group: Slots = np.zeros(0, np.int64)
        self._groups: dict[Hashable, int] = {}
        self._group_counts: Floats = np.zeros((0, len(HALF_LIVES)))
        self._group_last: Floats = np.zeros(0)
        self._group_uses: Floats = np.zeros(0)
        self._group_since: Floats = np.zeros(0)  # of all its keys
        self._group_keys: Slots = np.zeros(0, np.int64)
        self._free_places: list[int] = []
        self._posterior: Floats = np.full(FORECASTS + 1, 1 / (FORECASTS + 1))  # the last is the slow mixture
        self._mixture: Floats = np.full(FORECASTS, 1 / FORECASTS)
        self._group_posterior: Floats = np.full(FORECASTS, 1 / FORECASTS)
        self._group_mixture: Floats = np.full(FORECASTS - 1, 1 / (FORECASTS - 1))
        self._changed = 0  # when the last change was noticed
        self._settled = False  # since then, something else than the briefest half-lives has been believed
        self._free: list[int] = []
        self._pending: tuple[Floats | None, Floats | None] = (None, None)  # of the group and of the key, not judged yet
        self._begun = 0  # clock when the turn began
        self._warmed: dict[int, tuple[Floats, float, float, float]] = {}  # groups of the turn: counts, last, uses and since before it

    def __len__(self) -> int:
        return len(self.slots)

    def use(self, key: Hashable, group: Hashable | None = None, together: bool = False) -> int:
        """Count a request; its slot. The forecasts made before it are judged by it. A key stays in the group it came with.

        together: the last request was of the same turn or path. Then both are one observation, of this key, by the forecasts made before
        the turn: repeated turns would otherwise count as streaks of luck for the shortest half-life, and what a turn warms as heat foreseen.
        """
        if not together:
            self._judge()
            self._begun, self._warmed = self.clock, {}
        known = key in self.slots
        slot = self.slots[key] if known else self._add(key, group)
        place = int(self._group[slot])
        if place not in self._warmed:
            columns = (self._group_last, self._group_uses, self._group_since)
            last, uses, since = (float(column[place]) for column in columns)
            self._warmed[place] = (self._group_counts[place].copy(), last, uses, since)
        self._pending = self._forecast(place, slot if known else None)
        self.clock += 1
        _bump(self._group_counts, self._group_last, place, self.clock)
        self._group_uses[place] += 1
        self._group_since[place] += 1
        _bump(self._counts, self._counted, slot, float(self._group_uses[place]))
        self._since[slot] += 1
        self.last[slot] = self.clock
        return slot

    def of(self, slots: Slots, ahead: int = 1) -> Floats:
        """Chance of each to be what the next request asks for; with `ahead`, the mean over so many next requests for its group, if none
        of them is for the key: what a forecast knows fades with its half-life, so that brief heat counts for less.
        """
        if not len(slots):
            return np.zeros(0)
        places, weights = self._group[slots], _believed(self._posterior, self._mixture)
        weights[:-1] *= _total(ahead) / ahead
        uses = self._group_uses[places]
        own = self._counts[slots] * np.exp2((uses - self._counted[slots])[:, None] * _INVERSE) / _total(uses[:, None])
        share = own @ weights[:-1] + self._since[slots] * (weights[-1] / self._group_since[places])
        if len(self._groups) == 1:
            return np.asarray(share)
        heat = self._group_counts[places] * np.exp2((self.clock - self._group_last[places])[:, None] * _INVERSE)
        return np.asarray(share * (heat @ (_believed(self._group_posterior, self._group_mixture) / _total(self.clock))))

    @property
    def moving(self) -> bool:
        """Whether the briefest half-lives are believed more than all other forecasts: what comes next follows from the last few requests."""
        return float(_believed(self._posterior, self._mixture)[BRIEF].sum()) > 0.5

    def forget(self, key: Hashable) -> None:
        """Nothing about it is kept but what it added to the heat of its group. Unknown keys are ignored."""
        slot = self.slots.pop(key, None)
        if slot is None:
            return
        self.keys[slot] = None
        self._group_keys[self._group[slot]] -= 1
        self._free.append(slot)

    def weights(self) -> dict[str, float]:
        """By name of the forecast, what is believed of it now: "own 64", "since the change", "mixture"; of groups "group 64", "groups mixed"."""
        own = [*(f"own {half:g}" for half in HALF_LIVES), "since the change", "mixture"]
        groups = [*(f"group {half:g}" for half in HALF_LIVES), "groups mixed"]
        return dict(zip([*own, *groups], [*self._posterior.tolist(), *self._group_posterior.tolist()], strict=True))

    def state(self) -> dict[str, Any]:
        """Everything, as numbers, lists and arrays of its own."""
        return {name: value.copy() if hasattr(value, "copy") else value for name, value in vars(self).items()}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> UseRates:
        """The same as the one whose state it was."""
        made = cls()
        vars(made).update({name: value.copy() if hasattr(value, "copy") else value for name, value in state.items()})
        return made

    def _forecast(self, place: int, slot: int | None) -> tuple[Floats | None, Floats | None]:
        """What each forecast gave, before the turn began, for the group to be asked for, and for the key if the group is.

        A key that was not known could not be foreseen, but its group could. Of a group that was not, nothing could.
        """
        counts, last, uses, since = self._warmed[place]
        if not uses:
            return None, None
        heat = counts * np.exp2((self._begun - last) * _INVERSE) / _total(self._begun)
        group = None if len(self._groups) == 1 else (1 - UNFORESEEN) * heat + UNFORESEEN / len(self._groups)
        if slot is None:
            return group, None
        own = self._counts[slot] * np.exp2((uses - self._counted[slot]) * _INVERSE) / _total(uses)
        forecast = np.append(own, self._since[slot] / since)
        return group, (1 - UNFORESEEN) * forecast + UNFORESEEN / len(self.slots)

    def _judge(self) -> None:
        """Believe those more that thought likely what came."""
        (group, key), self._pending = self._pending, (None, None)
        if group is not None:
            self._group_posterior, self._group_mixture = _judged(self._group_posterior, self._group_mixture, group)
        if key is not None:
            self._posterior, self._mixture = _judged(self._posterior, self._mixture, key)
            self._notice()

    def _notice(self) -> None:
        """Count anew, from what a short half-life remembers, when the shortest begin to be believed and not the others."""
        believed = self._posterior
        brief, others = float(believed[BRIEF].sum()), float(believed[BRIEF.stop : FORECASTS].sum())
        if brief < others:
            self._settled = True
        elif brief * (1 - SURE) > others * SURE and self._settled and self.clock - self._changed > ERA:
            self._settled, self._changed = False, self.clock
            uses = self._group_uses[self._group]
            self._since = self._counts[:, START] * np.exp2((uses - self._counted) * _INVERSE[START])
            self._group_since = _total(self._group_uses[:, None])[:, START]
            self._posterior = believed * (1 - brief / 2)
            self._posterior[FORECASTS - 1] += brief / 2

    def _add(self, key: Hashable, group: Hashable | None) -> int:
        if not self._free:
            grown = max(64, 2 * len(self.keys))
            self._free = list(range(grown - 1, len(self.keys) - 1, -1))
            self.keys += [None] * (grown - len(self.keys))
            self.last, self._counts, self._group = resized(self.last, grown), resized(self._counts, grown), resized(self._group, grown)
            self._counted, self._since = resized(self._counted, grown), resized(self._since, grown)
        slot = self._free.pop()
        place = self._place(group)
        self._group_keys[place] += 1
        self.slots[key], self.keys[slot] = slot, key
        self.last[slot], self._group[slot] = self.clock, place
        self._counts[slot], self._counted[slot], self._since[slot] = 0, self._group_uses[place], 0
        return slot

    def _place(self, group: Hashable | None) -> int:
        if group not in self._groups:
            if not self._free_places:
                self._make_places()
            place = self._groups[group] = self._free_places.pop()
            for column in (self._group_last, self._group_counts, self._group_uses, self._group_since, self._group_keys):
                column[place] = 0
        return self._groups[group]

    def _make_places(self) -> None:
        """Forget the half of the groups without a key that were not asked for longest; where that is little, make room for more."""
        length = len(self._group_last)
        empty = [(self._group_last[place], place, group) for group, place in self._groups.items() if not self._group_keys[place]]
        empty.sort(key=lambda found: found[:2])
        for _, place, group in empty[: len(empty) // 2]:
            if place not in self._warmed:
                del self._groups[group]
                self._free_places.append(place)
        if len(self._free_places) <= length // 4:
            grown = max(16, 2 * length)
            self._free_places += range(grown - 1, length - 1, -1)
            self._group_last, self._group_counts = resized(self._group_last, grown), resized(self._group_counts, grown)
            self._group_uses, self._group_since = resized(self._group_uses, grown), resized(self._group_since, grown)
            self._group_keys = resized(self._group_keys, grown)


def resized(array: Any, length: int) -> Any:
    """A copy with that many rows, the new ones zero."""
    grown = np.zeros((length, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _total(uses: Any) -> Floats:
    """What so many uses one after the other have decayed to, by half-life."""
    return np.asarray((1 - np.exp2(uses * _INVERSE)) / (1 - _FADE))


def _bump(counts: Floats, last: Floats, row: int, clock: float) -> None:
    """One use more now, older ones faded until now."""
    counts[row] = counts[row] * np.exp2((clock - last[row]) * _INVERSE) + 1
    last[row] = clock


def _believed(posterior: Floats, mixture: Floats) -> Floats:
    """Weight of each forecast, with its part of the slow mixture."""
    return np.asarray(posterior[:-1] + posterior[-1] * mixture)


def _judged(posterior: Floats, mixture: Floats, forecast: Floats) -> tuple[Floats, Floats]:
    """Both, after a request to which the forecasts gave these chances."""
    mixed = float(forecast @ mixture)
    weighed = posterior * np.append(forecast, mixed)
    slow = np.maximum(mixture * (1 - STEP + STEP / mixed * forecast), LEAST)
    return weighed * ((1 - SWITCH) / float(weighed.sum())) + SWITCH / len(weighed), slow / float(slow.sum())

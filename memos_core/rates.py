"""How likely each key is to be asked for next, learned from the requests alone. Pure: time is counted in requests.

Every half-life gives a forecast: the decayed number of a key's uses over that of all. So does the heat of its group, for three half-lives:
the group's decayed share, split among its keys by their long-run uses. Weights say which forecasts to believe. They are the posterior over
"this forecast is the right one now, and may give way to another at any request", which follows a change within a few dozen requests. One
more forecast is the share of a key's uses since the last such change: a short half-life notices that the hot keys are others, but it goes
on forgetting, where after the change every use is worth remembering. One more candidate is a slow mixture of all forecasts, for requests
that no single one fits.

Source: Herbster and Warmuth, "Tracking the best expert" (Machine Learning 32, 1998) for the weights; the mixture is the stepwise EM of
Cappé and Moulines, "On-line expectation-maximization" (2009). Half-lives a factor of four apart and the count that begins anew are ours.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Slots = np.ndarray[Any, np.dtype[np.int64]]

HALF_LIVES: tuple[float, ...] = (4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0)
"""In requests."""
HEATS = slice(1, 4)
"""Of the half-lives, those at which the heat of a group is watched."""
FORECASTS = len(HALF_LIVES) + len(HALF_LIVES[HEATS]) + 1
BRIEF = slice(0, 3)
"""Of the half-lives, those that are believed more than all others when requests have just changed."""
START = 1
"""Of the half-lives, that whose counts are taken for the uses since a change when it is noticed."""
ERA = 64
"""Requests between two changes at least."""
SWITCH = 1e-5
"""Chance per request that another forecast becomes the right one."""
UNFORESEEN = 0.1
"""Share of requests that a forecast is not blamed for: they may go to any known key alike."""
STEP = 0.02
"""Weight of the newest request in the slow mixture."""
LEAST = 1e-4
"""Weight that every forecast keeps in the slow mixture."""
_TINY = 1e-300


class UseRates:
    """Rates of use of keys and groups, in columns by slot. A key keeps its slot until it is forgotten."""

    def __init__(self) -> None:
        self.slots: dict[Hashable, int] = {}
        self.keys: list[Hashable | None] = []
        self.clock = 0
        self.last: Floats = np.zeros(0)
        self._counts: Floats = np.zeros((0, len(HALF_LIVES)))
        self._group: Slots = np.zeros(0, np.int64)  # -1: none, the key is a group of its own
        self._groups: dict[Hashable, int] = {}
        self._group_counts: Floats = np.zeros((0, len(HALF_LIVES)))
        self._group_last: Floats = np.zeros(0)
        self._total: Floats = np.zeros(len(HALF_LIVES))
        self._posterior: Floats = np.full(FORECASTS + 1, 1 / (FORECASTS + 1))  # the last is the slow mixture
        self._mixture: Floats = np.full(FORECASTS, 1 / FORECASTS)
        self._inverse: Floats = -1 / np.array(HALF_LIVES)
        self._fade: Floats = np.exp2(self._inverse)
        self._since: Floats = np.zeros(0)  # uses since the last change
        self._changed = 0.0  # when that was
        self._settled = False  # since it was noticed, something else than the briefest half-lives has been believed
        self._free: list[int] = []
        self._pending: Floats | None = None  # not judged yet
        self._begun: tuple[int, Floats] = (0, self._total)  # clock and total when the turn began
        self._warmed: dict[int, tuple[Floats, float]] = {}  # groups of the turn: their uses before it, and when the last of them was

    def __len__(self) -> int:
        return len(self.slots)

    def use(self, key: Hashable, group: Hashable | None = None, together: bool = False) -> int:
        """Count a request; its slot. The forecasts made before it are judged by it. A key stays in the group it came with.

        together: the last request was of the same turn or path. Then both are one observation, of this key, by the forecasts made before
        the turn: repeated turns would otherwise count as streaks of luck for the shortest half-life, and what a turn warms as heat foreseen.
        """
        if not together:
            if self._pending is not None:
                self._judge(self._pending)
            self._begun, self._warmed = (self.clock, self._total), {}
        slot = self.slots.get(key)
        if slot is None:
            slot, self._pending = self._add(key, group), None
        else:
            self._pending = self._forecast(slot)
        self.clock += 1
        self._total = self._total * self._fade + 1
        _bump(self._counts, self.last, slot, self.clock, self._inverse)
        self._since[slot] += 1
        if (place := int(self._group[slot])) >= 0:
            self._warmed.setdefault(place, (self._group_counts[place].copy(), float(self._group_last[place])))
            _bump(self._group_counts, self._group_last, place, self.clock, self._inverse)
        return slot

    def of(self, slots: Slots) -> Floats:
        """Chance of each to be what the next request asks for."""
        if not len(slots):
            return np.zeros(0)
        weights = self._posterior[:-1] + self._posterior[-1] * self._mixture
        own, heat = self._decayed(slots)
        plain, lifted = weights[: len(HALF_LIVES)] / self._total, weights[len(HALF_LIVES) : -1] / self._total[HEATS]
        since = self._since[slots] * (weights[-1] / max(self.clock - self._changed, 1))
        return np.asarray(own @ plain + own[:, -1] / np.maximum(heat[:, -1], _TINY) * (heat[:, HEATS] @ lifted) + since)

    def forget(self, key: Hashable) -> None:
        """Nothing about it is kept but what it added to the heat of its group. Unknown keys are ignored."""
        slot = self.slots.pop(key, None)
        if slot is None:
            return
        self.keys[slot] = None
        self._free.append(slot)

    def weights(self) -> dict[str, float]:
        """By name of the forecast, what is believed of it now: "own 64", "group 64", "since the change", "mixture"."""
        names = [f"own {half:g}" for half in HALF_LIVES] + [f"group {half:g}" for half in HALF_LIVES[HEATS]]
        return dict(zip([*names, "since the change", "mixture"], self._posterior.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """Everything, as numbers, lists and arrays of its own."""
        return {name: value.copy() if hasattr(value, "copy") else value for name, value in vars(self).items()}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> UseRates:
        """The same as the one whose state it was."""
        made = cls()
        vars(made).update({name: value.copy() if hasattr(value, "copy") else value for name, value in state.items()})
        return made

    def _decayed(self, slots: Slots) -> tuple[Floats, Floats]:
        """Uses of each and of its group, by half-life. A key without a group is one of its own."""
        own = self._counts[slots] * np.exp2((self.clock - self.last[slots])[:, None] * self._inverse)
        if not self._groups:
            return own, own
        places = self._group[slots]
        heat = self._group_counts[places] * np.exp2((self.clock - self._group_last[places])[:, None] * self._inverse)
        return own, np.where(places[:, None] < 0, own, heat)

    def _forecast(self, slot: int) -> Floats:
        """What each forecast gave, before the turn began, for it to be asked for."""
        clock, total = self._begun
        own = heat = self._counts[slot] * np.exp2((clock - self.last[slot]) * self._inverse)
        if (place := int(self._group[slot])) >= 0:
            uses, last = self._warmed.get(place, (self._group_counts[place], float(self._group_last[place])))
            heat = uses * np.exp2((clock - last) * self._inverse)
        lift = own[-1] / max(float(heat[-1]), _TINY)
        since = self._since[slot] / max(clock - self._changed, 1)
        forecast = np.concatenate([own / total, lift * heat[HEATS] / total[HEATS], [since]])
        return (1 - UNFORESEEN) * forecast + UNFORESEEN / len(self.slots)

    def _judge(self, forecast: Floats) -> None:
        """Believe those more that thought likely what came."""
        mixed = float(forecast @ self._mixture)
        posterior = self._posterior * np.append(forecast, mixed)
        self._posterior = posterior * ((1 - SWITCH) / float(posterior.sum())) + SWITCH / len(posterior)
        mixture = np.maximum(self._mixture * (1 - STEP + STEP / mixed * forecast), LEAST)
        self._mixture = mixture / float(mixture.sum())
        self._notice()

    def _notice(self) -> None:
        """Count anew, from what a short half-life remembers, when the shortest begin to be believed more than the others."""
        believed = self._posterior
        brief = float(believed[BRIEF].sum())
        if brief < float(believed[BRIEF.stop : len(HALF_LIVES)].sum() + believed[FORECASTS - 1]):
            self._settled = True
        elif self._settled and self.clock - self._changed > ERA:
            self._settled = False
            self._since = self._counts[:, START] * np.exp2((self.clock - self.last) * self._inverse[START])
            self._changed = self.clock - float(self._total[START])
            self._posterior = believed * (1 - brief / 2)
            self._posterior[FORECASTS - 1] += brief / 2

    def _add(self, key: Hashable, group: Hashable | None) -> int:
        if not self._free:
            grown = max(64, 2 * len(self.keys))
            self._free = list(range(grown - 1, len(self.keys) - 1, -1))
            self.keys += [None] * (grown - len(self.keys))
            self.last, self._counts, self._group = resized(self.last, grown), resized(self._counts, grown), resized(self._group, grown)
            self._since = resized(self._since, grown)
        slot = self._free.pop()
        self.slots[key], self.keys[slot] = slot, key
        self._counts[slot], self.last[slot], self._group[slot] = 0, self.clock, -1
        self._since[slot] = 0
        if group is not None:
            place = self._groups.setdefault(group, len(self._groups))
            if place == len(self._group_last):
                grown = max(16, 2 * place)
                self._group_last, self._group_counts = resized(self._group_last, grown), resized(self._group_counts, grown)
            self._group[slot] = place
        return slot


def resized(array: Any, length: int) -> Any:
    """A copy with that many rows, the new ones zero."""
    grown = np.zeros((length, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _bump(counts: Floats, last: Floats, slot: int, clock: int, inverse: Floats) -> None:
    """One use more now, older ones faded until now."""
    counts[slot] = counts[slot] * np.exp2((clock - last[slot]) * inverse) + 1
    last[slot] = clock

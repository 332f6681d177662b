"""What it is worth to hold a memory in a form that saves computing: expected seconds saved, and those per byte held. Pure.

Source: MemOS §4.2 (behavioural usage indicators, contextual dependency, task fit); the estimate is ours. Rates of use come from heat, seconds
from the rates measured on the machine at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memos_core.cube import Usage
from memos_core.lifespan import HEAT_HALF_LIFE


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast this machine is, as measured; None until then. prefill: tokens per second. read: bytes of KV per second.

    distil: CPU seconds per statement; as modules made here took, else a guess.
    """

    prefill: float | None = None
    read: float | None = None
    distil: float = 30.0

    def computing(self, tokens: float) -> float:
        """Seconds that so many tokens of a prompt take; 0 while that is not known."""
        return tokens / self.prefill if self.prefill else 0.0

    def loading(self, size: float) -> float:
        """Seconds that so many bytes of KV take to be read; 0 while that is not known."""
        return size / self.read if self.read else 0.0


@dataclass(frozen=True, slots=True)
class Value:
    """What a memory is expected to bring within a horizon.

    uses: how often it will be recalled. seconds_each: saved by each, loading taken off. helpful: the share of recalls that answers came from;
    task_fit: the share for the task at hand; 1 where none is named. bytes: held for it.
    """

    uses: float
    seconds_each: float
    helpful: float
    task_fit: float
    bytes: int

    @property
    def seconds(self) -> float:
        """Expected seconds saved within the horizon."""
        return self.uses * self.seconds_each * self.task_fit

    @property
    def per_byte(self) -> float:
        """Expected seconds saved per byte held."""
        return self.seconds / max(self.bytes, 1)


def expected_uses(heat: float, horizon: float) -> float:
    """Recalls within so many seconds, if it goes on as its heat says: a steady rate r keeps heat at r · HEAT_HALF_LIFE / ln 2."""
    return heat * math.log(2) / HEAT_HALF_LIFE * horizon


def likely_heat(heat: float, together: Sequence[tuple[float, float]]) -> float:
    """Heat with what something is usually used with: (heat, share of that one's turns in which this one was used too) each. When a companion
    becomes hot, so will this."""
    return max([heat, *(share * other for other, share in together)])


def task_fit(tasks: Mapping[int, int], task: int | None) -> float:
    """The share of recalls for the task at hand, by Laplace's rule; 1 where none is named. tasks: recalls by task."""
    return 1.0 if task is None else (tasks.get(task, 0) + 1) / (sum(tasks.values()) + 2)


def value(
    usage: Usage, tokens: int, size: int, speed: Speed, horizon: float, *,
    together: Sequence[tuple[float, float]] = (), tasks: Mapping[int, int] | None = None, task: int | None = None,
) -> Value:  # fmt: skip
    """Estimate. tokens: of its text; size: bytes of what is held for it. together: as in `likely_heat`; tasks, task: as in `task_fit`."""
    uses = expected_uses(likely_heat(usage.heat, together), horizon)
    each = max(speed.computing(tokens) - speed.loading(size), 0.0)
    # What stands in the head may answer without being recalled.
    return Value(uses, each, min((usage.uses + 1) / (usage.recalls + 2), 1.0), task_fit(tasks or {}, task), size)

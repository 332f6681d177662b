"""Plaintext that deserves a place in a scope's head, as the policy sees it.

Source: MemOS §4.2: contextual dependency and task fit decide where there is no room for all; the estimate is ours.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from memos_core.cube import CubeId, MemCube
from memos_core.house import House
from memos_core.plan import line
from memos_core.policy import Candidate
from memos_core.store import uses
from memos_core.store.snapshot import Snapshot
from memos_core.value import likely_heat, task_fit


def candidates(house: House, view: Snapshot, cubes: Sequence[MemCube], in_head: Collection[CubeId], room: int) -> list[Candidate]:
    """room: tokens of a head. Where the texts are more, each counts as hot as what it is used with makes it, and half of that as far as it
    fits the task at hand: that of the latest use of any of them. The next turn may be for another."""
    since = view.text_since(cubes)
    found = [Candidate(cube, house.count(line(cube)) + 1, cube.id in in_head, since[cube.id]) for cube in cubes]
    if sum(each.tokens for each in found) <= room:
        return found
    by_id, task = {cube.id: cube.usage for cube in cubes}, uses.latest_task(view, [cube.id for cube in cubes])

    def expected(cube: MemCube) -> float:
        known = [(by_id[id], count) for id, count in uses.companions(view, cube.id) if id in by_id]
        together = [(usage.heat, min(count / max(usage.recalls, 1), 1.0)) for usage, count in known]
        fit = task_fit({} if task is None else uses.by_task(view, cube.id), task)
        return likely_heat(cube.usage.heat, together) * (1 + fit) / 2

    return [replace(each, expected=expected(each.cube)) for each in found]

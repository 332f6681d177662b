"""Replays a trace against a policy without a model: hits, moves, time per decision, and seconds over the tiers RAM, disk and dropped.

    python tests/benchmarks/simulator.py DATA --trace live --megabytes 512      what budgets of RAM bring, to choose one

Sizes and budgets are in blocks of 64 tokens. Moves are admissions plus evictions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from memos_core.residency import Decision, Residency

if TYPE_CHECKING:
    from rivals import Rival
    from traces import Trace

WINDOW = 100  # requests over which a rate of hits after a shift is taken
RECENT = 16  # requests within which a scope counts as live already
AHEAD = 8  # sessions fetched ahead at most when a scope goes live


@dataclass(frozen=True)
class Machine:
    """Tokens prefilled per second, bytes read or written per second, seconds per file, bytes of KV per token."""

    prefill: float = 2300.0
    disk: float = 1.5e9
    opening: float = 0.25e-3
    token_bytes: int = 23_040
    block: int = 64

    def computing(self, blocks: int) -> float:
        """Seconds to prefill so many blocks."""
        return blocks * self.block / self.prefill

    def loading(self, blocks: int) -> float:
        """Seconds to read them from disk, or to write them there."""
        return self.opening + blocks * self.block * self.token_bytes / self.disk


class Policy(Protocol):
    """What can be replayed. `used` never exceeds the budget."""

    used: int

    def request(
        self,
        key: Hashable,
        size: int,
        seconds: float,
        group: Hashable | None = None,
        parent: Hashable | None = None,
        together: bool = False,
    ) -> Decision: ...


@dataclass(frozen=True)
class Replay:
    """By request: blocks asked for, blocks hit, moves, microseconds of the decision."""

    asked: np.ndarray
    hit: np.ndarray
    moves: np.ndarray
    micros: np.ndarray

    @property
    def hits(self) -> float:
        """Share of the blocks asked for that were held, in percent. Cold misses count."""
        return 100 * float(self.hit.sum() / self.asked.sum())

    @property
    def requests_hit(self) -> float:
        """Share of the requests that were hits, in percent."""
        return 100 * float((self.hit > 0).mean())

    @property
    def settled_moves(self) -> float:
        """Moves per 1,000 requests in the second half, when the tier has filled."""
        return 1000 * float(self.moves[len(self.moves) // 2 :].mean())


def replay(trace: Trace, policy: Policy, budget: int, machine: Machine | None = None) -> Replay:
    """Every request in order. Raises AssertionError when the policy holds more than its budget."""
    machine = machine or Machine()
    blocks, count = trace.blocks.tolist(), len(trace.keys)
    groups = None if trace.groups is None else trace.groups.tolist()
    parents = None if trace.parents is None else trace.parents.tolist()
    together = [False] * count if trace.together is None else trace.together.tolist()
    hit, moves, micros = np.zeros(count), np.zeros(count), np.zeros(count)
    for place, key in enumerate(trace.keys.tolist()):
        parent = None if parents is None or parents[key] < 0 else parents[key]
        size, seconds, group = blocks[key], machine.computing(blocks[key]), None if groups is None else groups[key]
        start = time.perf_counter()
        decision = policy.request(key, size, seconds, group, parent, together[place])
        micros[place] = 1e6 * (time.perf_counter() - start)
        assert policy.used <= budget, f"{policy.used} blocks of {budget}"
        hit[place] = blocks[key] if decision.hit else 0
        moves[place] = decision.admitted + len(decision.evicted)
    return Replay(trace.blocks[trace.keys].astype(float), hit, moves, micros)


def recovery(runs: list[tuple[Trace, Replay]]) -> int:
    """Requests after a move of the hot set until a window of hits, averaged over all moves, reaches 90 % of its steady rate.

    Steady is the second half of the time between two moves.
    """
    hit, asked = [], []
    for trace, run in runs:
        length = min(np.diff([*trace.shifts, len(trace.keys)]))
        hit += [run.hit[start : start + length] for start in trace.shifts]
        asked += [run.asked[start : start + length] for start in trace.shifts]
    hits, all_asked = np.mean(hit, axis=0), np.mean(asked, axis=0)
    half = len(hits) // 2
    steady = hits[half:].sum() / all_asked[half:].sum()
    rolling = [np.convolve(values, np.ones(WINDOW), "valid") for values in (hits, all_asked)]
    return int(np.argmax(rolling[0] / rolling[1] >= 0.9 * steady)) + WINDOW


def tiers(trace: Trace, ram: int, disk: int, machine: Machine | None = None, ahead: bool = True) -> dict[str, float]:
    """Seconds of the requests by what they went for, with `Residency` for RAM and for disk; total is their sum.

    A file of what is in RAM saves nothing, so that it is the first to go when disk is full; what RAM lets go is offered to disk. A scope
    that none of the last requests was for goes live with a request, and then what disk has of it is offered to RAM: "ahead" is the time
    this takes.
    """
    machine = machine or Machine()
    blocks, seconds = trace.blocks.tolist(), {"computing": 0.0, "loading": 0.0, "writing": 0.0, "ahead": 0.0}
    memory, files = Residency(ram), Residency(disk)
    members: dict[int, list[int]] = {}
    heard: dict[int, int] = {}

    def saved(key: int) -> float:
        return machine.computing(blocks[key]) - machine.loading(blocks[key])

    def fetched(key: int, decision: Decision) -> None:
        if decision.admitted:
            files.reprice(key, 0.0)
        for gone in decision.evicted:
            files.reprice(gone, saved(gone))  # type: ignore[arg-type]
            seconds["writing"] += machine.loading(blocks[gone]) * files.offer(gone).admitted  # type: ignore[call-overload]

    for place, key in enumerate(trace.keys.tolist()):
        size, group = blocks[key], -1 if trace.groups is None else int(trace.groups[key])
        if key not in memory:
            kind = "loading" if key in files else "computing"
            seconds[kind] += machine.loading(size) if key in files else machine.computing(size)
        if key not in members.setdefault(group, []):
            members[group].append(key)
        same = trace.together is not None and bool(trace.together[place])
        decision = memory.request(key, size, machine.computing(size), group, together=same)
        kept = files.request(key, size, 0.0 if key in memory else saved(key), group, together=same)
        seconds["writing"] += machine.loading(size) * kept.admitted
        fetched(key, decision)
        if ahead and place - heard.get(group, -RECENT - 1) > RECENT:
            waiting = [other for other in members[group] if other in files and other not in memory]
            for other in sorted(waiting, key=lambda other: -memory.value(other))[:AHEAD]:
                offered = memory.offer(other)
                seconds["ahead"] += machine.loading(blocks[other]) * offered.admitted
                fetched(other, offered)
        heard[group] = place
    return seconds | {"total": sum(seconds.values())}


def spilling(trace: Trace, memory: Rival, files: Rival, machine: Machine | None = None) -> float:
    """Seconds with two policies of the usual kind, one over the other: what RAM lets go is written to disk, what is read leaves it."""
    machine = machine or Machine()
    blocks, total = trace.blocks.tolist(), 0.0
    for key in trace.keys.tolist():
        size = blocks[key]
        if key not in memory.sizes:
            total += machine.loading(size) if key in files.sizes else machine.computing(size)
        if key in files.sizes:
            files.remove(key)
        for gone in memory.request(key, size, machine.computing(size)).evicted:
            total += machine.loading(blocks[gone])  # type: ignore[call-overload]
            files.request(gone, blocks[gone], machine.computing(blocks[gone]))  # type: ignore[call-overload]
    return total


def main() -> None:
    import traces

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="directory of locomo_dev.json; without it, only the traces that are drawn")
    parser.add_argument("--trace", default="zipf", choices=("zipf", "scan", "shift", "tree", "once", "repeated", "live"))
    parser.add_argument("--megabytes", type=float, nargs="+", help="budgets of RAM; a tenth to all of the footprint when not given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.trace in ("once", "repeated", "live"):
        if options.data is None:
            parser.error(f"--trace {options.trace} needs the directory of locomo_dev.json")
        trace = getattr(traces, options.trace)(options.seed, traces.load_talks(options.data / "locomo_dev.json"))
    else:
        trace = traces.zipf(options.seed, 1.0) if options.trace == "zipf" else getattr(traces, options.trace)(options.seed)
    machine = Machine()
    block = machine.block * machine.token_bytes / 1e6
    print(f"{trace.name}: {len(trace.keys):,} requests, footprint {trace.footprint * block:,.0f} MB")
    print(f"{'MB':>8s} {'hits':>6s} {'bytes hit':>10s} {'moves per 1,000':>16s} {'seconds to prefill':>19s}")
    for size in options.megabytes or [trace.footprint * block * share for share in (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)]:
        budget = int(size / block)
        run = replay(trace, Residency(budget), budget, machine)
        missed = machine.computing(1) * float((run.asked - run.hit).sum())
        print(f"{size:8,.0f} {run.requests_hit:5.1f}% {run.hits:9.1f}% {run.settled_moves:16.1f} {missed:19,.1f}")


if __name__ == "__main__":
    main()

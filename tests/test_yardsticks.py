"""What the policy of tiers is measured by: traces, rivals, bounds and the replay over tiers, against small cases done by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchmarks import traces
from benchmarks.bounds import RateOracle, Told, ToldOfMoves, foo, furthest
from benchmarks.rivals import ARC, GDSF, LRU, RIVALS, S3FIFO, LFUAging, Rival
from benchmarks.simulator import Machine, recovery, replay, spilling, tiers
from drawn_requests import HISTORIES, KEYS, ask, check, parent, size
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core.residency import Residency


@pytest.mark.parametrize("name", RIVALS)
@given(history=HISTORIES, budget=st.integers(0, 30), tree=st.booleans())
@settings(max_examples=30)
def test_rivals_hold_their_budget_and_parents_stay(name: str, history: list[int], budget: int, tree: bool) -> None:
    tier = RIVALS[name](budget)
    for key in history:
        ask(tier, key, tree)
        check(tier, tier.sizes)
        assert not tree or all(parent(k) is None or parent(k) in tier.sizes for k in tier.sizes)  # type: ignore[arg-type]


def hits(tier: Rival, keys: str, sizes: dict[str, int] | None = None, seconds: dict[str, float] | None = None) -> str:
    """Those of the requests that were hits."""
    return "".join(key for key in keys if tier.request(key, (sizes or {}).get(key, 1), (seconds or {}).get(key, 1.0)).hit)


def test_rivals_by_hand() -> None:
    assert hits(LRU(2), "abacabb") == "aab"  # c drives out b, then b drives out c
    assert hits(LFUAging(2), "aabcba") == "a"  # with b gone, the age makes up for the second use of a
    assert hits(GDSF(4), "abcb", {"a": 4, "b": 1, "c": 1}, {"a": 1.0, "b": 1.0, "c": 1.0}) == "b"  # a, large and no dearer, went for b
    scan = "aabb" + "cdefgh" + "ab"
    assert hits(ARC(3), scan) == "abab"  # used twice, so that a scan does not touch them
    assert hits(LRU(3), scan) == "ab"
    assert hits(S3FIFO(10), "aa" + "bcdefghijklm" + "a") == "aa"  # used again, it moves on to the main queue


def test_foo_by_hand() -> None:
    keys, blocks = np.array([0, 1, 2, 0, 1, 2]), np.array([1, 1, 1])
    for bound in (foo, furthest):
        assert bound(keys, blocks, 1) == pytest.approx(1 / 6)
        assert bound(keys, blocks, 2) == pytest.approx(2 / 6)
        assert bound(keys, blocks, 3) == pytest.approx(3 / 6)
        assert bound(np.array([0, 1, 2]), blocks, 3) == 0  # cold misses count
        assert bound(np.array([0, 0]), np.array([4]), 3) == pytest.approx(3 / 8)  # in part: a bound, not a policy


@given(st.lists(KEYS, min_size=1, max_size=60), st.integers(1, 12))
@settings(max_examples=50)
def test_both_ways_to_foo_agree_and_no_policy_exceeds_it(history: list[int], budget: int) -> None:
    keys, blocks = np.array(history), np.array([size(key) for key in range(15)])
    bound = foo(keys, blocks, budget)
    assert furthest(keys, blocks, budget) == pytest.approx(bound)
    for policy in (Residency(budget), *(rival(budget) for rival in RIVALS.values())):
        hit = sum(size(key) for key in history if ask(policy, key).hit)
        assert hit / blocks[keys].sum() <= bound + 1e-9


def test_traces_are_drawn_as_they_say(tmp_path: Any) -> None:
    def turns(number: int) -> list[dict[str, str]]:
        return [{"speaker": "Ana", "text": "word " * 99, "dia_id": f"D{number}:1"}]

    talk = {"conversation": {f"session_{number}": turns(number) for number in range(1, 6)}, "qa": []}
    talk["qa"] = [{"question": "?", "evidence": [f"D{number}:1", f"D{1 + number % 5}:1"]} for number in range(1, 6)]  # type: ignore[assignment]
    file = tmp_path / "talks.json"
    file.write_text(json.dumps([talk] * 5))
    talks = traces.load_talks(file)
    assert talks.blocks.tolist() == [3] * 25  # 100 words, times 1.3, in blocks of 64
    made = [traces.zipf(1, 1.0, 2000, 100), traces.scan(1, 3000, 100), traces.shift(1, 6000, 1000), traces.tree(1, 2000, 100)]
    made += [traces.once(1, talks), traces.listed(1, talks), traces.repeated(1, talks, 200), traces.live(1, talks, 200, 20)]
    for trace in made:
        assert trace.blocks.min() >= 1 and trace.blocks.max() <= traces.MOST_BLOCKS
        assert all(rates.sum() == pytest.approx(1) or trace.name == "scan" for _, rates in trace.phases)
        budget = trace.budget(0.2)
        ours, oracle = replay(trace, Residency(budget), budget), replay(trace, RateOracle(trace, budget), budget)
        bound = 100 * furthest(trace.keys, trace.blocks, budget)
        assert 0 < ours.hits <= bound + 1e-9 and oracle.hits <= bound + 1e-9, trace.name
    assert len(traces.once(1, talks).keys) == 50
    told = traces.once(1, talks)
    assert (
        0 < replay(told, Told(told.budget(0.1)), told.budget(0.1)).hits <= 100 * furthest(told.keys, told.blocks, told.budget(0.1)) + 1e-9
    )
    for trace in made:
        counted = replay(trace, ToldOfMoves(trace, trace.budget(0.2)), trace.budget(0.2))
        assert 0 < counted.hits <= 100 * furthest(trace.keys, trace.blocks, trace.budget(0.2)) + 1e-9
    assert recovery([(made[2], replay(made[2], Residency(100), 100))]) >= 100


def test_a_learner_that_is_told_of_moves_counts_anew() -> None:
    """Two keys of one block where one fits: the old one stays until the new one has been asked for oftener, or the set is said to move."""
    keys, blocks = np.array([0] * 5 + [1] * 3), np.array([1, 1])
    steady = traces.Trace("steady", 0, keys, blocks, [(0, np.array([0.5, 0.5]))])
    assert replay(steady, ToldOfMoves(steady, 1), 1).hit.tolist() == [0, 1, 1, 1, 1, 0, 0, 0]
    moved = replace(steady, shifts=[5])
    assert replay(moved, ToldOfMoves(moved, 1), 1).hit.tolist() == [0, 1, 1, 1, 1, 0, 1, 1]


def test_a_learner_that_is_told_of_moves_holds_whole_paths() -> None:
    trace = traces.tree(3, 3000, 100)
    learner = ToldOfMoves(trace, trace.budget(0.2))
    for key in trace.keys.tolist():
        above = int(trace.parents[key])  # type: ignore[index]
        learner.request(key, int(trace.blocks[key]), 1.0, None, None if above < 0 else above)
        assert all(learner.parents.get(held, held) in learner.sizes for held in learner.sizes)


def test_tiers_by_hand() -> None:
    blocks = np.array([10, 10])
    trace = traces.Trace("two", 0, np.array([0, 1, 0, 1]), blocks, [(0, np.array([0.5, 0.5]))])
    machine = Machine()
    assert machine.computing(10) == pytest.approx(640 / 2300)
    assert machine.loading(10) == pytest.approx(0.25e-3 + 640 * 23_040 / 1.5e9)
    both = tiers(trace, 20, 0, machine)
    assert both["total"] == both["computing"] == pytest.approx(2 * machine.computing(10))
    one = tiers(trace, 10, 10, machine, ahead=False)
    assert one["computing"] == pytest.approx(2 * machine.computing(10))
    assert one["loading"] == pytest.approx(machine.loading(10))
    assert spilling(trace, LRU(20), LRU(0), machine) == pytest.approx(2 * machine.computing(10))
    assert spilling(trace, LRU(10), LRU(10), machine) == pytest.approx(2 * machine.computing(10) + 5 * machine.loading(10))

"""Expiry to the second, heat that does not depend on when it is read, and the one table of states."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest
from conftest import NOW
from hypothesis import given
from hypothesis import strategies as st
from test_policy import cube

from memos_core import InvalidInput, MemCube, State
from memos_core.lifespan import HEAT_HALF_LIFE, RECALLABLE, TRANSITIONS, check_transition, expired, heat, recallable, warmed

HALF_LIFE = timedelta(seconds=HEAT_HALF_LIFE)
moments = st.integers(-(10**9), 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds))
uses = st.lists(moments, min_size=1, max_size=20)


def warm(at: list[datetime]) -> float:
    kept = None
    for use in at:
        kept = warmed(kept, use)
    assert kept is not None
    return kept


def until(at: datetime | None) -> MemCube:
    some = cube(1)
    return some.model_copy(update={"governance": some.governance.model_copy(update={"expires_at": at})})


@given(uses, st.randoms())
def test_the_order_of_uses_does_not_matter(at: list[datetime], random: object) -> None:
    shuffled = list(at)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert warm(shuffled) == pytest.approx(warm(at), abs=1e-9)


@given(uses, st.integers(0, 3000))
def test_heat_is_the_decayed_number_of_uses(at: list[datetime], days: int) -> None:
    now = max(at) + timedelta(days=days)
    exact = sum(2.0 ** (-((now - use) / HALF_LIFE)) for use in at)
    assert heat(warm(at), now) == pytest.approx(exact, rel=1e-6)


@given(uses, moments, moments)
def test_more_use_is_warmer_and_waiting_is_colder(at: list[datetime], extra: datetime, now: datetime) -> None:
    kept = warm(at)
    assert warmed(kept, extra) >= kept
    assert heat(kept, now + HALF_LIFE) == pytest.approx(heat(kept, now) / 2) or heat(kept, now) > 2.0**59
    assert math.isfinite(heat(kept, now)) and heat(None, now) == 0.0


@given(uses, uses, moments)
def test_order_by_heat_needs_no_clock(one: list[datetime], two: list[datetime], now: datetime) -> None:
    first, second = warm(one), warm(two)
    if first < second:
        assert heat(first, now) <= heat(second, now)


def test_what_expires_is_gone_from_that_moment_on() -> None:
    moment = timedelta(microseconds=1)
    assert not expired(until(NOW), NOW - moment) and expired(until(NOW), NOW) and not expired(until(None), NOW)
    assert recallable(until(NOW), NOW - moment) and not recallable(until(NOW), NOW)


@pytest.mark.parametrize("state", State)
def test_which_states_recall_shows(state: State) -> None:
    shown = {State.ACTIVE, State.CONTESTED, State.SUPERSEDED}
    assert recallable(until(None).model_copy(update={"state": state}), NOW) is (state in shown) is (state in RECALLABLE)


@pytest.mark.parametrize("old", State)
def test_each_state_has_a_way_on_and_says_which(old: State) -> None:
    assert TRANSITIONS[old] and old not in TRANSITIONS[old]
    for new in set(State) - TRANSITIONS[old] - {old}:
        with pytest.raises(InvalidInput) as caught:
            check_transition(old, new)
        assert all(str(allowed) in str(caught.value) for allowed in TRANSITIONS[old])
    reachable, waiting = {old}, [old]
    while waiting:
        for new in TRANSITIONS[waiting.pop()] - reachable:
            check_transition(old, old)
            reachable.add(new)
            waiting.append(new)
    assert State.ACTIVE in reachable  # nothing is lost for good but by forgetting
    assert old is State.REJECTED or State.REJECTED not in reachable  # only the gate rejects

"""What holding a memory is expected to save: at the rate of its use, by the rates of the machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_core import Usage
from memos_core.lifespan import HEAT_HALF_LIFE
from memos_core.value import Speed, expected_uses, value


def test_value_is_seconds_per_byte_at_the_rate_of_use() -> None:
    week = HEAT_HALF_LIFE
    steady = sum(2.0 ** -(day * 86400 / week) for day in range(1000))  # one recall a day
    assert expected_uses(steady, 30 * 86400) == pytest.approx(30, rel=0.06)
    usage, speed = Usage(recalls=8, uses=3, sessions=4, heat=steady), Speed(prefill=100.0, read=1e6)
    worth = value(usage, 200, 500_000, speed, 30 * 86400)
    assert worth.seconds_each == pytest.approx(2.0 - 0.5) and worth.helpful == 0.4
    assert worth.seconds == pytest.approx(45, rel=0.06) and worth.per_byte == pytest.approx(worth.seconds / 500_000)
    assert value(usage, 200, 10_000_000, speed, 30 * 86400).seconds == 0, "loading takes longer than computing"
    assert value(usage, 200, 500_000, Speed(), 30 * 86400).seconds == 0, "nothing is known yet"


def test_companions_and_the_task_at_hand_count() -> None:
    usage, speed = Usage(recalls=8, heat=0.5), Speed(prefill=100.0)

    def worth(**context: Any) -> float:
        return value(usage, 200, 1000, speed, 86400.0, **context).seconds

    assert worth(together=[(6.0, 0.5)]) == pytest.approx(6 * worth()) and worth(together=[(0.5, 0.5)]) == worth()
    assert worth(task=1, tasks={1: 8}) > worth(task=2, tasks={1: 4, 2: 4}) > worth(task=3, tasks={1: 8})


@given(st.floats(0, 20), st.floats(0, 20), st.integers(1, 500), st.integers(1, 10**9))
def test_more_use_is_never_worth_less(one: float, more: float, tokens: int, size: int) -> None:
    speed = Speed(prefill=300.0, read=1e8)
    before, after = (value(Usage(heat=hot), tokens, size, speed, 86400.0) for hot in (one, one + more))
    assert after.per_byte >= before.per_byte

"""Timestamp-based loading: by a window or by words, of what the actor may read, oldest first; and windows in recall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from conftest import NOW

from memos_core import InvalidInput, MemOS
from memos_core.index.threads import talks

ANA, BEN = ("clinic", "ana"), ("clinic", "ben")
DAY = timedelta(days=1)


def test_talks_of_named_and_unnamed_messages() -> None:
    start, minute = datetime(2024, 5, 1, 10, tzinfo=UTC), timedelta(minutes=1)
    said = [(2, 5), (1, 0), (0, 200), (1, 3), (0, 230), (0, 400)]
    found = talks(np.array([name for name, _ in said]), np.array([(start + at * minute).timestamp() for _, at in said]))
    assert [(one.start - start) / minute for one in found] == [0, 5, 200, 400]
    assert all(any(one.contains(start + at * minute) for one in found) for _, at in said)
    assert not found[0].contains(start + 3 * minute + timedelta(seconds=1))
    assert talks(np.zeros(0, dtype=np.int64), np.zeros(0)) == []


@pytest.fixture
def diary(memos: MemOS) -> MemOS:
    """Three conversations of Ana's, 14, 7 and 1 days before NOW (a Monday), and one of Ben's."""
    for name, days, texts in (
        ("a", 14, ["I adopted a cat.", "Its name is Miso."]),
        ("b", 7, ["Miso was ill."]),
        ("c", 1, ["Miso is well."]),
    ):
        for minute, text in enumerate(texts):
            memos.remember(text, scope=ANA, session=name, occurred_at=NOW - days * DAY + minute * timedelta(minutes=1))
    memos.remember("Ben flew to Rome.", scope=BEN, session="z", occurred_at=NOW - 7 * DAY)
    return memos


def texts(cubes: object) -> list[str]:
    return [cube.payload.text for cube in cubes]  # type: ignore[attr-defined]


def test_a_window_given_is_exact_and_oldest_first(diary: MemOS) -> None:
    found = diary.timeline(scope=ANA, between=(NOW - 14 * DAY, NOW - 7 * DAY))
    assert texts(found) == ["I adopted a cat.", "Its name is Miso."]  # half-open: what was said at its end is not in it
    assert found.window is not None and found.window.start == NOW - 14 * DAY
    assert texts(diary.timeline(scope=("clinic",), between=(NOW - 8 * DAY, NOW), now=NOW)) == [
        "Miso was ill.",
        "Ben flew to Rome.",
        "Miso is well.",
    ]
    assert texts(diary.timeline(scope=ANA, between=(NOW - 15 * DAY, NOW), actor=BEN)) == []


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("What did we talk about yesterday?", ["Miso is well."]),
        ("What did I say in our first conversation?", ["I adopted a cat.", "Its name is Miso."]),
        ("in the last two weeks", ["I adopted a cat.", "Its name is Miso.", "Miso was ill.", "Miso is well."]),
        ("What did we discuss 7 days ago?", ["Miso was ill."]),
    ],
)
def test_a_window_in_words(diary: MemOS, query: str, wanted: list[str]) -> None:
    found = diary.timeline(scope=ANA, query=query, now=NOW)
    assert texts(found) == wanted and found.window is not None and len(found) == len(wanted)


def test_words_without_a_time_load_nothing_and_say_so(diary: MemOS) -> None:
    found = diary.timeline(scope=ANA, query="What is the cat's name?", now=NOW)
    assert texts(found) == [] and found.window is None


def test_a_timeline_forgets(diary: MemOS) -> None:
    (first, *_) = diary.timeline(scope=ANA, between=(NOW - 15 * DAY, NOW))
    diary.forget(first.id)
    diary.update(diary.timeline(scope=ANA, between=(NOW - 15 * DAY, NOW))[0].id, state="archived")
    assert texts(diary.timeline(scope=ANA, between=(NOW - 15 * DAY, NOW))) == ["Miso was ill.", "Miso is well."]


def test_a_window_given_to_recall_is_a_hard_filter(diary: MemOS) -> None:
    found = diary.recall("Miso", scope=ANA, k=1, between=(NOW - 8 * DAY, NOW - 6 * DAY), now=NOW)
    assert [hit.text for hit in found.hits] == ["Miso was ill."]
    assert found.window is not None and found.window.end == NOW - 6 * DAY
    assert not diary.recall("Miso", scope=ANA, between=(NOW - 30 * DAY, NOW - 20 * DAY), now=NOW).hits


def test_a_window_understood_is_a_preference(diary: MemOS) -> None:
    plain = diary.recall("How was Miso?", scope=ANA, now=NOW)
    assert plain.window is None
    found = diary.recall("How was Miso a week ago?", scope=ANA, now=NOW)
    assert found.window is not None and found.window.contains(NOW - 7 * DAY)
    assert found.hits[0].text == "Miso was ill." and len(found.hits) == len(plain.hits)
    (reason,) = [reason for reason in found.hits[0].reasons if reason.part == "window"]
    assert reason.contribution > 0.5


def test_what_speaks_of_a_time_lies_in_it(memos: MemOS) -> None:
    memos.remember("I will fly to Lima on 3 June 2027.", scope=ANA, occurred_at=NOW)
    memos.remember("I will fly to Oslo some day.", scope=ANA, occurred_at=NOW)
    hits = memos.recall("Where will I fly in June 2027?", scope=ANA, now=NOW).hits
    assert "Lima" in hits[0].text and "window" in {reason.part for reason in hits[0].reasons}


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({}, "query= or between="),
        ({"query": "yesterday", "between": (NOW, NOW + DAY)}, "query= or between="),
        ({"between": (NOW, NOW)}, "later than"),
        ({"between": (NOW,)}, "two times"),
        ({"between": "May"}, "two times"),
        ({"between": (NOW.replace(tzinfo=None), NOW)}, "time zone"),
        ({"query": 3}, "must be a str"),
    ],
)
def test_odd_arguments(memos: MemOS, arguments: dict[str, object], advice: str) -> None:
    with pytest.raises(InvalidInput, match=advice):
        memos.timeline(scope=ANA, **arguments)  # type: ignore[arg-type]


def test_what_points_back_is_understood_from_what_was_said_before(memos: MemOS) -> None:
    for text in ("The red car needs new tires.", "The blue bicycle needs a new chain."):
        memos.remember(text, scope=ANA)
    for said, wanted in (("My bicycle chain broke", "chain"), ("My car tires are flat", "tires")):
        hits = memos.recall("And what does it need?", scope=ANA, context=[said]).hits
        assert wanted in hits[0].text
    talk = [{"role": "user", "content": "My blue bicycle chain broke."}, {"role": "assistant", "content": "Oh."}]
    turn = memos.begin([*talk, {"role": "user", "content": "And what does it need?"}], scope=ANA)
    assert "bicycle" in turn.recall.hits[0].text

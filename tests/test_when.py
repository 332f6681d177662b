"""Time expressions: the phrasings with hand-made expectations, the laws, and the cases that are easy to get wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core.errors import InvalidInput
from memos_core.when import Window, expressions, window_of

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "time_phrasings.json").read_text())
SECOND = json.loads((DATA / "time_phrasings_second.json").read_text())["cases"]
NOWS = {name: datetime.fromisoformat(text) for name, text in CASES["nows"].items()}
CONVERSATIONS = {
    name: tuple(Window(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in pairs)
    for name, pairs in CASES["conversations"].items()
}
NOW = datetime(2024, 5, 15, 14, 30, tzinfo=UTC)  # a Wednesday
TEXTS = [case["text"] for case in [*CASES["cases"], *SECOND]]
WORDS = sorted({word for text in TEXTS for word in text.split()})


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(start: str, end: str) -> Window:
    return Window(day(start), day(end))


def expected(case: dict) -> Window | None:
    if "sessions" in case:
        first, last = case["sessions"]
        talks = CONVERSATIONS[case["now"]]
        return Window(talks[first - 1].start, talks[last - 1].end)
    return case["window"] and Window(*map(datetime.fromisoformat, case["window"]))


def understood(case: dict) -> Window | None:
    return window_of(case["text"], NOWS[case["now"]], CONVERSATIONS.get(case["now"], ()))


def test_phrasings() -> None:
    wrong = [(case["text"], understood(case)) for case in CASES["cases"] if understood(case) != expected(case)]
    assert len(CASES["cases"]) >= 200
    assert len(wrong) <= len(CASES["cases"]) // 100, wrong


def test_phrasings_of_the_second_set() -> None:
    wrong = [(case["text"], understood(case)) for case in SECOND if understood(case) != expected(case)]
    assert len(SECOND) >= 200
    assert len(wrong) <= len(SECOND) // 50, wrong


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)),
    st.datetimes(timezones=st.sampled_from([UTC, ZoneInfo("Asia/Tokyo"), ZoneInfo("America/New_York")])),
)
def test_laws(text: str, now: datetime) -> None:
    found = expressions(text, now, CONVERSATIONS["A"])
    place = 0
    for one in found:
        assert one.window.start < one.window.end
        assert one.window.start.tzinfo is UTC and one.window.end.tzinfo is UTC
        start, end = one.span
        assert place <= start < end <= len(text) and text[start:end] == one.text
        place = end
    asked = window_of(text, now, CONVERSATIONS["A"])
    assert (asked is None) == (not found) and (asked is None or asked in [one.window for one in found])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join))
def test_case_does_not_matter(text: str) -> None:
    meanings = {tuple(one.window for one in expressions(form, NOW, CONVERSATIONS["A"])) for form in (text, text.upper(), text.lower())}
    assert len(meanings) == 1


def test_case_does_not_matter_in_the_phrasings() -> None:
    for text in TEXTS:
        assert window_of(text.upper(), NOW) == window_of(text.lower(), NOW), text


@settings(max_examples=100, deadline=None)
@given(st.integers(7305, 40000).map(lambda minutes: datetime(1990, 1, 1, tzinfo=UTC) + minutes * timedelta(minutes=937)))
def test_relations_hold_at_any_time(now: datetime) -> None:
    def one(text: str) -> Window:
        found = window_of(text, now)
        assert found is not None
        return found

    assert one("today").contains(now) and one("this week").contains(now) and one("the past week").contains(now)
    assert one("yesterday").end == one("today").start and one("last month").end == one("this month").start
    assert one("last week").end == one("this week").start and one("next year").start == one("this year").end
    assert one("two weeks ago").end == one("last week").start
    friday = one("last Friday")
    assert friday.start.weekday() == 4 and timedelta(0) <= one("today").start - friday.end < timedelta(days=7)
    assert one("in March").start <= now and one("in March").start.month == 3
    assert one("last March").end <= now < one("next March").start
    assert one("since Monday").contains(now)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("What did we say on Friday, May 3rd in the evening?", "2024-05-03T17:00", "2024-05-04"),
        ("the last Friday of April", "2024-04-26", "2024-04-27"),
        ("the second half of 2023", "2023-07-01", "2024-01-01"),
        ("two or three weeks ago", "2024-04-22", "2024-05-06"),
        ("on Friday before 10.01.2024", "2024-01-05", "2024-01-06"),
        ("last weekend before April 10, 2023", "2023-04-08", "2023-04-10"),
        ("the week of October 7, 2024", "2024-10-07", "2024-10-14"),
        ("December 1,2023", "2023-12-01", "2023-12-02"),
        ("in winter 2021-2022", "2021-12-01", "2022-03-01"),
        ("a week from Friday", "2024-05-24", "2024-05-25"),
        ("It was my birthday the day before Christmas", "2023-12-24", "2023-12-25"),
        ("What was her trouble last week, as mentioned on November 6, 2023?", "2023-11-06", "2023-11-07"),
        ("What did I tell you yesterday about the trip in March?", "2024-05-14", "2024-05-15"),
    ],
)
def test_combinations(text: str, start: str, end: str) -> None:
    assert window_of(text, NOW) == window(start, end)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("My exam is on June 3.", "2024-06-03"),  # nearer ahead
        ("I painted it on April 20.", "2024-04-20"),  # nearer back
        ("I have booked a room for May 20.", "2024-05-20"),
        ("What did I book for May 20?", "2023-05-20"),  # asked about the past
        ("I'm meeting Tom on Thursday.", "2024-05-16"),
        ("I was meeting Tom on Thursday.", "2024-05-09"),
        ("I fixed it. I'll test it on Thursday.", "2024-05-16"),
        ("I have a flight in 10 days.", "2024-05-25"),
        ("We went camping this summer.", "2023-06-01"),
        ("We are going camping this summer.", "2024-06-01"),
    ],
)
def test_the_sentence_says_whether_it_looks_ahead(text: str, start: str) -> None:
    found = window_of(text, NOW)
    assert found is not None and found.start == day(start)


@pytest.mark.parametrize(
    "text",
    [
        'Have you heard "Yesterday" by the Beatles?',
        "They wash it every Monday, Wednesday, and Friday.",
        "She painted the house in three days.",
        "What are you up to?",
        "He scored 2,023 points.",
        "You may first want to march on.",
        "When did we last talk about cats?",
        "in our 9999999999999999999th conversation, 99999999999999 weeks ago, 9999 years ago",
        "",
    ],
)
def test_no_time(text: str) -> None:
    assert expressions(text, NOW, CONVERSATIONS["A"]) == ()


@pytest.mark.parametrize("now", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_nothing_breaks_at_the_ends_of_time(now: datetime) -> None:
    for text in TEXTS:
        assert all(one.window.start < one.window.end for one in expressions(text, now, CONVERSATIONS["A"]))


def test_habits_name_no_window() -> None:
    assert window_of("What does she like to do in summer?", NOW) is None
    assert window_of("We usually go skiing over Christmas.", NOW) is None
    assert window_of("What did she like to do in summer?", NOW) == window("2023-06-01", "2023-09-01")
    assert window_of("I'd love to see you in summer, will you come?", NOW) is not None


def test_all_expressions_of_a_text_in_order() -> None:
    found = expressions("I was in Rome last May, came back on Friday, and leave again next week.", NOW)
    assert [(one.text, one.window) for one in found] == [
        ("last May", window("2023-05-01", "2023-06-01")),
        ("Friday", window("2024-05-10", "2024-05-11")),
        ("next week", window("2024-05-20", "2024-05-27")),
    ]


def test_days_are_those_of_the_zone_of_now() -> None:
    tokyo = datetime(2024, 5, 16, 1, 0, tzinfo=ZoneInfo("Asia/Tokyo"))  # still the 15th in UTC
    assert window_of("yesterday", tokyo) == window("2024-05-14T15:00", "2024-05-15T15:00")
    clocks_forward = datetime(2024, 4, 1, 12, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    assert window_of("yesterday", clocks_forward) == window("2024-03-30T23:00", "2024-03-31T22:00")  # a day of 23 hours


def test_a_naive_now_is_refused() -> None:
    with pytest.raises(InvalidInput, match="aware"):
        expressions("yesterday", datetime(2024, 5, 15))  # noqa: DTZ001


def test_conversations_are_counted_as_listed() -> None:
    talks = CONVERSATIONS["A"]
    assert window_of("what did we say in the last session?", NOW, talks) == talks[-1]
    assert window_of("what did we say in the last session?", NOW, talks[:-1]) == talks[-2]
    assert window_of("what did we say in this conversation?", NOW, talks) == talks[-1]
    assert window_of("since our fourth session", NOW, talks) == Window(talks[3].start, day("2024-05-16"))
    assert window_of("in the last two conversations", NOW, talks[:1]) == talks[0]
    assert window_of("the first session", NOW) is None


def test_a_question_what_was_said_presumes_a_conversation() -> None:
    friday_before = Window(day("2024-05-03T09:00"), day("2024-05-03T10:00"))
    assert window_of("What did we discuss last Friday?", NOW, [friday_before]) == window("2024-05-03", "2024-05-04")
    assert window_of("What did I eat last Friday?", NOW, [friday_before]) == window("2024-05-10", "2024-05-11")
    assert window_of("What did we discuss 11 days ago?", NOW, [friday_before]) == window("2024-05-03", "2024-05-04")
    assert window_of("What did we discuss 10 days ago?", NOW, [friday_before]) == window("2024-05-05", "2024-05-06")

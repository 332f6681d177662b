"""What phrases of time mean, given the words that were matched and the moment they are relative to. Pure. Source: ours.

Each function takes what a rule matched and gives a Span, something Recurring that still lacks its year, month or week, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from memos_core.when.calendar import DAY, NUMBER, UNITS, Recurring, Span, date, month, month_day, shift
from memos_core.when.moment import Found, Moment

INSTANT = timedelta(microseconds=1)
LEAP_YEAR = 2000
AROUND = 3 * DAY
"""What "this time last year" gives on either side."""
CLOCKS = {"hour": (timedelta(hours=1), timedelta(minutes=30)), "minute": (timedelta(minutes=1), timedelta(minutes=5))}
"""An hour and a minute, and how far off "three hours ago" may be."""
HALVES = {"decade": ("year", 10), "year": ("month", 12), "month": ("week", 4)}
"""What half a unit is counted in, and how many of those the whole has."""
PARTS = {"morning": (0, 12), "afternoon": (12, 18), "evening": (17, 24), "night": (18, 30)}
"""Hours of the day, wide on purpose; a night ends in the morning."""

Meaning = Span | Recurring | None
Handler = Callable[[Found, Moment], Meaning]


# ---------------------------------------------------------------- conversations


def _talks(first: int, last: int, at: Moment) -> Span | None:
    """Conversations by number; negative counts from the latest, which is -1."""
    total = len(at.talks)
    first, last = (number + total + 1 if number < 0 else number for number in (first, last))
    if not 1 <= first <= last <= total:
        return None
    chosen = at.talks[first - 1 : last]
    return Span(chosen[0].start, max(talk.end for talk in chosen))


def talk_back(number: int) -> Handler:
    return lambda _, at: _talks(-number, -number, at)


def talk_numbered(found: Found, at: Moment) -> Meaning:
    numbers = [item.value for item in found.all("ordinal", "nth", "number")]
    return _talks(numbers[0], numbers[-1], at)


def talk_from_end(found: Found, at: Moment) -> Meaning:
    number = found.value("ordinal", "nth")
    return _talks(-number, -number, at)


def first_talks(found: Found, at: Moment) -> Meaning:
    return _talks(1, min(found.amount[0], len(at.talks)), at) if found.value("ordinal", "nth") == 1 else None


def last_talks(found: Found, at: Moment) -> Meaning:
    return _talks(-min(found.amount[1], len(at.talks)), -1, at) if at.talks else None


def talks_ago(found: Found, at: Moment) -> Meaning:
    low, high = found.amount
    return _talks(-max(low, min(high, len(at.talks))), -low, at) if low else None


def this_talk(found: Found, at: Moment) -> Meaning:
    if not at.talks:
        return None
    return at.talks[-1] if at.so_far < at.now else Span(at.talks[-1].end, at.now + INSTANT)


# ---------------------------------------------------------------- dates


def _with_year(found: Found, recurring: Recurring) -> Meaning:
    year = found.value("year")
    return recurring if year is None else recurring.at(year)


def dated(found: Found, at: Moment) -> Meaning:
    """May 3, the third of May, 3 to 9 May; with or without a year."""
    days = [item.value for item in found.all("number", "nth", "ordinal")]
    in_month = found.value("month", "maybe_month")
    if not days[0] <= days[-1] or any(date(in_month, day).at(LEAP_YEAR) is None for day in days):
        return None
    return _with_year(found, date(in_month, days[0], days[-1] - days[0] + 1))


def month_named(found: Found, at: Moment) -> Meaning:
    return _with_year(found, month(found.value("month", "maybe_month")))


def named(found: Found, at: Moment) -> Meaning:
    """A season, quarter, holiday or weekday, with or without a year."""
    value = found.value("season", "quarter", "feast", "feast_day", "weekday", "maybe_weekday")
    first = found.items[0]
    if first.name in ("season", "feast", "feast_day") and not found.has("year") and at.habitual(first.start):
        return None
    return _with_year(found, value)


def in_year(found: Found, at: Moment) -> Meaning:
    return UNITS["year"].at(found.value("year"))


def day_of_month(found: Found, at: Moment) -> Meaning:
    number = found.value("nth", "ordinal")
    return month_day(number) if 1 <= number <= 31 else None


# ---------------------------------------------------------------- relative to now


def named_day(found: Found, at: Moment) -> Meaning:
    return _shifted(at.today, found.value("day"))


def _shifted(day: Span, count: int) -> Span:
    return Span(day.start + count * DAY, day.end + count * DAY)


def part_of(name: str) -> Callable[[Span], Span | None]:
    """Cuts the morning, afternoon, evening or night out of a day."""
    first, last = (timedelta(hours=hour) for hour in PARTS[name])
    return lambda day: Span(day.start + first, day.start + last) if day.end - day.start == DAY else None


def night(count: int) -> Handler:
    return lambda _, at: part_of("night")(_shifted(at.today, count))


def this_part(found: Found, at: Moment) -> Meaning:
    return part_of(found.value("part"))(at.today)


def _whole(found: Found, at: Moment) -> Span | None:
    """What "earlier" or "later" cuts: today, this morning, this week."""
    if found.has("part"):
        return part_of(found.value("part"))(at.today)
    if found.has("day"):
        return at.today if found.value("day") == 0 else None
    return found.unit().current(at.now)


def earlier(found: Found, at: Moment) -> Meaning:
    whole = _whole(found, at)
    return whole and Span(whole.start, min(whole.end, at.so_far))


def so_far(found: Found, at: Moment) -> Meaning:
    whole = _whole(found, at)
    return whole and Span(whole.start, at.now + INSTANT)


def later(found: Found, at: Moment) -> Meaning:
    whole = _whole(found, at)
    return whole and Span(at.now, whole.end)


def ago(found: Found, at: Moment) -> Meaning:
    """Whole units: two days ago is a day, two weeks ago a week, two months ago a month."""
    low, high = found.amount
    first, last = found.unit().ago(high, at.now), found.unit().ago(low, at.now)
    if first is None or last is None:
        return None
    span = Span(first.start, last.end)
    before = _shifted(span, -1)  # counted by full 24 hours it may be the day before
    return before if found.value("unit") == "day" and not at.talked(span) and at.talked(before) else span


def half_ago(found: Found, at: Moment) -> Meaning:
    """Half a year ago, a year and a half ago, two and a half years ago: in the next smaller unit."""
    smaller, count = HALVES.get(found.value("unit"), ("", 0))
    whole = 0 if found.items[0].name == "half" else found.amount[0]
    return UNITS[smaller].ago(whole * count + count // 2, at.now) if smaller else None


def ahead(found: Found, at: Moment) -> Meaning:
    unit = found.unit()
    if _how_long(found, at):
        return None
    if unit.kind == "day" and not found.has("number", "vague", "from"):  # "in a day" says how long, too
        return None
    low, high = (unit.at(NUMBER[unit.period](at.now) + count) for count in found.amount)
    return Span(low.start, high.end) if low and high else None


def _how_long(found: Found, at: Moment) -> bool:
    """Whether it says how long, not when: "finished in three days"."""
    return found.has("in") and at.cue(found.items[0].start) in ("past", "perfect")


def ago_to_the_day(found: Found, at: Moment) -> Meaning:
    if found.value("day") != 0:
        return None
    moment = shift(at.today.start, found.value("unit"), -found.amount[0])
    return Span(moment, moment + DAY)


def this_time(found: Found, at: Moment) -> Meaning:
    day = shift(at.today.start, found.value("unit"), -1)
    pad = AROUND if found.value("unit") != "week" else 0 * DAY
    return Span(day - pad, day + DAY + pad)


def this_day(found: Found, at: Moment) -> Meaning:
    """This day last year."""
    day, unit = found.all("unit")
    start = shift(at.today.start, unit.value, -1)
    return Span(start, start + DAY) if day.value == "day" else None


def clock_ago(found: Found, at: Moment) -> Meaning:
    return _clock(found, at, -1)


def clock_ahead(found: Found, at: Moment) -> Meaning:
    return None if _how_long(found, at) else _clock(found, at, 1)


def _clock(found: Found, at: Moment, sign: int) -> Meaning:
    unit, slack = CLOCKS[found.value("clock")]
    if sign > 0 and not found.has("number", "vague", "half") and unit < timedelta(hours=1):  # "in a minute" only means soon
        return None
    if found.has("half"):
        unit, slack = unit / 2, slack / 2
    first, last = sorted(at.now + sign * count * unit for count in found.amount)
    return Span(first - slack, last + slack)


def before_last(found: Found, at: Moment) -> Meaning:
    return found.unit().ago(2, at.now)


def after_next(found: Found, at: Moment) -> Meaning:
    unit = found.unit()
    return unit.at(NUMBER[unit.period](at.now) + 2) if unit.whole else None


def rolling(found: Found, at: Moment) -> Meaning:
    """The last three days, the past week: whole days back from today, which is in it."""
    count = found.amount[1]
    if found.has("clock"):
        return Span(at.now - count * CLOCKS[found.value("clock")][0], at.now + INSTANT)
    unit = found.unit()
    if unit.kind in ("weekend", "weekday") and found.has("number", "vague"):
        first, last = unit.ago(count, at.now), unit.ago(1, at.now)
        return Span(first.start, last.end) if first and last else None
    if not unit.whole or unit.kind == "weekend":
        return unit.ago(1, at.now)
    if unit.kind == "day" and found.has("the") and not found.has("in", "within", "over", "number", "vague"):
        return None  # "the last day" of something
    return Span(shift(at.today.start, unit.kind, -count), at.today.end)


def rolling_ahead(found: Found, at: Moment) -> Meaning:
    count = found.amount[1]
    if found.has("clock"):
        return Span(at.now, at.now + count * CLOCKS[found.value("clock")][0])
    return Span(at.today.start, shift(at.today.end, found.unit().kind, count))


def last_one(found: Found, at: Moment) -> Meaning:
    unit = found.unit()
    span = None if unit.kind == "day" and unit.whole else unit.ago(1, at.now)
    if span and unit.kind == "weekday" and not at.talked(span):
        before = _shifted(span, -7)  # early in the week, "last Saturday" may mean that of the week before
        return before if at.talked(before) else span
    return span


def next_one(found: Found, at: Moment) -> Meaning:
    return None if found.value("unit") == "day" else found.unit().ahead(at.now)


def this_one(found: Found, at: Moment) -> Meaning:
    unit = found.unit()
    span = None if found.value("unit") == "day" else unit.current(at.now)
    if span and span.start > at.now and unit.period == "year" and at.cue(found.items[0].start) == "past":
        return unit.latest(at.now)  # "we went camping this summer", said in spring
    return span


def weekend(found: Found, at: Moment) -> Meaning:
    return Recurring("weekend", "week", UNITS["weekend"].build)

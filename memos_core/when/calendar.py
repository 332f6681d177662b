"""What comes back in the calendar: days, weeks, months, seasons, holidays, each findable before or after a moment. Pure.

Everything here is in wall-clock time without a zone; the caller adds the zone. Source: ours; Easter by the anonymous Gregorian
algorithm (Nature, 1876).
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

DAY = timedelta(days=1)
FEBRUARY_29 = 8
"""Years that may pass without a 29 February; searching further finds nothing."""
THURSDAY = 3


class Span(NamedTuple):
    """Half-open: [start, end). day: the day it is about, where that is not the first (Christmas is about the 25th)."""

    start: datetime
    end: datetime
    day: datetime | None = None

    def moment(self) -> Span:
        """What "two days before" and "the day after" count from."""
        return self if self.day is None else Span(self.day, self.day + DAY)

    def inside(self, outer: Span) -> bool:
        """Whether nothing of it lies outside."""
        return outer.start <= self.start and self.end <= outer.end


@dataclass(frozen=True, slots=True)
class Recurring:
    """Something that comes back once in every period, such as May or Friday. Periods are numbered; not every one need have it.

    whole: its periods follow each other without a gap in speech, so that "next" is the next period, not the next one to begin.
    """

    kind: str
    period: str
    build: Callable[[int], Span | None]
    whole: bool = False

    def at(self, number: int) -> Span | None:
        """The instance of one period, such as the year; None where it has none."""
        try:
            return self.build(number)
        except (ValueError, OverflowError):  # no such date, or beyond the years a datetime can hold
            return None

    def nearby(self, moment: datetime) -> list[Span]:
        """The instances around a moment, oldest first."""
        return self._between(moment, -FEBRUARY_29, FEBRUARY_29)

    def _between(self, moment: datetime, first: int, last: int) -> list[Span]:
        middle = NUMBER[self.period](moment)
        found = (self.at(middle + k) for k in range(first, last + 1))
        return [span for span in found if span is not None]

    def latest(self, by: datetime) -> Span | None:
        """The most recent one that has begun."""
        return next((span for span in reversed(self.nearby(by)) if span.start <= by), None)

    def earliest(self, since: datetime) -> Span | None:
        """The first one that begins at a moment or later."""
        return next((span for span in self.nearby(since) if span.start >= since), None)

    def ago(self, count: int, now: datetime) -> Span | None:
        """The count-th most recent one that is over: 1 is "last"."""
        over = [span for span in self._between(now, -count - FEBRUARY_29, 0) if span.end <= now]
        return over[-count] if 0 < count <= len(over) else None

    def ahead(self, now: datetime) -> Span | None:
        """ "Next": the next period's, or the first that begins after now."""
        if self.whole:
            return self.at(NUMBER[self.period](now) + 1)
        return next((span for span in self.nearby(now) if span.start > now), None)

    def current(self, now: datetime) -> Span | None:
        """ "This": the one that is going on, else the one of the present period."""
        begun = self.latest(now)
        return begun if begun and now < begun.end else self.at(NUMBER[self.period](now))

    def only_inside(self, outer: Span) -> Span | None:
        """The one instance within a span; None when there are several."""
        around = {*self.nearby(outer.start), *self.nearby(outer.end)}
        found = [span for span in around if span.inside(outer)]
        return found[0] if len(found) == 1 else None

    def map(self, change: Callable[[Span], Span | None], kind: str) -> Recurring:
        """The same with every instance changed."""

        def build(number: int) -> Span | None:
            span = self.build(number)
            return None if span is None else change(span)

        return Recurring(kind, self.period, build)


NUMBER: dict[str, Callable[[datetime], int]] = {
    "day": lambda at: at.toordinal(),
    "week": lambda at: (at.toordinal() - 1) // 7,  # day 1 was a Monday
    "month": lambda at: at.year * 12 + at.month - 1,
    "quarter": lambda at: at.year * 4 + (at.month - 1) // 3,
    "year": lambda at: at.year,
    "decade": lambda at: at.year // 10,
}
PERIODS = tuple(NUMBER)
"""Shortest first."""


def first_of_month(number: int) -> datetime:
    """The first day of a month, months counted from year 0."""
    return datetime(number // 12, number % 12 + 1, 1)  # noqa: DTZ001 - wall-clock time, see the module


def days(first: int, count: int = 1) -> Span:
    """Whole days from an ordinal on."""
    start = datetime.fromordinal(first)
    return Span(start, start + count * DAY)


def months(first: int, count: int = 1) -> Span:
    """Whole months from a month number on."""
    return Span(first_of_month(first), first_of_month(first + count))


UNITS: dict[str, Recurring] = {
    "day": Recurring("day", "day", days, whole=True),
    "week": Recurring("week", "week", lambda week: days(week * 7 + 1, 7), whole=True),
    "weekend": Recurring("weekend", "week", lambda week: days(week * 7 + 6, 2), whole=True),
    "month": Recurring("month", "month", months, whole=True),
    "quarter": Recurring("quarter", "quarter", lambda quarter: months(quarter * 3, 3), whole=True),
    "year": Recurring("year", "year", lambda year: months(year * 12, 12), whole=True),
    "decade": Recurring("decade", "decade", lambda decade: months(decade * 120, 120), whole=True),
}


def shift(moment: datetime, unit: str, count: int) -> datetime:
    """A moment some days, weeks, months and so on later; the 31st becomes the last day of a shorter month."""
    steps = {"day": 1, "week": 7, "weekend": 7}
    if unit in steps:
        return moment + steps[unit] * count * DAY
    number = NUMBER["month"](moment) + {"month": 1, "quarter": 3, "year": 12, "decade": 120}[unit] * count
    target = first_of_month(number)
    return moment.replace(year=target.year, month=target.month, day=min(moment.day, monthrange(target.year, target.month)[1]))


def weekday(number: int) -> Recurring:
    """Every Monday (0) to Sunday (6)."""
    return Recurring("weekday", "week", lambda week: days(week * 7 + 1 + number))


def month(number: int) -> Recurring:
    """Every January (1) to December (12)."""
    return Recurring("month", "year", lambda year: months(year * 12 + number - 1))


def date(in_month: int, day: int, count: int = 1) -> Recurring:
    """Some days of every year, such as 3 to 9 May."""
    return Recurring("day" if count == 1 else "range", "year", lambda year: days(_ordinal(year, in_month, day), count))


def month_day(day: int) -> Recurring:
    """A day of every month that has it."""
    return Recurring("day", "month", lambda number: days(_ordinal(number // 12, number % 12 + 1, day)))


def _ordinal(year: int, in_month: int, day: int) -> int:
    return datetime(year, in_month, day).toordinal()  # noqa: DTZ001


def season(number: int) -> Recurring:
    """Spring (0) to winter (3) of the north, by whole months; a winter belongs to the year it begins in."""
    return Recurring("season", "year", lambda year: months(year * 12 + 2 + number * 3, 3))


def quarter(number: int) -> Recurring:
    """The first (1) to fourth quarter of every year."""
    return Recurring("quarter", "year", lambda year: months(year * 12 + number * 3 - 3, 3))


def holiday(name: str) -> Recurring:
    """A holiday with the days that people count to it: Christmas is 24 to 26 December."""
    if name == "christmas":
        return date(12, 24, 3).map(lambda span: span._replace(day=span.start + DAY), "holiday")
    if name == "easter":
        return Recurring("holiday", "year", lambda year: days(_easter(year) - 2, 4)._replace(day=datetime.fromordinal(_easter(year))))
    if name == "thanksgiving":
        return Recurring("holiday", "year", lambda year: days(_thanksgiving(year)))
    if name == "black friday":
        return Recurring("holiday", "year", lambda year: days(_thanksgiving(year) + 1))
    fixed = {
        "christmas eve": (12, 24),
        "christmas day": (12, 25),
        "boxing day": (12, 26),
        "new year eve": (12, 31),
        "new year": (1, 1),
        "valentine": (2, 14),
        "halloween": (10, 31),
    }
    return date(*fixed[name])


def _thanksgiving(year: int) -> int:
    first = _ordinal(year, 11, 1)
    return first + (THURSDAY - (first - 1)) % 7 + 21  # the fourth Thursday


def _easter(year: int) -> int:
    century, rest = divmod(year, 100)
    golden = year % 19
    epact = (19 * golden + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    letter = (32 + 2 * (century % 4) + 2 * (rest // 4) - epact - rest % 4) % 7
    moon = (golden + 11 * epact + 22 * letter) // 451
    in_month, day = divmod(epact + letter - 7 * moon + 114, 31)
    return _ordinal(year, in_month, day + 1)

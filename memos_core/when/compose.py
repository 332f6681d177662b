"""What combined phrases of time mean: "the evening of 3 May", "Monday last week", "between", "since", "two days before". Pure. Source: ours."""

from __future__ import annotations

from datetime import datetime

from memos_core.when.calendar import DAY, PERIODS, UNITS, Recurring, Span, shift
from memos_core.when.moment import Found, Moment
from memos_core.when.phrases import Meaning, part_of

BEGINNING = datetime(1, 1, 1)  # noqa: DTZ001 - wall-clock time, as everything here
END = datetime(9999, 12, 31)  # noqa: DTZ001
AROUND = 3 * DAY
"""What "around Christmas" gives on either side."""


def at_part(found: Found, at: Moment) -> Meaning:
    """Friday evening, the morning of 3 May."""
    value, part = found.value("when", "often"), part_of(found.value("part", "night"))
    if not isinstance(value, Recurring):
        return part(value)
    parts = value.map(part, "part")
    return parts if parts.latest(at.now) else None


def narrowed(found: Found, at: Moment) -> Meaning:
    """October of last year, Monday last week, Friday, May 3rd."""
    one, other = (item.value for item in found.all("when", "often"))
    if isinstance(one, Recurring) and isinstance(other, Recurring):
        if {one.kind, other.kind} == {"weekday", "day"}:
            return one if other.kind == "weekday" else other
        return None
    if isinstance(one, Recurring):
        return one.only_inside(other)
    return other.only_inside(one) if isinstance(other, Recurring) else None


def thirds(found: Found, at: Moment) -> Meaning:
    """Early March, the end of 2023, the second half of May; of a week the whole week."""
    number, parts = found.value("third", "edge"), 3
    if number is None:
        number, parts = found.value("ordinal", "nth") - 1, 2
        if number > 1:
            return None

    def cut(span: Span) -> Span | None:
        count = round((span.end - span.start) / DAY)
        if count < 14:
            return span
        if count < 32:
            edges = [0, *(10 * k if parts == 3 else 15 * k for k in range(1, parts)), count]
            return Span(span.start + edges[number] * DAY, span.start + edges[number + 1] * DAY)
        total = round(count / 30.4)
        edges = [total * k // parts for k in range(parts + 1)]
        return Span(shift(span.start, "month", edges[number]), shift(span.start, "month", edges[number + 1]))

    value = found.value("when", "often")
    return value.map(cut, "part") if isinstance(value, Recurring) else cut(value)


def nth_inside(found: Found, at: Moment) -> Meaning:
    """The first week of May, the last Friday of last month."""
    outer_item = found.all("when", "often")[-1]
    unit_item = found.items[1]
    unit = unit_item.value if isinstance(unit_item.value, Recurring) else UNITS[unit_item.value]
    number = 0 if found.items[0].name == "last" else found.items[0].value

    def pick(outer: Span) -> Span | None:
        if unit.kind == "week":
            start = outer.start + 7 * (number - 1) * DAY if number else outer.end - 7 * DAY
            return Span(start, start + 7 * DAY)
        inner = [span for span in {*unit.nearby(outer.start), *unit.nearby(outer.end)} if span.inside(outer)]
        inner.sort()
        return inner[number - 1] if number <= len(inner) and inner else None

    value = outer_item.value
    return value.map(pick, "part") if isinstance(value, Recurring) else pick(value)


def several_inside(found: Found, at: Moment) -> Meaning:
    """The first ten days of May, the last two weeks of 2023."""
    ordinal, count, unit, value = found.value("ordinal"), found.amount[0], found.unit().kind, found.value("when", "often")
    if ordinal not in (None, 1):
        return None

    def cut(outer: Span) -> Span | None:
        span = Span(outer.start, shift(outer.start, unit, count)) if ordinal else Span(shift(outer.end, unit, -count), outer.end)
        return span if span.inside(outer) else None

    return value.map(cut, "part") if isinstance(value, Recurring) else cut(value)


def unit_around(found: Found, at: Moment) -> Meaning:
    """The week of 7 October, the weekend of 5 May."""
    span, unit = at.resolve(found.items[-1]), found.unit()
    return (
        unit.current(span.moment().start)
        if span and unit.kind in ("week", "weekend", "month") and span.end - span.start <= 7 * DAY
        else None
    )


def offset(found: Found, at: Moment) -> Meaning:
    """The day before yesterday, two weeks after Easter, a week from Friday."""
    anchor, unit = found.items[-1], found.value("unit")
    if found.has("from"):
        return _from(anchor.value.earliest(at.today.end) if isinstance(anchor.value, Recurring) else anchor.value, unit, found.amount)
    base = at.resolve(anchor)
    if base is None:
        return None
    moment = base.moment()
    sign = -1 if found.has("before") else 1
    if not found.has("number", "year", "vague", "a"):
        start = shift(moment.start, unit, -1) if sign < 0 else moment.end
        return Span(start, moment.start if sign < 0 else shift(moment.end, unit, 1))
    first, last = sorted(UNITS[unit].latest(shift(moment.start, unit, sign * count)) or moment for count in found.amount)
    return Span(first.start, last.end)


def _from(base: Span | None, unit: str, amount: tuple[int, int]) -> Span | None:
    """A week from Friday: to the day, and from the Friday that comes."""
    return base and Span(shift(base.start, unit, amount[0]), shift(base.end, unit, amount[1]))


def beside(found: Found, at: Moment) -> Meaning:
    """The Friday before 10 January, the weekend after Easter."""
    outer = at.resolve(found.items[-1])
    unit = found.unit()
    if outer is None or unit.period != "week":
        return None
    return unit.ago(1, outer.start) if found.has("before") else unit.earliest(outer.end)


def around(found: Found, at: Moment) -> Meaning:
    span = at.resolve(found.items[-1])
    if span is None or span.end - span.start > 7 * DAY:
        return span
    return Span(span.start - AROUND, span.end + AROUND)


def ranged(found: Found, at: Moment) -> Meaning:
    """From one to the other; what lacks a year, month or week takes that of the other."""
    first, last = _ends(found, at)
    return Span(first.start, last.end) if first and last and first.start < last.end else None


def _ends(found: Found, at: Moment) -> tuple[Span | None, Span | None]:
    one, other = found.all("when", "often")
    if isinstance(other.value, Recurring):
        if isinstance(one.value, Recurring) and PERIODS.index(one.value.period) < PERIODS.index(other.value.period):
            last = at.resolve(other)
            first = last and one.value.latest(last.start)
        else:
            first = at.resolve(one)
            last = first and other.value.earliest(first.start)
    else:
        last = at.resolve(other)
        first = one.value.latest(other.value.start) if isinstance(one.value, Recurring) else one.value
    return first, last


def joined(found: Found, at: Moment) -> Meaning:
    """June and July, Monday or Tuesday; what does not follow on stays two expressions."""
    one, other = found.all("when", "often")
    if one.kind != other.kind or one.kind not in ("day", "weekday", "month", "year", "season", "quarter"):
        return None
    for first, last in (_ends(found, at), (at.resolve(other), at.resolve(one))):
        if first and last and first.end == last.start:
            return Span(first.start, last.end)
    return None


def since(found: Found, at: Moment) -> Meaning:
    span = at.resolve(found.items[-1])
    return span and Span(span.start, at.today.end)


def until_before(found: Found, at: Moment) -> Meaning:
    span = at.resolve(found.items[-1])
    return span and Span(BEGINNING, span.start)


def from_after(found: Found, at: Moment) -> Meaning:
    span = at.resolve(found.items[-1])
    return span and Span(span.end, END)


def until(found: Found, at: Moment) -> Meaning:
    """Up to and with; a day named in no past sentence is one to come."""
    item = found.items[-1]
    ahead = isinstance(item.value, Recurring) and item.value.period == "week" and not found.has("up") and at.cue(item.start) != "past"
    span = item.value.earliest(at.today.start) if ahead else at.resolve(item)
    return span and Span(BEGINNING, span.end)

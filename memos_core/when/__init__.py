"""Time expressions of a text become windows: "last Tuesday", "between 3 and 9 May", "two weeks ago", "our third conversation". Pure.

Source: ours. Of the libraries, on our own phrasings: dateparser and parsedatetime find moments, not windows, and the moment lies in the
right window in a half and a third of the cases; recognizers-text begins at the right day in 63 %, takes some 20 ms a sentence and needs
outdated packages; all are misled by "may", "second" or "march", none knows conversations.

Conventions. Days are those of now's own time zone, weeks begin on Monday. What lacks its year or week is the most recent one begun, in
a sentence about the future the next one; a date without its year is the nearer one unless the sentence looks back. "Last Friday" is the
most recent Friday before today, "next Friday" the first one after it. Whole units: "two weeks ago" is a calendar week, "last month" a
calendar month; but "the past week" and "over the last 3 days" are the days before today and today. 3/5/2024 is 5 March, 5.3.2024 too.
Open windows begin in year 1 or end in year 9999.

Conversations are counted as the caller lists them: "the last session" and "one session ago" are the last of them, even when it is
still going on. Leave out the one going on if it is not to count. "Earlier today" ends where a conversation that is going on begins. What
was said "last Friday" or "ten days ago", when nothing was, is taken from the Friday or the day before if something was said then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from memos_core.errors import InvalidInput
from memos_core.when.calendar import Recurring, Span
from memos_core.when.moment import SAYING, Moment
from memos_core.when.rules import reduced
from memos_core.when.words import items

SAID_WHEN = re.compile(SAYING.pattern + r"\w*(?: (?:about|back|on|in|at|during|from|it|me|you|us|this)){0,2} ?$", re.IGNORECASE)
"""What stands before the time at which something was said."""
QUOTES = "\"'“”„«»‘’"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, aware, in UTC, half-open: [start, end)."""

    start: datetime
    end: datetime

    def contains(self, at: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.start <= at < self.end


@dataclass(frozen=True, slots=True)
class Expression:
    """A time expression: what it means and where it stands in the text. kind: the rule that read it: "day", "month", "range", "session", ..."""

    window: Window
    span: tuple[int, int]
    text: str
    kind: str


def names_a_time(text: str) -> bool:
    """Whether a text may hold a time expression: without a word of time there is none. Quick."""
    return any(item.name in TELLING for item in items(text))


def expressions(text: str, now: datetime, sessions: Sequence[Window] = ()) -> tuple[Expression, ...]:
    """All time expressions of a text, in order, not overlapping. now: when it was said; sessions: the conversations, oldest first."""
    zone = now.tzinfo
    if zone is None or now.utcoffset() is None:
        raise InvalidInput(f"now={now!r} has no time zone; pass an aware datetime such as datetime.now(UTC)")
    words = list(items(text))
    if not any(item.name in TELLING for item in words):
        return ()
    at = Moment(now, zone, sessions, text)
    found = []
    for item in reduced(words, at):
        span = at.resolve(item) if isinstance(item.value, (Span, Recurring)) and item.name in ("when", "often") else None
        if span is not None and not _quoted(text, item.start, item.end):
            window = Window(_utc(span.start, zone), _utc(span.end, zone))
            if window.start < window.end:
                found.append(Expression(window, (item.start, item.end), text[item.start : item.end], item.kind))
    return tuple(found)


def window_of(text: str, now: datetime, sessions: Sequence[Window] = ()) -> Window | None:
    """The one window that a question asks for, None if it names no time.

    Of several: the one that says when it was said ("as mentioned on 3 May"), else the first that is not wholly to come, else the first.
    """
    found = expressions(text, now, sessions)
    if len(found) < 2:
        return found[0].window if found else None
    spoken = (one for one in found if SAID_WHEN.search(text, 0, one.span[0]))
    begun = (one for one in found if one.window.start <= now)
    return next(one for group in (spoken, begun, found) for one in group).window


def _quoted(text: str, start: int, end: int) -> bool:
    """Whether it is the whole of something in quotes, such as the song "Yesterday"."""
    return text[start - 1 : start] in QUOTES and text[end : end + 1] in QUOTES if start > 0 and end < len(text) else False


def _utc(moment: datetime, zone: tzinfo) -> datetime:
    try:
        return moment.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return moment.replace(tzinfo=UTC)


TELLING = frozenset(
    "when day tonight unit weekend plural nights clock month maybe_month weekday maybe_weekday season quarter feast feast_day year decade session"
    " talk time part night nth".split()
)
"""Classes without which no phrase speaks of time: a text that has none of them needs no rules."""

"""What a time phrase is relative to, and what a rule matched: the two arguments of every meaning. Pure. Source: ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cached_property
from typing import Any, Protocol

from memos_core.when.calendar import DAY, UNITS, Recurring, Span
from memos_core.when.words import Item

CUES = re.compile(
    r"\b(?:(?P<future>will|won['’]t|shall|gonna|going to|plan(?:s|ned|ning)? to|scheduled|due|upcoming|remind me"
    r"|plans? (?:for|on|in)|let['’]?s|let us|(?:can|could|shall) we"
    r"|might|may be|must|should|(?:want|need|have|has|hop(?:e|ing)|supposed) to)"
    r"|(?P<past>did|was|were|had|went|told|said|spoke|met|made|saw|came|took|gave|bought|ate|left|felt|found|ran|won|lost|paid|sent|spent|wrote)"
    r"|(?P<doing>(?:am|is|are) (?!doing\b|going to\b)\w+ing|starts|begins|ends|takes? place|arrives?|leaves|departs)"
    r"|(?P<perfect>(?:have|has)(?! (?:an?|the|no|any|my|our)\b)|been|\w+(?<![e ])ed))\b"
    r"|['’](?:(?P<soon>ll)|(?P<since>ve)|(?P<busy>(?:m|re|(?<=(?:he|it)['’])s) (?!doing\b|going to\b)\w+ing))\b",
    re.IGNORECASE,
)
"""Words that say whether a sentence looks ahead or back."""
REACH = 200
"""So many characters away a word may still say whether a phrase looks ahead or back."""
CUE = {"soon": "future", "since": "perfect", "busy": "doing"}
ASKING = re.compile(r"\W*(?:please |and |so |can you )*(?:tell|remind|show|list|recap|summari[sz]e|wh\w+|how|have|has)\b", re.IGNORECASE)
SAYING = re.compile(r"\b(?:discuss|talk|chat|spoke|speak|convers|tell|told|say|said|mention|ask)", re.IGNORECASE)
HABIT = re.compile(
    r"\b(?:usually|always|often|typically|normally|generally|traditions?|traditionally|(?<!would )(?<!['’]d )(?:like|love|enjoy|prefer)s?(?: to| \w+ing))\b",
    re.IGNORECASE,
)
OPEN = re.compile(r"\b(?:in|on|at|over|for|during|within|throughout)(?: the)? $", re.IGNORECASE)
"""What stands before a season or holiday of no year in particular."""
SENTENCE = re.compile(r"[^.?!;\n]*")


class Talk(Protocol):
    """A conversation: from when to when, aware."""

    @property
    def start(self) -> datetime: ...
    @property
    def end(self) -> datetime: ...


def local(moment: datetime, zone: tzinfo) -> datetime:
    """A moment as the clocks of a zone show it."""
    try:
        return moment.astimezone(zone).replace(tzinfo=None)
    except OverflowError:  # the first and last day of all years
        return moment.replace(tzinfo=None)


class Moment:
    """What a phrase is relative to, in the wall-clock time of now's zone: now, the conversations, and the text it stands in."""

    def __init__(self, now: datetime, zone: tzinfo, sessions: Sequence[Talk], text: str) -> None:
        self.now = local(now, zone)
        self.text = text
        self._zone = zone
        self._sessions = sessions

    @cached_property
    def today(self) -> Span:
        """The day of now."""
        start = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        return Span(start, start + min(DAY, datetime.max - start))  # noqa: DTZ901 - the last day of all

    @cached_property
    def talks(self) -> Sequence[Span]:
        """The conversations, oldest first; only few texts ask for them."""
        return [Span(local(talk.start, self._zone), local(talk.end, self._zone)) for talk in self._sessions]

    @property
    def so_far(self) -> datetime:
        """Where "earlier" ends: when the conversation that is going on began, else now."""
        last = self.talks[-1] if self.talks else None
        return last.start if last and last.start <= self.now < last.end else self.now

    def talked(self, span: Span) -> bool:
        """Whether a conversation began in a span; asked only of a text that speaks of talking, which presumes that there was one."""
        return any(span.start <= talk.start < span.end for talk in self.talks) and SAYING.search(self.text) is not None

    def cue(self, place: int) -> str:
        """Whether the sentence looks ahead or back at a place: "future", "doing", "perfect", "past" or ""; the nearest word before it says so.

        "I have booked it for Friday" may look ahead, "what have I booked on Friday?" looks back.
        """
        begin, sentence = self._sentence(place)
        name = ""
        for cue in CUES.finditer(sentence):
            if name and begin + cue.start() >= place:
                break
            group = cue.lastgroup or ""
            name = CUE.get(group, group)
        return "past" if name == "perfect" and ASKING.match(sentence) else name

    def habitual(self, place: int) -> bool:
        """Whether "in summer" means every summer: "what does she like to do in summer?" """
        return (
            OPEN.search(self.text, max(0, place - 15), place) is not None
            and HABIT.search(self._sentence(place)[1]) is not None
            and self.cue(place) not in ("future", "past")
        )

    def _sentence(self, place: int) -> tuple[int, str]:
        """Where the sentence around a place begins, and its text."""
        first = max(0, place - REACH)
        begin = max([first, *(self.text.rfind(mark, first, place) + 1 for mark in ".?!;\n")])
        found = SENTENCE.match(self.text, begin, place + REACH)
        return begin, found[0] if found else ""

    def resolve(self, item: Item) -> Span | None:
        """The one instance that is meant when nothing else says: the most recent one begun, or the next in a sentence that looks ahead.

        A date without its year, in a sentence that does not clearly look ahead or back, is the nearer of the two.
        """
        if not isinstance(item.value, Recurring):
            span: Span = item.value
            return span
        cue = self.cue(item.start)
        last = item.value.latest(self.now)
        coming = last if last and self.now < last.end else item.value.earliest(self.today.start)
        if last and coming and item.kind in ("day", "range") and item.value.period == "year" and cue not in ("future", "past"):
            return coming if coming.start - self.now < self.now - last.end else last
        if cue == "doing" and (item.value.period == "week" or not ASKING.match(self._sentence(item.start)[1])):
            return coming  # "we are moving in July"; but "what are they reading in July?" may be of any July
        return coming if cue == "future" else last


@dataclass(frozen=True, slots=True)
class Found:
    """The items that a rule matched."""

    items: tuple[Item, ...]

    def all(self, *names: str) -> list[Item]:
        return [item for item in self.items if item.name in names]

    def get(self, *names: str) -> Item | None:
        return next(iter(self.all(*names)), None)

    def has(self, *names: str) -> bool:
        return self.get(*names) is not None

    def value(self, *names: str) -> Any:
        item = self.get(*names)
        return None if item is None else item.value

    @property
    def amount(self) -> tuple[int, int]:
        """ "three" is (3, 3), "two or three" (2, 3), "a few" (3, 5), "a" (1, 1)."""
        vague: tuple[int, int] | None = self.value("vague")
        numbers = [item.value for item in self.all("number", "year")] or [1]
        return vague or (min(numbers), max(numbers))

    def unit(self) -> Recurring:
        """The unit or recurring thing that is spoken of."""
        value = self.value("weekend", "unit", "plural", "nights", "often")
        return value if isinstance(value, Recurring) else UNITS[value]

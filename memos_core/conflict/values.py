"""The values that a statement names: counts with what is counted, amounts with unit, dates, times, weekdays, names. Pure.

Ours. Only what is needed to see that a value changed; understanding time expressions relative to now is not done here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from memos_core.conflict.inflection import stem

_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = {word: 10 * (place + 2) for place, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000, "k": 1_000, "dozen": 12}
_MORE = {"once": 1, "twice": 2, "thrice": 3, "couple": 2, "pair": 2}
_MONTHS = "january february march april may june july august september october november december".split()
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
NUMBER_WORDS = frozenset([*_SMALL, *_TENS, *_SCALES, *_MORE])
MOMENT_WORDS = frozenset([*_MONTHS, *(month[:3] for month in _MONTHS), "sept", *_DAYS, "am", "pm", "noon", "midnight"])
_UNITS = {
    "%": "percent percentage pct",
    "second": "s sec secs seconds",
    "millisecond": "ms milliseconds",
    "minute": "min mins minutes",
    "hour": "h hr hrs hours",
    "day": "days",
    "week": "weeks wk",
    "month": "months",
    "year": "yr yrs years",
    "kg": "kilo kilos kilogram kilograms kgs",
    "gram": "g grams",
    "pound": "lb lbs pounds £",
    "km": "kilometre kilometres kilometer kilometers kms",
    "mile": "mi miles",
    "metre": "m metres meters meter",
    "cm": "centimetre centimetres centimeters",
    "dollar": "$ usd dollars bucks",
    "euro": "€ eur euros",
    "degree": "° degrees",
    "mb": "megabyte megabytes",
    "gb": "gigabyte gigabytes",
}
_UNIT_OF = {form: unit for unit, forms in _UNITS.items() for form in (unit, *forms.split())}

_MONTH = r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?P<year>\d{4})-(?P<number>\d{1,2})-(?P<day>\d{1,2})\b",
        rf"\b{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(?P<year>\d{{4}}))?(?!\s*(?:am|pm|:))",
        rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\b(?:,?\s+(?P<year>\d{{4}}))?",
    )
)
_TIMES = (
    re.compile(r"\b(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?\s*(?P<half>am|pm|a\.m\.|p\.m\.|o'clock)(?!\w)", re.IGNORECASE),
    re.compile(r"\b(?P<hour>\d{1,2}):(?P<minute>\d{2})\b(?P<half>)"),
    re.compile(r"\bat (?P<hour>\d{1,2})\b(?P<minute>)(?P<half>)(?!\s*(?:%|\w+s\b|[.,]\d))", re.IGNORECASE),
    re.compile(
        r"\b(?:moved|rescheduled|pushed(?: back)?|postponed|brought forward|shifted)(?: up| back)? (?:to"
        r"|until) (?P<hour>\d{1,2})\b(?P<minute>)(?P<half>)(?!\s*[\w%]|[.,:/]\d)",
        re.IGNORECASE,
    ),
    re.compile(r"\b(?:at|to|until|by) (?P<word>noon|midnight)\b", re.IGNORECASE),
)
_DAY = re.compile(r"\b(" + "|".join(_DAYS) + r")s?\b", re.IGNORECASE)
_YEAR = re.compile(r"\b(?:in|since|from|until|of) ((?:19|20)\d{2})\b")
_NUMBER = re.compile(
    r"(?<![\w.-])(?P<money>[$€£])?\s?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?P<fraction>/\d+)?\s?(?P<suffix>%|k\b|ms\b"
    r"|s\b|kg\b|km\b|m\b|h\b|g\b|gb\b|mb\b|cm\b)?(?![\w]|\.\d)"
    r"|\b(?P<word>" + "|".join([*_SMALL[1:], *_TENS, "hundred", "thousand", "million", "dozen", "twice"]) + r")\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_][\w'-]*|[%$€£]")
_SKIP = frozenset("of the a an my our other different more new total online separate own per to for at in on and or is are was i".split())
_NAME = re.compile(r"(?<![.!?]\s)(?<!^)(?<![\"“(])\b[A-Z][\w'&-]*(?:\s+(?:of\s+)?[A-Z][\w'&-]*)*")

UNITS = frozenset(_UNITS)


@dataclass(frozen=True, slots=True)
class Value:
    """kind: date, time, weekday, year, quantity, label ("Room 12") or name. what: the unit or the thing counted, as a stem; empty where there is none."""

    kind: str
    value: str
    what: str = ""
    start: int = 0
    end: int = 0

    @property
    def slot(self) -> tuple[str, str]:
        """Two different values in one slot exclude each other when they are said of the same attribute."""
        return self.kind, self.what


_LABELLED = re.compile(
    r"\b(note|room|chapter|step|item|day|week|number|page|part|section|question|problem|task|sprint|version|volume|phase|level|unit|line|route|highway"
    r"|gate|platform|flight|bus|train|season|episode|plan|test|case|option|exercise|lesson|apartment|flat|floor|building|table|seat|row|channel|figure"
    r"|example|message|point|rule|ticket|order|invoice|issue|bug|post|round|game|match|module|lab|bed|locker|box|shelf|file|draft|stage|scene|act)"
    r"(?: (?:no\.?|number))? ?#?$",
    re.IGNORECASE,
)
"""What stands before a number that says which one, not how many: "Room 12", "step 3"."""


def values(text: str) -> tuple[Value, ...]:
    """All values in a text, in order. Each stretch of text is one value: the date in "April 5, 2024" is not a number as well."""
    found: list[Value] = []
    taken = bytearray(len(text))

    def take(kind: str, value: str, what: str, start: int, end: int) -> None:
        if not any(taken[start:end]):
            taken[start:end] = b"\x01" * (end - start)
            found.append(Value(kind, value, what, start, end))

    for pattern in _DATES:
        for match in pattern.finditer(text):
            take("date", _date(match), "", *match.span())
    for pattern in _TIMES:
        for match in pattern.finditer(text):
            take("time", _time(match), "", *match.span())
    for match in _YEAR.finditer(text):
        take("year", match.group(1), "", *match.span(1))
    for match in _DAY.finditer(text):
        take("weekday", match.group(1).lower(), "", *match.span())
    for match in _NUMBER.finditer(text):
        if label := _LABELLED.search(text, 0, match.start()):
            take("label", f"{label.group(1)} {match.group()}".lower(), "", label.start(), match.end())
        elif amount := _amount(match):
            take("quantity", amount, _counted(text, match), *match.span())
    for match in _NAME.finditer(text):
        name = match.group().removesuffix("'s")
        if name.lower().split()[0] not in {"i", "i'm", "i've", "i'd", "i'll"}:
            take("name", name.lower(), "", *match.span())
    return tuple(sorted(found, key=lambda value: value.start))


def _date(match: re.Match[str]) -> str:
    groups = match.groupdict()
    month = (
        int(groups["number"])
        if groups.get("number")
        else next(i for i, name in enumerate(_MONTHS, 1) if name.startswith(groups["month"].lower()[:3]))
    )
    return f"{month:02d}-{int(groups['day']):02d}"  # the year is often left out the second time


def _time(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if groups.get("word"):
        return "12:00" if groups["word"].lower() == "noon" else "00:00"
    hour, half = int(groups["hour"]), (groups["half"] or "").lower().replace(".", "")
    if half == "pm" and hour < 12:
        hour += 12
    return f"{hour}:{groups['minute'] or '00'}"


def _amount(match: re.Match[str]) -> str:
    if word := (match.group("word") or "").lower():
        amount = float(_SMALL.index(word)) if word in _SMALL else float(_TENS.get(word) or _SCALES.get(word) or _MORE[word])
    elif len(match.group("digits")) > 15:
        return ""
    else:
        amount = float(match.group("digits").replace(",", ""))
        amount *= 1_000 if (match.group("suffix") or "").lower() == "k" else 1
    return f"{amount:g}" + (match.group("fraction") or "" if not word else "")


def _counted(text: str, match: re.Match[str]) -> str:
    """The unit beside the number, or the head of the noun phrase after it: "5 coin toss problems" counts problems."""
    if match.group("money"):
        return _UNIT_OF[match.group("money")]
    if (suffix := (match.group("suffix") or "").lower()) and suffix != "k":
        return _UNIT_OF.get(suffix, suffix)
    following = [word.lower() for word in _WORD.findall(re.split(r"[,.;:!?()\n]", text[match.end() : match.end() + 60])[0])]
    phrase: list[str] = []
    for word in following[:5]:
        if word in _UNIT_OF and not phrase:
            return _UNIT_OF[word]
        if word in _SKIP and phrase:
            break
        if word not in _SKIP:
            phrase.append(word)
            if word.endswith("s") and not word.endswith("ss"):
                break  # a plural closes "5 coin toss problems"
        elif word not in {"of", "the", "my", "our", "other", "different", "more", "new", "total", "online", "separate", "own"}:
            break
    return stem(phrase[-1].removesuffix("'s")) if phrase else ""

"""The words of time, each classed, so that phrases can be matched as patterns over classes. Pure. Source: ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from memos_core.when.calendar import Span, date, holiday, month, quarter, season, weekday

_ONES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_FIRSTS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth"
    " seventeenth eighteenth nineteenth"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_MONTHS = "january february march april may june july august september october november december"
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday"
_UNITS = "day week weekend month quarter year decade"

SURE_MONTHS = "january february july september october november december feb sept oct nov jul aug sep"
"""Month names that are hardly ever anything else. The others (may, march, June, April, Jan ...) need a word of time beside them."""

CLASSES: dict[str, str] = {
    "the": "the",
    "a": "a an",
    "of": "of",
    "and": "and or &",
    "in": "in",
    "within": "within during throughout",
    "over": "over",
    "for": "for",
    "up": "up",
    "on": "on",
    "at": "at",
    "by": "by",
    "to": "to",
    "from": "from",
    "through": "through thru",
    "between": "between",
    "until": "until till til",
    "since": "since",
    "before": "before",
    "prior": "prior",
    "after": "after",
    "around": "around circa",
    "last": "last",
    "past": "past",
    "previous": "previous preceding",
    "recent": "latest",
    "final": "final",
    "next": "next",
    "coming": "coming upcoming",
    "this": "this",
    "current": "current present",
    "that": "that",
    "ago": "ago back",
    "now": "now",
    "earlier": "earlier",
    "later": "later",
    "half": "half",
    "not": "not",
    "but": "but",
    "time": "time",
    "with": "with",
    "every": "every each per",
    "pronoun": "i we you he she they it us me",
    "auxiliary": "did was were is are do have had been",
    "session": "session sessions conversation conversations discussion discussions chat chats convo convos talks",
    "talk": "talked spoke chatted talk speak discussed conversed met",
    "own": "my our your",
    "theirs": "his her their its whose",
    "penultimate": "penultimate",
    "numero": "number no nr",
    "parts": "mornings afternoons evenings",
}


@dataclass(frozen=True, slots=True)
class Item:
    """A word or phrase and its class. A reduced phrase holds what it means: a Span, or something Recurring."""

    name: str
    start: int
    end: int
    value: Any = None
    kind: str = ""


@cache
def _words() -> dict[str, tuple[str, Any]]:
    """Word -> class and value."""
    table: dict[str, tuple[str, Any]] = {word: (name, None) for name, words in CLASSES.items() for word in words.split()}
    table |= {word: ("number", k) for k, word in enumerate(_ONES.split(), 1)}
    table |= {word: ("ordinal", k) for k, word in enumerate(_FIRSTS.split(), 1)}
    table |= {"earliest": ("ordinal", 1), "initial": ("ordinal", 1)}
    for k, word in enumerate(_TENS.split(), 2):
        table |= {word: ("number", 10 * k), word[:-1] + "ieth": ("ordinal", 10 * k)}
        if k > 4:
            table[word[:-1] + "ies"] = ("decade", 1900 + 10 * k)
    table |= {"dozen": ("number", 12), "couple": ("vague", (2, 3)), "few": ("vague", (3, 5)), "several": ("vague", (4, 7))}
    for k, word in enumerate(_MONTHS.split(), 1):
        for form in (word, word[:3], *(["sept"] if word == "september" else [])):
            table[form] = ("month" if form in SURE_MONTHS.split() else "maybe_month", k)
    for k, word in enumerate(_WEEKDAYS.split()):
        for form in (word[:3], *{1: ["tues"], 3: ["thur", "thurs"]}.get(k, [])):
            table[form] = ("maybe_weekday", weekday(k))
        table |= {word: ("weekday", weekday(k)), word + "s": ("plural", weekday(k))}
    table |= {word: ("season", season(k)) for k, word in enumerate("spring summer autumn winter".split())}
    table |= {"fall": ("season", season(2)), "weekends": ("plural", "weekend")}
    for word in _UNITS.split():
        table |= {word: ("weekend" if word == "weekend" else "unit", word), word + "s": table.get(word + "s", ("unit", word))}
    table |= {"night": ("night", "night"), "nights": ("nights", "day")}
    table |= {word: ("clock", unit) for unit in ("hour", "minute") for word in (unit, unit + "s")}
    table |= {"min": ("clock", "minute"), "mins": ("clock", "minute"), "hrs": ("clock", "hour")}
    table |= {"yesterday": ("day", -1), "today": ("day", 0), "tomorrow": ("day", 1), "tonight": ("tonight", None)}
    table |= {word: ("part", word) for word in ("morning", "afternoon", "evening")}
    table |= {"early": ("third", 0), "mid": ("third", 1), "late": ("third", 2)}
    return table | {"beginning": ("edge", 0), "start": ("edge", 0), "middle": ("edge", 1), "end": ("edge", 2)}


@cache
def _token() -> re.Pattern[str]:
    tens, ones, firsts = (words.replace(" ", "|") for words in (_TENS, _ONES, _FIRSTS))
    return re.compile(
        rf"""
          (?P<iso>   \d{{4}}(?P<line>[-/.])\d\d?(?P=line)\d\d?(?:[T ]\d\d:\d\d(?::[\d.]+)?(?:Z|[-+]\d\d:?\d\d)?)?(?![\w/-]) )
        | (?P<isomonth>(?:19|20)\d\d-(?:0[1-9]|1[0-2])(?![\w-]) )
        | (?P<digits>\d\d?(?P<slash>[/.])\d\d?(?P=slash)(?:\d{{4}}|\d\d)(?![\w/]|\.\d) )
        | (?P<feast> (?:christmas(?:\ (?:eve|day))? | xmas | boxing\ day | black\ friday | new\ year['’]?s?\ (?:eve|day) | new\ year['’]s | new\ years?
                     | valentine['’]?s\ day | halloween | thanksgiving | easter)\b (?!\ (?:trees?|eggs?|party|dinner|cards?|gifts?|presents?|songs?)\b) )
        | (?P<name>  (?:good|cyber|ash|palm|super|bloody|taco)\ (?:{_WEEKDAYS.replace(" ", "|")})\b )
        | (?P<recent>most\ recent\b )
        | (?P<sofar> so\ far\b )
        | (?P<decade>(?:19|20)?\d0['’]?s\b )
        | (?P<tens>  (?:{tens})[-\ ](?:(?P<first>{firsts})|(?:{ones}))\b )
        | (?P<quarter>q[1-4]\b )
        | (?P<short> (?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.(?=\ ?\d) )
        | (?P<nth>   \d+(?:st|nd|rd|th)\b )
        | (?P<number>\d+(?:,\d{{3}}(?!\d)|[.:/]\d+)*\w* )
        | (?P<word>  [^\W\d_]+(?:['’][^\W\d_]+)* )
        | (?P<mark>  [^\w\s] )""",
        re.IGNORECASE | re.VERBOSE,
    )


def items(text: str) -> Iterator[Item]:
    """The classed words of a text, in order. Words that have nothing to do with time are "other"."""
    words = _words()
    for found in _token().finditer(text):
        form, start, end = found[0].lower(), found.start(), found.end()
        match found.lastgroup:
            case "word":
                name, value = words.get(form) or _possessive(form, words)
                yield Item(name, start, end, value)
            case "number":
                yield _number(form, start, end)
            case "mark":
                if name := _MARKS.get(form, "stop" if form in ".?!;:()\n" else ""):
                    yield Item(name, start, end)
            case _ as group:
                assert group is not None
                name, value = _special(group, form, found)
                yield Item(name, start, end, value, "month" if group == "isomonth" else "day")


_MARKS = {",": "comma", "-": "dash", "–": "dash", "—": "dash", "&": "and", "$": "other", "€": "other", "£": "other", "%": "other"}


def _possessive(form: str, words: dict[str, tuple[str, Any]]) -> tuple[str, Any]:
    """ "yesterday's" is yesterday; "Ann's" says that what follows is hers."""
    base, mark, rest = form.replace("’", "'").partition("'")
    if not mark or rest not in ("s", ""):
        return "other", None
    known = words.get(base, ("theirs", None))
    return known if known[0] in ("day", "tonight", "weekday", "unit", "weekend", "month", "part") else ("theirs", None)


def _number(form: str, start: int, end: int) -> Item:
    if not form.isascii() or not form.isdigit() or len(form) > 4:
        return Item("other", start, end)
    value = int(form)
    return Item("year" if 1900 <= value <= 2099 else "number", start, end, value)


def _special(group: str, form: str, found: re.Match[str]) -> tuple[str, Any]:
    match group:
        case "iso" | "digits":
            span = _full_date(form)
            return ("when", span) if span else ("other", None)
        case "feast":
            name = re.sub("['’]", "", form).replace("years", "year").replace("valentines", "valentine")
            name = {"xmas": "christmas", "new year day": "new year", "valentine day": "valentine"}.get(name, name)
            return "feast_day" if form.endswith(("eve", "day")) else "feast", holiday(name)
        case "isomonth":
            return "when", month(int(form[5:])).at(int(form[:4]))
        case "recent" | "sofar":
            return group, None
        case "decade":
            value = int(re.sub(r"\D", "", form))
            return ("decade", value if value > 99 else 1900 + value) if value > 99 or value >= 50 else ("other", None)
        case "tens" | "first":
            tens, ones = re.split(r"[- ]", form)
            table = _words()
            return ("ordinal" if found["first"] else "number", table[tens][1] + table[ones][1])
        case "short":
            return _words()[form[:-1]]
        case "quarter":
            return "quarter", quarter(int(form[1]))
        case "nth":
            return ("nth", int(form[:-2])) if len(form) < 6 else ("other", None)
    return "other", None


def _full_date(form: str) -> Span | None:
    """2024-03-05; 3/5/2024 is 5 March (month first, unless the first is above 12); 5.3.2024 is 5 March (day first)."""
    a, b, c = (int(part) for part in re.findall(r"\d+", form)[:3])
    if a > 99:
        year, in_month, day = a, b, c
    else:
        year = c if c > 99 else 2000 + c if c < 50 else 1900 + c
        in_month, day = (b, a) if "." in form or a > 12 else (a, b)
    return date(in_month, day).at(year)

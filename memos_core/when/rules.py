"""Which phrases speak of time: ordered patterns over classes of words. Pure. Source: ours.

The rules run in order; each replaces what it understands by one item that holds the meaning: `when` (a Span) or `often` (Recurring, a
Friday that still needs its week). Later rules combine such items: "the evening of", "between ... and", "since".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from memos_core.when import compose as compose
from memos_core.when import phrases as meaning
from memos_core.when.calendar import UNITS, Recurring
from memos_core.when.moment import Found, Moment
from memos_core.when.phrases import Handler
from memos_core.when.words import CLASSES, Item


@dataclass(frozen=True, slots=True)
class Rule:
    kind: str
    pattern: re.Pattern[str]
    meaning: Handler


NAMES = (
    *CLASSES,
    *"when often other stop comma dash theirs number ordinal nth year decade vague unit weekend plural night nights clock day tonight part".split(),
    *"third edge month maybe_month weekday maybe_weekday season quarter feast feast_day sofar".split(),
)
LETTERS = {name: chr(0x100 + k) for k, name in enumerate(dict.fromkeys(NAMES))}
"""One letter for every class, so that a text becomes a short string that patterns can run over."""

MACROS = {
    "X": "(?:<when>|<often>)",
    "MONTH": "(?:<month>|<maybe_month>)",
    "UNIT": "(?:<unit>|<weekend>)",
    "ORDER": "(?:<ordinal>|<nth>)",
    "DAY": "(?:<number>|<nth>|<ordinal>)",
    "COUNT": "(?:<number>(?:(?:<dash>|<to>|<and>)<number>)?|<year>|<a>?<vague><of>?)",
    "AMOUNT": "(?:<number>(?:(?:<dash>|<to>|<and>)<number>)?|<year>|<a>?<vague><of>?|<a>)",
    "TO": "(?:<to>|<through>|<dash>|<until>)",
    "COUNTED": "(?:<unit>|<weekend>|<nights>|<plural>|<clock>|<month>|<maybe_month>)",
    "LAST": "(?:<last>|<previous>|<recent>|<past>)",
    "YEAR": "(?:<comma>?<of>?<year>)",
    "NEAR": "[<in><within><over><since><until><before><after><between><around><last><past><previous><next><coming><through>]",
    "EXACTLY": "[<on><since><until><by><before><after><from><between><around><to><through><over><and>]",
}
RULES: tuple[tuple[str, str, Handler], ...] = (
    (
        "other",
        "<every>(?:<number>|<other>)?(?:<unit>|<weekend>|<weekday>|MONTH|<season>|<part>|<night>|<feast>|<feast_day>|<maybe_weekday>)"
        "(?:[<comma><and>]+(?:<weekday>|<maybe_weekday>))*|(?:<weekday>|<maybe_weekday>|<weekend>|<day>)(?:<parts>|<nights>)",
        lambda *_: None,
    ),
    ("session", "<not><the>?<last><session>?<comma>?<but>?<the>?<number><before>(?:<that>|<pronoun>|<last>)?", meaning.talk_back(2)),
    ("session", "<the>?<session><before><the>?(?:<last>|<previous>)<number>?", meaning.talk_back(2)),
    ("session", "(?<!<theirs>)ORDER<dash>?<to><dash>?<last><session>", meaning.talk_from_end),
    ("session", "(?<!<theirs>)<penultimate><session>", meaning.talk_back(2)),
    ("session", "(?<!<theirs>)ORDER(?:<comma><the>?ORDER)*<comma>?(?:TO|<and>)(?:<the>|<own>)?ORDER<session>", meaning.talk_numbered),
    ("session", "<session><number>(?:<comma><number>)*<comma>?(?:TO|<and>)<session>?<number>(?!COUNTED)", meaning.talk_numbered),
    ("session", "(?<!<theirs>)ORDER COUNT<session>", meaning.first_talks),
    ("session", "(?<!<theirs>)LAST COUNT<session>(?!<with>(?!<pronoun>))", meaning.last_talks),
    ("session", "(?<!<theirs>)COUNT LAST<session>(?!<with>(?!<pronoun>))", meaning.last_talks),
    ("session", "(?<!<theirs>)<last>(?:<session><but><number>|<but><number><session>)", meaning.talk_back(2)),
    ("session", "AMOUNT<session><ago>", meaning.talks_ago),
    ("session", "(?<!<theirs>)(?:LAST|<final>)<session>(?!<of>|<with>(?!<pronoun>))", meaning.talk_back(1)),
    ("session", "(?<!<theirs>)ORDER<session>(?!<of>|<with>(?!<pronoun>))", meaning.talk_numbered),
    ("session", "<session>(?:<numero><stop>?)?<number>(?!COUNTED)", meaning.talk_numbered),
    ("session", "(?:<this>|<current>)<session>", meaning.this_talk),
    ("session", "(?<!<auxiliary>)(?<!<auxiliary><the>)<last><time>(?:<that>?<pronoun><talk>|(?=<stop>|$))", meaning.talk_back(1)),
    ("session", "(?<!<auxiliary>)(?<!<auxiliary><the>)ORDER<time><that>?<pronoun><talk>", meaning.talk_numbered),
    ("session", "(?<!<auxiliary>)<pronoun><last><talk>", meaning.talk_back(1)),
    ("session", "(?<!<auxiliary>)<pronoun>ORDER<talk>", meaning.talk_numbered),
    ("range", "(?:<from>|<between>)?<the>?DAY(?:TO|<and>)<the>?DAY<of>?MONTH YEAR?", meaning.dated),
    ("range", "MONTH<the>?DAY(?:TO|<and>)<the>?DAY(?!MONTH|<of>|<other>)YEAR?", meaning.dated),
    ("day", "MONTH<the>?DAY YEAR", meaning.dated),
    ("day", "DAY<of>?MONTH YEAR", meaning.dated),
    ("day", "MONTH<the>?<nth>|<the>?<nth><of>?MONTH|<the>?<ordinal><of>MONTH", meaning.dated),
    (
        "day",
        "(?<=EXACTLY|<the>)MONTH<the>?DAY|<month><the>?DAY(?!<unit>)|(?<!<pronoun>)MONTH<the>?DAY(?![<other><pronoun><unit><the><that><own><theirs>])",
        meaning.dated,
    ),
    ("day", "(?<=EXACTLY)<number><of>?MONTH|<number><of>?MONTH(?!<other>|<pronoun>)", meaning.dated),
    ("month", "MONTH YEAR", meaning.month_named),
    ("season", "<season>YEAR(?:<dash>(?:<year>|<number>))?", meaning.named),
    ("quarter", "<quarter>YEAR?", meaning.named),
    (
        "day",
        "<feast_day>YEAR?|<feast>YEAR|(?<=[<on><at><for><this>]|NEAR)<feast>|(?<=<feast>[<and><to>])<feast>|(?<=<unit><of>)<feast>",
        meaning.named,
    ),
    ("season", "(?:(?<=NEAR)|(?<=<this>)|(?<=[<in><within><over><for><since><until>]<the>)|(?<=<third>))<season>", meaning.named),
    ("season", "<season>(?=<of>?<last>|<before><last>)", meaning.named),
    ("month", "<maybe_month>(?=TO MONTH|<of>?<last>|<before><last>)", meaning.month_named),
    ("month", "<month>", meaning.month_named),
    ("month", "(?<=NEAR|<by>)<maybe_month>", meaning.month_named),
    ("month", "(?<=[<third><dash>]|<third>)<maybe_month>", meaning.month_named),
    ("month", "<this><maybe_month>(?!<other>)", meaning.month_named),
    ("month", "(?<=[<edge><unit><nth><ordinal><part><half><weekday>]<of>)<maybe_month>", meaning.month_named),
    ("month", "(?<=<often>[<and><to><through><dash>])<maybe_month>", meaning.month_named),
    ("weekday", "<weekday>", meaning.named),
    ("weekday", "(?<=[<on><this>]|NEAR)<maybe_weekday>", meaning.named),
    ("weekday", "(?<=<often>[<and><to><through><dash>])<maybe_weekday>", meaning.named),
    ("weekday", "<maybe_weekday>(?=TO<maybe_weekday>)", meaning.named),
    ("day", "(?<=EXACTLY)<the><nth>(?=$|[<stop><comma><pronoun><to><through><until><dash><and>])", meaning.day_of_month),
    (
        "day",
        "(?<=<often>)<the><nth>(?!<of>|<other>)|<the>?<nth>(?=<of>(?:<last>|<previous>|<this>|<next>|<the><unit>))",
        meaning.day_of_month,
    ),
    ("day", "(?<=[<part><night><unit><weekend>]<of>)<the><nth>(?!<of>|<other>)", meaning.day_of_month),
    ("day", "(?<=<on>)<the><ordinal>(?=$|[<stop><comma><pronoun>])", meaning.day_of_month),
    ("day", "(?<=<often>[<and><to><through><until><dash>])<the>?<nth>(?!<other>)", meaning.day_of_month),
    ("year", "(?<=[<in><within><since><until><before><after><by><between><around><from><third>])<year>", meaning.in_year),
    ("year", "(?<=<third><dash>|<prior><to>)<year>|(?<=<of>)<year>(?!<other>)", meaning.in_year),
    ("year", "<unit><year>", meaning.in_year),
    ("year", "(?<=<when>[<and><to><through><until><dash>])<year>|(?<=[<edge><half><unit>]<of>)<year>", meaning.in_year),
    ("decade", "<the><decade>|(?<=<in>|<third>)<decade>", lambda found, _: UNITS["decade"].at(found.value("decade") // 10)),
    ("part", "<tonight>", meaning.night(0)),
    ("part", "(?<!<the>)<last><night>", meaning.night(-1)),
    ("part", "<the>?<night><before><last>", meaning.night(-2)),
    ("part", "<sofar>(?:<in>?(?:<this>|<the>))?(?:<part>|<unit>|<day>)|<this>(?:<part>|<unit>)<sofar>|<day><sofar>", meaning.so_far),
    ("part", "<earlier>(?:<on>?<in>?(?:<the>|<this>))?(?:<part>|<unit>|<day>)(?!<of>)", meaning.earlier),
    ("part", "<later>(?:<on>?<in>?(?:<the>|<this>))?(?:<part>|<unit>|<day>)(?!<of>)", meaning.later),
    ("part", "<this><part>", meaning.this_part),
    ("day", "AMOUNT<unit><ago><day>", meaning.ago_to_the_day),
    ("ago", "<half><a><unit><ago>|AMOUNT<unit><and><a><half><ago>|<number><and><a><half><unit><ago>", meaning.half_ago),
    ("ago", "AMOUNT(?:UNIT|<plural>|<nights>|<often>)<ago>", meaning.ago),
    ("clock", "(?:AMOUNT|<half><a>)<clock><ago>", meaning.clock_ago),
    ("ahead", "AMOUNT UNIT<from><now>|<in>AMOUNT UNIT(?!<ago>|<from>|<before>|<after>)", meaning.ahead),
    ("clock", "(?:AMOUNT|<half><a>)<clock><from><now>|<in>(?:AMOUNT|<half><a>)<clock>", meaning.clock_ahead),
    ("day", "<this><time><last><unit>", meaning.this_time),
    ("day", "<this><unit><last><unit>", meaning.this_day),
    ("ago", "<the>?(?:UNIT|<often>)<before><last>", meaning.before_last),
    ("ahead", "<the>?UNIT<after><next>", meaning.after_next),
    ("day", "<day>", meaning.named_day),
    ("rolling", "<the>?LAST COUNT(?:UNIT|<nights>|<clock>|<plural>)(?!<of>)", meaning.rolling),
    ("rolling", "(?:<this>|<the>)?<past>(?:UNIT|<often>|<clock>)", meaning.rolling),
    ("rolling", "(?:<in>|<within>|<over>)?(?:<the>|<this>)<last>(?:<unit>|<clock>)(?!<of>|<in>X)", meaning.rolling),
    ("rolling", "(?:<in>|<within>|<over>)(?:<the>|<this>)<previous><unit>", meaning.rolling),
    ("day", "(?:<the>|<last>)?(?:<often>|<weekend>)(?:<before>|<after>)X", compose.beside),
    (
        "last",
        "(?<!<theirs>)(?<!<own>)(?:(?<!<the>)<last>|<previous>|<last>(?!(?:UNIT|<often>)<in>X))(?:UNIT|<often>)(?!<of>)",
        meaning.last_one,
    ),
    ("rolling", "<the>?(?:<next>|<coming>)COUNT(?:UNIT|<clock>)", meaning.rolling_ahead),
    ("next", "(?<!<the>)<next>UNIT|<next><often>|(?:<this>|<the>)?<coming>(?:UNIT|<often>)", meaning.next_one),
    (
        "this",
        "(?:<this>|<current>)(?:UNIT|<often>)|(?:(?<=[<edge><often>]<of>)|(?<=[<ordinal><nth><last>][<unit><weekend>]<of>))<the><unit>",
        meaning.this_one,
    ),
    ("weekend", "<the><weekend>(?!<of>)", meaning.weekend),
    ("part", "(?:ORDER|<last>)(?:UNIT|<often>)<in>X", compose.nth_inside),
    ("day", "X(?:<of>|<in>|<on>|<comma>)?<the>?X", compose.narrowed),
    ("part", "X<comma>?(?:<in>|<on>|<at>)?<the>?(?:<part>|<night>)", compose.at_part),
    ("part", "(?:<part>|<night>)(?:<of>|<on>)<the>?X", compose.at_part),
    ("day", "X(?:<of>|<in>|<on>|<comma>)?<the>?X", compose.narrowed),
    ("part", "<third><dash>?(?:<in>|<of>)?X|<the>?<edge><of>X|<the>?ORDER<half><of>X", compose.thirds),
    ("part", "(?:ORDER|<last>)(?:UNIT|<often>)<of>X", compose.nth_inside),
    ("part", "(?:<ordinal>|<last>)COUNT UNIT(?:<of>|<in>)X", compose.several_inside),
    ("week", "<the>?UNIT<of>X", compose.unit_around),
    ("day", "(?:<the>|AMOUNT)?<unit>(?:<before>|<after>|<from>)X", compose.offset),
    ("around", "<around>X", compose.around),
    ("range", "(?:<from>|<between>|<over>)?X TO(?:<the>|<own>)?X|<between>(?:<the>|<own>)?X<and>(?:<the>|<own>)?X", compose.ranged),
    ("range", "X<and>(?:<on>|<in>|<the>)?X", compose.joined),
    ("since", "<since>(?:<the>|<own>)?X", compose.since),
    ("before", "(?:<before>|<prior><to>)(?:<the>|<own>)?X", compose.until_before),
    ("after", "<after>(?:<the>|<own>)?X", compose.from_after),
    ("until", "(?:<until>|<by>|(?<!<auxiliary>)(?<!<pronoun>)<up>(?:<to>|<until>))(?:<the>|<own>)?X", compose.until),
)


@cache
def rules() -> tuple[Rule, ...]:
    """The rules, compiled."""
    return tuple(Rule(kind, re.compile(_spelled(pattern)), meaning) for kind, pattern, meaning in RULES)


def _spelled(pattern: str) -> str:
    for name, spelled in MACROS.items():
        pattern = re.sub(rf"(?<![A-Z<]){name}(?![A-Z>])", spelled, pattern)
    return re.sub(r"<(?!=|!)(\w+)>", lambda found: LETTERS[found[1]], pattern.replace(" ", ""))


def reduced(words: list[Item], at: Moment) -> list[Item]:
    """The items with every phrase of time replaced by one that holds its meaning."""
    letters = "".join(LETTERS[item.name] for item in words)
    for rule in rules():
        if rule.pattern.search(letters) is None:
            continue
        result: list[Item] = []
        done = 0
        for match in rule.pattern.finditer(letters):
            first, last = match.span()
            found = Found(tuple(words[first:last]))
            item = _understood(rule, found, at)
            if item is not None:
                result += [*words[done:first], item]
                done = last
        words = result + words[done:]
        letters = "".join(LETTERS[item.name] for item in words)
    return words


def _understood(rule: Rule, found: Found, at: Moment) -> Item | None:
    start, end = found.items[0].start, found.items[-1].end
    try:
        value = rule.meaning(found, at)
    except (ValueError, OverflowError):  # no such date, or beyond the years a datetime can hold
        return None
    if rule.kind == "other":
        return Item("other", start, end)
    if isinstance(value, Recurring):
        return Item("often", start, end, value, rule.kind)
    return Item("when", start, end, value, rule.kind) if value and value.start < value.end else None

"""The checkable statements in a message: who or what it is about, what is said of it, and whether it is affirmed, denied, ended or changed. Pure.

Ours. A claim carries a few keys: under `keys` it is filed, and under `opposing` lie the earlier claims that it could oppose or replace,
so that conflicts are found while writing by a handful of look-ups, without comparing everything with everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from memos_core.conflict.attributes import attribute
from memos_core.conflict.clauses import Clause, Stance, clauses
from memos_core.conflict.inflection import irregular, stem
from memos_core.conflict.opposites import opposites_of
from memos_core.conflict.values import MOMENT_WORDS, NUMBER_WORDS, Value, values
from memos_core.conflict.wording import Token, folded, tokens

MOST_CLAUSES = 64
LONGEST_CLAUSE = 600
"""Characters; what is longer is no statement."""
MOST_TERMS = 10
"""Terms of one claim that it is filed under."""
CHANGE = frozenset(
    stem(word)
    for word in (
        "move change switch reschedule postpone push shift update adjust revise increase improve reduce extend raise lower decrease drop grow rise reach set "
        "schedule replace rename total cut expand fall be number amount"
    ).split()
)
"""Words that say that a value changed or was set, and nothing of what it is a value of."""


class Phase(StrEnum):
    """Whether what is claimed holds, held once, is denied, has ended, or never was."""

    HOLDS = "holds"
    PAST = "past"
    DENIED = "denied"
    ENDED = "ended"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Claim:
    """One checkable statement.

    subject: who or what it is about, the same for "I" said by Ana and for "Ana". event: it tells of something that happened, which may happen again.
    attribute and filler: what is given a value and which, when it is of a kind that has one value at a time.
    """

    text: str
    start: int
    end: int
    speaker: str | None
    stance: Stance
    subject: str
    predicate: str
    event: bool
    terms: tuple[str, ...]
    phase: Phase
    is_update: bool
    attribute: str
    filler: str
    values: tuple[Value, ...]
    keys: tuple[str, ...]
    opposing: tuple[str, ...]

    @property
    def affirmed(self) -> bool:
        return self.phase in (Phase.HOLDS, Phase.PAST)


_UPDATE = re.compile(
    r"\b(?:actually|no longer|any ?more|instead|now|currently|as of|these days|nowadays|recently|lately|correction|turns out"
    r"|just (?:moved|changed|switched|started|got|joined|found out|turned)|(?:got|get) (?:divorced|married|engaged|promoted|fired)"
    r"|moved|relocated|changed|switched|updated?|rescheduled|postponed|pushed (?:back|to)|brought forward|adjusted|revised|replaced"
    r"|renamed"
    r"|used to|stopped|quit|gave up|given up|sold|reached|a total of"
    r"|(?:has|have|had)(?: \w+)? (?:grown|risen|increased|improved|dropped|fallen)"
    r"|(?:increased|improved|extended|reduced|raised|lowered|decreased|dropped|grew|rose|expanded|cut) (?:\w+ ){0,4}(?:to|from)"
    r"|(?:my|our|the|her|his|their|a) (?:brand )?new(?: \w+){0,3})\b",
    re.IGNORECASE,
)
_ENDED = re.compile(
    r"\b(?:no longer|not (?:[\w' ]{1,40} )?any ?more|used to|stopp?(?:ed|ing)?(?= \w+ing)|quit(?:ting)?|gave up|given up|giving up"
    r"|ceased|got rid of|sold|gave away"
    r"|lost(?= (?:my|his|her|their|our|the))|broke up with|resigned from|left(?= (?:my|his|her|their|our|the) (?:job|company|position"
    r"|team|band|club)|(?-i: [A-Z]))"
    r"|cancell?ed|died|passed away|dropped out|retired from|(?:switched|moved away|moved on) from)\b",
    re.IGNORECASE,
)
_PARTICIPLE_YET = r"(?=\w+(?:ed|en|ne|wn|t|de|ad|ung|un|ot)\b.*\b(?:yet|ever|before|any|at all|so far)\b)"
_NEVER = re.compile(
    rf"\b(?:(?:i|we)(?: have| had|'d)? never\b|(?:i|we)(?: have)? not (?:actually |really |even |ever )?{_PARTICIPLE_YET}"
    r"|(?:i|we) (?:have|had) yet to|(?:i|we) did not ever|(?:i|we) have no experience (?:with|in|of))",
    re.IGNORECASE,
)
_PAST_STATE = re.compile(r"\b(?:lived|worked|resided|was|were|had|studied|drove|owned)\b", re.IGNORECASE)
_PASSIVE = re.compile(r"\b(?:was|were|had been) (?:\w+ly )?\w+ed\b", re.IGNORECASE)  # "was rescheduled" tells what is so now
_TRIM = re.compile(
    r"[\s,;:–—-]*(?:\b(?:and|but|so|because|since|although|though|which is why|yet|or|considering|given|especially)\b)?[\s,;:–—-]*$",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^\W*(?:(?:and|but|so|well|oh|hey|hi|also|actually|now|currently|recently|update|correction|yes|no|yeah|btw|by the way"
    r"|unfortunately|luckily|sadly"
    r"|guess what|turns out|it turns out|i think|i guess)\b[,:]?\s*(?:that )?)*",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"“][^\"”]*(?:\s[^\"”\s]+){3,}[\"”]")
_AUXILIARY = frozenset("is are am was were be been has have had do does did will would can could should may might must not never".split())
_NOT_A_HEAD = _AUXILIARY | frozenset(
    "now just recently no still also already always often of for with at in on to from about that who which and or finally then soon actually really".split()
)
_NOT_TERMS = frozenset("actually longer anymore instead now currently recently lately never yet ever before just still already new".split())
_COUNTED = NUMBER_WORDS | MOMENT_WORDS


def claims(text: str, speaker: str | None = None) -> tuple[Claim, ...]:
    """The statements of a message; questions are none. Suppositions, plans and others' words are claims of that stance, which oppose nothing."""
    said = (clause for clause in clauses(text)[:MOST_CLAUSES] if clause.stance is not Stance.ASKED and len(clause.text) <= LONGEST_CLAUSE)
    return tuple(claim for clause in said if (claim := _claim(clause, speaker)))


def _claim(clause: Clause, speaker: str | None) -> Claim | None:
    text = _TRIM.sub("", clause.text)
    plain = _QUOTED.sub(lambda found: " " * len(found.group()), folded(text)).replace("'ve ", " have ").replace("'m ", " am ")
    plain = _LEAD.sub("", plain, count=1)
    if denied := _NEVER.search(plain):
        plain = plain[denied.start() :]  # "I wonder why I have never sailed" is about sailing
    words = tokens(plain)
    terms = tuple(dict.fromkeys(token.stem for token in words if _is_term(token)))
    if not terms and not any(token.number for token in words):
        return None
    me, named, phase = (speaker or "i").casefold(), values(text), _phase(plain, words)
    subject = _subject(plain, me)
    given = attribute(plain, subject, me, any(value.kind in ("date", "time", "weekday") for value in named))
    owner = given.owner if given else subject
    if given and given.ended:
        phase = Phase.ENDED
    predicate, event = _predicate(words)
    keys, opposing = _keys(f"attribute:{given.name}|{owner}" if given else "", owner, terms, phase, named)
    return Claim(
        text=text,
        start=clause.start,
        end=clause.start + len(text),
        speaker=speaker,
        stance=clause.stance,
        subject=owner,
        predicate=predicate,
        event=event,
        terms=terms,
        phase=phase,
        is_update=phase is Phase.ENDED or (phase is not Phase.NEVER and bool(_UPDATE.search(folded(text)))),
        attribute=given.name if given else "",
        filler=given.filler if given else "",
        values=named,
        keys=keys,
        opposing=opposing,
    )


def _is_term(token: Token) -> bool:
    return token.content and not token.number and token.text.lower() not in _NOT_TERMS | _COUNTED


def _subject(plain: str, me: str) -> str:
    words = [word.strip(",.") for word in plain.replace("'", " '").split()]
    if not words:
        return ""
    first, rest = words[0].lower(), words[1:]
    if first in {"i", "me"}:
        return me
    if first in {"we", "he", "she", "they", "it", "you", "this", "that", "there", "what", "which"}:
        return first
    if first in {"my", "our", "his", "her", "their", "the", "its"}:
        return f"{me if first == 'my' else first} {_head(rest)}".strip()
    if first in {"a", "an", "some", "two", "three", "several", "many", "no", "every", "all", "someone", "somebody"}:
        return f"a {_head(rest)}".strip()
    if words[0][:1].isupper() and rest:
        second = rest[0] if rest[0][:1].isupper() else ""
        return f"{words[0]} {second}".strip().casefold()
    return ""


def _head(words: list[str]) -> str:
    """The last noun before the verb: "first sprint deadline was" -> deadline."""
    head = ""
    for word in words[:4]:
        low = word.lower()
        verb = head and (low.endswith(("ed", "ing")) or irregular(low) or stem(low) in _PLAIN_VERBS)
        if low in _NOT_A_HEAD or low.startswith("'") or verb:
            break
        head = low
    return head


def _phase(plain: str, words: tuple[Token, ...]) -> Phase:
    if _NEVER.search(plain):
        return Phase.NEVER
    if _ENDED.search(plain):
        return Phase.ENDED
    content = [token for token in words if token.content]
    negated = [token for token in content if token.negated]
    if negated and 2 * len(negated) >= len(content) - 2:
        return Phase.DENIED
    return Phase.PAST if _PAST_STATE.search(plain) and not _PASSIVE.search(plain) else Phase.HOLDS


_BEFORE_VERB = frozenset(
    """i we he she they it you
    have has had is are am was were not never ever did do does just also already actually recently to or longer finally will been""".split()
)
_PLAIN_VERBS = frozenset(
    stem(word)
    for word in """live work love like hate enjoy drink eat move stop quit own drive play prefer study need take
    go come start begin weigh cost last sell buy think""".split()
)


def _predicate(words: tuple[Token, ...]) -> tuple[str, bool]:
    """(the stem of what looks like the main verb, whether it tells of an event: "I ran" and "I have run" on some day, "I run" as a habit)."""
    previous = ""
    for token in words:
        low = token.text.lower()
        if (
            token.content
            and low not in _BEFORE_VERB
            and token.text.islower()
            and (previous in _BEFORE_VERB or (previous and token.stem in _PLAIN_VERBS))
        ):
            plain = low == token.stem or low.endswith(("s", "ing")) or token.stem + "e" == low
            return token.stem, not plain and previous not in _AUXILIARY - {"has", "have", "had"}
        previous = low
    return "", False


def _keys(
    single: str, owner: str, terms: tuple[str, ...], phase: Phase, named: tuple[Value, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(filed under, looked up). A denial is filed apart, so that ordinary claims, the most, look only among the few denials."""
    some = terms[:MOST_TERMS]
    about = [term for term in some if term not in CHANGE][:4]
    same = [single] if single else []
    for value in named:
        if value.kind == "quantity" and value.what:
            same += [f"amount:{value.what}|{term}" for term in about if term != value.what] or [f"amount:{value.what}|"]
        elif value.kind in ("date", "time", "weekday"):
            same += [f"{value.kind}:{term}" for term in about]
    said, denied = [f"said:{term}" for term in some], [f"denied:{term}" for term in some]
    filed, wanted = (said, denied) if phase in (Phase.HOLDS, Phase.PAST) else (denied, said)
    filed += [f"word:{term}|{owner}" for term in some if opposites_of(term)]
    wanted += [f"word:{other}|{owner}" for term in some for other in sorted(opposites_of(term))]
    return tuple(dict.fromkeys([*same, *filed])), tuple(dict.fromkeys([*same, *wanted]))

"""A message cut into clauses that each say one thing, and how each is meant: asserted, asked, supposed, intended or another's words. Pure.

Ours. People chain statements with commas, so sentences are too coarse: "I live in Oslo, but can you help me find a flat?" asserts and asks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<!\b[A-Z])(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)[.!?]+(?=[\s\"”)]|$)|\n+")
_STARTERS = (
    r"(?:(?:i|we|you|he|she|it|they|this|that|there|my|our|his|her|their|the|what|how|why|when|where|which|who|please)(?=[\s'’])"
    r"|(?:can|could|would|should|will|do|does|did|is|are|am)(?= (?:you|i|we|he|she|it|they|there|this|that|my)\b))"
)
_SPACE, _ANY_SPACE = r"\s{1,3}", r"\s{0,3}"  # bounded, so that a page of blanks is quickly read
_CLAUSE_START = re.compile(
    rf"(?:{_ANY_SPACE}[,;:–—]{_ANY_SPACE}|{_SPACE}-+{_SPACE}|{_SPACE})(?:and |but |so |yet |or )?"
    rf"(?:because|since|although|though|even though|whereas|while|considering(?: the fact)?(?: that)?|given(?: the fact)? that"
    rf"|especially since|especially as|which is why|but|so|and|now that){_SPACE}(?={_STARTERS})"
    rf"|{_ANY_SPACE}[,;–—]{_ANY_SPACE}(?={_STARTERS})|{_SPACE}-+{_SPACE}(?={_STARTERS})|{_ANY_SPACE};{_ANY_SPACE}"
    # What one tries to understand is a fact already: "I'm trying to understand why my score fell".
    r"|(?:(?<=understand)|(?<=figure out)|(?<=know)|(?<=see))\s{1,3}(?:how|why|that)\s{1,3}(?=(?:my|our)\s)",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"^\W*(?:and |but |so |hey,? |hi,? |please |also |then )*(?:(?:can|could|would|will|should|do|does|did|is|are|am|was|were|has|have"
    r"|had|isn't|aren't|don't|doesn't|didn't|may) (?:you|i|we|he|she|it|they|there|the|my|our|that|this|(?-i:[A-Z]\w+))\b"
    r"|(?:what|how|why|when|where|which|who|whose)\b|please\b|help me|tell me|remind me|let me know|show me|explain\b|give me\b"
    r"|i wonder|i'm wondering|i was wondering|do you know)",
    re.IGNORECASE,
)
_SUPPOSES = re.compile(
    r"\b(?:if|unless|suppose|supposing|imagine|assuming|as if|wish|would have|could have|should have|might|maybe|perhaps|hypothetically"
    r"|what if|pretend|in case|(?:worried|afraid|scared|concerned)(?: that)? (?:i|we|he|she|they|it|the|my)|would (?:love|like|rather"
    r"|be|live|move|work|have)|i'd)\b",
    re.IGNORECASE,
)
_INTENDS = re.compile(
    r"\b(?:want(?:s|ed)? to|going to|gonna|plan(?:s|ning|ned)? (?:to|on)|hop(?:e|es|ing) to|would like to|'d like to|need(?:s|ed)? to"
    r"|thinking (?:of|about)|consider(?:s|ing)? \w+ing"
    r"|intend(?:s|ing)? to|looking (?:to|for)|aim(?:s|ing)? to|about to|(?:goal|plan|aim|chance|offer|invitation|deadline"
    r"|task) (?:is )?to(?= [a-z])|decid(?:e|ing) (?:whether|if)|will|won't|'ll|should|must)\b",
    re.IGNORECASE,
)
_TRIES = re.compile(
    r"\b(?:(?:am|'m|are|'re|is|'s|been|was|were) (?:trying|struggling|attempting) (?:to|with)|tr(?:y|ies|ied) to)\b", re.IGNORECASE
)
_REPORTS = re.compile(
    r"\b(?:(?P<who>[A-Z]\w+|he|she|they|people|someone|somebody|(?:my|her|his|our|the) [\w ]{2,20}?) (?:said|says|say|told|tells"
    r"|claims?|claimed|thinks?|thought|believes?|mentioned|asked|wrote|heard)"
    r"|according to|i (?:heard|read)(?: somewhere)? that|rumou?r|in the (?:book|movie|film|novel|story|dream)|dreamed|dreamt|pretended"
    r"|joked)\b"
)
_TELLS = re.compile(
    r"\W*(?:according to|in (?:the|this|that|a|his|her) (?:novel|book|film|movie|story|series|game|dream))\b", re.IGNORECASE
)


LONGEST = 20_000
"""Characters of a message that are looked at: a pasted book is not a conversation."""


class Stance(StrEnum):
    """How a clause is meant."""

    ASSERTED = "asserted"
    ASKED = "asked"
    SUPPOSED = "supposed"
    TRIED = "tried"
    INTENDED = "intended"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True)
class Clause:
    """A stretch of the message that says one thing."""

    text: str
    start: int
    end: int
    stance: Stance


def without_code(text: str) -> str:
    """The text with fenced code blanked out, so that positions stay: code is shown, not claimed."""
    return _CODE.sub(lambda found: " " * len(found.group()), text)


def clauses(text: str) -> tuple[Clause, ...]:
    """The clauses of a message in order, without its code."""
    plain, found, start = without_code(text[:LONGEST]), [], 0
    for end in [match for match in _SENTENCE_END.finditer(plain)] + [None]:
        stop = end.start() if end else len(plain)
        asked = bool(end and "?" in end.group())
        found += _sentence(plain, start, stop, asked)
        start = end.end() if end else stop
    return tuple(found)


def _sentence(text: str, start: int, stop: int, asked: bool) -> list[Clause]:
    cuts = [start]
    for match in _CLAUSE_START.finditer(text, start, stop):
        cuts.append(match.end())
    pieces = [(a, b) for a, b in zip(cuts, [*cuts[1:], stop], strict=True) if text[a:b].strip(" ,;:-–—\t")]
    supposed = bool(re.match(r"\W*(?:if|when|unless|suppose|imagine)\b", text[start:stop], re.IGNORECASE))
    told = bool(_TELLS.match(text, start, stop))
    return [
        Clause(
            text[a:b].strip(),
            a + len(text[a:b]) - len(text[a:b].lstrip()),
            b,
            Stance.REPORTED if told else _stance(text[a:b], asked and b == stop, supposed),
        )
        for a, b in pieces
    ]


def _stance(text: str, asked: bool, supposed: bool) -> Stance:
    plain = text.replace("’", "'")
    if asked and (_ASKS.match(plain) or not re.search(r"\b(?:i|we)(?:'ve|'m)?\b", plain, re.IGNORECASE)):
        return Stance.ASKED
    if _ASKS.match(plain):
        return Stance.ASKED
    if supposed or _SUPPOSES.search(plain):
        return Stance.SUPPOSED
    if (match := _REPORTS.search(plain)) and (match.group("who") or "").lower() not in {"i"}:
        return Stance.REPORTED
    if _TRIES.search(plain):
        return Stance.TRIED
    return Stance.INTENDED if _INTENDS.search(plain) else Stance.ASSERTED

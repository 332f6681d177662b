"""A question taken apart: whom it names, whether it asks when, whether it asks about the past or for help. Pure; rules ours."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from memos_core.analyse import fold, term, words

_WHEN = re.compile(
    r"^\W*(?:and |so |but )?(?:when|how long|what (?:date|day|month|year|time)|(?:in|on) (?:which|what) (?:date|day|month|year)|since when"
    r"|how (?:many|much) (?:days|weeks|months|years|time))\b|\bwhen (?:did|was|is|are|will|does|do|were|has|had|am)\b",
    re.IGNORECASE,
)
_OWN_PAST = re.compile(
    r"\b(?:did|have|had|was|were|am) (?:i|we|my|our)\b|\b(?:our|my) (?:conversations?|sessions?|discussions?|questions?|messages?|chats?)\b"
    r"|(?<!should )(?<!could )(?<!can )(?<!do )(?<!would )\b(?:i|we)(?:'ve| have| had)?"
    r" (?:mention|brought|said|told|ask|discuss|talk|cover|learn|use|work|handle|develop)",
    re.IGNORECASE,
)
_PRESENT = re.compile(r"\b(?:is|are|am|do|does|has|have|should|can|will|what's|where's|who's|when's)\b", re.IGNORECASE)
_PAST = re.compile(r"\b(?:did|was|were|had|ago|used to|last|previous(?:ly)?|before|originally|at first)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_POINTS_BACK = re.compile(
    r"^\W*(?:and|but|so|what about|how about|which one)\b|\b(?:it|its|that|this|those|these|they|them|their|he|him|his|she|her|hers|there|then|one)\b",
    re.IGNORECASE,
)
SAYS_LITTLE = 4
"""A question with no more terms than these, and a word that points back, is about what was said before it."""


@dataclass(frozen=True, slots=True)
class Question:
    """text: the query as given. terms: stemmed words, names left out where they are known speakers'. bare: the text without those names.

    names: hashes of the first names in it. asks_when: it wants a date. own_past: it asks what was said or done, not for help.
    points_back: without what was said before it, one cannot tell what it is about.
    """

    text: str
    bare: str
    terms: tuple[str, ...]
    names: tuple[int, ...]
    asks_when: bool
    own_past: bool
    points_back: bool


def name_hashes(text: str) -> dict[int, str]:
    """Every word of a query that could be somebody's name: its hash, and the word."""
    return {term(word): word for word in _WORD.findall(fold(text))}


def question(text: str, known: Collection[int]) -> Question:
    """Take a query apart. known: hashes of the first names that people in this memory go by."""
    found = {number: word for number, word in name_hashes(text).items() if number in known}
    bare = text
    for word in found.values():
        bare = re.sub(rf"\b{re.escape(word)}(?:'s|’s)?(?!\w)", " ", bare, flags=re.IGNORECASE)
    bare = " ".join(bare.split())
    terms = words(bare)
    if not terms:  # nothing but names
        bare, terms = text, words(text)
    return Question(text, bare, tuple(terms), tuple(found), bool(_WHEN.search(text)), bool(_OWN_PAST.search(text)), points_back(text))


def stands(text: str) -> bool:
    """Whether a question asks how things stand now: it is in the present, and speaks of nothing past."""
    return _PRESENT.search(text) is not None and _PAST.search(text) is None


def points_back(text: str) -> bool:
    """Whether a question leans on what was said before it: "And what about his sister?"."""
    return len(set(words(text))) <= SAYS_LITTLE and _POINTS_BACK.search(text) is not None

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
    r"|\b(?:i|we)(?:'ve| have| had)? (?:mention|brought|said|told|ask|discuss|talk|cover|learn|use|work|handle|develop)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Question:
    """text: the query as given. terms: stemmed words, names left out where they are known speakers'. bare: the text without those names.

    names: hashes of the first names in it. asks_when: it wants a date. own_past: it asks what was said or done, not for help.
    """

    text: str
    bare: str
    terms: tuple[str, ...]
    names: tuple[int, ...]
    asks_when: bool
    own_past: bool


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
    return Question(text, bare, tuple(terms), tuple(found), bool(_WHEN.search(text)), bool(_OWN_PAST.search(text)))

"""A sentence as tokens that know what they are: content, negated or not, a value or not. Pure.

Source: scope of negation after NegEx (Chapman et al., 2001): a cue negates what follows it up to the end of its clause.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from memos_core.conflict.inflection import stem

_TOKEN = re.compile(r"\d+(?:[.,:/]\d+)*(?:st|nd|rd|th)?|[^\W\d_]+(?:['-][^\W\d_]+)*|[$€£%]|[^\w\s]")
_SPLIT_NEGATION = re.compile(
    r"\b(ca|wo|sha|do|does|did|is|are|was|were|has|have|had|would|could|should|must|need|ai|might)\s?n\s?'t\b", re.IGNORECASE
)
_FULL = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}

_FUNCTION = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but by can could d did do does doing done
    down during each else ever few for from further had has have having he her here hers herself him himself his how i if in into is it its itself just ll m may
    me might mine more most much must my myself no nor not now of off on once only or other our ours out over own per re s same shall she should since so
    some such t than that the their theirs them then there these they this those through to too under until up upon us ve very was we were what when where
    which while who whom whose why will with within without would y yes yet you your yours really actually quite rather already even still kinda
    gonna im ive like around away toward towards onto along near behind beside next front back""".split()
)
# "like" is a function word when it compares; as a verb it is kept, see `_verb_like`.
_MEANING_SMALL = frozenset(
    "in out on off up down under over above below before after with without into inside outside near behind front back away".split()
)
_CUES = frozenset("not never no nobody nothing none nowhere neither nor cannot without hardly barely scarcely".split())
_IDIOMS = re.compile(
    r"\b(?:not only|not just|no doubt|no problem|no worries|no matter|no wonder|why not|not to mention|can not wait|can not help but"
    r"|not bad|no idea|if not|or not|whether or not"
    r"|not sure|not certain|no one else|kind of|sort of)\b",
    re.IGNORECASE,
)
_STOPPERS = frozenset("stop quit cease".split())
_CLAUSE_END = frozenset(", ; : . ! ? but because although though while whereas who which that since until unless if so".split())

LONGEST_SCOPE = 40
"""Words after a negation that it can reach."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word. negated: it lies in the scope of a negation."""

    text: str
    stem: str
    content: bool
    negated: bool

    @property
    def number(self) -> bool:
        return self.text[0].isdigit()


def folded(text: str) -> str:
    """Quotes made straight, contractions of negation written out, compatibility forms folded."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").replace("`", "'")
    text = _SPLIT_NEGATION.sub(lambda found: _FULL.get(found.group(1).lower(), found.group(1)) + " not", text)
    text = re.sub(r"\bcannot\b", "can not", text, flags=re.IGNORECASE)
    return re.sub(r"\bcan not (?:stand|bear)\b", "hate", text, flags=re.IGNORECASE)


def tokens(text: str) -> tuple[Token, ...]:
    """The words of one sentence with the scope of its negations."""
    plain = _IDIOMS.sub(lambda found: " " * len(found.group()), folded(text))
    plain = re.sub(r"(?i)\b(nobody|no one|nothing)'s\b", r"\1 is", plain).replace("no one ", "nobody ").replace("No one ", "nobody ")
    words = _TOKEN.findall(plain)
    lower = [word.lower() for word in words]
    scopes = _scopes(lower)
    return tuple(
        Token(word, stem(low.removesuffix("'s")), _content(lower, place), place in scopes)
        for place, (word, low) in enumerate(zip(words, lower, strict=True))
        if word[0].isalnum() or word in "$€£%"
    )


def _content(lower: list[str], place: int) -> bool:
    word = lower[place]
    if word in "$€£%":
        return True
    if not word[0].isalnum() or word in _CUES:
        return False
    if word == "like":  # "I like tea", "do not like tea"; "is like tea", "looks like rain" compare
        return place > 0 and lower[place - 1] in {"i", "we", "you", "they", "not", "to", "really", "do", "also", "would"}
    base = word.split("'")[0]
    return base not in _FUNCTION and word not in _FUNCTION


def _scopes(lower: list[str]) -> set[int]:
    """Places of the words that are negated."""
    scopes: set[int] = set()
    for place, word in enumerate(lower):
        if word not in _CUES or (word == "no" and lower[place + 1 : place + 2] in ([","], ["."])):
            continue  # "No, I live here" answers and negates nothing
        end = place + 1
        short = word == "without" or (word == "no" and place > 0 and lower[place - 1] in {"with", "has", "have", "had", "wearing"})
        limit = place + (5 if short else LONGEST_SCOPE)
        while end < min(limit, len(lower)) and not (lower[end] in _CLAUSE_END and end > place + 1 and not _relative(lower, place, end)):
            end += 1
        scopes.update(range(place + 1, end))
    return scopes


def _relative(lower: list[str], cue: int, at: int) -> bool:
    """ "There is no man who is running": the relative clause belongs to what does not exist."""
    return lower[cue] == "no" and lower[at] in {"who", "which", "that", ","} and "there" in lower[:cue]


def stems(phrase: str) -> list[str]:
    """The content words and numbers of a phrase, as stems."""
    return [token.stem for token in tokens(phrase) if token.content or token.number]


def affirmed(text: str) -> str:
    """The statement that this text denies, or the text itself when it denies nothing: "There is no man cooking" -> "a man cooking"."""
    plain = folded(text).strip()
    changed = plain
    for pattern, instead in _AFFIRM:
        changed = pattern.sub(instead, changed)
    return changed


_AFFIRM = tuple(
    (re.compile(pattern, re.IGNORECASE), instead)
    for pattern, instead in (
        (r"\bthere (?:is|are|was|were) (?:no one|nobody)\b", "someone is"),
        (r"\bthere (?:is|are|was|were) (?:no|not an?|not any)\b", "a"),
        (r"\b(?:no one|nobody)\b", "someone"),
        (r"\bnothing\b", "something"),
        (r"\bno longer\b|\bnot\b|\bnever\b", ""),
        (r"\bno\b(?!\s*[,.])", "a"),
        (r"\bwithout (?:an?|any)?\b", "with a"),
    )
)

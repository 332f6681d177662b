"""Which modules a request is for. Pure: vectors and words in, a decision with its reason out.

A module that was distilled from facts acts where the request is about one of its entities: near to a fact or to a question for it, and
naming the entity by a distinctive word, without half of another name beside it. A module with a description acts near to that alone.
Everything else is answered by the model bit for bit as it is. Source: MemOS §4.1 (modules activated by task); the rule and its numbers
are ours, set on one family of facts and measured on another (tests/benchmarks/bench_routing.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEAR = 0.45
"""Cosine to a fact or to a question for it, from which a request that names its entity is routed."""
POINTED = 0.5
"""The same where only what was said before names it: that is in the vector too, and near by itself."""
DESCRIBED = 0.5
"""Cosine to the description of a module that has no facts."""
_POINTING = frozenset("he she it they him her them his hers its their there this that these those".split())
_SMALL = frozenset(
    "the a an my our his her their its of and or for in on at to from by with is are was were what who whose where when which why how if"
    " do does did has have had i you we he she it they"
    " tell me about know can could would should will please"
    " mr mrs ms dr doctor prof professor".split()
)
_CAPITAL = frozenset("I I'm I've I'd I'll Mr Mrs Ms Dr Doctor Prof Professor".split())
"""Small words that are written so in any sentence."""
_TOKENS = re.compile(r"[^\W_](?:[\w-]|['’](?!s\b)\w)*|['’]s\b|[^\w\s]")
"""Words, and apart from them what ends a name: a possessive s, and punctuation."""
_ENDS = frozenset('.!?:;…"“”(')
"""After these a capital is no sign of a name."""


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of a text, or a mark, of which lower is "". proper: capitalised as names are, within a sentence."""

    lower: str
    content: bool
    proper: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """What a module is for. names: of each of its facts, what its subject is called, as `name_of` says it.

    vectors: float32 [n, d], unit length, of its facts and their questions, or of its description. facts: for each vector the number of
    its fact; of a description 0, and then there are no names.
    """

    names: tuple[tuple[str, ...], ...]
    vectors: np.ndarray
    facts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Routed:
    """Whether a request is for a module, and why. nearest: the largest cosine. facts: the places of the facts that it names."""

    chosen: bool
    nearest: float
    reason: str
    facts: tuple[int, ...] = ()


def name_of(subject: str) -> tuple[str, ...]:
    """The words of a subject that tell it from others, as written: capitalised ones and the noun after the first, else those of content.

    Of "The Zorvex telescope" both: Zorvex names it, telescope tells it from the Zorvex bridge.
    """
    words = [word for word in _TOKENS.findall(subject) if word[0].isalnum()]
    content = [word for word in words if word.lower() not in _SMALL]
    proper = [word for word in content if word[0].isupper()]
    if not proper:
        return tuple(content)
    noun = words[words.index(proper[0]) + 1 :][:1]
    return tuple(word for word in content if word in proper or word in noun)


def points_back(text: str) -> bool:
    """Whether a request speaks of something that was named before: by a pronoun that stands before any name of its own."""
    words = _words(text)
    for place, word in enumerate(words):
        # "the novel that she wrote": this one joins two clauses.
        joins = word.lower == "that" and place > 0 and words[place - 1].content and any(each.lower for each in words[place + 1 : place + 2])
        if word.lower in _POINTING and not joins:
            return True
        if word.proper:
            return False
    return False


def route(query: str, vector: np.ndarray, before: Sequence[str], profile: Profile) -> Routed:
    """vector: of the query, unit length; of one that points back, with what was said before it. before: that, newest last."""
    cosines = profile.vectors @ vector if len(profile.vectors) else np.zeros(1, dtype=np.float32)
    nearest = float(np.max(cosines))
    if not profile.names:
        good = nearest >= DESCRIBED
        return Routed(good, nearest, f"{'near' if good else 'not near enough'} to its description ({nearest:.2f})")
    if nearest < NEAR:
        return Routed(False, nearest, f"not near to any of its facts ({nearest:.2f})")
    for text in (query, *(reversed(before) if points_back(query) else ())):
        words = _words(text)
        named = tuple(place for place, name in enumerate(profile.names) if _named(words, name, profile.names))
        if named:
            name = " ".join(profile.names[named[0]])
            near = max(float(cosine) for cosine, fact in zip(cosines, profile.facts, strict=True) if fact in named)
            if near >= (NEAR if text is query else POINTED):
                return Routed(True, nearest, f"names {name} and is near to what it knows ({near:.2f})", named)
            return Routed(False, nearest, f"names {name}, but asks for something else ({near:.2f})")
        if any(word.lower in _proper(name) for word in words for name in profile.names):
            return Routed(False, nearest, "names only half of what it knows")
    return Routed(False, nearest, "names nothing that it knows")


def readings(query: str, before: Sequence[str], profile: Profile) -> tuple[tuple[str, str], ...]:
    """(the request as it may be read, what is embedded of it): as it is; with what was said before it, when it points back; and with the
    whole name where it names an entity by a part, since an embedder knows nothing of half a name that somebody made up."""
    found = [(query, query)]
    if before and points_back(query):
        found.append((query, " ".join([*before, query])))
    words = _words(query)
    for name in (name for name in profile.names if _named(words, name, profile.names)):
        part = "|".join(re.escape(each) for each in sorted(name, key=len, reverse=True))
        whole = re.sub(rf"\b(?:{part})(?:\s+(?:{part}))*\b", " ".join(name), query, count=1, flags=re.IGNORECASE)
        found.append((whole, whole))
    return tuple(dict.fromkeys(found))


def _words(text: str) -> list[_Word]:
    tokens = _TOKENS.findall(text)
    begins = [place == 0 or tokens[place - 1] in _ENDS for place in range(len(tokens))]
    content = [token[0].isalnum() and re.split("['’]", token.lower())[0] not in _SMALL for token in tokens]
    inside = [(token, full) for token, full, start in zip(tokens, content, begins, strict=True) if not start and token[0].isalpha()]
    # In a title and in capitals throughout, where small words have them too, capitals tell nothing.
    titled = any(token[0].isupper() and not full and token not in _CAPITAL for token, full in inside)
    titled = titled and all(token[0].isupper() for token, full in inside if full)
    return [
        _Word(token.lower() if token[0].isalnum() else "", full, full and token[0].isupper() and not start and not titled)
        for token, full, start in zip(tokens, content, begins, strict=True)
    ]


def _proper(name: tuple[str, ...]) -> frozenset[str]:
    """The parts that name by themselves."""
    return frozenset(part.lower() for part in name if part[0].isupper()) or frozenset(part.lower() for part in name)


def _named(words: Sequence[_Word], name: tuple[str, ...], all_names: Sequence[tuple[str, ...]]) -> bool:
    """Whether the words hold the whole name, or a part that no other name has, with no word of another name beside it."""
    parts, proper = frozenset(part.lower() for part in name), _proper(name)
    others = [other for each in all_names if (other := frozenset(part.lower() for part in each)) != parts]
    start = 0
    while start < len(words):
        if words[start].lower not in proper:
            start += 1
            continue
        end = start
        while end < len(words) and words[end].lower in parts:
            end += 1
        run = {word.lower for word in words[start:end]}
        if run == parts and len(parts) > 1:
            return True
        beside = [words[place] for place in (start - 1, end) if 0 <= place < len(words)]
        # "the Zorvex station" is another thing than the Zorvex telescope.
        another = end < len(words) and start and words[start - 1].lower == "the" and words[end].content
        strange = any(word.proper or any(word.lower in other for other in others) for word in beside)
        if not another and not strange and not any(run <= other for other in others):
            return True
        start = end
    return False

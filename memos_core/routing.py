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
DESCRIBED = 0.5
"""Cosine to the description of a module that has no facts."""
_POINTING = frozenset("he she it they him her them his hers its their there this that these those".split())
_SMALL = frozenset(
    "the a an my our his her their its of and for in on at to from by with is are was were what who where when which why how"
    " do does did i you we he she it they"
    " tell me about know can could would will please".split()
)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a module is for. names: of each of its facts, the words of its subject that tell it from others, lower-case, in order.

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
    """The words of a subject that tell it from others: capitalised ones, else those of content; lower-case, in order."""
    words = re.findall(r"[\w'-]+", subject)
    proper = [word.lower() for place, word in enumerate(words) if word[:1].isupper() and word.lower() not in _SMALL]
    return tuple(proper or [word.lower() for word in words if word.lower() not in _SMALL])


def points_back(text: str) -> bool:
    """Whether a request speaks of something that was named before."""
    return not _POINTING.isdisjoint(re.findall(r"[a-z]+", text.lower()))


def route(query: str, vector: np.ndarray, before: Sequence[str], profile: Profile) -> Routed:
    """vector: of the query, unit length; of one that points back, with what was said before it. before: that, newest last."""
    nearest = float(np.max(profile.vectors @ vector)) if len(profile.vectors) else 0.0
    if not profile.names:
        good = nearest >= DESCRIBED
        return Routed(good, nearest, f"{'near' if good else 'not near enough'} to its description ({nearest:.2f})")
    if nearest < NEAR:
        return Routed(False, nearest, f"not near to any of its facts ({nearest:.2f})")
    texts = [query, *(reversed(before) if points_back(query) else ())]
    for text in texts:
        words = re.findall(r"[\w'-]+", text)
        named = tuple(place for place, name in enumerate(profile.names) if _names(words, name, profile.names))
        if named:
            near = [float(np.max(profile.vectors[[each == place for each in profile.facts]] @ vector)) for place in named]
            if max(near) >= NEAR:
                return Routed(
                    True, nearest, f"names {' '.join(profile.names[named[0]])} and is near to what it knows ({max(near):.2f})", named
                )
            return Routed(False, nearest, f"names {' '.join(profile.names[named[0]])}, but asks for something else ({max(near):.2f})")
        if any(_stem(word) in name for word in words for name in profile.names):
            return Routed(False, nearest, "names only half of what it knows")
    return Routed(False, nearest, "names nothing that it knows")


def _stem(word: str) -> str:
    return word.lower().removesuffix("'s").removesuffix("’s")


def _names(words: Sequence[str], name: tuple[str, ...], all_names: Sequence[tuple[str, ...]]) -> bool:
    """Whether the words hold the name, or a distinctive part of it with no other name's part beside it."""
    lower = [_stem(word) for word in words]
    for place, word in enumerate(lower):
        if word not in name:
            continue
        if len(name) == 1:
            return not _strange(words, place - 1, name) and not _strange(words, place + 1, name)
        if all(part in lower for part in name):
            return True
        shared = sum(word in other for other in all_names)
        if shared == 1 and not _strange(words, place - 1, name) and not _strange(words, place + 1, name):
            return True
    return False


def _strange(words: Sequence[str], place: int, name: tuple[str, ...]) -> bool:
    """Whether the word beside a part of a name is a part of another name: capitalised within the sentence."""
    if not 0 <= place < len(words):
        return False
    word = words[place]
    return place > 0 and word[:1].isupper() and _stem(word) not in name and _stem(word) not in _SMALL

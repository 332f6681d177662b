"""Memories that belong together in a recall: what takes another's place comes before it, what contradicts another comes with it. Pure.

Most changes are never said to be one: "I have 45 sources" and, weeks later, "I've added 52 sources". Asked how things stand, the
newer of two such messages comes first: the same speaker, the same matter, another value, and a word of change. Rules ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memos_core.conflict.values import values
from memos_core.cube import CubeId, MemCube
from memos_core.recall import Hit
from memos_core.recall.features import prose
from memos_core.recall.query import stands
from memos_core.recall.rank import Reason

ALIKE = 0.4
"""Cosine from which two messages can be of one matter."""
FITS = 0.4
"""What of the older one's score the newer must have."""
BARE = ("quantity", "")
"""The slot of a number beside which nothing says what it counts."""
_AMOUNT = re.compile(
    r"\bhow (?:many|much|long|often|old|far|high)\b|\b(?:percent|percentage|amount|rate|average|total|quota|score|price|cost|salary|target|count|budget)\b"
    r"|\bnumber of\b",
    re.IGNORECASE,
)
_MOMENT = re.compile(
    r"\bwhen (?:is|are|do|does|should|will|am|can)\b|\b(?:what|which) (?:time|day|date)\b|\b(?:deadline|date)\b", re.IGNORECASE
)
_OF_SEVERAL = re.compile(r"\b(?:between|across|different|order|since|summar\w+)\b", re.IGNORECASE)
_CHANGE = re.compile(
    r"\b(?:recently|just|since|actually|no longer|instead|updated?|rescheduled|postponed|adjusted|revised|changed|switched|moved|reached|extended|new"
    r"|additional|another|more|increased?|improved|reduced|lowered|raised|grown|grew|growth|rose|expanded|dropped|total of)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two memories that belong together. replaces: the newer takes the older one's place; else they contradict each other."""

    older: CubeId
    newer: CubeId
    replaces: bool
    why: str


def wanted_kinds(question: str) -> frozenset[str]:
    """Of which kinds the value is that a question asks for: "quantity", or "date", "time", "weekday"; none for other questions."""
    if not stands(question) or _OF_SEVERAL.search(question):
        return frozenset()
    amount = {"quantity"} if _AMOUNT.search(question) else set()
    return frozenset(amount | ({"date", "time", "weekday"} if _MOMENT.search(question) else set()))


def changed(hits: Sequence[Hit], question: str, vectors: Mapping[CubeId, np.ndarray]) -> list[Pair]:
    """Of the hits the first that newer ones give another value for, with each of them, if the question asks for such a value.

    vectors: float32 [d].
    """
    kinds = wanted_kinds(question)
    if not kinds:
        return []
    texts = [prose(hit.text) for hit in hits]
    slots = [(place, found) for place, text in enumerate(texts) if (found := _slots(text, kinds))]
    news = [(place, found) for place, found in slots if _CHANGE.search(texts[place])]
    for place, held in slots:
        older = hits[place]
        newer = [
            Pair(older.cube.id, hits[behind].cube.id, True, "it gives a newer value")
            for behind, said in news
            if behind > place
            and _differ(held, said)
            and _later(older, hits[behind])
            and hits[behind].score >= FITS * older.score
            and float(vectors[older.cube.id] @ vectors[hits[behind].cube.id]) >= ALIKE
        ]
        if newer:
            return newer
    return []


def _later(older: Hit, newer: Hit) -> bool:
    one, other = older.cube.identifiers, newer.cube.identifiers
    return one.speaker == other.speaker and one.occurred_at < other.occurred_at


def _slots(text: str, kinds: frozenset[str]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for value in values(text):
        if value.kind in kinds:
            found.setdefault(value.slot, set()).add(value.value)
    return found


def _differ(older: Mapping[tuple[str, str], set[str]], newer: Mapping[tuple[str, str], set[str]]) -> bool:
    """Whether the newer gives another value of the same; a bare number ("it has reached 165") may be of anything that is counted."""
    bare = newer.get(BARE, set())
    same = any(slot in older and given - older[slot] for slot, given in newer.items())
    return same or any(slot[0] == BARE[0] and bare - given for slot, given in older.items())


def together(hits: Sequence[Hit], pairs: Sequence[Pair], others: Mapping[CubeId, MemCube], k: int) -> tuple[Hit, ...]:
    """At most k hits: each pair's newer before what it replaces, and both sides of a contradiction, the one that was missing last.

    others: cubes that are no hits yet.
    """
    out = list(hits)
    for pair in pairs:
        where = {hit.cube.id: place for place, hit in enumerate(out)}
        older, newer = where.get(pair.older), where.get(pair.newer)
        if pair.replaces and older is not None and (newer is None or newer > older):
            lifted = out.pop(newer) if newer is not None else _brought(others.get(pair.newer))
            if lifted is not None:
                out.insert(older, _scored(lifted, out[older].score, "newer", pair.why))
        elif not pair.replaces and (older is None) != (newer is None):
            here = older if older is not None else newer
            missing = _brought(others.get(pair.newer if older is not None else pair.older))
            if missing is not None and here is not None and here < k - 1:
                last = min(k - 1, len(out))
                out.insert(last, _scored(missing, out[last - 1].score, "contradiction", pair.why))
    return tuple(out[:k])


def _brought(cube: MemCube | None) -> Hit | None:
    return None if cube is None else Hit(cube, 0.0, ())


def _scored(hit: Hit, score: float, part: str, why: str) -> Hit:
    """The hit with that score, and the reason for the difference."""
    return replace(hit, score=score, reasons=(*hit.reasons, Reason(part, score - hit.score, why)))

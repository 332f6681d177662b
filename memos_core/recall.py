"""Ranked rows to hits with reasons, and the choice of hits for a prompt. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memos_core.cube import MemCube, Plaintext
from memos_core.plan import line
from memos_core.rank import Ranked, Reason
from memos_core.when import Window

_QUESTION = re.compile(r"\?(\W*\w+){0,2}\W*$")  # ends in a question mark, give or take two words
DOUBT = 1 / 3
"""What a remembered question or an assistant's own reply counts in a prompt."""
ENOUGH = 10
"""From this many hits on, scores in standard deviations say which of them stand out."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A recalled memory. score: the sum of the reasons' contributions, comparable within one recall only."""

    cube: MemCube
    score: float
    reasons: tuple[Reason, ...]

    @property
    def text(self) -> str:
        """The memory's text."""
        assert isinstance(self.cube.payload, Plaintext)
        return self.cube.payload.text


@dataclass(frozen=True, slots=True)
class Recall:
    """What a query brought up, best first. window: the time window understood from the query, or None."""

    query: str
    hits: tuple[Hit, ...]
    window: Window | None = None

    @property
    def text(self) -> str:
        """The hits as lines for a prompt, best first; "" when there are none."""
        return "\n".join(line(hit.cube) for hit in self.hits)


def as_hits(ranked: Sequence[Ranked], cubes: Mapping[int, MemCube], k: int) -> tuple[Hit, ...]:
    """The first k hits, ties broken by id. Rows without a cube (gone meanwhile) are left out."""
    hits = [Hit(cubes[item.row], item.score, item.reasons) for item in ranked if item.row in cubes]
    hits.sort(key=lambda hit: (-hit.score, hit.cube.id))
    return tuple(hit for hit in hits[:k] if isinstance(hit.cube.payload, Plaintext))


def for_prompt(hits: Sequence[Hit], k: int) -> tuple[Hit, ...]:
    """The hits that deserve a place in a prompt, best first, at most k. Rules ours.

    A question holds no answer, and an assistant's reply may have been made up: both count a third, so that they do not take the
    place of what somebody said. Of many hits, those with less than half of the best score are left out: they would distract.
    """
    weighed = []
    for hit in hits:
        lost = (1 - DOUBT) * max(hit.score, 0.0)
        why = _doubt(hit.cube)
        weighed.append(Hit(hit.cube, hit.score - lost, (*hit.reasons, Reason("origin", -lost, why))) if why else hit)
    weighed.sort(key=lambda hit: (-hit.score, hit.cube.id))
    least = weighed[0].score / 2 if len(weighed) >= ENOUGH and weighed[0].score > 0 else -math.inf
    return tuple(hit for hit in weighed[:k] if hit.score >= least)


def _doubt(cube: MemCube) -> str | None:
    if cube.identifiers.role == "assistant":
        return "an assistant said it"
    if isinstance(cube.payload, Plaintext) and _QUESTION.search(cube.payload.text[-80:]):
        return "it is a question"
    return None

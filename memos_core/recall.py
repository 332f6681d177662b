"""Scores to ranked hits with reasons. Pure: the caller hands over what the index found.

Lexical and dense scores are fused as z-scores over what the actor may read, then recency and priority are added. Ties are
broken by id, so that the same memory gives the same ranking. Source: z-score fusion (Fox & Shaw 1994 call the sum CombSUM);
weights are ours, set by reasoning: both halves equal, recency and priority only to decide between near equals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memos_core.cube import MemCube, Plaintext
from memos_core.plan import line

_QUESTION = re.compile(r"\?(\W*\w+){0,2}\W*$")  # ends in a question mark, give or take two words
RECENCY_WEIGHT = 0.1
RECENCY_HALF_LIFE = 30 * 86400.0
PRIORITY_WEIGHT = 1.0
DOUBT = 1 / 3
"""What a remembered question or an assistant's own reply counts in a prompt."""
ENOUGH = 10
"""From this many hits on, scores in standard deviations say which of them stand out."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Candidates with their scores. rows: int64 [n]. dense: cosine, lexical: BM25 over the authorised rows, float64 [n]."""

    rows: np.ndarray
    dense: np.ndarray
    lexical: np.ndarray
    occurred_at: np.ndarray
    priority: np.ndarray


@dataclass(frozen=True, slots=True)
class Reason:
    """One part of a score: what it is, how much it added, and the value behind it."""

    part: str
    contribution: float
    detail: str

    def __str__(self) -> str:
        return f"{self.part} {self.contribution:+.2f} ({self.detail})"


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
    """What a query brought up, best first. window: the time window understood from the query; None until that ability arrives."""

    query: str
    hits: tuple[Hit, ...]
    window: None = None

    @property
    def text(self) -> str:
        """The hits as lines for a prompt, best first; "" when there are none."""
        return "\n".join(line(hit.cube) for hit in self.hits)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One row of a ranking before its cube is read."""

    row: int
    score: float
    reasons: tuple[Reason, ...]


def _z(values: np.ndarray) -> np.ndarray:
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)


def fuse(scored: Scored, now: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Total score and its parts, float64 [n] each."""
    age = np.maximum(now - scored.occurred_at, 0.0)
    parts = {
        "meaning": 0.5 * _z(scored.dense),
        "words": 0.5 * _z(scored.lexical),
        "recency": RECENCY_WEIGHT * 0.5 ** (age / RECENCY_HALF_LIFE),
        "priority": PRIORITY_WEIGHT * scored.priority,
    }
    return np.sum(list(parts.values()), axis=0), parts


def rank(scored: Scored, now: float, k: int) -> list[Ranked]:
    """The first k rows and all that tie with the last of them, best first; rows ascend within a tie."""
    if not len(scored.rows):
        return []
    total, parts = fuse(scored, now)
    if len(total) > k:
        least = np.partition(total, len(total) - k)[len(total) - k]
        chosen = np.flatnonzero(total >= least)
    else:
        chosen = np.arange(len(total))
    chosen = chosen[np.lexsort((scored.rows[chosen], -total[chosen]))]
    details: Mapping[str, Callable[[int], str]] = {
        "meaning": lambda i: f"cosine {scored.dense[i]:.3f}",
        "words": lambda i: f"BM25 {scored.lexical[i]:.2f}",
        "recency": lambda i: f"{max(now - scored.occurred_at[i], 0.0) / 86400:.1f} days old",
        "priority": lambda i: f"priority {scored.priority[i]:.2f}",
    }
    return [
        Ranked(
            int(scored.rows[i]),
            float(total[i]),
            tuple(
                Reason(name, float(values[i]), details[name](int(i)))
                for name, values in parts.items()
                if values[i] != 0.0 or name == "meaning"
            ),
        )
        for i in chosen
    ]


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


def embedded_text(text: str, speaker: str | None) -> str:
    """What is embedded and indexed for a memory: who said it and what, since questions name people."""
    return f"{speaker}: {text}" if speaker else text

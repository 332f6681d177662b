"""Scores of what an actor may read to one ranking, with the reasons. Pure: the index hands over what it found.

Meaning and words are fused first. What scores well then lends to what belongs to it: an answer to its question, a message to its
neighbours, a topic to all that was said of it. Then come who said it, when, and what it is for. Ties are broken by row.
Source: fusion by sums of normalised scores (Fox & Shaw 1994); spreading activation over a memory's edges (Collins & Loftus 1975).
Weights are ours, set by reasoning: both halves equal, edges below half of what they lend, priors below what a good match scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from memos_core.recall.features import ASKS, DATED, QUESTION, REPLY, STANDING

BEST_WORDS = 4.0
"""The best lexical match counts as much as a meaning this many standard deviations above the mean."""
ALIKE = 0.05
"""Cosines, and lent scores, that lie this close together hardly differ."""
SEEDS = 512
"""How many of the best lend their score along edges."""

ANSWER, ANSWER_FADES, ANSWER_RUN = 0.4, 0.7, 3
NEIGHBOUR, NEIGHBOUR_TERMS = 0.15, 12
TOPIC, TOPIC_BEST = 0.2, 3
ONLY_ASKS = 0.6
SPEAKER, OTHER_SPEAKER = 0.7, 0.3
DOUBT = 2 / 3
"""What an assistant's reply, which may be made up, loses for a prompt."""
SAYS_WHEN = 0.3
IN_WINDOW = 2.0
STANDING_WISH, OWN_PAST = 1.5, 0.5
"""What a standing wish gains when it applies; a question about what was said before asks for less of it."""
SUPERSEDED = 0.5
PLACE = 1.0
PRIORITY = 1.0
RECENCY, RECENCY_HALF_LIFE = 0.05, 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """All that an actor may read, scored, as columns of n. rows: int64. dense: cosine, lexical: BM25 over these rows, float64.

    features: by the names of FEATURES. topic: int64, what is said of one concept in one session; 0 for none. place: how well the query names the
    memory's place in the hierarchy, 0 to 1. before, after: int64, positions of the neighbours in the session among the n; -1 for none.
    sample: where only a shortlist is scored, the cosines of some of all; None when all is here.
    """

    rows: np.ndarray
    dense: np.ndarray
    lexical: np.ndarray
    occurred_at: np.ndarray
    priority: np.ndarray
    features: Mapping[str, np.ndarray]
    topic: np.ndarray
    place: np.ndarray
    before: np.ndarray
    after: np.ndarray
    superseded: np.ndarray
    sample: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What ranking needs of a question. voices: hashes of the speakers it names. when, own_past: as in `query.Question`.

    window: the time it asks about, from and to, in seconds; None for none.

    for_prompt: whether the hits are for a model to read, which takes what it reads for true. Earlier questions then lend their score
    and are left out, or asking again and again would drive out the answer; unless it is them that the question is about.
    """

    voices: tuple[int, ...] = ()
    when: bool = False
    own_past: bool = False
    window: tuple[float, float] | None = None
    for_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Reason:
    """One part of a score: what it is, how much it added, and the value behind it."""

    part: str
    contribution: float
    detail: str

    def __str__(self) -> str:
        return f"{self.part} {self.contribution:+.2f} ({self.detail})"


@dataclass(frozen=True, slots=True)
class Ranked:
    """One row of a ranking before its cube is read."""

    row: int
    score: float
    reasons: tuple[Reason, ...]


def standardised(values: np.ndarray, least: float, sample: np.ndarray | None = None) -> np.ndarray:
    """In standard deviations from the mean, which count as no less than `least`: among few, or alike, small differences mean little.

    sample: what mean and deviation are taken of, where the values are a choice.
    """
    of = values if sample is None else sample
    return (values - of.mean()) / max(float(of.std()), least) if len(values) else values


def fuse(found: Candidates, asked: Asked, now: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Total score and its parts, float64 [n] each."""
    count, traits = len(found.rows), found.features["traits"]
    best = float(found.lexical.max()) if count else 0.0
    meaning = standardised(found.dense, ALIKE, found.sample)
    parts = {"meaning": 0.5 * meaning, "words": 0.5 * BEST_WORDS * found.lexical / best if best > 1e-9 else np.zeros(count)}
    base = np.maximum(parts["meaning"] + parts["words"], 0.0)
    seeds = _seeds(base)
    parts["answer"] = ANSWER * _answers(found, base, seeds)
    parts["neighbours"] = NEIGHBOUR * _neighbours(found, base)
    parts["topic"] = TOPIC * standardised(_topics(found, base, seeds), ALIKE)
    parts["place"] = PLACE * found.place
    parts["question"] = -ONLY_ASKS * base * ((traits & ASKS) > 0)
    parts |= _said_by(found, asked, np.sum(list(parts.values()), axis=0))
    positive = np.maximum(np.sum(list(parts.values()), axis=0), 0.0)
    if asked.when:
        parts["date"] = SAYS_WHEN * positive * ((traits & DATED) > 0)
    if asked.window is not None:
        parts["window"] = IN_WINDOW * within(found, *asked.window)
    if not asked.voices:
        applies = np.clip((meaning + 1.0) / 2.5, 0.0, 1.0)
        parts["standing"] = STANDING_WISH * (OWN_PAST if asked.own_past else 1.0) * applies * ((traits & STANDING) > 0)
    parts["superseded"] = -SUPERSEDED * positive * found.superseded
    if asked.for_prompt:
        parts["origin"] = -DOUBT * positive * ((traits & REPLY) > 0)
    parts["recency"] = RECENCY * 0.5 ** (np.maximum(now - found.occurred_at, 0.0) / RECENCY_HALF_LIFE)
    parts["priority"] = PRIORITY * found.priority
    return np.sum(list(parts.values()), axis=0), parts


def within(found: Candidates, start: float, end: float) -> np.ndarray:
    """How far each was said in a window, or speaks of it: 0 to 1. What speaks of a longer time speaks of the window by its share."""
    said = (found.occurred_at >= start) & (found.occurred_at < end)
    first, last = found.features["from"], found.features["to"]
    common = np.minimum(last, end) - np.maximum(first, start)
    share: np.ndarray = np.maximum(said, np.clip(common / np.maximum(last - first, 1.0), 0.0, 1.0))
    return share


def _seeds(base: np.ndarray) -> np.ndarray:
    """Positions of the best, best first."""
    chosen = np.argpartition(-base, SEEDS)[:SEEDS] if len(base) > SEEDS else np.arange(len(base))
    chosen = chosen[base[chosen] > 0]
    order: np.ndarray = chosen[np.lexsort((chosen, -base[chosen]))]
    return order


def _answers(found: Candidates, base: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """What each message receives from the question before it: the next speaker answers, in one message or a few."""
    out = np.zeros(len(base))
    voice = found.features["voice"]
    source = seeds[(found.features["traits"][seeds] & QUESTION > 0) & (voice[seeds] > 0)]
    target = found.after[source]
    for _ in range(ANSWER_RUN):  # the one who asks may go on talking
        goes_on = (target >= 0) & (voice[target] == voice[source])
        target = np.where(goes_on, found.after[target], target)
    live = (target >= 0) & (voice[target] != voice[source])
    source, target = source[live], target[live]
    who, weight = voice[target], 1.0
    for _ in range(ANSWER_RUN):
        np.maximum.at(out, target, weight * base[source])
        source, target, who = source, found.after[target], who
        live = (target >= 0) & (voice[target] == who)
        source, target, who, weight = source[live], target[live], who[live], weight * ANSWER_FADES
    return out


def _neighbours(found: Candidates, base: np.ndarray) -> np.ndarray:
    """What each message receives from those beside it, the more the less it says itself."""
    share = NEIGHBOUR_TERMS / (NEIGHBOUR_TERMS + found.features["length"].astype(np.float64))
    lent = np.append(base, 0.0)  # position -1 lends nothing
    received: np.ndarray = share * (lent[found.before] + lent[found.after])
    return received


def _topics(found: Candidates, base: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """For each memory the mean of the best scores within its topic."""
    seeds = seeds[found.topic[seeds] != 0]
    if not len(seeds):
        return np.zeros(len(base))
    topics, group = np.unique(found.topic[seeds], return_inverse=True)
    order = np.argsort(group, kind="stable")  # seeds come best first
    firsts = np.searchsorted(group[order], np.arange(len(topics)))
    kept = order[np.arange(len(order)) - firsts[group[order]] < TOPIC_BEST]
    scores = np.bincount(group[kept], weights=base[seeds[kept]], minlength=len(topics)) / TOPIC_BEST
    where = np.minimum(np.searchsorted(topics, found.topic), len(topics) - 1)
    return np.where(topics[where] == found.topic, scores[where], 0.0)


def _said_by(found: Candidates, asked: Asked, total: np.ndarray) -> dict[str, np.ndarray]:
    """A question about one person is mostly answered by what that person said."""
    voice = found.features["voice"]
    if len(asked.voices) != 1:
        return {}
    theirs = voice == asked.voices[0]
    return {"speaker": np.where(theirs, SPEAKER, -OTHER_SPEAKER * np.maximum(total, 0.0))}


def rank(found: Candidates, asked: Asked, now: float, k: int) -> list[Ranked]:
    """The first k rows and all that tie with the last of them, best first; rows ascend within a tie."""
    if not len(found.rows):
        return []
    total, parts = fuse(found, asked, now)
    told = np.arange(len(total))
    if asked.for_prompt and not asked.own_past:
        told = np.flatnonzero(found.features["traits"] & ASKS == 0)
    chosen = told
    if len(told) > k:
        least = np.partition(total[told], len(told) - k)[len(told) - k]
        chosen = told[total[told] >= least]
    chosen = chosen[np.lexsort((found.rows[chosen], -total[chosen]))]
    return [
        Ranked(
            int(found.rows[i]),
            float(total[i]),
            tuple(
                Reason(name, float(values[i]), _DETAILS[name](found, int(i), now))
                for name, values in parts.items()
                if abs(values[i]) >= 0.005 or name == "meaning"
            ),
        )
        for i in chosen
    ]


_DETAILS: Mapping[str, Callable[[Candidates, int, float], str]] = {
    "meaning": lambda found, i, now: f"cosine {found.dense[i]:.3f}",
    "words": lambda found, i, now: f"BM25 {found.lexical[i]:.2f}",
    "answer": lambda found, i, now: "it answers a question like this",
    "neighbours": lambda found, i, now: "what was said beside it fits",
    "topic": lambda found, i, now: "what was said on its topic fits",
    "place": lambda found, i, now: "the question names its place",
    "question": lambda found, i, now: "it only asks",
    "speaker": lambda found, i, now: "who said it",
    "date": lambda found, i, now: "it says when",
    "window": lambda found, i, now: "in the time asked for",
    "standing": lambda found, i, now: "a standing wish that applies",
    "superseded": lambda found, i, now: "something newer took its place",
    "origin": lambda found, i, now: "an assistant said it",
    "recency": lambda found, i, now: f"{max(now - found.occurred_at[i], 0.0) / 86400:.1f} days old",
    "priority": lambda found, i, now: f"priority {found.priority[i]:.2f}",
}

"""From a query to hits: what the actor may read, scored by the index, ranked, and read from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from memos_core.access import may
from memos_core.changes import Searchable
from memos_core.cube import Actor, CubeId, MemCube, Plaintext, Scope
from memos_core.hierarchy import in_context
from memos_core.house import House
from memos_core.index import ALWAYS
from memos_core.intake import as_searchable
from memos_core.lifespan import recallable
from memos_core.past import Past, as_before, stood
from memos_core.recall import Hit, Recall, Timeline, as_hits, one_of_each
from memos_core.recall.features import prose
from memos_core.recall.pairs import changed, together
from memos_core.recall.query import Question, name_hashes, points_back, question, stands
from memos_core.recall.rank import Asked, rank
from memos_core.store.records import changed_after, extracted, pairs_of
from memos_core.store.shelves import Authorised
from memos_core.store.snapshot import Snapshot
from memos_core.when import Window, names_a_time, window_of

SHORTLIST = 3_000
"""Where a search need not be exact: memories nearest by fingerprint, and as many of the best by words, that are looked at exactly."""
MOST_FACTS = 3
"""With a model that extracts facts, so many times as many rows are ranked, since a message and its facts share one hit."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the memory. as_of: how things stood at that time. between: only what was said in that window.

    context: what was said just before, newest last. for_prompt: the hits are for a model to read. exact: score everything.
    """

    query: str
    scope: Scope
    actor: Actor
    k: int
    clock: datetime
    as_of: datetime | None = None
    between: Window | None = None
    context: tuple[str, ...] = ()
    for_prompt: bool = False
    exact: bool = True


def search(house: House, wanted: Wanted) -> Recall:
    """Every memory that the actor may read at or below the scope is scored, and no other."""
    query, place, who, clock = wanted.query, wanted.scope, wanted.actor, wanted.clock
    then = wanted.as_of or clock
    dead = max(then, clock).timestamp()
    bounds = (wanted.between.start.timestamp(), wanted.between.end.timestamp()) if wanted.between is not None else ALWAYS
    if wanted.as_of is not None:
        with house.view() as view:  # outside of the lock, since old texts may have to be embedded first
            _past(house, view, view.authorised(place, who), wanted.as_of, clock)
    with house.index.lock, house.view() as view:
        authorised = view.authorised(place, who)
        past = _past(house, view, authorised, wanted.as_of, clock) if wanted.as_of is not None else None
        leaning = " ".join((*wanted.context, query)) if points_back(query) else query
        voices = house.index.voices(name_hashes(leaning), authorised, dead, past)
    window = wanted.between or understood(house, query, place, who, then)
    asked = question(query, voices)
    vector = _in_context(house, asked, wanted.context)
    with house.index.lock, house.view() as view:  # nobody moves the index on while its rows are read
        authorised = view.authorised(place, who)
        past = _past(house, view, authorised, wanted.as_of, clock) if wanted.as_of is not None else None
        found = house.index.search(vector, asked.terms, authorised, dead, past, bounds, None if wanted.exact else SHORTLIST)
        preferred = (window.start.timestamp(), window.end.timestamp()) if window is not None and wanted.between is None else None
        people = tuple({voices[name] for name in asked.names or (voices if asked.points_back else ())})
        ranked = rank(
            found,
            Asked(people, asked.asks_when, asked.own_past, preferred, wanted.for_prompt),
            then.timestamp(),
            wanted.k if house.model is None else MOST_FACTS * wanted.k,
        )
        rows = [item.row for item in ranked]
        cubes, near = view.heads_by_row(rows, clock), house.index.vectors(rows)
    allowed = {row: cube for row, cube in cubes.items() if may(cube, who, "read") and (past is not None or recallable(cube, clock))}
    if past is not None:
        allowed = {row: past.cubes.get(row, as_before(cube)) for row, cube in allowed.items()}
    hits = as_hits(ranked, allowed, len(ranked))
    with house.store.read() as view:
        hits = one_of_each(hits, extracted(view, [hit.cube.id for hit in hits]), wanted.k)
    if past is None:
        hits = _belonging(house, wanted, hits, {cubes[row].id: vector for row, vector in near.items() if row in cubes})
    return Recall(query, hits, window, found.sample is None)


def _belonging(house: House, wanted: Wanted, hits: tuple[Hit, ...], vectors: Mapping[CubeId, np.ndarray]) -> tuple[Hit, ...]:
    """The hits in an order that respects what takes the place of what, and with what contradicts them."""
    with house.view() as view:
        authorised = view.authorised(wanted.scope, wanted.actor)
        pairs = pairs_of(view, authorised, [hit.cube.id for hit in hits], stands(wanted.query))
        missing = {id for pair in pairs for id in (pair.older, pair.newer)} - {hit.cube.id for hit in hits}
        others = view.heads(sorted(missing), wanted.clock)
    shown = {id: cube for id, cube in others.items() if _may_show(cube, wanted)}
    return together(hits, [*changed(hits, wanted.query, vectors), *pairs], shown, wanted.k)


def _may_show(cube: MemCube, wanted: Wanted) -> bool:
    inside = wanted.between is None or wanted.between.contains(cube.identifiers.occurred_at)
    return inside and bool(may(cube, wanted.actor, "read")) and recallable(cube, wanted.clock)


def _in_context(house: House, asked: Question, context: Sequence[str]) -> np.ndarray:
    """The vector of a question; of one that points back, with what was said just before it."""
    vector, *before = house.embedder([asked.bare, *(reversed(context) if asked.points_back else ())])
    return in_context(vector, before).astype(np.float32) if before else vector


def understood(house: House, words: str, place: Scope, who: Actor, now: datetime) -> Window | None:
    """The window of time that words ask for, None when they name none; conversations are counted as far as the actor may read them."""
    if not names_a_time(words):
        return None
    with house.index.lock, house.view() as view:
        talks = house.index.talks(view.authorised(place, who), now.timestamp())
    return window_of(words, now, talks)


def timeline(house: House, window: Window, place: Scope, who: Actor, clock: datetime) -> Timeline:
    """Everything that was said in a window, of what the actor may read, oldest first."""
    bounds = window.start.timestamp(), window.end.timestamp()
    with house.index.lock, house.view() as view:
        rows = house.index.said_between(view.authorised(place, who), clock.timestamp(), bounds)
        cubes = view.heads_by_row(rows, clock)
    kept = [cubes[row] for row in rows if row in cubes and may(cubes[row], who, "read") and recallable(cubes[row], clock)]
    return Timeline(tuple(kept), window)


def _past(house: House, view: Snapshot, authorised: Authorised, at: datetime, now: datetime) -> Past:
    """What differed at an earlier time from what the index holds, of what the actor may read."""
    hidden: set[int] = set()
    cubes: dict[int, MemCube] = {}
    texts: dict[int, Searchable] = {}
    for row, head, versions in changed_after(view, authorised, at):
        then = stood(head, versions, at, now)
        if then is None:
            hidden.add(row)
            continue
        cubes[row] = then
        if then.payload != head.payload and isinstance(then.payload, Plaintext):
            found = as_searchable(then, house.embedder([prose(then.payload.text)])[0])
            assert found is not None
            texts[row] = found
    priorities = {row: cube.governance.priority for row, cube in cubes.items()}
    return Past(at.timestamp(), frozenset(hidden), texts, priorities, cubes)

"""From a query to hits: what the actor may read, scored by the index, ranked, and read from the store."""

from __future__ import annotations

from datetime import datetime

from memos_core.access import may, rules
from memos_core.changes import Searchable
from memos_core.cube import Actor, MemCube, Plaintext, Scope
from memos_core.house import House
from memos_core.intake import as_searchable
from memos_core.lifespan import recallable
from memos_core.past import Past, as_before, stood
from memos_core.recall import Recall, as_hits
from memos_core.recall.features import prose
from memos_core.recall.query import name_hashes, question
from memos_core.recall.rank import Asked, rank
from memos_core.store.records import changed_after
from memos_core.store.snapshot import Authorised, Snapshot

FULL_TEXT_FROM = 20_000
"""From this many memories on, the store's full-text index narrows the lexical scan. It changes the time, not the result."""


def search(
    house: House, query: str, place: Scope, who: Actor, k: int, clock: datetime, as_of: datetime | None = None, for_prompt: bool = False
) -> Recall:
    """Every memory that the actor may read at or below the scope is scored, and no other. as_of: as it stood at that time."""
    then = as_of or clock
    moment, dead = then.timestamp(), max(then, clock).timestamp()
    if as_of is not None:
        with house.view() as view:  # outside of the lock, since old texts may have to be embedded first
            _past(house, view, view.authorised(place, who), as_of, clock)
    with house.index.lock, house.view() as view:
        authorised = view.authorised(place, who)
        past = _past(house, view, authorised, as_of, clock) if as_of is not None else None
        voices = house.index.voices(name_hashes(query), authorised, dead, past)
    asked = question(query, voices)
    vector = house.embedder([asked.bare])[0]
    with house.index.lock, house.view() as view:  # nobody moves the index on while its rows are read
        authorised = view.authorised(place, who)
        past = _past(house, view, authorised, as_of, clock) if as_of is not None else None
        narrowed = past is None and len(house.index) > FULL_TEXT_FROM and not authorised.rows and rules(who, place)
        lexical = view.lexical_rows(sorted(set(asked.terms)), place) if narrowed else None
        found = house.index.search(vector, asked.terms, authorised, dead, lexical, past)
        ranked = rank(found, Asked(tuple({voices[name] for name in asked.names}), asked.asks_when, asked.own_past, for_prompt), moment, k)
        cubes = view.heads_by_row([item.row for item in ranked], clock)
    allowed = {row: cube for row, cube in cubes.items() if may(cube, who, "read") and (past is not None or recallable(cube, clock))}
    if past is not None:
        allowed = {row: past.cubes.get(row, as_before(cube)) for row, cube in allowed.items()}
    return Recall(query, as_hits(ranked, allowed, k))


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

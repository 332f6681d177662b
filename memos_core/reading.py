"""From a query to hits: what the actor may read, scored by the index, ranked, and read from the store."""

from __future__ import annotations

from datetime import datetime

from memos_core.access import may, rules
from memos_core.cube import Actor, Scope
from memos_core.house import House
from memos_core.lifespan import recallable
from memos_core.query import name_hashes, question
from memos_core.rank import Asked, rank
from memos_core.recall import Recall, as_hits

FULL_TEXT_FROM = 20_000
"""From this many memories on, the store's full-text index narrows the lexical scan. It changes the time, not the result."""


def search(house: House, query: str, place: Scope, who: Actor, k: int, clock: datetime) -> Recall:
    """Every memory that the actor may read at or below the scope is scored, and no other."""
    now = clock.timestamp()
    with house.index.lock, house.view() as view:
        voices = house.index.voices(name_hashes(query), view.authorised(place, who), now)
    asked = question(query, voices)
    vector = house.embedder([asked.bare])[0]
    with house.index.lock, house.view() as view:  # nobody moves the index on while its rows are read
        authorised = view.authorised(place, who)
        narrowed = len(house.index) > FULL_TEXT_FROM and not authorised.rows and rules(who, place)
        lexical = view.lexical_rows(sorted(set(asked.terms)), place) if narrowed else None
        found = house.index.search(vector, asked.terms, authorised, now, lexical)
        ranked = rank(found, Asked(tuple({voices[name] for name in asked.names}), asked.asks_when, asked.own_past), now, k)
        cubes = view.heads_by_row([item.row for item in ranked], clock)
    allowed = {row: cube for row, cube in cubes.items() if may(cube, who, "read") and recallable(cube, clock)}
    return Recall(query, as_hits(ranked, allowed, k))

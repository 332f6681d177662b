"""One scope's hierarchy brought up to date: what upkeep decides is committed, then labels are read from the facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np

from memos_core.changes import Label, Record, Refile
from memos_core.cube import LOCAL_OWNER, Scope
from memos_core.errors import VersionConflict
from memos_core.gardening import Facts, tended
from memos_core.hierarchy import SAYS_LITTLE
from memos_core.house import House
from memos_core.labels import label_all
from memos_core.policy import Move


def tend(house: House, number: int, scope: Scope, now: datetime) -> Move | None:
    """Refile and label one scope. When somebody writes to it meanwhile, the next tick does it."""
    try:
        move = _refile(house, number, scope, now)
    except VersionConflict:
        return None
    _label(house, number, scope, now)
    return move


def _refile(house: House, number: int, scope: Scope, now: datetime) -> Move | None:
    with house.view() as view:
        length, filed = view.audit_length(number), view.filed_in(number, now)
        vectors = house.index.vectors([fact.row for fact in filed])
    filed = [fact for fact in filed if fact.row in vectors]
    if not filed:
        return None
    before = np.array([(fact.concept, fact.task) for fact in filed], dtype=np.int64)
    matrix = np.stack([vectors[fact.row] for fact in filed])
    start = before.copy()
    draft = house.index.draft(number, ())
    for place in np.flatnonzero(before[:, 0] == 0).tolist():  # written before there was a hierarchy
        found = draft.place(filed[place].id, matrix[place], SAYS_LITTLE, None)
        start[place] = found.concept, found.task
    facts = Facts([fact.id for fact in filed], matrix, start[:, 0], start[:, 1], np.array([fact.given for fact in filed], dtype=bool))
    concept, task = tended(facts)
    changed = np.flatnonzero((concept != before[:, 0]) | (task != before[:, 1])).tolist()
    if not changed:
        return None
    counts = f"{len(np.unique(before[:, 0]))} concepts before, {len(np.unique(concept))} now"
    reason = f"{len(changed)} of {len(filed)} facts are filed elsewhere: {counts}"
    places = tuple((facts.ids[place], int(concept[place]), int(task[place])) for place in changed)
    move = Move("refile", tuple(facts.ids[place] for place in changed), reason)
    record = Record(replace(move, ids=()), scope, now)  # of the scope as a whole: there may be thousands
    house.store.commit([Refile(scope, places, LOCAL_OWNER, now, reason, length), record])
    return move


def _label(house: House, number: int, scope: Scope, now: datetime) -> None:
    """Read the labels of what has none, or has grown."""
    with house.view() as view:
        length, filed = view.audit_length(number), view.filed_in(number, now)
        known = view.fresh_labels(number)
    labels = label_all(filed, known)
    counts: dict[int, int] = {}
    for fact in filed:
        for place in {fact.concept, fact.task}:
            counts[place] = counts.get(place, 0) + 1
    fresh = tuple((place, text, counts[place]) for place, text in sorted(labels.items()) if place not in known)
    if fresh:
        house.store.commit([Label(scope, fresh, length)])

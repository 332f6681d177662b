"""From checked messages to what is committed: vectors, features and a place in the hierarchy for each new fact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from memos_core.changes import Add, Revise
from memos_core.cube import Actor, MemCube, Plaintext, scope_key
from memos_core.features import prose
from memos_core.hierarchy import given_place
from memos_core.house import House
from memos_core.intake import Template, as_searchable
from memos_core.parse import Noted


def new_facts(
    house: House, template: Template, noted: Sequence[Noted], digests: Sequence[bytes], said_at: datetime | None, clock: datetime
) -> list[Add]:
    """What to commit for the messages of one call; known ones are neither embedded nor filed again."""
    with house.store.read() as view:
        known = view.known(digests)
    fresh = {digest: prose(item.text) for item, digest in zip(noted, digests, strict=True) if digest not in known}
    vectors = dict(zip(fresh, house.embedder(list(fresh.values())), strict=True)) if fresh else {}
    cubes = [template.cube(item, said_at, clock) for item in noted]
    adds = [
        Add(cube, template.actor, as_searchable(cube, vectors.get(digest)), identity=digest)
        for cube, digest in zip(cubes, digests, strict=True)
    ]
    return _filed(house, template, adds) if fresh else adds


def _filed(house: House, template: Template, adds: Sequence[Add]) -> list[Add]:
    """The adds with the place in the hierarchy that each new fact will have."""
    with house.index.lock, house.view() as view:
        draft = house.index.draft(view.scope_number(template.scope), () if template.session is None else (template.session,))
    given = given_place(scope_key(template.scope), template.path) if template.path else None
    placed = []
    for add in adds:
        found = add.searchable
        if found is not None:
            terms = len(set(found.terms.tolist()))
            add = replace(add, place=draft.place(add.cube.id, found.vector, terms, template.session, given))
        placed.append(add)
    return placed


def revise(house: House, cube: MemCube, new: MemCube, who: Actor, action: str, detail: str = "") -> MemCube:
    """Commit the next version of a cube, searchable and filed as it now is. Raises NotFound, VersionConflict or StoreError."""
    found = None
    if isinstance(new.payload, Plaintext) and new.payload != cube.payload:
        found = as_searchable(new, house.embedder([prose(new.payload.text)])[0])
    path = new.identifiers.path
    place = given_place(scope_key(new.governance.scope), path) if path and path != cube.identifiers.path else None
    (outcome,) = house.store.commit([Revise(new, who, action, found, place, detail)])
    return outcome.cubes[0]

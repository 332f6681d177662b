"""From checked messages to what is committed: vectors, features and a place in the hierarchy for each new fact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from memos_core.analyse import words
from memos_core.changes import Add, Describe, Revise
from memos_core.conflict.resolution import OnConflict, Related, Resolution
from memos_core.cube import Actor, CubeId, MemCube, Plaintext, Scope, as_count, scope_key, text_of, with_fingerprint
from memos_core.duplicate.fingerprint import fingerprints, respelled, to_hex
from memos_core.embed import CachedEmbedder
from memos_core.errors import InvalidInput, NotFound
from memos_core.gleaning import gleaned
from memos_core.hierarchy import Place, given_place
from memos_core.house import House
from memos_core.intake import Template, identity
from memos_core.matching import Matcher, filed, stated
from memos_core.parse import Noted
from memos_core.recall.features import prose
from memos_core.store import SQLiteStore
from memos_core.store.snapshot import Snapshot
from memos_core.turn import Remembered


def new_facts(
    house: House, template: Template, noted: Sequence[Noted], digests: Sequence[bytes], said_at: datetime | None, clock: datetime
) -> list[Add]:
    """What to commit for the messages of one call; known ones are neither embedded nor filed again."""
    with house.store.read() as view:
        known = view.known(digests)
    fresh = {digest: prose(item.text) for item, digest in zip(noted, digests, strict=True) if digest not in known}
    vectors = dict(zip(fresh, house.embedder(list(fresh.values())), strict=True)) if fresh else {}
    adds = [Add(template.cube(item, said_at, clock), template.actor, identity=digest) for item, digest in zip(noted, digests, strict=True)]
    if not fresh:
        return adds
    new = [(add, vectors[digest]) for add, digest in zip(adds, digests, strict=True) if digest in fresh]
    ready = dict(zip((add.cube.id for add, _ in new), placed(house, template, new), strict=True))
    looking = house.on_conflict is not OnConflict.IGNORE
    with house.view() as view:
        matcher = Matcher(house, view, view.scope_number(template.scope), clock)
        for add, vector in new:
            add = ready[add.cube.id]
            said = stated(add.cube) if looking else ()
            found = filed(house.store.secret, add.cube, vector, said)
            ready[add.cube.id] = matcher.matched(replace(add, searchable=found), said)
    return [ready.get(add.cube.id, add) for add in adds]


def placed(house: House, template: Template, new: Sequence[tuple[Add, np.ndarray]]) -> list[Add]:
    """The adds of new facts, each with the place in the hierarchy that it will have, and its fingerprint."""
    with house.index.lock, house.view() as view:
        draft = house.index.draft(view.scope_number(template.scope), () if template.session is None else (template.session,))
        given = place_of(view, template.scope, template.path)
    contexts, places = [], []
    for add, vector in new:
        contexts.append(draft.around(template.session))
        places.append(draft.place(add.cube.id, vector, len(set(words(prose(text_of(add.cube))))), template.session, given))
    prints = fingerprints(np.stack([vector for _, vector in new]), np.stack(contexts))
    return [
        replace(add, cube=with_fingerprint(add.cube, to_hex(bits)), place=place)
        for (add, _), bits, place in zip(new, prints, places, strict=True)
    ]


def superseding(house: House, adds: Sequence[Add], ids: Sequence[CubeId], who: Actor, clock: datetime) -> list[Add]:
    """The one message of a call, taking the place of cubes that the actor may change. Raises InvalidInput, NotFound or AccessDenied."""
    if ids and len(adds) != 1:
        raise InvalidInput(f"supersedes takes one message at a time, got {len(adds)}")
    for id in ids:
        if not isinstance(house.permitted(id, "write", who, clock).payload, Plaintext):
            raise InvalidInput(f"cube {id} holds no text; only plaintext can be superseded")
    found = [Related(id, add.cube.id, "supersedes", resolution=Resolution.SUPERSEDED) for add in adds for id in ids]
    return [replace(add, relations=(*(each for each in add.relations if each.older not in ids), *found)) for add in adds]


def kept(
    house: House, template: Template, noted: Sequence[Noted], said_at: datetime | None, clock: datetime, supersedes: Sequence[CubeId] = ()
) -> list[Remembered]:
    """Commit messages, all or none; one Remembered for each, in order."""
    digests = [identity(house.store.secret, template, item, said_at) for item in noted]
    adds = superseding(house, new_facts(house, template, noted, digests, said_at, clock), supersedes, template.actor, clock)
    adds += gleaned(house, adds, clock)
    return [Remembered.of(outcome) for outcome in house.store.commit(adds)[: len(noted)]] if adds else []


def place_of(view: Snapshot, scope: Scope, path: Sequence[str]) -> Place | None:
    """The place that a path names: the one that goes by that name, else a new one. None without a path."""
    if not path:
        return None
    place, number = given_place(scope_key(scope), path), view.scope_number(scope)
    return place if number is None else view.named(number, place)


def revise(house: House, cube: MemCube, new: MemCube, who: Actor, action: str, detail: str = "", *, refile: bool = False) -> MemCube:
    """Commit the next version of a cube, searchable and filed as it now is. refile: by its path even when that is the same.
    Raises NotFound, VersionConflict or StoreError."""
    found = None
    if isinstance(new.payload, Plaintext) and new.payload != cube.payload:
        vector = house.embedder([prose(new.payload.text)])[0]
        new = with_fingerprint(new, respelled(new.identifiers.fingerprint, vector))
        found = filed(house.store.secret, new, vector, stated(new))
    path = new.identifiers.path
    place = None
    if path and (refile or path != cube.identifiers.path):
        with house.view() as view:
            place = place_of(view, new.governance.scope, path)
    (outcome,) = house.store.commit([Revise(new, who, action, found, detail, place)])
    return outcome.cubes[0]


def earlier(house: House, cube: MemCube, version: int) -> MemCube:
    """A cube as it was in one of its versions. Raises InvalidInput or NotFound."""
    number = as_count(version, "version", 1)
    with house.view() as view:
        found = next((entry.cube for entry in view.history(cube.id) if entry.version == number), None)
    if found is None:
        raise NotFound(f"cube {cube.id} has no version {version}; it is at {cube.version}")
    return found


def bring_up(store: SQLiteStore, embedder: CachedEmbedder) -> None:
    """Make searchable, as this version does it, what an earlier one wrote. In small transactions: what is interrupted goes on next time."""
    while True:
        with store.read() as view:
            cubes = view.without_features(256)
        if not cubes:
            return
        texts = [prose(cube.payload.text) for cube in cubes if isinstance(cube.payload, Plaintext)]
        found = [filed(store.secret, cube, vector, stated(cube)) for cube, vector in zip(cubes, embedder(texts), strict=True)]
        store.commit([Describe(cube.id, each) for cube, each in zip(cubes, found, strict=True) if each is not None])

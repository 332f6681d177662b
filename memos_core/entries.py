"""Memory under keys of the caller's: written, read and removed by key, searched by meaning. What key-value and vector stores are made of.

An entry is a plaintext cube like any other: it has versions, an owner and a place in the tree, and recall brings it up. It differs in
that its key says which memory it is, so it is never merged into another one nor held against one. Ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from memos_core.access import may, may_enter, require
from memos_core.bound import ActorLike, Bound, ScopeLike
from memos_core.changes import Add, Change, Erase, Revise
from memos_core.cube import MAX_TEXT_BYTES, Actor, MemCube, Plaintext, Scope, State, as_scope, as_text, as_time, with_fingerprint
from memos_core.duplicate.fingerprint import respelled
from memos_core.errors import InvalidInput, NotFound, VersionConflict
from memos_core.filters import as_json, matches
from memos_core.forgetting import forget
from memos_core.intake import Template, as_searchable
from memos_core.lifespan import check_transition, recallable
from memos_core.parse import Noted, as_ttl
from memos_core.recall import Hit
from memos_core.recall.features import prose
from memos_core.recall.rank import Reason
from memos_core.revise import next_version
from memos_core.store.records import entry_ids, entry_records, entry_rows, entry_scopes
from memos_core.writing import placed

COLLECTION = "entries"
ATTEMPTS = 20
"""So often a write is made anew because another writer was faster; every time, one of them has got on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be kept under a key, which is unique in its scope and collection, or, without a text, removed.

    below: names of scopes below the one that is written to. text: what it is found by. record: a JSON value kept beside it; it comes back
    as it was, as JSON text in `cube.payload.record`.
    searched: False for what neither search nor recall is to bring up. ttl: from now on, a timedelta or seconds.
    """

    key: str
    text: str | None = None
    record: Any = None
    below: tuple[str, ...] = ()
    searched: bool = True
    ttl: timedelta | float | None = None


class Entries(Bound):
    """Key-value views of a scope and all below it: collections, which do not see each other's entries."""

    def write_entries(
        self,
        entries: Sequence[Entry],
        *,
        scope: ScopeLike,
        collection: str = COLLECTION,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> list[MemCube | None]:
        """Keep or remove entries, all of them in one transaction or none; the cube of each, None for a removed one.

        A known key gets a further version; `occurred_at` is the time of the write. Removing erases, as `forget` does; of a key that is
        not there it does nothing. Raises InvalidInput, AccessDenied or StoreError.
        """
        place, clock, (kept_in,) = as_scope(scope), as_time(now, "now"), as_scope((collection,), "collection")
        who = self._who(actor, place)
        wanted: dict[tuple[Scope, str], Entry] = {}
        for entry in entries:
            where = (*place, *as_scope(entry.below)) if entry.below else place
            require(may_enter(who, where), who, "write", f"scope {'/'.join(where)}")
            if (where, entry.key) in wanted:
                raise InvalidInput(f"an entry is given twice for one key of scope {'/'.join(where)}; give the last one alone")
            wanted[where, _checked(entry).key] = entry
        for attempt in range(ATTEMPTS):
            try:
                return self._write(kept_in, wanted, who, clock) if wanted else []
            except (VersionConflict, NotFound):  # another writer was faster
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def entry(
        self, key: str, *, scope: ScopeLike, collection: str = COLLECTION, actor: ActorLike = None, now: datetime | None = None
    ) -> MemCube | None:
        """What is kept under a key of exactly this scope; None when there is nothing, or nothing that the actor may read."""
        place, clock = as_scope(scope), as_time(now, "now")
        who = self._who(actor, place)
        with self._house.view() as view:
            found = entry_ids(view, collection, [(place, key)]).get((place, key))
            cube = view.heads([found[0]], clock).get(found[0]) if found else None
        return cube if cube is not None and may(cube, who, "read") and recallable(cube, clock) else None

    def entries(
        self,
        scope: ScopeLike,
        *,
        collection: str = COLLECTION,
        query: str | Sequence[float] | None = None,
        where: Mapping[str, Any] | Callable[[MemCube], bool] | None = None,
        limit: int | None = None,
        offset: int = 0,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> list[Hit]:
        """Entries at or below a scope that the actor may read: those nearest to a text, or to a vector of the embedder's, first.

        where: a function of the cube, or conditions on its record, see `filters.matches`.
        Exact: all that it lets through are scored, by the cosine, and no other is. What is not searched comes last, with a score of 0
        and no reason. Without a query, in the order in which they were first written. Raises InvalidInput or StoreError.
        """
        place, clock = as_scope(scope), as_time(now, "now")
        who = self._who(actor, place)
        for name, value in (("limit", limit), ("offset", offset)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise InvalidInput(f"{name} must be a whole number from 0, got {value!r}")
        vector = None if query is None else self._vector(query)
        with self._house.index.lock, self._house.view() as view:
            rows = entry_rows(view, collection, view.authorised(place, who), clock)
            if callable(where):
                every = view.heads_by_row(rows, clock)
                rows = [row for row in rows if where(every[row])]
            elif where:
                records = entry_records(view, rows)
                rows = [row for row in rows if matches(None if records[row] is None else json.loads(records[row] or ""), where)]
            scores = {} if vector is None else self._cosines(rows, vector)
            rows.sort(key=lambda row: -scores.get(row, -np.inf) if vector is not None else 0)
            shown = rows[offset : None if limit is None else offset + limit]
            cubes = view.heads_by_row(shown, clock)
        return [_hit(cubes[row], scores.get(row)) for row in shown]

    def entry_scopes(
        self, scope: ScopeLike, *, collection: str = COLLECTION, actor: ActorLike = None, now: datetime | None = None
    ) -> list[Scope]:
        """The scopes, at or below one, that hold entries which the actor may read, in the order of their names."""
        place, clock = as_scope(scope), as_time(now, "now")
        with self._house.view() as view:
            return entry_scopes(view, collection, view.authorised(place, self._who(actor, place)), clock)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, d]: the vectors of some texts by the embedder of this memory, of unit length. Reads nothing."""
        given = [as_text(text) for text in texts]
        return self._house.embedder(given) if given else np.zeros((0, self._index.dimensions), dtype=np.float32)

    # ------------------------------------------------------------------ inside
    def _cosines(self, rows: Sequence[int], vector: np.ndarray) -> dict[int, float]:
        """By row, of those that are searched."""
        held = self._index.vectors(rows)
        return dict(zip(held, (np.stack(list(held.values())) @ vector).tolist(), strict=True)) if held else {}

    def _vector(self, query: str | Sequence[float]) -> np.ndarray:
        if isinstance(query, str):
            vector: np.ndarray = self._house.embedder([as_text(query, "query")])[0]
            return vector
        given = np.asarray(query, dtype=np.float32)
        if given.shape != (self._index.dimensions,) or not np.isfinite(given).all():
            raise InvalidInput(f"a query vector has {self._index.dimensions} finite numbers here, got shape {given.shape}")
        unit: np.ndarray = given / max(float(np.linalg.norm(given)), 1e-12)
        return unit

    def _write(self, collection: str, wanted: dict[tuple[Scope, str], Entry], who: Actor, clock: datetime) -> list[MemCube | None]:
        house = self._house
        with house.view() as view:
            known = entry_ids(view, collection, list(wanted))
            heads = view.heads([id for id, _ in known.values()], clock)
        vectors: dict[tuple[Scope, str], np.ndarray] = {}
        fresh = []
        for where, entry in wanted.items():
            head, searched = (heads[known[where][0]], known[where][1]) if where in known else (None, False)
            same = head is not None and isinstance(head.payload, Plaintext) and head.payload.text == entry.text
            if entry.text is not None and entry.searched and not (same and searched):
                fresh.append((where, prose(entry.text)))
        if fresh:
            vectors = dict(zip([where for where, _ in fresh], house.embedder([text for _, text in fresh]), strict=True))
        changes: dict[tuple[Scope, str], Change] = {}
        gone = []
        for where, entry in wanted.items():
            if where in known and entry.text is None:
                gone.append(heads[known[where][0]])
            elif where in known:
                changes[where] = _revised(heads[known[where][0]], entry, vectors.get(where), who, clock)
            elif entry.text is not None:
                changes[where] = self._added(collection, where[0], entry, vectors.get(where), who, clock)
        if gone:
            erase = Erase(tuple(each.id for each in gone), who, clock, "removed by its key", tuple(each.version for each in gone))
            forget(house, erase, list(changes.values()))
        elif changes:
            house.store.commit(list(changes.values()))
        return [change.cube if isinstance(change := changes.get(where), Add | Revise) else None for where in wanted]

    def _added(self, collection: str, scope: Scope, entry: Entry, vector: np.ndarray | None, who: Actor, clock: datetime) -> Add:
        template = Template(scope, who, None, ttl=as_ttl(entry.ttl))
        cube = template.cube(Noted(entry.text or "", None, None, None, None, record=_record(entry)), None, clock)
        named = cube.identifiers.model_copy(update={"collection": collection, "key": entry.key})
        add = Add(cube.model_copy(update={"identifiers": named}), who)
        if vector is None:
            return add
        (filed,) = placed(self._house, template, [(add, vector)])
        return replace(filed, searchable=as_searchable(filed.cube, vector))


def _revised(cube: MemCube, entry: Entry, vector: np.ndarray | None, who: Actor, clock: datetime) -> Revise:
    """The next version of an entry: alive again where it had been put away."""
    check_transition(cube.state, State.ACTIVE)
    ttl = as_ttl(entry.ttl)
    governance = cube.governance.model_copy(update={"expires_at": None if ttl is None else clock + ttl})
    identifiers = cube.identifiers.model_copy(update={"occurred_at": clock})
    payload = Plaintext(text=entry.text or "", record=_record(entry))
    changed: dict[str, Any] = {"payload": payload, "identifiers": identifiers, "governance": governance, "state": State.ACTIVE}
    new = next_version(cube, cube.model_copy(update=changed), clock, None)
    if vector is not None:
        new = with_fingerprint(new, respelled(new.identifiers.fingerprint, vector))
    return Revise(new, who, "update", as_searchable(new, vector), hidden=not entry.searched)


def _hit(cube: MemCube, score: float | None) -> Hit:
    reasons = () if score is None else (Reason("meaning", score, f"cosine {score:.2f}"),)
    return Hit(cube, score or 0.0, reasons)


def _checked(entry: Entry) -> Entry:
    """Raises InvalidInput."""
    if not isinstance(entry.key, str):
        raise InvalidInput(f"the key of an entry is a str, got {type(entry.key).__name__}")
    for what, value in (("the key of an entry", entry.key), ("the text of an entry", entry.text)):
        if value is not None and value.strip():
            as_text(value, what)
    if entry.text is not None and not entry.text.strip():
        raise InvalidInput("the text of an entry is empty; to remove the entry, leave text out")
    if len(entry.key.encode()) > MAX_TEXT_BYTES // 1024:
        raise InvalidInput(f"the key of an entry has {len(entry.key.encode()):,} bytes; the limit is {MAX_TEXT_BYTES // 1024:,}")
    as_ttl(entry.ttl)
    _record(entry)
    return entry


def _record(entry: Entry) -> str | None:
    return None if entry.record is None else as_json(entry.record, "the record of an entry")

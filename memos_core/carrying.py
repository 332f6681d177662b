"""Memories out of a directory into an archive, and from an archive into a directory: read in one snapshot, written in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from memos_core.archive import Contents, Progress, Reader, Writer
from memos_core.archive.container import VECTORS
from memos_core.archive.recognise import Recipe, digest_of, recipe_of
from memos_core.archive.shapes import COLUMNS
from memos_core.changes import Arrive, Imported, Searchable
from memos_core.cube import Actor, CubeId, MemCube, Plaintext, Scope, blob_of, text_of
from memos_core.embed import check_identity
from memos_core.errors import EmbedderMismatch, StoreCorrupt, VersionConflict
from memos_core.gleaning import EXTRACTED
from memos_core.house import House
from memos_core.matching import filed, stated
from memos_core.recall.features import prose
from memos_core.store import schema
from memos_core.store.arrival import with_derived
from memos_core.store.chains import load
from memos_core.store.dump import Dump

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Exported:
    """What an archive holds. counts: rows by table, and blobs. unrecognised: memories of which it could not be said what makes them the
    same message: imported elsewhere, they could be told twice."""

    file: Path
    bytes: int
    counts: dict[str, int]
    unrecognised: int


# ---------------------------------------------------------------------- out
def export(house: House, file: Path, scope: Scope | None, computed: bool, overwrite: bool, progress: Progress | None) -> Exported:
    """Write an archive of a scope and all below it, or of everything. Raises InvalidInput, StoreError, or VersionConflict when something that
    belongs to it was forgotten meanwhile; then there is no archive."""
    with Writer(file, overwrite) as archive, house.store.read() as view:
        dump = _Out(house, Dump(view, scope, computed), progress)
        counts = {table: archive.table(table, dump.rows(table)) for table in COLUMNS}
        archive.member(VECTORS, dump.dump.vectors(), stored=True)
        blobs = dump.dump.blobs()
        for number, blob in enumerate(blobs):
            archive.member(f"blobs/{blob}", [_blob(house, blob)], stored=True)
            _tell(progress, "files", number + 1, len(blobs))
        canaries = np.frombuffer(view.meta("canaries") or b"", dtype="<f4").reshape(len(house.embedder.canaries()), -1)
        facts = {
            "schema": schema.VERSION,
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "scope": None if scope is None else list(scope),
            "computed": computed,
            "embedder": {"dimensions": canaries.shape[1], "canaries": [[float(value) for value in row] for row in canaries]},
            "counts": counts,
        }
        archive.manifest(facts)
    return Exported(file, file.stat().st_size, counts | {"blobs": len(blobs)}, dump.unrecognised)


def _tell(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress is not None and (done % _BATCH == 0 or done == total):
        progress(what, done, total)


class _Out:
    """The rows of an archive, with what makes each message the same message in place of its digest."""

    def __init__(self, house: House, dump: Dump, progress: Progress | None) -> None:
        self.secret, self.dump, self.progress = house.store.secret, dump, progress
        self.unrecognised = 0

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        if table == "cubes":
            yield from self._cubes()
        elif table == "merged":
            for seq, id, digest, *rest, body, committed in self.dump.rows(table):
                yield seq, id, self._recipe(load(body.encode()), digest, ()), *rest, body, committed
        else:
            yield from self.dump.rows(table)

    def _cubes(self) -> Iterator[tuple[Any, ...]]:
        total = self.dump.size()
        for number, (row, id, scope, seq, concept, key, digest, vector) in enumerate(self.dump.cubes()):
            recipe = None
            if digest is not None:
                recipe = self._recipe(load(self.dump.first_body(id)), digest, self.dump.parents(id, EXTRACTED))
            yield row, id, scope, seq, concept, key, recipe, vector
            _tell(self.progress, "memories", number + 1, total)

    def _recipe(self, first: MemCube, digest: bytes | None, parents: Sequence[tuple[CubeId, bytes | None]]) -> Recipe | None:
        if digest is None:
            return None
        found = recipe_of(self.secret, first, digest, self._turns, parents)
        self.unrecognised += found is None
        return found

    @cached_property
    def _by_session(self) -> dict[tuple[Scope, str], list[str]]:
        found = defaultdict(list)
        for scope, session, key, *_ in self.dump.rows("turns"):
            found[scope, session].append(key)
        return found

    def _turns(self, scope: Scope, session: str) -> list[str]:
        return self._by_session.get((scope, session), [])


def _blob(house: House, blob: str) -> bytes:
    try:
        return house.store.blobs.get(blob)
    except StoreCorrupt:
        with house.store.read() as view:
            if blob not in view.blobs() - view.dropped_blobs():
                raise VersionConflict("something was forgotten while it was being exported; export again") from None
        raise


# ---------------------------------------------------------------------- in
def take_in(house: House, reader: Reader, contents: Contents, who: Actor, now: datetime, progress: Progress | None) -> Imported:
    """Commit what is new of a checked archive: the files first, then one transaction. Raises StoreError; then nothing was imported."""
    tables = contents.tables
    with house.store.read() as view:
        here = view.lengths([cube.id for cube in tables["cubes"]])
        gone = with_derived([cube.id for cube in tables["cubes"] if view.tombstone(cube.id)], tables["lineage"])
    wanted = [cube for cube in tables["cubes"] if here.get(cube.id, 0) < len(contents.versions[cube.id]) and cube.id not in gone]
    searchables, embedded = _searchables(house, contents, wanted, progress)
    identities, merged = _identities(house.store.secret, contents)
    ids = {cube.id for cube in wanted}
    needed = {row.blob for row in tables["images"] if row.id in ids} | {blob_of(contents.heads[id].payload) for id in ids}
    files = sorted(blob for blob in needed if blob in reader.blobs())
    for number, blob in enumerate(files):
        house.store.blobs.put(reader.blob(blob))
        _tell(progress, "files", number + 1, len(files))
    arrive = Arrive(tables, contents.versions, contents.heads, contents.details, searchables, identities, merged, embedded, who, now)
    (outcome,) = house.store.commit([arrive])
    with house.view():  # the index takes in what came
        pass
    assert outcome.imported is not None
    return outcome.imported


def _searchables(
    house: House, contents: Contents, wanted: Sequence[Any], progress: Progress | None
) -> tuple[dict[CubeId, Searchable], bool]:
    """What the indexes will hold. The vectors of the archive where they come from the same embedder, else new ones: then True."""
    try:
        check_identity(contents.canaries, house.embedder.canaries(), "the archive")
        same = True
    except EmbedderMismatch:
        same = False

    def unsearched(cube: Any) -> bool:  # an entry that is found by its key alone
        return cube.vector is None and contents.heads[cube.id].identifiers.key is not None

    places = {cube.id: place for place, cube in enumerate(cube for cube in contents.tables["cubes"] if cube.vector is not None)}
    texts = [
        cube.id for cube in wanted if isinstance(contents.heads[cube.id].payload, Plaintext) and (cube.id in places or not unsearched(cube))
    ]
    found: dict[CubeId, Searchable] = {}
    for start in range(0, len(texts), _BATCH):
        part = texts[start : start + _BATCH]
        heads = [contents.heads[id] for id in part]
        if same and all(id in places for id in part):
            vectors = contents.vectors[[places[id] for id in part]]
        else:
            vectors = house.embedder([prose(text_of(head)) for head in heads])
        for head, vector in zip(heads, vectors, strict=True):
            said = head.identifiers if same else head.identifiers.model_copy(update={"fingerprint": None})
            searchable = filed(house.store.secret, head.model_copy(update={"identifiers": said}), vector, stated(head))
            assert searchable is not None
            found[head.id] = searchable
        _tell(progress, "memories", start + len(part), len(texts))
    return found, not same and bool(texts)


def _identities(secret: bytes, contents: Contents) -> tuple[dict[CubeId, bytes | None], dict[int, bytes | None]]:
    """Digests under this directory's key, of cubes by id and of merged messages by number."""
    found: dict[CubeId, bytes | None] = {}
    for cube in contents.tables["cubes"]:  # in the order of writing: what was extracted comes after its message
        found[cube.id] = digest_of(secret, cube.identity, contents.firsts[cube.id], found)
    merged = {row.seq: digest_of(secret, row.identity, load(row.body.encode()), found) for row in contents.tables["merged"]}
    return found, merged

"""Whether the contents of an archive hold together: every chain from its first entry on, every reference, every body. Reads; writes nothing."""

from __future__ import annotations

import json
from collections import defaultdict, namedtuple
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from memos_core.archive.container import VECTORS, Progress, Reader
from memos_core.archive.shapes import COLUMNS
from memos_core.conflict.resolution import Resolution
from memos_core.cube import CubeId, MemCube, Scope, State, as_scope, blob_of, contains
from memos_core.errors import InvalidInput, MemosError, SchemaTooNew, StoreCorrupt
from memos_core.store import schema
from memos_core.store.chains import audit_hash, commitment, load, version_hash

ROW: dict[str, Any] = {table: namedtuple(table, columns) for table, columns in COLUMNS.items()}


@dataclass(frozen=True, slots=True)
class Contents:
    """A checked archive. tables: rows with named columns. versions: of each cube, erased ones included, the first one first. heads: cubes as
    they are, firsts: as they were written first. details: of (id, version), what the audit log says beside it. vectors: float32 [n, d].
    canaries: of the embedder they come from."""

    tables: dict[str, list[Any]]
    versions: dict[CubeId, list[Any]]
    heads: dict[CubeId, MemCube]
    firsts: dict[CubeId, MemCube]
    details: dict[tuple[CubeId, int], str]
    vectors: np.ndarray
    canaries: np.ndarray
    scopes: tuple[Scope, ...]


def checked(reader: Reader, progress: Progress | None = None) -> Contents:
    """Read an archive whole. Raises StoreCorrupt or SchemaTooNew; nothing has been written then."""
    return _Check(reader, progress).contents()


class _Check:
    def __init__(self, reader: Reader, progress: Progress | None) -> None:
        self.reader, self.manifest = reader, reader.manifest
        self.progress = progress or (lambda what, done, total: None)
        made_by = self.manifest.get("schema")
        if not isinstance(made_by, int) or made_by > schema.VERSION:
            raise SchemaTooNew(
                f"{reader.file} was written with schema {made_by}; this version knows up to {schema.VERSION}."
                " Upgrade memos-integrations to import it"
            )
        self.tables = {table: [ROW[table](*row) for row in reader.rows(table)] for table in COLUMNS}
        self.ids = {cube.id for cube in self.tables["cubes"]}
        self.erased = {row.id for row in self.tables["tombstones"]}

    def bad(self, what: str) -> NoReturn:
        raise self.reader.damaged(what)

    def contents(self) -> Contents:
        counts = self.manifest.get("counts")
        if counts != {table: len(rows) for table, rows in self.tables.items()}:
            self.bad("it does not hold as many rows as its manifest says")
        scopes = self._scopes()
        vectors, canaries = self._vectors()
        details = self._audit()
        versions, heads, firsts = self._versions(details)
        self._cubes(heads)
        self._references()
        return Contents(
            self.tables, versions, heads, firsts, {key: detail for key, (_, detail) in details.items()}, vectors, canaries, scopes
        )

    # ------------------------------------------------------------------ what there is
    def _scopes(self) -> tuple[Scope, ...]:
        try:
            whole = None if self.manifest.get("scope") is None else as_scope(tuple(self.manifest["scope"]))
        except (InvalidInput, TypeError):
            self.bad("its manifest names no scope")
        found = {row.scope for rows in self.tables.values() for row in rows if hasattr(row, "scope")}
        if whole is not None and any(not contains(whole, scope) for scope in found):
            self.bad("it holds what lies outside the scope that its manifest names")
        return tuple(sorted(found))

    def _vectors(self) -> tuple[np.ndarray, np.ndarray]:
        embedder = self.manifest.get("embedder")
        try:
            canaries = np.array(embedder["canaries"], dtype=np.float32)  # type: ignore[index]
            vectors = np.frombuffer(self.reader.bytes_of(VECTORS), dtype="<f4").reshape(-1, canaries.shape[1])
        except (TypeError, KeyError, ValueError, IndexError):
            self.bad("its vectors are not of the size that the manifest says")
        if len(vectors) != sum(cube.vector is not None for cube in self.tables["cubes"]) or not np.isfinite(vectors).all():
            self.bad("its vectors are not those of its memories")
        return vectors, canaries

    # ------------------------------------------------------------------ chains
    def _audit(self) -> dict[tuple[CubeId, int], tuple[bytes, str]]:
        running: dict[Scope, tuple[int, bytes]] = {}
        found: dict[tuple[CubeId, int], tuple[bytes, str]] = {}
        last = 0
        for row in self.tables["audit"]:
            length, previous = running.get(row.scope, (0, b""))
            told = (row.at, row.actor, row.action, row.id, row.version, row.commitment, row.detail)
            if row.seq <= last or row.position != length + 1 or row.hash != audit_hash(previous, row.position, *told):
                self.bad(f"entry {row.position} of an audit log does not follow from the one before it")
            running[row.scope], last = (row.position, row.hash), row.seq
            if row.commitment is not None and row.id is not None and row.version is not None:
                found[row.id, row.version] = row.commitment, row.detail
        return found

    def _versions(
        self, audited: dict[tuple[CubeId, int], tuple[bytes, str]]
    ) -> tuple[dict[CubeId, list[Any]], dict[CubeId, MemCube], dict[CubeId, MemCube]]:
        versions: dict[CubeId, list[Any]] = defaultdict(list)
        heads: dict[CubeId, MemCube] = {}
        firsts: dict[CubeId, MemCube] = {}
        cubes = {cube.id: cube for cube in self.tables["cubes"]}
        total = len(self.tables["versions"])
        for number, row in enumerate(self.tables["versions"]):
            chain = versions[row.id]
            previous = chain[-1].hash if chain else b""
            expected = version_hash(previous, row.id, row.version, row.at, row.actor, row.action, row.commitment)
            if row.version != len(chain) + 1 or row.hash != expected:
                self.bad(f"version {row.version} of cube {row.id} does not follow from the one before it")
            if audited.get((row.id, row.version), (None, ""))[0] != row.commitment:
                self.bad(f"version {row.version} of cube {row.id} is not what the audit log says")
            chain.append(row)
            cube = cubes.get(row.id)
            if cube is None:
                if row.id not in self.erased or row.body is not None:
                    self.bad(f"there is a version of cube {row.id}, which is not in it")
                continue
            heads[row.id] = self._body(row.body, cube.key, row.commitment, f"version {row.version} of cube {row.id}")
            if (heads[row.id].id, heads[row.id].version, heads[row.id].governance.scope) != (row.id, row.version, cube.scope):
                self.bad(f"version {row.version} of cube {row.id} is of another cube, version or scope")
            firsts.setdefault(row.id, heads[row.id])
            if number % 256 == 0 or number + 1 == total:
                self.progress("reading", number + 1, total)
        return dict(versions), heads, firsts

    def _body(self, body: str | None, key: bytes, committed: bytes, what: str) -> MemCube:
        if body is None or commitment(key, body.encode()) != committed:
            self.bad(f"the content of {what} is not what its chain commits to")
        try:
            return load(body.encode())
        except StoreCorrupt:
            self.bad(f"the content of {what} is no cube")

    # ------------------------------------------------------------------ references
    def _cubes(self, heads: dict[CubeId, MemCube]) -> None:
        concepts = {row.concept for row in self.tables["concepts"]}
        rows = [cube.row for cube in self.tables["cubes"]]
        if len(self.ids) != len(rows) or rows != sorted(set(rows)) or self.ids & self.erased or set(heads) != self.ids:
            self.bad("its cubes are not one row each with their versions")
        for cube in self.tables["cubes"]:
            if len(cube.key) != 32 or (cube.concept and cube.concept not in concepts):
                self.bad(f"cube {cube.id} refers to what is not in it")
            if cube.vector is not None and heads[cube.id].payload.kind != "plaintext":
                self.bad(f"cube {cube.id} has a vector and no text")
        held = {row.blob for row in self.tables["images"]}
        held |= {blob for head in heads.values() if (blob := blob_of(head.payload)) is not None and head.state is not State.ARCHIVED}
        if held != self.reader.blobs():
            self.bad("its blobs are not those that its memories refer to")

    def _references(self) -> None:
        tables = self.tables
        columns = {"lineage": ("child", "parent"), "relations": ("older", "newer"), "images": ("id",), "merged": ("id",), "placements": ("id",),
                   "uses": ("id",), "usage": ("id",)}  # fmt: skip
        for table, names in columns.items():
            self._all_there(table, (getattr(row, name) for row in tables[table] for name in names))
        entries = {row.seq: row for row in tables["audit"]}
        keys = {cube.id: cube.key for cube in tables["cubes"]}
        for row in tables["merged"]:
            entry = entries.get(row.seq)
            if entry is None or entry.detail != row.commitment.hex() or (entry.id, entry.scope) != (row.id, row.scope):
                self.bad(f"message {row.seq} merged into cube {row.id} is not what the audit log says")
            said = self._body(row.body, keys[row.id], row.commitment, f"message {row.seq} merged into cube {row.id}")
            if said.payload.kind != "plaintext" or said.governance.scope != row.scope:
                self.bad(f"message {row.seq} merged into cube {row.id} is of another scope")
        if any(row.resolution not in set(Resolution) or not 0 <= row.confidence <= 1 for row in tables["relations"]):
            self.bad("a relation says what none can")
        try:
            lists = [json.loads(row.known_tasks) for row in tables["usage"]] + [json.loads(row.ids) for row in tables["retraining"]]
        except (MemosError, TypeError, ValueError):
            self.bad("a list in it is none")
        if not all(isinstance(each, list) and all(isinstance(one, int | str) for one in each) for each in lists):
            self.bad("a list in it is none")
        numbers = {row.number for row in tables["moves"]}
        if len(numbers) != len(tables["moves"]) or any(row.number not in numbers for row in tables["moved"]):
            self.bad("its moves are not one row each")

    def _all_there(self, table: str, ids: Iterable[CubeId]) -> None:
        if missing := next((id for id in ids if id not in self.ids), None):
            self.bad(f"{table} refers to cube {missing}, which is not in it")

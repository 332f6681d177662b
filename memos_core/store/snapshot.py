"""A consistent view of a store: SQL reads only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from memos_core.access import rules
from memos_core.cube import LOCAL_OWNER, Actor, CubeId, MemCube, Scope, State, Usage, ancestors, contains, scope_key, scope_of_key
from memos_core.errors import StoreCorrupt
from memos_core.lifespan import as_log2, heat
from memos_core.store import chains
from memos_core.store.shelves import Authorised, Shelves

_USAGE = "u.recalls, u.uses, u.successes, u.sessions, u.tasks, u.tokens_saved, u.seconds_saved, u.last_used_at, u.heat_log2"
_HEAD = f"SELECT c.row, c.body, {_USAGE} FROM cubes c LEFT JOIN usage u ON u.id = c.id"

_COMPUTED = "c.kind <> 'plaintext'"
"""Said as the index of what is computed says it, or SQLite would read all there is."""


@dataclass(frozen=True, slots=True)
class Event:
    """What the index needs to know of one cube's last change."""

    row: int
    seq: int
    scope: int
    state: str
    kind: str
    occurred_at: float
    expires_at: float | None
    valid_from: float | None
    valid_to: float | None
    priority: float
    vector_seq: int | None
    session: str | None
    concept: int
    task: int
    given: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One entry of a cube's history. `cube` is None once the content has been erased."""

    id: CubeId
    version: int
    at: datetime
    actor: str
    action: str
    cube: MemCube | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of a scope's audit log: who did what to which cube, when, and why."""

    scope: Scope
    position: int
    at: datetime
    actor: str
    action: str
    id: CubeId | None
    version: int | None
    detail: str
    hash: str


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Slices that fit the number of arguments one statement may have."""
    return (values[start : start + 500] for start in range(0, len(values), 500))


def below(scope: Scope) -> tuple[str, str]:
    """Bounds of the keys of a scope and all below it."""
    key = scope_key(scope)
    return key, key[:-1] + " "  # the character after the separator


def compose(body: bytes, usage: Sequence[Any], now: datetime) -> MemCube:
    """A head with its usage as of `now`; usage: the columns of `_USAGE`, NULL where it was never used. Raises StoreCorrupt."""
    cube = chains.load(body)
    recalls, uses, successes, sessions, tasks, tokens, seconds, last, heat_log2 = usage
    if recalls is None:
        return cube
    try:
        view = Usage(
            recalls=recalls,
            uses=uses,
            successes=successes,
            sessions=sessions,
            tasks=tasks,
            tokens_saved=tokens,
            seconds_saved=seconds,
            last_used_at=datetime.fromtimestamp(last, UTC),
            heat=heat(heat_log2, now),
        )
    except (OverflowError, TypeError, ValueError):  # values that nobody wrote
        raise StoreCorrupt(
            f"the usage kept of cube {cube.id} is damaged. Restore the directory from a backup; nothing has been overwritten"
        ) from None
    return cube.model_copy(update={"usage": view})


class Snapshot(Shelves):
    """Reads inside one transaction. Not for keeping: it ends with the `with` that made it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    # ------------------------------------------------------------------ the directory
    def meta(self, key: str) -> bytes | None:
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return bytes(row[0]) if row else None

    def latest(self) -> int:
        """Sequence number of the last change."""
        return int(self.db.execute("SELECT coalesce(max(seq), 0) FROM audit").fetchone()[0])

    def doomed(self) -> list[str]:
        return [row[0] for row in self.db.execute("SELECT blob FROM doomed")]

    def blobs(self) -> set[str]:
        return {row[0] for row in self.db.execute("SELECT blob FROM cubes WHERE blob IS NOT NULL UNION SELECT blob FROM images")}

    def dropped_blobs(self) -> set[str]:
        """Blobs that only archived cubes refer to; their files are gone."""
        held = "SELECT blob FROM cubes WHERE blob IS NOT NULL AND state <> 'archived' UNION SELECT blob FROM images"
        return self.blobs() - {row[0] for row in self.db.execute(held)}

    def counts(self) -> dict[str, int]:
        """How many there are of everything."""
        queries = {
            "cubes": "SELECT count(*) FROM cubes",
            "plaintext": "SELECT count(*) FROM cubes WHERE kind = 'plaintext'",
            "activation": "SELECT count(*) FROM cubes WHERE kind = 'activation' AND state = 'active'",
            "parameter": "SELECT count(*) FROM cubes WHERE kind = 'parameter' AND state = 'active'",
            "scopes": "SELECT count(DISTINCT scope) FROM cubes",
            "versions": "SELECT count(*) FROM versions",
            "audit entries": "SELECT count(*) FROM audit",
            "tombstones": "SELECT count(*) FROM tombstones",
            "relations": "SELECT count(*) FROM relations",
            "merged": "SELECT count(*) FROM merged",
            "turns": "SELECT count(*) FROM turns",
            "uses": "SELECT count(*) FROM usage_events",
        }
        return {name: int(self.db.execute(query).fetchone()[0]) for name, query in queries.items()}

    # ------------------------------------------------------------------ cubes
    def heads(self, ids: Sequence[CubeId], now: datetime) -> dict[CubeId, MemCube]:
        rows = self.db.execute(f"{_HEAD} WHERE c.id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))
        return {cube.id: cube for _, body, *usage in rows for cube in (compose(body, usage, now),)}

    def heads_by_row(self, rows: Sequence[int], now: datetime) -> dict[int, MemCube]:
        found = self.db.execute(f"{_HEAD} WHERE c.row IN (SELECT value FROM json_each(?))", (json.dumps(list(rows)),))
        return {row: compose(body, usage, now) for row, body, *usage in found}

    def rows_under(self, scope: int, key: int, most: int) -> list[int]:
        """Rows of a scope that are filed under a key, the newest, at most so many."""
        rows = self.db.execute("SELECT row FROM keys WHERE scope = ? AND key = ? ORDER BY row DESC LIMIT ?", (scope, key, most))
        return [row[0] for row in rows]

    def conversation(self, scope: Scope, session: str, now: datetime) -> list[MemCube]:
        """The verbatim messages of a session, in the order they were written; those that were merged into others among them."""
        query = f"{_HEAD} JOIN scopes s ON s.scope = c.scope WHERE s.key = ? AND c.session = ? AND c.role IS NOT NULL"
        found = [((row, 0), compose(body, usage, now)) for row, body, *usage in self.db.execute(query, (scope_key(scope), session))]
        merged = (
            "SELECT m.after, m.seq, m.body, c.state FROM merged m JOIN cubes c ON c.id = m.id JOIN scopes s ON s.scope = m.scope"
            " WHERE s.key = ? AND m.session = ?"
        )
        for row, seq, body, state in self.db.execute(merged, (scope_key(scope), session)):
            cube = chains.load(body).model_copy(update={"state": State(state)})
            if cube.identifiers.role is not None:
                found.append(((row, seq), cube))
        return [cube for _, cube in sorted(found, key=lambda each: each[0])]

    def derived(self, now: datetime, scope: Scope | None = None) -> list[MemCube]:
        """Active activation cubes, of one scope or of all."""
        where, arguments = ("AND s.key = ?", (scope_key(scope),)) if scope is not None else ("", ())
        query = f"{_HEAD} JOIN scopes s ON s.scope = c.scope WHERE {_COMPUTED} AND c.kind = 'activation' AND c.state = 'active' {where} ORDER BY c.row"
        return [compose(body, usage, now) for _, body, *usage in self.db.execute(query, arguments)]

    def modules(self, now: datetime, scope: Scope | None = None) -> list[MemCube]:
        """Parameter cubes in whatever state, of one scope or of all, oldest first."""
        where, arguments = ("AND s.key = ?", (scope_key(scope),)) if scope is not None else ("", ())
        query = f"{_HEAD} JOIN scopes s ON s.scope = c.scope WHERE {_COMPUTED} AND c.kind = 'parameter' {where} ORDER BY c.row"
        return [compose(body, usage, now) for _, body, *usage in self.db.execute(query, arguments)]

    def retraining(self) -> list[tuple[int, Scope, str, tuple[CubeId, ...]]]:
        """(number, scope, form, ids) of the modules that are to be made, in order."""
        rows = self.db.execute("SELECT r.number, s.key, r.form, r.ids FROM retraining r JOIN scopes s USING (scope) ORDER BY r.number")
        return [(number, scope_of_key(key), form, tuple(json.loads(ids))) for number, key, form, ids in rows]

    def queued_because(self, number: int) -> tuple[str, float]:
        """Why one of these is to be made, "" where it is made again, and the seconds that it is expected to save."""
        row = self.db.execute("SELECT reason, seconds FROM retraining WHERE number = ?", (number,)).fetchone()
        return (row[0], row[1]) if row else ("", 0.0)

    def parents(self, child: CubeId) -> list[tuple[CubeId, int]]:
        return [
            (row[0], row[1])
            for row in self.db.execute("SELECT parent, parent_version FROM lineage WHERE child = ? ORDER BY parent", (child,))
        ]

    def hot_in(self, scope: int, least_heat: float, now: datetime) -> list[MemCube]:
        """Plaintext cubes of exactly this scope that are at least so hot and stand, hottest first."""
        query = (
            f"SELECT c.row, c.body, {_USAGE} FROM usage u CROSS JOIN cubes c ON c.id = u.id"  # in this order, whatever the planner thinks
            " WHERE u.scope = ? AND u.heat_log2 >= ? AND c.kind = 'plaintext' AND c.state IN ('active', 'contested', 'superseded')"
            " ORDER BY u.heat_log2 DESC, c.id"
        )
        return [compose(body, usage, now) for _, body, *usage in self.db.execute(query, (scope, as_log2(least_heat, now)))]

    def text_since(self, cubes: Sequence[MemCube]) -> dict[CubeId, datetime]:
        """From when on the text of each has stood: said again, filed elsewhere or tagged, it is the same text."""
        found = {}
        for cube in cubes:
            since = cube.identifiers.occurred_at
            if cube.version > 1:
                rows = self.db.execute("SELECT version, at, body FROM versions WHERE id = ? ORDER BY version DESC", (cube.id,))
                for version, at, body in rows:
                    if body is None or chains.load(body).payload != cube.payload:
                        break
                    since = cube.identifiers.occurred_at if version == 1 else datetime.fromtimestamp(at, UTC)
            found[cube.id] = since
        return found

    def expired(self, now: datetime, most: int) -> list[MemCube]:
        """What is past its time to live and not archived yet: the first to expire, at most so many."""
        query = f"{_HEAD} WHERE c.expires_at <= ? AND c.state NOT IN ('archived', 'rejected') ORDER BY c.expires_at, c.row LIMIT ?"
        return [compose(body, usage, now) for _, body, *usage in self.db.execute(query, (now.timestamp(), most))]

    def lengths(self, ids: Sequence[CubeId]) -> dict[CubeId, int]:
        """How many versions each of some cubes has, of those that are here."""
        rows = self.db.execute("SELECT id, version FROM cubes WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))
        return dict(rows.fetchall())

    def tombstone(self, cube: CubeId) -> bool:
        return self.db.execute("SELECT 1 FROM tombstones WHERE id = ?", (cube,)).fetchone() is not None

    # ------------------------------------------------------------------ who may read what
    def authorised(self, scope: Scope, actor: Actor) -> Authorised:
        """What a recall over `scope` by `actor` may see, decided before anything is ranked.

        Whole: the scopes at or below `scope` that the actor holds. Single rows: what was granted to the actor, where it lies
        below `scope`, or was shared with `scope` or with a group that contains it.
        """
        whole = scope if rules(actor, scope) else actor if contains(scope, actor) else None
        scopes: tuple[int, ...] = ()
        if whole is not None:
            scopes = tuple(row[0] for row in self.db.execute("SELECT scope FROM scopes WHERE key >= ? AND key < ?", below(whole)))
        reader = scope if actor == LOCAL_OWNER else actor
        mine = [scope_key(part) for part in ancestors(reader)]
        shared = [scope_key(part) for part in ancestors(scope)]
        granted = self.db.execute(
            f"SELECT DISTINCT g.row FROM grants g JOIN cubes c ON c.row = g.row JOIN scopes s ON s.scope = c.scope WHERE g.action = 'read'"
            f" AND g.grantee IN ({_marks(mine)}) AND (g.grantee IN ({_marks(shared)}) OR (s.key >= ? AND s.key < ?))",
            (*mine, *shared, *below(scope)),
        )
        return Authorised(scopes, tuple(row[0] for row in granted))

    # ------------------------------------------------------------------ for the index
    def events_since(self, seq: int) -> Iterator[Event]:
        """Cubes changed after `seq`, oldest change first, without their vectors."""
        rows = self.db.execute(
            "SELECT c.row, c.seq, c.scope, c.state, c.kind, c.occurred_at, c.expires_at, c.valid_from, c.valid_to, c.priority, v.seq, c.session, c.concept,"
            " coalesce(k.parent, 0), coalesce(k.given, 0) FROM cubes c LEFT JOIN vectors v ON v.row = c.row"
            " LEFT JOIN concepts k ON k.concept = c.concept WHERE c.seq > ? ORDER BY c.seq, c.row",
            (seq,),
        )
        return (Event(*row) for row in rows)

    def erased_since(self, seq: int) -> list[int]:
        """Rows of cubes erased after `seq`."""
        return [row[0] for row in self.db.execute("SELECT row FROM tombstones WHERE seq > ?", (seq,))]

    def searchables(self, rows: Sequence[int]) -> dict[int, tuple[bytes, bytes, bytes]]:
        """float32 vector, uint32 terms and FEATURES, as bytes, by row."""
        found: dict[int, tuple[bytes, bytes, bytes]] = {}
        for part in _parts(rows):
            read = self.db.execute(f"SELECT row, vector, terms, features FROM vectors WHERE row IN ({_marks(part)})", part)
            found |= {row: (vector, terms, features) for row, vector, terms, features in read}
        return found

    def given_labels(self, seq: int) -> list[tuple[int, str]]:
        """Concepts that callers named after `seq`, with the names of the task and the concept."""
        return self.db.execute(
            "SELECT c.concept, t.label || ' ' || c.label FROM concepts c JOIN concepts t ON t.concept = c.parent WHERE c.given = 1 AND c.seq > ?",
            (seq,),
        ).fetchall()

    def scope_number(self, scope: Scope) -> int | None:
        """The scope's number in the tables; None for one that has nothing yet."""
        row = self.db.execute("SELECT scope FROM scopes WHERE key = ?", (scope_key(scope),)).fetchone()
        return int(row[0]) if row else None

    def without_features(self, limit: int) -> list[MemCube]:
        """Plaintext that an earlier version made searchable, and that has not been read anew yet; oldest first."""
        query = "SELECT c.body FROM vectors v JOIN cubes c ON c.row = v.row WHERE v.features = x'' ORDER BY v.row LIMIT ?"
        return [chains.load(row[0]) for row in self.db.execute(query, (limit,))]

    # ------------------------------------------------------------------ turns
    def placements(self, scope: Scope, session: str, turns: Sequence[str]) -> dict[str, list[tuple[MemCube, MemCube]]]:
        """Memories standing in a session's prompts by turn, of these turns: each as the version that was placed, and as it is now."""
        found: dict[str, list[tuple[MemCube, MemCube]]] = {}
        for part in _parts(turns):
            rows = self.db.execute(
                "SELECT p.turn, v.body, c.body FROM placements p JOIN scopes s ON s.scope = p.scope JOIN cubes c ON c.id = p.id"
                " JOIN versions v ON v.id = p.id AND v.version = p.version WHERE s.key = ? AND p.session = ?"
                f" AND p.turn IN ({_marks(part)}) ORDER BY p.turn, p.position",
                (scope_key(scope), session, *part),
            )
            for turn, then, now in rows:
                placed = chains.load(then)
                found.setdefault(turn, []).append((placed, placed if now == then else chains.load(now)))
        return found

    def last_system(self, scope: Scope) -> str | None:
        """The system text of the scope's latest turn."""
        row = self.db.execute(
            "SELECT system FROM turns t JOIN scopes s USING (scope) WHERE s.key = ? ORDER BY t.at DESC, t.key, t.session LIMIT 1",
            (scope_key(scope),),
        ).fetchone()
        return row[0] if row else None

    def known(self, digests: Sequence[bytes]) -> dict[bytes, CubeId]:
        found: dict[bytes, CubeId] = {}
        for part in _parts(digests):
            for table in ("cubes", "merged"):
                found |= self.db.execute(f"SELECT identity, id FROM {table} WHERE identity IN ({_marks(part)})", part)
        return found

    # ------------------------------------------------------------------ history
    def history(self, cube: CubeId) -> list[Version]:
        rows = self.db.execute("SELECT version, at, actor, action, body FROM versions WHERE id = ? ORDER BY version", (cube,))
        return [
            Version(cube, v, datetime.fromtimestamp(at, UTC), actor, action, chains.load(body) if body else None)
            for v, at, actor, action, body in rows
        ]

    def audit(self, scope: Scope | None = None, cube: CubeId | None = None) -> list[AuditEntry]:
        """Audit entries, oldest first, of a scope and all below it, or of one cube."""
        low, high = below(scope) if scope is not None else ("", "\U0010ffff")
        where, more = ("AND a.id = ?", (cube,)) if cube is not None else ("", ())
        rows = self.db.execute(
            f"SELECT s.key, a.position, a.at, a.actor, a.action, a.id, a.version, a.detail, a.hash FROM audit a JOIN scopes s USING (scope)"
            f" WHERE s.key >= ? AND s.key < ? {where} ORDER BY a.seq",
            (low, high, *more),
        )
        return [
            AuditEntry(scope_of_key(k), p, datetime.fromtimestamp(at, UTC), who, what, i, v, d, bytes(h).hex())
            for k, p, at, who, what, i, v, d, h in rows
        ]

    def broken_chains(self) -> Iterator[str]:
        """What does not verify: audit chains, version chains, heads. Reads everything."""
        try:
            yield from self._broken_audit()
            yield from self._broken_versions(dict(self.db.execute("SELECT id, key FROM cubes")))
        except (AttributeError, TypeError, ValueError) as error:
            yield f"a row holds values that nobody wrote ({error}); what comes after it could not be checked"

    def _broken_audit(self) -> Iterator[str]:
        heads = {scope: (length, digest) for scope, length, digest in self.db.execute("SELECT scope, length, hash FROM scopes")}
        running: dict[int, tuple[int, bytes]] = {}
        for scope, position, at, who, what, cube, version, committed, detail, digest in self.db.execute(
            "SELECT scope, position, at, actor, action, id, version, commitment, detail, hash FROM audit ORDER BY scope, position"
        ):
            length, previous = running.get(scope, (0, b""))
            if position != length + 1 or digest != chains.audit_hash(previous, position, at, who, what, cube, version, committed, detail):
                yield f"audit entry {position} of scope {scope} does not follow from the one before it"
            running[scope] = (position, digest)
        for scope, (length, digest) in heads.items():
            if running.get(scope, (0, b"")) != (length, digest):
                yield f"the audit chain of scope {scope} does not end where its head says"

    def _broken_versions(self, keys: Mapping[str, bytes]) -> Iterator[str]:
        last: dict[str, tuple[int, bytes, bytes | None]] = {}
        audited = {
            (cube, version): committed
            for cube, version, committed in self.db.execute("SELECT id, version, commitment FROM audit WHERE commitment IS NOT NULL")
        }
        for cube, version, at, who, action, body, committed, digest in self.db.execute("SELECT * FROM versions ORDER BY id, version"):
            before, previous, _ = last.get(cube, (0, b"", None))
            if version != before + 1 or digest != chains.version_hash(previous, cube, version, at, who, action, committed):
                yield f"version {version} of cube {cube} does not follow from the one before it"
            if audited.get((cube, version)) != committed:
                yield f"version {version} of cube {cube} is not what the audit log says"
            if body is None and not self.tombstone(cube):
                yield f"the content of version {version} of cube {cube} is gone, but nobody forgot it"
            if body is not None and (cube not in keys or not isinstance(body, bytes) or chains.commitment(keys[cube], body) != committed):
                yield f"the content of version {version} of cube {cube} has been altered"
            last[cube] = (version, digest, body)
        scopes = {key: scope for scope, key in self.db.execute("SELECT scope, key FROM scopes")}
        for cube, *columns in self.db.execute(f"SELECT id, {', '.join(chains.HEAD_COLUMNS)} FROM cubes"):
            version, body = columns[2], columns[-1]
            if cube not in last or last[cube][0] != version or last[cube][2] != body:
                yield f"the head of cube {cube} is not its last version"
                continue
            try:
                head = chains.load(body)
            except StoreCorrupt as error:
                yield f"cube {cube}: {error}"
                continue
            if tuple(columns) != chains.head_columns(head, scopes.get(scope_key(head.governance.scope), 0), columns[1], body):
                yield f"the row of cube {cube} is not what its content says"

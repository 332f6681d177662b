"""Changes applied inside a transaction: cubes, their version chains, the audit chain of each scope. SQL writes only.

Chains (ours; MemOS §4.2 asks for versioning and audit): a version's hash covers the one before it and a keyed hash of the
content; an audit entry's hash covers the one before it in the same scope. The key belongs to the cube and dies with it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from memos_core.changes import Add, Change, Erase, Outcome, Revise, Searchable, Take
from memos_core.cube import Activation, Actor, CubeId, MemCube, Scope, ancestors, canonical, dumps, scope_key, scope_of_key
from memos_core.errors import Conflict, NotFound, StoreCorrupt
from memos_core.hierarchy import Place
from memos_core.lifespan import warmed


def commitment(key: bytes, body: bytes) -> bytes:
    """Keyed hash of a version's content, 32 bytes."""
    return hmac.digest(key, body, "sha256")


def version_hash(previous: bytes, cube: CubeId, version: int, at: float, actor: str, action: str, committed: bytes) -> bytes:
    return hashlib.sha256(previous + dumps([cube, version, at, actor, action, committed.hex()]).encode()).digest()


def audit_hash(
    previous: bytes,
    position: int,
    at: float,
    actor: str,
    action: str,
    cube: str | None,
    version: int | None,
    committed: bytes | None,
    detail: str,
) -> bytes:
    entry = [position, at, actor, action, cube, version, committed.hex() if committed else None, detail]
    return hashlib.sha256(previous + dumps(entry).encode()).digest()


def load(body: bytes) -> MemCube:
    """A cube from its stored bytes. Raises StoreCorrupt when they are not what a cube was written as."""
    try:
        return MemCube.model_validate_json(body)
    except ValidationError as error:
        what = error.errors(include_input=False, include_url=False)[0]
        raise StoreCorrupt(
            f"a stored cube is damaged ({what['msg']}). Restore the directory from a backup; nothing has been overwritten"
        ) from None


def scope_ids(db: sqlite3.Connection, scope: Scope) -> list[int]:
    """Row numbers of a scope and all above it, outermost first; made when missing."""
    found = []
    for part in ancestors(scope):
        key = scope_key(part)
        row = db.execute("SELECT scope FROM scopes WHERE key = ?", (key,)).fetchone()
        found.append(int(row[0]) if row else int(db.execute("INSERT INTO scopes (key) VALUES (?)", (key,)).lastrowid or 0))
    return found


def _audit(
    db: sqlite3.Connection,
    scope: int,
    at: datetime,
    actor: Actor,
    action: str,
    cube: str | None = None,
    version: int | None = None,
    committed: bytes | None = None,
    detail: str = "",
) -> int:
    length, head = db.execute("SELECT length, hash FROM scopes WHERE scope = ?", (scope,)).fetchone()
    stamp, who, position = at.timestamp(), "/".join(actor), length + 1
    digest = audit_hash(head, position, stamp, who, action, cube, version, committed, detail)
    seq = db.execute(
        "INSERT INTO audit (scope, position, at, actor, action, id, version, commitment, detail, hash) VALUES (?,?,?,?,?,?,?,?,?,?)",
        (scope, position, stamp, who, action, cube, version, committed, detail, digest),
    ).lastrowid
    db.execute("UPDATE scopes SET length = ?, hash = ? WHERE scope = ?", (position, digest, scope))
    return int(seq or 0)


def _write_version(
    db: sqlite3.Connection, cube: MemCube, scope: int, key: bytes, at: datetime, actor: Actor, action: str, detail: str
) -> tuple[int, bytes]:
    body = canonical(cube)
    committed = commitment(key, body)
    previous = b""
    if cube.version > 1:
        previous = db.execute("SELECT hash FROM versions WHERE id = ? AND version = ?", (cube.id, cube.version - 1)).fetchone()[0]
    stamp, who = at.timestamp(), "/".join(actor)
    digest = version_hash(previous, cube.id, cube.version, stamp, who, action, committed)
    db.execute("INSERT INTO versions VALUES (?,?,?,?,?,?,?,?)", (cube.id, cube.version, stamp, who, action, body, committed, digest))
    return _audit(db, scope, at, actor, action, cube.id, cube.version, committed, detail), body


def head_columns(cube: MemCube, scope: int, seq: int, body: bytes) -> tuple[object, ...]:
    """What the columns of a cube's row say besides its id, key and identity."""
    identifiers, governance = cube.identifiers, cube.governance
    blob = cube.payload.blob if isinstance(cube.payload, Activation) else None
    expires = governance.expires_at.timestamp() if governance.expires_at else None
    return (
        scope, seq, cube.version, str(cube.state), cube.payload.kind, identifiers.session, identifiers.role,
        identifiers.occurred_at.timestamp(), expires, governance.priority, blob, body,
    )  # fmt: skip


def _write_grants(db: sqlite3.Connection, row: int, cube: MemCube) -> None:
    access = cube.governance.access
    for action, actors in (("read", access.read), ("write", access.write)):
        if actors:
            db.executemany("INSERT OR IGNORE INTO grants VALUES (?, ?, ?)", [(scope_key(actor), action, row) for actor in actors])


def _write_searchable(db: sqlite3.Connection, row: int, scopes: Sequence[int], seq: int, found: Searchable) -> None:
    db.execute(
        "INSERT OR REPLACE INTO vectors (row, seq, vector, terms, features) VALUES (?, ?, ?, ?, ?)",
        (row, seq, found.vector.tobytes(), found.terms.tobytes(), found.features.packed()),
    )
    db.execute(
        "INSERT OR REPLACE INTO lexical (rowid, terms) VALUES (?, ?)", (row, f"{found.words} {' '.join(f'_{scope}' for scope in scopes)}")
    )


def _file(db: sqlite3.Connection, row: int, scope: int, seq: int, place: Place) -> None:
    """File a fact: its task and concept are made when missing, and left when nothing else is filed there."""
    (before,) = db.execute("SELECT concept FROM cubes WHERE row = ?", (row,)).fetchone()
    for concept, parent, label in ((place.task, 0, place.labels[0]), (place.concept, place.task, place.labels[1])):
        db.execute(
            "INSERT OR IGNORE INTO concepts (concept, scope, parent, given, label, seq) VALUES (?,?,?,?,?,?)",
            (concept, scope, parent, place.given, label, seq),
        )
    db.execute("UPDATE cubes SET concept = ? WHERE row = ?", (place.concept, row))
    if before not in (0, place.concept):
        _tidy_concept(db, before)


def _tidy_concept(db: sqlite3.Connection, concept: int) -> None:
    """After a fact has left: a label that was read from the facts is read anew, and what is empty goes, given names included."""
    found = db.execute("SELECT parent FROM concepts WHERE concept = ?", (concept,)).fetchone()
    if not found:
        return
    db.execute("UPDATE concepts SET label = '', labelled = 0 WHERE concept IN (?, ?) AND given = 0", (concept, found[0]))
    if not db.execute("SELECT 1 FROM cubes WHERE concept = ? LIMIT 1", (concept,)).fetchone():
        db.execute("DELETE FROM concepts WHERE concept = ?", (concept,))
        db.execute("DELETE FROM concepts WHERE concept = ? AND concept NOT IN (SELECT parent FROM concepts)", (found[0],))


def apply(db: sqlite3.Connection, change: Change) -> Outcome:
    """Write one change; the caller owns the transaction. Raises NotFound, Conflict or sqlite3.Error."""
    if isinstance(change, Add):
        return _add(db, change)
    if isinstance(change, Revise):
        return _revise(db, change)
    if isinstance(change, Erase):
        return _erase(db, change)
    return _take(db, change)


def _add(db: sqlite3.Connection, change: Add) -> Outcome:
    cube = change.cube
    if change.identity is not None:
        known = db.execute("SELECT body FROM cubes WHERE identity = ?", (change.identity,)).fetchone()
        if known:
            return Outcome("merged", (load(known[0]),))
    for parent, _ in change.parents:
        if not db.execute("SELECT 1 FROM cubes WHERE id = ?", (parent,)).fetchone():
            raise NotFound(f"cube {parent} has been erased meanwhile; nothing can be derived from it")
    scopes = scope_ids(db, cube.governance.scope)
    key = secrets.token_bytes(32)
    seq, body = _write_version(db, cube, scopes[-1], key, cube.identifiers.updated_at, change.actor, "add", change.detail)
    row = db.execute(
        "INSERT INTO cubes (scope, seq, version, state, kind, session, role, occurred_at, expires_at, priority, blob, body, id, key, identity)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (*head_columns(cube, scopes[-1], seq, body), cube.id, key, change.identity),
    ).lastrowid
    assert row is not None
    if change.searchable is not None:
        _write_searchable(db, row, scopes, seq, change.searchable)
    if change.place is not None:
        _file(db, row, scopes[-1], seq, change.place)
    for parent, version in change.parents:
        db.execute("INSERT INTO lineage VALUES (?, ?, ?, ?)", (cube.id, parent, change.relation, version))
    if isinstance(cube.payload, Activation):
        db.execute("DELETE FROM doomed WHERE blob = ?", (cube.payload.blob,))
    _write_grants(db, row, cube)
    return Outcome("added", (cube,))


def _revise(db: sqlite3.Connection, change: Revise) -> Outcome:
    cube = change.cube
    found = db.execute("SELECT row, version, blob, key FROM cubes WHERE id = ?", (cube.id,)).fetchone()
    if not found:
        raise NotFound(f"no cube {cube.id}; it may have been forgotten")
    row, version, blob, key = found
    if version != cube.version - 1:
        raise Conflict(
            f"cube {cube.id} is at version {version}, the change was made from {cube.version - 1}; read it again and repeat the change"
        )
    scopes = scope_ids(db, cube.governance.scope)
    seq, body = _write_version(db, cube, scopes[-1], key, cube.identifiers.updated_at, change.actor, change.action, change.detail)
    db.execute(
        "UPDATE cubes SET scope=?, seq=?, version=?, state=?, kind=?, session=?, role=?, occurred_at=?, expires_at=?, priority=?, blob=?, body=?"
        " WHERE row = ?",
        (*head_columns(cube, scopes[-1], seq, body), row),
    )
    if change.searchable is not None:
        _write_searchable(db, row, scopes, seq, change.searchable)
    if change.place is not None:
        _file(db, row, scopes[-1], seq, change.place)
    db.execute("DELETE FROM grants WHERE row = ?", (row,))
    _write_grants(db, row, cube)
    if blob is not None and (not isinstance(cube.payload, Activation) or str(cube.state) == "archived"):
        _doom(db, blob)
    return Outcome("revised", (cube,))


def _doom(db: sqlite3.Connection, blob: str) -> None:
    """Mark a blob for removal unless a live cube still refers to it."""
    held = db.execute("SELECT 1 FROM cubes WHERE blob = ? AND state <> 'archived'", (blob,)).fetchone()
    if not held:
        db.execute("INSERT OR IGNORE INTO doomed VALUES (?)", (blob,))


def descendants(db: sqlite3.Connection, ids: Sequence[CubeId]) -> list[CubeId]:
    """The cubes and everything derived from them, parents before children."""
    found, waiting = dict.fromkeys(ids), list(ids)
    while waiting:
        for (child,) in db.execute("SELECT child FROM lineage WHERE parent = ?", (waiting.pop(),)):
            if child not in found:
                found[child] = None
                waiting.append(child)
    return list(found)


def _erase(db: sqlite3.Connection, change: Erase) -> Outcome:
    erased: list[CubeId] = []
    prefix_keys: list[str] = []
    touched: dict[str, None] = {}
    for cube in descendants(db, change.ids):
        found = db.execute(
            "SELECT c.row, c.scope, c.version, c.blob, c.body, c.concept, s.key FROM cubes c JOIN scopes s USING (scope) WHERE c.id = ?",
            (cube,),
        ).fetchone()
        if not found:
            if cube in change.ids:
                raise NotFound(f"no cube {cube}; it may have been forgotten already")
            continue
        row, scope, version, blob, body, concept, key = found
        payload = load(body).payload
        if isinstance(payload, Activation):
            prefix_keys.append(payload.prefix_key)
        touched[key] = None
        for (other,) in db.execute("SELECT DISTINCT s.key FROM placements p JOIN scopes s USING (scope) WHERE p.id = ?", (cube,)):
            touched[other] = None
        reason = change.reason if cube in change.ids else "derived from a cube that was forgotten"
        seq = _audit(db, scope, change.at, change.actor, "forget", cube, version, None, reason)
        db.execute(
            "INSERT INTO tombstones VALUES (?,?,?,?,?,?,?)", (cube, row, seq, scope, change.at.timestamp(), "/".join(change.actor), reason)
        )
        for table, column in (("vectors", "row"), ("lexical", "rowid"), ("grants", "row"), ("cubes", "row")):
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (row,))
        for table, column in (
            ("usage", "id"),
            ("usage_events", "id"),
            ("placements", "id"),
            ("lineage", "child"),
        ):
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (cube,))
        db.execute("UPDATE versions SET body = NULL WHERE id = ?", (cube,))
        if concept:
            _tidy_concept(db, concept)
        if blob is not None:
            _doom(db, blob)
        erased.append(cube)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('scrub', randomblob(16))")
    scopes = tuple(scope_of_key(key) for key in touched)
    return Outcome("erased", erased=tuple(erased), prefix_keys=tuple(prefix_keys), scopes_touched=scopes)


def _take(db: sqlite3.Connection, change: Take) -> Outcome:
    scope = scope_ids(db, change.scope)[-1]
    stamp = change.at.timestamp()
    fresh = db.execute(
        "INSERT OR IGNORE INTO turns VALUES (?,?,?,?,?)", (scope, change.session, change.turn, stamp, change.system)
    ).rowcount
    if not fresh:
        each = []
        for add in change.adds:  # what this turn wrote then; what has been forgotten since stays forgotten
            known = db.execute("SELECT body FROM cubes WHERE identity = ?", (add.identity,)).fetchone()
            if known:
                each.append(Outcome("merged", (load(known[0]),)))
        return Outcome("known", each=tuple(each))
    each = [_add(db, add) for add in change.adds]
    for cube, form in change.used:
        _use(db, cube, form, scope, change)
    for position, (cube, version) in enumerate(change.placed):
        if db.execute("SELECT 1 FROM cubes WHERE id = ?", (cube,)).fetchone():
            db.execute("INSERT INTO placements VALUES (?,?,?,?,?,?)", (scope, change.session, change.turn, position, cube, version))
    return Outcome("taken", each=tuple(each))


def _use(db: sqlite3.Connection, cube: CubeId, form: str, scope: int, change: Take) -> None:
    found = db.execute(
        "SELECT c.scope, u.recalls, u.sessions, u.last_used_at, u.heat_log2 FROM cubes c LEFT JOIN usage u USING (id) WHERE c.id = ?",
        (cube,),
    )
    row = found.fetchone()
    if not row:  # forgotten while the turn was under way
        return
    home, recalls, sessions, last, heat_log2 = row
    again = db.execute("SELECT 1 FROM usage_events WHERE id = ? AND session = ? LIMIT 1", (cube, change.session)).fetchone()
    stamp = change.at.timestamp()
    db.execute(
        "INSERT INTO usage_events (id, scope, session, turn, form, at) VALUES (?,?,?,?,?,?)",
        (cube, scope, change.session, change.turn, form, stamp),
    )
    db.execute(
        "INSERT OR REPLACE INTO usage VALUES (?,?,?,?,?,?)",
        (
            cube,
            home,
            (recalls or 0) + 1,
            (sessions or 0) + (0 if again else 1),
            max(last or 0.0, stamp),
            warmed(heat_log2, change.at.astimezone(UTC)),
        ),
    )

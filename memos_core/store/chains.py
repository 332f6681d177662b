"""The chains: every version of a cube and every audit entry of a scope, hash-linked, inside a transaction. SQL writes only.

Chains (ours; MemOS §4.2 asks for versioning and audit): a version's hash covers the one before it and a keyed hash of the
content; an audit entry's hash covers the one before it in the same scope. The key belongs to the cube and dies with it.
"""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from datetime import datetime

from pydantic import ValidationError

from memos_core.cube import Actor, CubeId, MemCube, Scope, ancestors, blob_of, canonical, dumps, entry_key, scope_key
from memos_core.errors import StoreCorrupt


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


def audit(
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


def write_version(
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
    return audit(db, scope, at, actor, action, cube.id, cube.version, committed, detail), body


HEAD_COLUMNS = (
    "scope", "seq", "version", "state", "kind", "session", "role", "occurred_at", "expires_at", "valid_from", "valid_to", "priority",
    "blob", "entry_key", "body",
)  # fmt: skip


def head_columns(cube: MemCube, scope: int, seq: int, body: bytes) -> tuple[object, ...]:
    """What the columns of a cube's row say besides its id, key and identity."""
    identifiers, governance = cube.identifiers, cube.governance
    blob = blob_of(cube.payload)
    return (
        scope, seq, cube.version, str(cube.state), cube.payload.kind, identifiers.session, identifiers.role,
        identifiers.occurred_at.timestamp(), _seconds(governance.expires_at), _seconds(identifiers.valid_from),
        _seconds(identifiers.valid_to), governance.priority, blob,
        None if identifiers.key is None else entry_key(identifiers.collection or "", identifiers.key), body,
    )  # fmt: skip


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def next_version(db: sqlite3.Connection, cube: MemCube, actor: Actor, action: str, detail: str = "") -> tuple[int, list[int], int]:
    """Write the next version of a cube that is there, and its head: (its row, the numbers of its scopes, the audit entry)."""
    row, key = db.execute("SELECT row, key FROM cubes WHERE id = ?", (cube.id,)).fetchone()
    scopes = scope_ids(db, cube.governance.scope)
    seq, body = write_version(db, cube, scopes[-1], key, cube.identifiers.updated_at, actor, action, detail)
    values = f"{', '.join(f'{column} = ?' for column in HEAD_COLUMNS)}"
    db.execute(f"UPDATE cubes SET {values} WHERE row = ?", (*head_columns(cube, scopes[-1], seq, body), row))
    return row, scopes, seq

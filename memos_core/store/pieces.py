"""Pieces of a cube's rows that more than one kind of change writes, inside a transaction. SQL."""

from __future__ import annotations

import sqlite3

from memos_core.changes import Searchable
from memos_core.cube import MemCube, scope_key
from memos_core.store.chains import load


def write_grants(db: sqlite3.Connection, row: int, cube: MemCube) -> None:
    """Keep who beyond the scope may read or change a cube, so that it is found by them."""
    access = cube.governance.access
    for action, actors in (("read", access.read), ("write", access.write)):
        if actors:
            db.executemany("INSERT OR IGNORE INTO grants VALUES (?, ?, ?)", [(scope_key(actor), action, row) for actor in actors])


def write_searchable(db: sqlite3.Connection, row: int, scope: int, seq: int, found: Searchable) -> None:
    """Keep what is searched of a cube."""
    db.execute(
        "INSERT OR REPLACE INTO vectors (row, seq, vector, terms, features) VALUES (?, ?, ?, ?, ?)",
        (row, seq, found.vector.tobytes(), found.terms.tobytes(), found.features.packed()),
    )
    db.execute("DELETE FROM keys WHERE row = ?", (row,))
    db.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", [(scope, key, row) for key in found.keys])


def hide(db: sqlite3.Connection, row: int) -> None:
    """Keep nothing of a cube that a search could find."""
    db.execute("DELETE FROM vectors WHERE row = ?", (row,))
    db.execute("DELETE FROM keys WHERE row = ?", (row,))


def holder(db: sqlite3.Connection, identity: bytes | None) -> MemCube | None:
    """The cube that holds a message already, by itself or merged into it."""
    found = db.execute(
        "SELECT body FROM cubes WHERE identity = ? UNION ALL SELECT c.body FROM merged m JOIN cubes c ON c.id = m.id WHERE m.identity = ?",
        (identity, identity),
    ).fetchone()
    return load(found[0]) if found else None


def doom(db: sqlite3.Connection, blob: str) -> None:
    """Mark a blob for removal unless a live cube still refers to it."""
    held = db.execute(
        "SELECT 1 FROM cubes WHERE blob = ?1 AND state <> 'archived' UNION ALL SELECT 1 FROM images WHERE blob = ?1", (blob,)
    ).fetchone()
    if not held:
        db.execute("INSERT OR IGNORE INTO doomed VALUES (?)", (blob,))

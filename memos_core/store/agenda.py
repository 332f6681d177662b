"""What the scheduler has to look at and when, and what it has moved: written inside transactions, read in snapshots. SQL.

A review is due when something has asked for it (a use), when its scope has changed (the audit log says so), or when its time has come.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from memos_core.changes import Record, Reviewed
from memos_core.cube import CubeId, Scope, scope_of_key
from memos_core.store.chains import scope_ids
from memos_core.store.snapshot import Snapshot, below

NEVER = 1e18
"""Seconds: a review that nothing but a demand or a change makes due again."""
_SEEN = "scheduled"


@dataclass(frozen=True, slots=True)
class Moved:
    """A move of the scheduler that is done. made: the cube that came of it, where one did.

    estimated: seconds it was expected to save over the policy's horizon. realised: seconds saved since by what it made; None where nothing was
    made that could save any.
    """

    at: datetime
    kind: str
    ids: tuple[CubeId, ...]
    scope: Scope
    reason: str
    made: CubeId | None
    estimated: float
    realised: float | None


# ---------------------------------------------------------------------- writes; the caller owns the transaction
def demand(db: sqlite3.Connection, kind: str, scopes: Iterable[int]) -> None:
    """Make reviews due at once."""
    db.executemany(
        "INSERT INTO reviews VALUES (?, ?, 0, 1) ON CONFLICT (kind, scope) DO UPDATE SET at = 0, asked = asked + 1",
        [(kind, scope) for scope in sorted(scopes)],
    )


def reviewed(db: sqlite3.Connection, change: Reviewed) -> None:
    """Say when what has been looked at is due again; what was demanded meanwhile stays due."""
    db.executemany(
        "INSERT INTO reviews (kind, scope, asked, at) VALUES (?, ?, ?, ?) ON CONFLICT (kind, scope) DO UPDATE SET at = excluded.at"
        " WHERE asked = excluded.asked",
        [(kind, scope, asked, NEVER if at is None else at) for kind, scope, asked, at in change.rows],
    )
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_SEEN, str(change.seen).encode() + b" " + change.by))


def record(db: sqlite3.Connection, change: Record) -> None:
    """Keep what was moved."""
    move = change.move
    number = db.execute(
        "INSERT INTO moves (at, kind, scope, reason, made, estimated) VALUES (?,?,?,?,?,?)",
        (change.at.timestamp(), move.kind, scope_ids(db, change.scope)[-1], move.reason, change.made, move.seconds),
    ).lastrowid
    concerned = dict.fromkeys([*move.ids, *([change.made] if change.made else [])])
    db.executemany("INSERT INTO moved (id, number) VALUES (?, ?)", [(id, number) for id in concerned])


def forget(db: sqlite3.Connection, cube: CubeId) -> None:
    """An erased cube's moves go whole, and the reason of what is still to be made of it: a policy may have said anything there. The audit log
    keeps that something was done."""
    numbers = [row[0] for row in db.execute("SELECT number FROM moved WHERE id = ?", (cube,))]
    for number in numbers:
        db.execute("DELETE FROM moves WHERE number = ?", (number,))
        db.execute("DELETE FROM moved WHERE number = ?", (number,))
    for number, ids in db.execute("SELECT number, ids FROM retraining WHERE reason <> ''").fetchall():
        if cube in json.loads(ids):
            db.execute("UPDATE retraining SET reason = '' WHERE number = ?", (number,))


# ---------------------------------------------------------------------- reads
def seen(view: Snapshot) -> tuple[int, bytes]:
    """The audit entry up to which changes have been looked at, and what decided then; (-1, b"") before the first time."""
    kept = view.meta(_SEEN)
    if kept is None:
        return -1, b""
    number, _, by = kept.partition(b" ")
    return int(number), by


def due(view: Snapshot, now: datetime) -> list[tuple[str, int, int]]:
    """Reviews whose time has come: kind, scope's number, demands."""
    return view.db.execute(
        "SELECT kind, scope, asked FROM reviews INDEXED BY reviews_at WHERE at <= ? ORDER BY kind, scope", (now.timestamp(),)
    ).fetchall()


def demands(view: Snapshot, kind: str, scopes: Collection[int]) -> dict[int, int]:
    """How often each scope's review has been demanded."""
    rows = view.db.execute(
        "SELECT scope, asked FROM reviews WHERE kind = ? AND scope IN (SELECT value FROM json_each(?))", (kind, json.dumps(list(scopes)))
    )
    return dict(rows.fetchall())


def changed(view: Snapshot, seq: int) -> list[tuple[int, bool]]:
    """Scopes changed after an audit entry, by number, and whether something was said there."""
    rows = view.db.execute(
        "SELECT scope, max(action IN ('add', 'merge', 'import')) FROM audit WHERE seq > ? GROUP BY +scope ORDER BY 1", (seq,)
    )
    return [(scope, bool(grew)) for scope, grew in rows]


def occupied(view: Snapshot) -> list[int]:
    """Scopes that hold anything, by number."""
    return [row[0] for row in view.db.execute("SELECT DISTINCT scope FROM cubes ORDER BY scope")]


def names(view: Snapshot, scopes: Collection[int]) -> list[tuple[int, Scope]]:
    """Number and name of scopes, by name."""
    rows = view.db.execute(
        "SELECT scope, key FROM scopes WHERE scope IN (SELECT value FROM json_each(?)) ORDER BY key", (json.dumps(list(scopes)),)
    )
    return [(number, scope_of_key(key)) for number, key in rows]


def moves(view: Snapshot, scope: Scope | None = None, since: datetime | None = None, id: CubeId | None = None) -> list[Moved]:
    """Moves of a scope and all below it, or of everything, or of one cube; oldest first."""
    low, high = below(scope) if scope is not None else ("", "\U0010ffff")
    where, more = ("AND m.number IN (SELECT number FROM moved WHERE id = ?)", (id,)) if id is not None else ("", ())
    rows = view.db.execute(
        "SELECT m.number, m.at, m.kind, s.key, m.reason, m.made, m.estimated, iif(m.made IS NULL, NULL, coalesce(u.seconds_saved, 0)) FROM moves m"
        f" JOIN scopes s USING (scope) LEFT JOIN usage u ON u.id = m.made WHERE s.key >= ? AND s.key < ? AND m.at >= ? {where} ORDER BY m.number",
        (low, high, 0.0 if since is None else since.timestamp(), *more),
    ).fetchall()
    concerned: dict[int, list[CubeId]] = {}
    for number, each in view.db.execute(
        "SELECT number, id FROM moved WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number, id",
        (json.dumps([row[0] for row in rows]),),
    ):
        concerned.setdefault(number, []).append(each)
    return [
        Moved(
            datetime.fromtimestamp(at, UTC),
            kind,
            tuple(each for each in concerned.get(number, ()) if each != made),
            scope_of_key(key),
            reason,
            made,
            estimated,
            realised,
        )
        for number, at, kind, key, reason, made, estimated, realised in rows
    ]

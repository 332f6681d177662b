"""Who stands and who gave way: relations between cubes, and the states that follow from them, inside a transaction. SQL.

A cube is superseded while a relation says that it gave way, contested while an undecided one ties it to another that stands, and
active otherwise. What gave way stopped being true when the newer was said. Every change of state is a version of the cube. Ours.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from memos_core.conflict.resolution import Related, Resolution
from memos_core.cube import Actor, CubeId, MemCube, State
from memos_core.store.chains import load, next_version

_STANDING = (State.ACTIVE, State.CONTESTED)
_SETTLED_HERE = (*_STANDING, State.SUPERSEDED)
_ACTIONS = {State.SUPERSEDED: "supersede", State.CONTESTED: "contest", State.ACTIVE: "resolve"}


def relate(db: sqlite3.Connection, related: Related, actor: Actor, at: datetime) -> bool:
    """Keep what two cubes have to do with each other, and let their states follow. False when that changes nothing.

    A mere finding (open) does not reopen what was answered, and is not kept when one of the two does not stand any more.
    """
    pair = (related.older, related.newer)
    heads = [_head(db, id) for id in pair]
    if None in heads:
        return False
    before = db.execute("SELECT resolution FROM relations WHERE older = ? AND newer = ?", pair).fetchone()
    if related.resolution is Resolution.OPEN and (before or any(head and head.state not in _STANDING for head in heads)):
        return False
    if before and before[0] == related.resolution:
        return False
    db.execute(
        "INSERT OR REPLACE INTO relations (older, newer, kind, confidence, why, resolution, at) VALUES (?,?,?,?,?,?,?)",
        (*pair, related.kind, related.confidence, related.why, related.resolution, at.timestamp()),
    )
    freed = Related(*pair, resolution=Resolution(before[0])).loser if before else None
    for id in pair:
        settle(db, id, actor, at, freed=id == freed)
    tied = {other for id in pair for other in _tied(db, id)} - set(pair)
    settle_contested(db, sorted(tied), actor, at)
    return True


def follow(db: sqlite3.Connection, before: State, head: MemCube, actor: Actor, action: str) -> None:
    """Let everything follow a change of a cube that somebody made. Whoever makes it stand again by hand has answered: both are kept.

    A rollback to a version from before a conflict was found does not answer it.
    """
    at, tied = head.identifiers.updated_at, _tied(db, head.id)
    again = before is State.SUPERSEDED and head.state in _STANDING
    if again:
        _keep_both(db, "(older = :id AND resolution = 'superseded') OR (newer = :id AND resolution = 'dismissed')", head.id, at)
    if before is State.CONTESTED and head.state is State.ACTIVE and action != "rollback":
        _keep_both(db, "(older = :id OR newer = :id) AND resolution = 'open'", head.id, at)
    if again or action == "rollback" or before not in _SETTLED_HERE:
        settle(db, head.id, actor, at, freed=again)
    if before != head.state:
        settle_contested(db, tied, actor, at)


def _keep_both(db: sqlite3.Connection, which: str, id: CubeId, at: datetime) -> None:
    db.execute(f"UPDATE relations SET resolution = 'kept both', at = :at WHERE {which}", {"id": id, "at": at.timestamp()})


def settle_contested(db: sqlite3.Connection, ids: Sequence[CubeId], actor: Actor, at: datetime) -> None:
    """Let cubes that stand be contested or not, as their undecided conflicts say."""
    for id in ids:
        head = _head(db, id)
        if head is not None and head.state in _STANDING:
            settle(db, id, actor, at)


def untie(db: sqlite3.Connection, id: CubeId) -> list[CubeId]:
    """Remove all that relates an erased cube to others; the ids of the others."""
    found = [
        row[0]
        for row in db.execute("SELECT newer FROM relations WHERE older = ? UNION SELECT older FROM relations WHERE newer = ?", (id, id))
    ]
    db.execute("DELETE FROM relations WHERE older = ? OR newer = ?", (id, id))
    return found


def _head(db: sqlite3.Connection, id: CubeId) -> MemCube | None:
    found = db.execute("SELECT body FROM cubes WHERE id = ?", (id,)).fetchone()
    return load(found[0]) if found else None


def _tied(db: sqlite3.Connection, id: CubeId) -> list[CubeId]:
    """The other sides of a cube's undecided conflicts."""
    rows = db.execute(
        "SELECT newer FROM relations WHERE older = ? AND resolution = 'open' UNION SELECT older FROM relations WHERE newer = ? AND resolution = 'open'",
        (id, id),
    )
    return [row[0] for row in rows]


def settle(db: sqlite3.Connection, id: CubeId, actor: Actor, at: datetime, freed: bool = False) -> None:
    """Write the version of a cube that its relations ask for, if it is not that already. freed: nothing else holds it down."""
    head = _head(db, id)
    if head is None or head.state not in _SETTLED_HERE:
        return
    over = db.execute(
        "SELECT c.body FROM relations r JOIN cubes c ON c.id = r.newer WHERE (r.older = ? AND r.resolution = 'superseded')"
        " OR (r.newer = ? AND r.resolution = 'dismissed') ORDER BY c.occurred_at, c.row",
        (id, id),
    )
    newer = [load(row[0]) for row in over]
    if newer:
        state, reason = State.SUPERSEDED, "dismissed" if newer[0].id == id else f"by {newer[0].id}"
    elif head.state is State.SUPERSEDED and not freed:  # by hand, or its successor has been forgotten since
        return
    else:
        rivals = [other for other in _tied(db, id) if (rival := _head(db, other)) is not None and rival.state in _STANDING]
        state, reason = (State.CONTESTED, f"with {rivals[0]}") if rivals else (State.ACTIVE, "")
    until = _valid_to_by_itself(db, head) if freed or head.state is State.SUPERSEDED else head.identifiers.valid_to
    if newer:
        ended = newer[0].identifiers.occurred_at
        until = ended if until is None else min(until, ended)
    if (state, until) != (head.state, head.identifiers.valid_to):
        identifiers = head.identifiers.model_copy(update={"updated_at": at, "valid_to": until})
        new = head.model_copy(update={"version": head.version + 1, "state": state, "identifiers": identifiers})
        next_version(db, new, actor, _ACTIONS[state], reason)


def _valid_to_by_itself(db: sqlite3.Connection, head: MemCube) -> datetime | None:
    """Until when it was true before it gave way to anything, unless somebody has said since until when."""
    for (body,) in db.execute("SELECT body FROM versions WHERE id = ? AND version < ? ORDER BY version DESC", (head.id, head.version)):
        then = load(body)
        if then.state is not State.SUPERSEDED:
            return then.identifiers.valid_to
        if then.identifiers.valid_to != head.identifiers.valid_to:
            break
    return head.identifiers.valid_to

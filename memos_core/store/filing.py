"""Where facts are filed, inside a transaction: tasks and concepts, their names, and what moves between them. SQL.

A task or concept is there as long as something is filed under it. Labels that were read from facts go when one of those facts does.
"""

from __future__ import annotations

import sqlite3

from memos_core.changes import Label, Name, Outcome, Refile
from memos_core.errors import NotFound, VersionConflict
from memos_core.hierarchy import Place
from memos_core.store.chains import audit, scope_ids


def file(db: sqlite3.Connection, row: int, scope: int, seq: int, place: Place) -> None:
    """File a fact: its task and concept are made when missing, and left when nothing else is filed there."""
    (before,) = db.execute("SELECT concept FROM cubes WHERE row = ?", (row,)).fetchone()
    for concept, parent, label in ((place.task, 0, place.labels[0]), (place.concept, place.task, place.labels[1])):
        db.execute(
            "INSERT OR IGNORE INTO concepts (concept, scope, parent, given, label, seq) VALUES (?,?,?,?,?,?)",
            (concept, scope, parent, place.given, label, seq),
        )
    db.execute("UPDATE cubes SET concept = ? WHERE row = ?", (place.concept, row))
    if before not in (0, place.concept):
        tidy(db, before)


def tidy(db: sqlite3.Connection, concept: int) -> None:
    """After a fact has left: a label that was read from the facts is read anew, and what is empty goes, given names included."""
    found = db.execute("SELECT parent FROM concepts WHERE concept = ?", (concept,)).fetchone()
    if not found:
        return
    db.execute("UPDATE concepts SET label = '', labelled = 0 WHERE concept IN (?, ?) AND given = 0", (concept, found[0]))
    if not db.execute("SELECT 1 FROM cubes WHERE concept = ? LIMIT 1", (concept,)).fetchone():
        db.execute("DELETE FROM concepts WHERE concept = ?", (concept,))
        db.execute("DELETE FROM concepts WHERE concept = ? AND concept NOT IN (SELECT parent FROM concepts)", (found[0],))


def refile(db: sqlite3.Connection, change: Refile) -> Outcome:
    """File facts elsewhere; those that are gone meanwhile are left out."""
    scope = _unchanged(db, change)
    if not change.places:
        return Outcome("unchanged")
    seq = audit(db, scope, change.at, change.actor, "refile", detail=f"{len(change.places)} facts: {change.reason}")
    left: dict[int, None] = {}
    for id, concept, task in change.places:
        found = db.execute("SELECT concept FROM cubes WHERE id = ? AND scope = ?", (id, scope)).fetchone()
        if not found:
            continue
        for number, parent in ((task, 0), (concept, task)):
            db.execute(
                "INSERT OR IGNORE INTO concepts (concept, scope, parent, given, label, seq) VALUES (?,?,?,0,'',?)",
                (number, scope, parent, seq),
            )
        (parent,) = db.execute("SELECT parent FROM concepts WHERE concept = ?", (concept,)).fetchone()
        if parent != task:
            db.execute("UPDATE concepts SET parent = ? WHERE concept = ?", (task, concept))
            db.execute("DELETE FROM concepts WHERE concept = ? AND concept NOT IN (SELECT parent FROM concepts)", (parent,))
        db.execute("UPDATE cubes SET concept = ?, seq = ? WHERE id = ?", (concept, seq, id))
        left |= {found[0]: None, concept: None}
    for concept in left:
        tidy(db, concept)
    return Outcome("filed")


def name(db: sqlite3.Connection, change: Name) -> Outcome:
    """Name a task or concept; what is filed there counts as changed, since ranking goes by names."""
    scope = scope_ids(db, change.scope)[-1]
    if not db.execute("SELECT 1 FROM concepts WHERE concept = ? AND scope = ?", (change.number, scope)).fetchone():
        raise NotFound("what was to be renamed is not there any more; memos.tree(scope) shows what there is")
    seq = audit(db, scope, change.at, change.actor, "rename", detail="a task or concept")
    db.execute("UPDATE concepts SET label = ?, given = 1, seq = ? WHERE concept = ?", (change.label, seq, change.number))
    db.execute("UPDATE concepts SET seq = ? WHERE parent = ?", (seq, change.number))
    db.execute("UPDATE cubes SET seq = ? WHERE concept = ?", (seq, change.number))
    return Outcome("named")


def label(db: sqlite3.Connection, change: Label) -> Outcome:
    """Keep labels, as long as the facts that they were read from are all there."""
    scope = scope_ids(db, change.scope)[-1]
    if db.execute("SELECT length FROM scopes WHERE scope = ?", (scope,)).fetchone()[0] != change.length:
        return Outcome("unchanged")
    db.executemany(
        "UPDATE concepts SET label = ?, labelled = ? WHERE concept = ? AND scope = ? AND given = 0",
        [(text, facts, number, scope) for number, text, facts in change.labels],
    )
    return Outcome("labelled")


def _unchanged(db: sqlite3.Connection, change: Refile) -> int:
    scope = scope_ids(db, change.scope)[-1]
    (length,) = db.execute("SELECT length FROM scopes WHERE scope = ?", (scope,)).fetchone()
    if change.length is not None and length != change.length:
        raise VersionConflict("the scope has changed since its upkeep was decided")
    return scope

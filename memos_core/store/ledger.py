"""Changes applied inside a transaction: cubes, what is searchable of them, turns, erasures. SQL writes only."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from memos_core.changes import (
    Add,
    Arrive,
    Change,
    Describe,
    Erase,
    Judge,
    Label,
    Name,
    Outcome,
    Queue,
    Record,
    Refile,
    Relate,
    Reviewed,
    Revise,
    SetBudget,
    Take,
    Unqueue,
)
from memos_core.conflict.resolution import Resolution
from memos_core.cube import Activation, CubeId, MemCube, Parameter, Plaintext, State, blob_of, canonical, entry_key, scope_of_key
from memos_core.errors import NotFound, VersionConflict
from memos_core.store import agenda, arrival, filing, uses
from memos_core.store.chains import HEAD_COLUMNS, audit, commitment, head_columns, load, next_version, scope_ids, write_version
from memos_core.store.disputes import follow, relate, settle_contested, untie
from memos_core.store.pieces import doom, hide, holder, write_grants, write_searchable
from memos_core.store.snapshot import below


def apply(db: sqlite3.Connection, change: Change) -> Outcome:
    """Write one change; the caller owns the transaction. Raises NotFound, VersionConflict or sqlite3.Error."""
    match change:
        case Add():
            return _add(db, change)
        case Revise():
            return _revise(db, change)
        case Erase():
            return _erase(db, change)
        case Take():
            return _take(db, change)
        case Relate(related, actor, at):
            for id in (related.older, related.newer):
                _require(db, id)
            changed = relate(db, related, actor, at)
            return Outcome("related" if changed else "unchanged", (_head(db, related.older), _head(db, related.newer)))
        case SetBudget():
            return _set_budget(db, change)
        case Describe():
            return _describe(db, change)
        case Refile():
            return filing.refile(db, change)
        case Name():
            return filing.name(db, change)
        case Label():
            return filing.label(db, change)
        case Queue(scope, form, ids, reason, seconds):
            _queue(db, scope_ids(db, scope)[-1], form, ids, reason, seconds)
            return Outcome("queued")
        case Unqueue(number):
            db.execute("DELETE FROM retraining WHERE number = ?", (number,))
            return Outcome("queued")
        case Judge():
            uses.judge(db, change)
            return Outcome("judged")
        case Record():
            agenda.record(db, change)
            return Outcome("recorded")
        case Reviewed():
            agenda.reviewed(db, change)
            return Outcome("reviewed")
        case Arrive():
            return Outcome("arrived", imported=arrival.arrive(db, change))


def _queue(db: sqlite3.Connection, scope: int, form: str, ids: Sequence[CubeId], reason: str = "", seconds: float = 0.0) -> None:
    """Have a module made of what is still here of some cubes; once, however often that is asked for."""
    here = "SELECT c.id FROM cubes c WHERE c.id IN (SELECT value FROM json_each(?))"
    wanted = set(db.execute(here, (json.dumps(list(ids)),)))
    for (known,) in db.execute("SELECT ids FROM retraining WHERE scope = ? AND form = ?", (scope, str(form))).fetchall():
        if set(db.execute(here, (known,))) == wanted:
            return
    row = (scope, str(form), json.dumps(list(ids)), reason, seconds)
    db.execute("INSERT INTO retraining (scope, form, ids, reason, seconds) VALUES (?,?,?,?,?)", row)


def _describe(db: sqlite3.Connection, change: Describe) -> Outcome:
    found = db.execute("SELECT row, seq, body FROM cubes WHERE id = ?", (change.id,)).fetchone()
    if found:
        row, seq, body = found
        write_searchable(db, row, scope_ids(db, load(body).governance.scope)[-1], seq, change.searchable)
    return Outcome("described")


def _require(db: sqlite3.Connection, id: CubeId) -> None:
    if not db.execute("SELECT 1 FROM cubes WHERE id = ?", (id,)).fetchone():
        raise NotFound(f"no cube {id}; it may have been forgotten")


def _head(db: sqlite3.Connection, id: CubeId) -> MemCube:
    return load(db.execute("SELECT body FROM cubes WHERE id = ?", (id,)).fetchone()[0])


def _add(db: sqlite3.Connection, change: Add) -> Outcome:
    cube = change.cube
    known = holder(db, change.identity)
    if known is None and change.into is not None:
        known = _merge(db, change, change.into)
    if known is not None:
        return Outcome("merged", (_relate_merged(db, change, known),))
    for parent, _ in change.parents:
        if not db.execute("SELECT 1 FROM cubes WHERE id = ?", (parent,)).fetchone():
            raise NotFound(f"cube {parent} has been erased meanwhile; nothing can be derived from it")
    scopes = scope_ids(db, cube.governance.scope)
    said = cube.identifiers
    taken = (scopes[-1], entry_key(said.collection or "", said.key or ""))
    if said.key is not None and db.execute("SELECT 1 FROM cubes WHERE scope = ? AND entry_key = ?", taken).fetchone():
        raise VersionConflict("somebody else has kept something under the same key meanwhile; read it again and repeat the change")
    key = secrets.token_bytes(32)
    seq, body = write_version(db, cube, scopes[-1], key, cube.identifiers.updated_at, change.actor, "add", change.detail)
    columns = (*HEAD_COLUMNS, "id", "key", "identity")
    row = db.execute(
        f"INSERT INTO cubes ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
        (*head_columns(cube, scopes[-1], seq, body), cube.id, key, change.identity),
    ).lastrowid
    assert row is not None
    if change.searchable is not None:
        write_searchable(db, row, scopes[-1], seq, change.searchable)
    if change.place is not None:
        filing.file(db, row, scopes[-1], seq, change.place)
    for parent, version in change.parents:
        db.execute("INSERT INTO lineage VALUES (?, ?, ?, ?)", (cube.id, parent, change.relation, version))
    if (blob := blob_of(cube.payload)) is not None:
        db.execute("DELETE FROM doomed WHERE blob = ?", (blob,))
    elif isinstance(cube.payload, Plaintext):
        for part in cube.payload.parts:
            db.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (row, part.blob))
            db.execute("DELETE FROM doomed WHERE blob = ?", (part.blob,))
    write_grants(db, row, cube)
    kept = [each for each in change.relations if relate(db, each, change.actor, cube.identifiers.updated_at)]
    if not kept:
        return Outcome("added", (cube,))
    took = any(each.resolution is Resolution.SUPERSEDED and each.newer == cube.id for each in kept)
    return Outcome("superseded" if took else "added", (_head(db, cube.id),))


def _relate_merged(db: sqlite3.Connection, change: Add, known: MemCube) -> MemCube:
    """Relate the cube that a message was merged into, unless it is related already: a replay answers nothing anew."""
    related = False
    for each in change.relations:
        older, newer = (known.id if id == change.cube.id else id for id in (each.older, each.newer))
        if older != newer and not db.execute("SELECT 1 FROM relations WHERE older = ? AND newer = ?", (older, newer)).fetchone():
            related |= relate(db, replace(each, older=older, newer=newer), change.actor, change.cube.identifiers.updated_at)
    return _head(db, known.id) if related else known


def _merge(db: sqlite3.Connection, change: Add, into: CubeId) -> MemCube | None:
    """Keep a message with the cube that says the same. None when that one does not stand any more, or is of another scope."""
    found = db.execute("SELECT row, scope, session, state, key, body FROM cubes WHERE id = ?", (into,)).fetchone()
    if not found or found[3] not in ("active", "contested"):
        return None
    head, said = load(found[5]), change.cube.identifiers
    if head.governance.scope != change.cube.governance.scope or head.payload.kind != "plaintext":
        return None
    sources = tuple(dict.fromkeys([*head.identifiers.sources, *said.sources]))
    grown = {"sources": sources, "mentions": head.identifiers.mentions + 1, "updated_at": said.updated_at}
    new = head.model_copy(update={"version": head.version + 1, "identifiers": head.identifiers.model_copy(update=grown)})
    body = canonical(change.cube.model_copy(update={"id": into, "version": new.version}))
    committed = commitment(found[4], body)
    _, scopes, seq = next_version(db, new, change.actor, "merge", committed.hex())
    (last,) = db.execute("SELECT max(row) FROM cubes").fetchone()
    db.execute(
        "INSERT INTO merged (seq, id, identity, scope, session, after, body, commitment) VALUES (?,?,?,?,?,?,?,?)",
        (seq, into, change.identity, scopes[-1], said.session, last, body, committed),
    )
    return new


def _revise(db: sqlite3.Connection, change: Revise) -> Outcome:
    cube = change.cube
    found = db.execute("SELECT version, blob, state FROM cubes WHERE id = ?", (cube.id,)).fetchone()
    if not found:
        raise NotFound(f"no cube {cube.id}; it may have been forgotten")
    version, blob, state = found
    if version != cube.version - 1:
        raise _stale(cube.id, version, cube.version - 1)
    row, scopes, seq = next_version(db, cube, change.actor, change.action, change.detail)
    if change.searchable is not None:
        write_searchable(db, row, scopes[-1], seq, change.searchable)
    if change.hidden:
        hide(db, row)
    if change.place is not None:
        filing.file(db, row, scopes[-1], seq, change.place)
    db.execute("DELETE FROM grants WHERE row = ?", (row,))
    write_grants(db, row, cube)
    if blob is not None and (blob_of(cube.payload) is None or str(cube.state) == "archived"):
        doom(db, blob)
    follow(db, State(state), cube, change.actor, change.action)
    return Outcome("revised", (_head(db, cube.id),))


def _stale(id: CubeId, version: int, expected: int) -> VersionConflict:
    return VersionConflict(f"cube {id} is at version {version}, the change was made from {expected}; read it again and repeat the change")


def _set_budget(db: sqlite3.Connection, change: SetBudget) -> Outcome:
    scope, budget = scope_ids(db, change.scope)[-1], change.budget
    before = db.execute("SELECT facts, bytes, strength, erase_after FROM budgets WHERE scope = ?", (scope,)).fetchone()
    after = None if budget is None else budget.columns()
    if before == after:
        return Outcome("unchanged")
    db.execute("DELETE FROM budgets WHERE scope = ?", (scope,))
    if after is not None:
        db.execute("INSERT INTO budgets VALUES (?,?,?,?,?)", (scope, *after))
    audit(db, scope, change.at, change.actor, "budget", detail=str(budget or "no limit"))
    return Outcome("budgeted")


def descendants(db: sqlite3.Connection, ids: Sequence[CubeId]) -> list[CubeId]:
    """The cubes and everything derived from them, parents before children."""
    found, waiting = dict.fromkeys(ids), list(ids)
    while waiting:
        for (child,) in db.execute("SELECT child FROM lineage WHERE parent = ?", (waiting.pop(),)):
            if child not in found:
                found[child] = None
                waiting.append(child)
    return list(found)


def _repeating(db: sqlite3.Connection, ids: Sequence[CubeId]) -> tuple[list[str], list[CubeId]]:
    """System texts of turns, and KV behind system texts, that hold a text of these cubes, of whatever version.

    An application may have put what it retrieved into its system text.
    """
    systems = {row[0] for row in db.execute("SELECT DISTINCT system FROM turns WHERE system IS NOT NULL")}
    behind = {}
    for id, body in db.execute("SELECT id, body FROM cubes WHERE kind = 'activation'"):
        payload = load(body).payload
        if isinstance(payload, Activation) and payload.system:
            behind[id] = payload.system
    systems |= set(behind.values())
    texts = set()
    for id in ids if systems else ():
        for (body,) in db.execute("SELECT body FROM versions WHERE id = ? AND body IS NOT NULL", (id,)):
            payload = load(body).payload
            if isinstance(payload, Plaintext):
                texts |= {payload.text.strip(), payload.text.strip().replace("\n", "\n  ")}  # as it is, and as a line of a prompt
    holding = {system for system in systems for text in texts if text in system and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", system)}
    return sorted(holding), [id for id, system in behind.items() if system in holding]


def _erase(db: sqlite3.Connection, change: Erase) -> Outcome:
    scopes = (
        ()
        if change.scope is None
        else db.execute("SELECT scope, key FROM scopes WHERE key >= ? AND key < ?", below(change.scope)).fetchall()
    )
    held = [row[0] for scope, _ in scopes for row in db.execute("SELECT id FROM cubes WHERE scope = ? ORDER BY row", (scope,))]
    asked = dict.fromkeys((*change.ids, *held))
    for id, expected in zip(change.ids, change.versions or (), strict=False):
        found = db.execute("SELECT version FROM cubes WHERE id = ?", (id,)).fetchone()
        if found and found[0] != expected:
            raise _stale(id, found[0], expected)
    erased: list[CubeId] = []
    survivors: dict[CubeId, None] = {}
    prefix_keys: list[str] = []
    touched: dict[str, None] = dict.fromkeys(key for _, key in scopes)
    retired: list[tuple[int, str, list[CubeId]]] = []
    systems, computed = _repeating(db, descendants(db, list(asked)))
    for system in systems:
        for (key,) in db.execute("SELECT DISTINCT s.key FROM turns t JOIN scopes s USING (scope) WHERE t.system = ?", (system,)):
            touched[key] = None
        db.execute("UPDATE turns SET system = NULL WHERE system = ?", (system,))
    for cube in descendants(db, [*asked, *computed]):
        found = db.execute(
            "SELECT c.row, c.scope, c.version, c.blob, c.body, c.concept, s.key FROM cubes c JOIN scopes s USING (scope) WHERE c.id = ?",
            (cube,),
        ).fetchone()
        if not found:
            if cube in asked:
                raise NotFound(f"no cube {cube}; it may have been forgotten already")
            continue
        row, scope, version, blob, body, concept, key = found
        head = load(body)
        payload = head.payload
        if isinstance(payload, Activation):
            prefix_keys.append(payload.prefix_key)
        elif isinstance(payload, Parameter) and head.state in (State.ACTIVE, State.STALE) and payload.report and cube not in asked:
            parents = [row[0] for row in db.execute("SELECT parent FROM lineage WHERE child = ?", (cube,))]
            retired.append((scope, str(payload.form), parents))
        touched[key] = None
        for (other,) in db.execute("SELECT DISTINCT s.key FROM placements p JOIN scopes s USING (scope) WHERE p.id = ?", (cube,)):
            touched[other] = None
        reason = change.reason if cube in asked else "derived from a cube that was forgotten"
        seq = audit(db, scope, change.at, change.actor, "forget", cube, version, None, reason)
        db.execute(
            "INSERT INTO tombstones VALUES (?,?,?,?,?,?,?)", (cube, row, seq, scope, change.at.timestamp(), "/".join(change.actor), reason)
        )
        for table, column in (("vectors", "row"), ("grants", "row"), ("keys", "row"), ("cubes", "row")):
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (row,))
        for table, column in (
            ("usage", "id"),
            ("usage_events", "id"),
            ("placements", "id"),
            ("lineage", "child"),
            ("merged", "id"),
        ):
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (cube,))
        agenda.forget(db, cube)
        db.execute("UPDATE versions SET body = NULL WHERE id = ?", (cube,))
        survivors |= dict.fromkeys(untie(db, cube))
        if concept:
            filing.tidy(db, concept)
        images = [name for (name,) in db.execute("SELECT blob FROM images WHERE row = ?", (row,)).fetchall()]
        db.execute("DELETE FROM images WHERE row = ?", (row,))
        for name in [*images, *([blob] if blob is not None else [])]:
            doom(db, name)
        erased.append(cube)
    settle_contested(db, tuple(survivors), change.actor, change.at)
    for scope, _ in scopes:
        for table in ("turns", "placements", "usage_events", "scope_usage"):
            db.execute(f"DELETE FROM {table} WHERE scope = ?", (scope,))
    for scope, form, parents in retired:  # a module with several sources is made again without the erased ones
        if left := [parent for parent in parents if parent not in erased]:
            _queue(db, scope, form, left)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('scrub', randomblob(16))")
    places = tuple(scope_of_key(key) for key in touched)
    return Outcome("erased", erased=tuple(erased), prefix_keys=tuple(prefix_keys), scopes_touched=places)


def _latest(db: sqlite3.Connection, scope: int) -> tuple[str, str] | None:
    """Session and key of a scope's latest turn."""
    return db.execute("SELECT session, key FROM turns WHERE scope = ? ORDER BY at DESC, key, session LIMIT 1", (scope,)).fetchone()  # type: ignore[no-any-return]


def _take(db: sqlite3.Connection, change: Take) -> Outcome:
    scope = scope_ids(db, change.scope)[-1]
    stamp = change.at.timestamp()
    before = _latest(db, scope)
    fresh = db.execute(
        "INSERT OR IGNORE INTO turns VALUES (?,?,?,?,?)", (scope, change.session, change.turn, stamp, change.system)
    ).rowcount
    if not fresh:
        each = []
        for add in change.adds:  # what this turn wrote then; what has been forgotten since stays forgotten
            known = holder(db, add.identity)
            if known is not None:
                each.append(Outcome("merged", (known,)))
        return Outcome("known", each=tuple(each))
    latest = _latest(db, scope)
    for session, turn in {each for each in (before, (change.session, change.turn)) if each is not None and each != latest}:
        # the latest one's system text is all that is needed
        db.execute("UPDATE turns SET system = NULL WHERE scope = ? AND session = ? AND key = ?", (scope, session, turn))
    each = [_add(db, add) for add in change.adds]
    uses.count(db, scope, change)
    for position, (cube, version) in enumerate(change.placed):
        if db.execute("SELECT 1 FROM cubes WHERE id = ?", (cube,)).fetchone():
            db.execute("INSERT INTO placements VALUES (?,?,?,?,?,?)", (scope, change.session, change.turn, position, cube, version))
    return Outcome("taken", each=tuple(each))

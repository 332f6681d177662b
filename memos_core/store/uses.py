"""What use leaves behind, inside a turn's transaction, and read back: per cube, per scope, and what is used together. SQL."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from memos_core.changes import Judge, Take
from memos_core.cube import CubeId, Scope, scope_of_key
from memos_core.lifespan import warmed
from memos_core.store import agenda
from memos_core.store.snapshot import Snapshot

MOST_TASKS = 64
"""Distinct tasks that are told apart per memory."""


@dataclass(frozen=True, slots=True)
class ScopeUsage:
    """How the turns of exactly one scope have used memory: counts (recalls, uses and successes of memories), tokens of prompts and seconds
    saved, and when the last turn was."""

    turns: int = 0
    recalls: int = 0
    uses: int = 0
    successes: int = 0
    tokens_saved: int = 0
    seconds_saved: float = 0.0
    last_used_at: datetime | None = None


def count(db: sqlite3.Connection, scope: int, change: Take) -> None:
    """Write what a turn has used: a handful of statements, whatever the number of uses. The caller owns the transaction."""
    forms, stamp = dict(change.used), change.at.timestamp()
    there = db.execute(
        "SELECT c.id, c.scope, coalesce(k.parent, 0), u.heat_log2, coalesce(u.known_tasks, '[]') FROM json_each(?) j CROSS JOIN cubes c"
        " ON c.id = j.value LEFT JOIN concepts k ON k.concept = c.concept LEFT JOIN usage u ON u.id = c.id",
        (json.dumps(list(forms)),),
    ).fetchall()  # without what was forgotten while the turn was under way
    task = change.task
    if task is None:
        filed = Counter(row[2] for row in there if row[2])
        task = min(filed, key=lambda each: (-filed[each], each)) if filed else 0
    saved = {each.id: (each.tokens, each.seconds) for each in change.saved}
    at, rows = change.at.astimezone(UTC), []
    for id, home, _, heat_log2, known in there:
        tasks = json.loads(known)
        if task and task not in tasks and len(tasks) < MOST_TASKS:
            tasks.append(task)
        answered = id in change.answered
        rows.append(
            (id, home, answered, *saved.get(id, (0, 0.0)), stamp, warmed(heat_log2, at), change.session, len(tasks), json.dumps(tasks))
        )
    db.executemany(
        "INSERT INTO usage (id, scope, recalls, uses, sessions, tasks, known_tasks, tokens_saved, seconds_saved, last_used_at, heat_log2)"
        " VALUES (?1, ?2, 1, ?3, NOT EXISTS (SELECT 1 FROM usage_events WHERE id = ?1 AND session = ?8), ?9, ?10, ?4, ?5, ?6, ?7)"
        " ON CONFLICT (id) DO UPDATE SET scope = excluded.scope, recalls = recalls + 1, uses = uses + excluded.uses,"
        " sessions = sessions + excluded.sessions, tasks = excluded.tasks, known_tasks = excluded.known_tasks,"
        " tokens_saved = tokens_saved + excluded.tokens_saved, seconds_saved = seconds_saved + excluded.seconds_saved,"
        " last_used_at = max(last_used_at, excluded.last_used_at), heat_log2 = excluded.heat_log2",
        rows,
    )
    db.executemany(
        "INSERT INTO usage_events (id, scope, session, turn, form, at, used, task) VALUES (?,?,?,?,?,?,?,?)",
        [(row[0], scope, change.session, change.turn, forms[row[0]], stamp, row[0] in change.answered, task) for row in there],
    )
    credited = sum(row[2] for row in rows)
    for cube in sorted(change.answered - set(forms)):  # it stood there already
        credited += db.execute("UPDATE usage SET uses = uses + 1 WHERE id = ?", (cube,)).rowcount
    db.execute(
        "INSERT INTO scope_usage VALUES (?,1,?,?,0,?,?,?) ON CONFLICT (scope) DO UPDATE SET turns = turns + 1, recalls = recalls + excluded.recalls,"
        " uses = uses + excluded.uses, tokens_saved = tokens_saved + excluded.tokens_saved,"
        " seconds_saved = seconds_saved + excluded.seconds_saved, last_used_at = max(last_used_at, excluded.last_used_at)",
        (scope, len(there), credited, *change.whole, stamp),
    )
    agenda.demand(db, "forms", {scope, *(row[1] for row in there)})


def judge(db: sqlite3.Connection, change: Judge) -> None:
    """Count successes, or take them back."""
    events = [each for cube in change.ids for each in [_event(db, cube, change)] if each is not None]
    credited = [each for each in events if each[4]]
    for seq, cube, scope, success, _ in credited if credited and change.turn is not None else events:
        if bool(success) != change.success:
            step = 1 if change.success else -1
            db.execute("UPDATE usage_events SET success = ? WHERE seq = ?", (change.success, seq))
            db.execute("UPDATE usage SET successes = successes + ? WHERE id = ?", (step, cube))
            db.execute("UPDATE scope_usage SET successes = successes + ? WHERE scope = ?", (step, scope))


def _event(db: sqlite3.Connection, cube: CubeId, change: Judge) -> tuple[int, CubeId, int, int, int] | None:
    """A cube's use in the turn in question, else its latest."""
    where, more = ("AND session = ? AND turn = ?", (change.session, change.turn)) if change.turn is not None else ("", ())
    found: tuple[int, CubeId, int, int, int] | None = db.execute(
        f"SELECT seq, id, scope, success, used FROM usage_events WHERE id = ? {where} ORDER BY at DESC, seq DESC LIMIT 1", (cube, *more)
    ).fetchone()
    return found


# ---------------------------------------------------------------------- reads
def of_scope(view: Snapshot, scope: int) -> ScopeUsage:
    """Usage of one scope, by number."""
    row = view.db.execute(
        "SELECT turns, recalls, uses, successes, tokens_saved, seconds_saved, last_used_at FROM scope_usage WHERE scope = ?", (scope,)
    ).fetchone()
    return replace(ScopeUsage(*row[:6]), last_used_at=datetime.fromtimestamp(row[6], UTC)) if row else ScopeUsage()


def live(view: Snapshot, since: datetime) -> list[tuple[Scope, str]]:
    """Scopes that have had a turn since then and keep activation memory, with the file of each, the latest turn first."""
    rows = view.db.execute(
        "SELECT s.key, c.blob FROM scope_usage u CROSS JOIN scopes s ON s.scope = u.scope CROSS JOIN cubes c ON c.scope = u.scope"
        " WHERE u.last_used_at >= ? AND c.kind <> 'plaintext' AND c.kind = 'activation' AND c.state = 'active' ORDER BY u.last_used_at DESC, c.row",
        (since.timestamp(),),
    )
    return [(scope_of_key(key), blob) for key, blob in rows]


def by_task(view: Snapshot, cube: CubeId) -> dict[int, int]:
    """How often a cube was recalled for each task, by the task's number; 0 for none. Of its latest thousand uses."""
    latest = "SELECT task FROM usage_events WHERE id = ? ORDER BY seq DESC LIMIT 1000"
    return dict(view.db.execute(f"SELECT task, count(*) FROM ({latest}) GROUP BY task", (cube,)).fetchall())


def latest_task(view: Snapshot, cubes: Sequence[CubeId]) -> int | None:
    """The number of the task that one of these was last used for; None where that was for none."""
    latest = "SELECT (SELECT max(seq) FROM usage_events WHERE id = j.value) FROM json_each(?) j"
    row = view.db.execute(
        f"SELECT task FROM usage_events WHERE seq IN ({latest}) ORDER BY seq DESC LIMIT 1", (json.dumps(list(cubes)),)
    ).fetchone()
    return row[0] or None if row else None


def companions(view: Snapshot, cube: CubeId, most: int = 5) -> list[tuple[CubeId, int]]:
    """What was used in the same turns of the same scope as a cube, the most often first: id, turns. Of its latest thousand uses."""
    rows = view.db.execute(
        "SELECT o.id, count(*) FROM (SELECT scope, session, turn FROM usage_events WHERE id = ?1 ORDER BY seq DESC LIMIT 1000) e"
        " JOIN usage_events o ON o.scope = e.scope AND o.session = e.session AND o.turn = e.turn"
        " JOIN cubes c ON c.id = o.id WHERE o.id <> ?1 AND c.kind = 'plaintext' GROUP BY o.id ORDER BY 2 DESC, 1 LIMIT ?2",
        (cube, most),
    )
    return [(row[0], row[1]) for row in rows]

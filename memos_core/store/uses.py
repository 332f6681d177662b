"""What use leaves behind, inside a turn's transaction, and read back: per cube, per scope, and what is used together. SQL."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from memos_core.changes import Judge, Saved, Take
from memos_core.cube import CubeId
from memos_core.lifespan import warmed
from memos_core.store import agenda
from memos_core.store.snapshot import Snapshot


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
    """Write what a turn has used; the caller owns the transaction."""
    homes, task, saved = _homes(db, change), change.task, {each.id: each for each in change.saved}
    if task is None:
        tasks = Counter(task for _, task in homes.values() if task)
        task = min(tasks, key=lambda each: (-tasks[each], each)) if tasks else 0
    for cube, form in change.used:
        if cube in homes:  # not forgotten while the turn was under way
            _use(db, cube, form, homes[cube][0], scope, task, saved.get(cube), change)
    recalled = {cube for cube, _ in change.used}
    for cube in sorted(change.answered - recalled):  # it stood there already
        db.execute("UPDATE usage SET uses = uses + 1 WHERE id = ?", (cube,))
    stamp = change.at.timestamp()
    db.execute(
        "INSERT INTO scope_usage VALUES (?,1,?,?,0,?,?,?) ON CONFLICT (scope) DO UPDATE SET turns = turns + 1, recalls = recalls + excluded.recalls,"
        " uses = uses + excluded.uses, tokens_saved = tokens_saved + excluded.tokens_saved,"
        " seconds_saved = seconds_saved + excluded.seconds_saved, last_used_at = max(last_used_at, excluded.last_used_at)",
        (scope, len(homes), len(change.answered), *change.whole, stamp),
    )
    agenda.demand(db, "forms", {scope, *(home for home, _ in homes.values())})


def _homes(db: sqlite3.Connection, change: Take) -> dict[CubeId, tuple[int, int]]:
    """Scope and task of what was used, of what is still there."""
    found = {}
    for cube, _ in change.used:
        row = db.execute(
            "SELECT c.scope, coalesce(k.parent, 0) FROM cubes c LEFT JOIN concepts k ON k.concept = c.concept WHERE c.id = ?", (cube,)
        ).fetchone()
        if row:
            found[cube] = row
    return found


def _use(db: sqlite3.Connection, cube: CubeId, form: str, home: int, scope: int, task: int, saved: Saved | None, change: Take) -> None:
    answered, stamp = cube in change.answered, change.at.timestamp()
    tokens, seconds = (saved.tokens, saved.seconds) if saved is not None else (0, 0.0)
    again = db.execute("SELECT 1 FROM usage_events WHERE id = ? AND session = ? LIMIT 1", (cube, change.session)).fetchone()
    known = task == 0 or db.execute("SELECT 1 FROM usage_events WHERE id = ? AND task = ? AND task <> 0 LIMIT 1", (cube, task)).fetchone()
    db.execute(
        "INSERT INTO usage_events (id, scope, session, turn, form, at, used, task) VALUES (?,?,?,?,?,?,?,?)",
        (cube, scope, change.session, change.turn, form, stamp, answered, task),
    )
    row = db.execute("SELECT heat_log2 FROM usage WHERE id = ?", (cube,)).fetchone()
    db.execute(
        "INSERT INTO usage (id, scope, recalls, uses, sessions, tasks, tokens_saved, seconds_saved, last_used_at, heat_log2)"
        " VALUES (?,?,1,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET scope = excluded.scope, recalls = recalls + 1, uses = uses + excluded.uses,"
        " sessions = sessions + excluded.sessions, tasks = tasks + excluded.tasks, tokens_saved = tokens_saved + excluded.tokens_saved,"
        " seconds_saved = seconds_saved + excluded.seconds_saved, last_used_at = max(last_used_at, excluded.last_used_at),"
        " heat_log2 = excluded.heat_log2",
        (
            cube, home, answered, 0 if again else 1, 0 if known else 1, tokens, seconds, stamp,
            warmed(row[0] if row else None, change.at.astimezone(UTC)),
        ),
    )  # fmt: skip


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


def live(view: Snapshot, since: datetime) -> list[int]:
    """Scopes that have had a turn since then, by number, the latest first."""
    rows = view.db.execute("SELECT scope FROM scope_usage WHERE last_used_at >= ? ORDER BY last_used_at DESC", (since.timestamp(),))
    return [row[0] for row in rows]


def by_task(view: Snapshot, cube: CubeId) -> dict[int, int]:
    """How often a cube was recalled for each task, by the task's number; 0 for none."""
    return dict(view.db.execute("SELECT task, count(*) FROM usage_events WHERE id = ? GROUP BY task", (cube,)).fetchall())


def companions(view: Snapshot, cube: CubeId, most: int = 5) -> list[tuple[CubeId, int]]:
    """What was used in the same turns of the same scope as a cube, the most often first: id, turns. Of its latest thousand uses."""
    rows = view.db.execute(
        "SELECT o.id, count(*) FROM (SELECT scope, session, turn FROM usage_events WHERE id = ?1 ORDER BY seq DESC LIMIT 1000) e"
        " JOIN usage_events o ON o.scope = e.scope AND o.session = e.session AND o.turn = e.turn"
        " JOIN cubes c ON c.id = o.id WHERE o.id <> ?1 AND c.kind = 'plaintext' GROUP BY o.id ORDER BY 2 DESC, 1 LIMIT ?2",
        (cube, most),
    )
    return [(row[0], row[1]) for row in rows]

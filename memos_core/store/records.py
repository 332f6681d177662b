"""What has become of memories: conflicts, lineage, earlier versions, budgets and what they weigh; what was said. SQL reads only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from memos_core.conflict.resolution import Conflict, Resolution
from memos_core.cube import CubeId, MemCube, Scope, State, entry_key, scope_key, scope_of_key
from memos_core.lifespan import halvings
from memos_core.policy import Budget, Fading
from memos_core.recall.pairs import Pair
from memos_core.store.chains import commitment, load
from memos_core.store.shelves import Authorised
from memos_core.store.snapshot import Snapshot, below

_READABLE = "({0}.scope IN (SELECT value FROM json_each(?)) OR {0}.row IN (SELECT value FROM json_each(?)))"
_READABLE_2_3 = "({0}.scope IN (SELECT value FROM json_each(?2)) OR {0}.row IN (SELECT value FROM json_each(?3)))"
_LIVE = "c.state IN ('active', 'contested', 'superseded') AND (c.expires_at IS NULL OR c.expires_at > ?)"
_RENEWED = "('update', 'restore', 'rollback')"
"""Changes after which a memory counts as new: somebody has just cared for it."""


def _arguments(authorised: Authorised) -> tuple[str, str]:
    return json.dumps(authorised.scopes), json.dumps(authorised.rows)


def conflicts(view: Snapshot, authorised: Authorised, now: datetime) -> list[Conflict]:
    """What stands against what, both sides readable: undecided ones first, then the latest."""
    mine = _arguments(authorised)
    rows = view.db.execute(
        "SELECT r.older, r.newer, r.kind, r.confidence, r.resolution, r.why, r.at FROM relations r JOIN cubes o ON o.id = r.older"
        f" JOIN cubes n ON n.id = r.newer WHERE {_READABLE.format('o')} AND {_READABLE.format('n')}"
        " ORDER BY r.resolution <> 'open', r.at DESC, n.row DESC, o.row DESC",
        (*mine, *mine),
    ).fetchall()
    heads = view.heads(list({id for row in rows for id in row[:2]}), now)
    return [
        Conflict(heads[older], heads[newer], kind, confidence, Resolution(resolution), why, datetime.fromtimestamp(at, UTC))
        for older, newer, kind, confidence, resolution, why, at in rows
    ]


def pairs_of(view: Snapshot, authorised: Authorised, ids: Sequence[CubeId], updates: bool) -> list[Pair]:
    """What some cubes replace, are replaced by or contradict, as far as both may be read: in the order of the ids.

    updates: also what updates a part of another that holds for the rest.
    """
    if not ids:
        return []
    mine = _arguments(authorised)
    rows = view.db.execute(
        "SELECT r.older, r.newer, r.kind, r.resolution, r.why FROM relations r JOIN cubes o ON o.id = r.older JOIN cubes n ON n.id = r.newer"
        " WHERE (r.older IN (SELECT value FROM json_each(?1)) OR r.newer IN (SELECT value FROM json_each(?1)))"
        f" AND (r.resolution IN ('open', 'superseded') OR (?4 AND r.kind = 'updates')) AND {_READABLE_2_3.format('o')} AND {_READABLE_2_3.format('n')}",
        (json.dumps(list(ids)), *mine, updates),
    ).fetchall()
    place = {id: number for number, id in enumerate(ids)}
    rows.sort(key=lambda row: (min(place.get(row[0], len(ids)), place.get(row[1], len(ids))), row[0], row[1]))
    return [Pair(older, newer, resolution != "open", why) for older, newer, _, resolution, why in rows]


def extracted(view: Snapshot, ids: Sequence[CubeId]) -> dict[CubeId, CubeId]:
    """Facts among some cubes that a model read out of a message: fact to message."""
    rows = view.db.execute(
        "SELECT child, parent FROM lineage WHERE relation = 'extracted from' AND child IN (SELECT value FROM json_each(?)) ORDER BY child, parent DESC",
        (json.dumps(list(ids)),),
    )
    return dict(rows.fetchall())


def conflict(view: Snapshot, older: CubeId, newer: CubeId, now: datetime) -> Conflict | None:
    """What one pair has to do with each other."""
    row = view.db.execute(
        "SELECT kind, confidence, resolution, why, at FROM relations WHERE older = ? AND newer = ?", (older, newer)
    ).fetchone()
    if not row:
        return None
    heads, (kind, confidence, resolution, why, at) = view.heads([older, newer], now), row
    return Conflict(heads[older], heads[newer], kind, confidence, Resolution(resolution), why, datetime.fromtimestamp(at, UTC))


def edges(view: Snapshot, id: CubeId) -> list[tuple[CubeId, CubeId, str]]:
    """What a cube came from and what came from it, one step each way: (source, result, how)."""
    return [
        (source, result, how)
        for source, result, how in view.db.execute(
            "SELECT parent, child, relation FROM lineage WHERE child = ? OR parent = ? UNION"
            " SELECT older, newer, 'superseded by' FROM relations WHERE resolution = 'superseded' AND (older = ? OR newer = ?) ORDER BY 1, 2, 3",
            (id, id, id, id),
        )
    ]


def changed_after(view: Snapshot, authorised: Authorised, at: datetime) -> Iterator[tuple[int, MemCube, list[MemCube]]]:
    """Plaintext cubes said by a time and changed after it: row, head, and all versions, oldest first."""
    rows = view.db.execute(
        "SELECT c.row, c.id, c.body FROM cubes c JOIN versions v ON v.id = c.id AND v.version = c.version"
        f" WHERE c.version > 1 AND c.kind = 'plaintext' AND v.at > ? AND c.occurred_at <= ? AND {_READABLE.format('c')}",
        (at.timestamp(), at.timestamp(), *_arguments(authorised)),
    ).fetchall()
    for row, id, body in rows:
        versions = view.db.execute("SELECT body FROM versions WHERE id = ? ORDER BY version", (id,))
        yield row, load(body), [load(version[0]) for version in versions]


# ---------------------------------------------------------------------- budgets
def budgets(view: Snapshot) -> list[tuple[Scope, Budget]]:
    """All budgets, the deepest scopes first."""
    rows = view.db.execute("SELECT s.key, b.facts, b.bytes, b.strength, b.erase_after FROM budgets b JOIN scopes s USING (scope)")
    found = [
        (scope_of_key(key), Budget(facts, size, strength, None if after is None else timedelta(seconds=after)))
        for key, facts, size, strength, after in rows
    ]
    return sorted(found, key=lambda each: (-len(each[0]), each[0]))


def fading(view: Snapshot, scope: Scope, now: datetime) -> Fading:
    """The plaintext at or below a scope that recall may show, with what its strength comes from."""
    rows = view.db.execute(
        "SELECT c.id, c.occurred_at, c.priority, c.state = 'contested', length(CAST(json_extract(CAST(c.body AS TEXT), '$.payload.text') AS BLOB)),"
        " coalesce(json_extract(CAST(c.body AS TEXT), '$.identifiers.mentions'), 1), coalesce(u.recalls, 0), coalesce(u.last_used_at, c.occurred_at),"
        f" iif(c.version > 1 AND v.action IN {_RENEWED}, v.at, c.occurred_at) FROM scopes s CROSS JOIN cubes c ON c.scope = s.scope"
        " JOIN versions v ON v.id = c.id AND v.version = c.version LEFT JOIN usage u ON u.id = c.id"
        " WHERE s.key >= ? AND s.key < ? AND c.kind = 'plaintext' AND c.state IN ('active', 'contested', 'superseded')"
        " AND (c.expires_at IS NULL OR c.expires_at > ?) ORDER BY c.row",
        (*below(scope), now.timestamp()),
    ).fetchall()
    ids = [row[0] for row in rows]
    said, priority, contested, size, mentions, recalls, used, renewed = (
        np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 8).T
    )
    age = np.maximum(now.timestamp() - np.maximum(np.maximum(said, used), renewed), 0.0)
    uses = recalls + mentions - 1
    return Fading(
        ids, halvings(age, uses, priority), halvings(1.0, uses, priority), said, size.astype(np.int64), (contested > 0) | (priority >= 1)
    )


def archived_before(view: Snapshot, scope: Scope, before: datetime) -> list[CubeId]:
    """Plaintext at or below a scope that the scheduler archived by a time, and that nobody has touched since."""
    rows = view.db.execute(
        "SELECT c.id FROM scopes s CROSS JOIN cubes c ON c.scope = s.scope JOIN versions v ON v.id = c.id AND v.version = c.version"
        " WHERE s.key >= ? AND s.key < ? AND c.kind = 'plaintext' AND c.state = 'archived' AND v.action IN ('archive', 'expire') AND v.at <= ?"
        " ORDER BY c.row",
        (*below(scope), before.timestamp()),
    )
    return [row[0] for row in rows]


def first_archived(view: Snapshot, scope: Scope) -> datetime | None:
    """When the first of what `archived_before` would find was archived."""
    (at,) = view.db.execute(
        "SELECT min(v.at) FROM scopes s CROSS JOIN cubes c ON c.scope = s.scope JOIN versions v ON v.id = c.id AND v.version = c.version"
        " WHERE s.key >= ? AND s.key < ? AND c.kind = 'plaintext' AND c.state = 'archived' AND v.action IN ('archive', 'expire')",
        below(scope),
    ).fetchone()
    return None if at is None else datetime.fromtimestamp(at, UTC)


# ---------------------------------------------------------------------- what is said again and again
LONGEST_LOG = 5_000
"""The newest messages of a scope that are looked at."""


def log(view: Snapshot, scope: int) -> list[tuple[CubeId, int, str, str, str]]:
    """The newest messages of users and assistants in exactly this scope, merged ones included, oldest first: id, version, role, session,
    text."""
    text = "json_extract(CAST({0}.body AS TEXT), '$.payload.text'), json_extract(CAST({0}.body AS TEXT), '$.identifiers.role')"
    rows = view.db.execute(
        f"SELECT c.id, c.version, coalesce(c.session, ''), {text.format('c')}, c.row AS place, 0 AS later FROM cubes c"
        " WHERE c.scope = ?1 AND c.kind = 'plaintext' AND c.role IS NOT NULL AND c.state IN ('active', 'contested', 'superseded')"
        f" UNION ALL SELECT m.id, c.version, coalesce(m.session, ''), {text.format('m')}, m.after, m.seq FROM merged m JOIN cubes c ON c.id = m.id"
        " WHERE m.scope = ?1 AND c.state IN ('active', 'contested', 'superseded') ORDER BY place DESC, later DESC LIMIT ?2",
        (scope, LONGEST_LOG),
    ).fetchall()
    return [(id, version, role, session, said) for id, version, session, said, role, *_ in reversed(rows) if role in ("user", "assistant")]


def derivations(view: Snapshot, scope: int, relation: str) -> list[frozenset[CubeId]]:
    """What each cube of a scope that came about in this way came from."""
    rows = view.db.execute(
        "SELECT l.child, l.parent FROM lineage l JOIN cubes c ON c.id = l.child WHERE c.scope = ? AND l.relation = ? ORDER BY l.child",
        (scope, relation),
    )
    found: dict[CubeId, set[CubeId]] = {}
    for child, parent in rows:
        found.setdefault(child, set()).add(parent)
    return [frozenset(parents) for parents in found.values()]


def in_state(view: Snapshot, state: State, relation: str, now: datetime) -> list[MemCube]:
    """Cubes in a state that came about in this way, oldest first."""
    rows = view.db.execute(
        "SELECT c.id FROM cubes c WHERE c.state = ? AND EXISTS (SELECT 1 FROM lineage l WHERE l.child = c.id AND l.relation = ?) ORDER BY c.row",
        (str(state), relation),
    )
    ids = [row[0] for row in rows]
    heads = view.heads(ids, now)
    return [heads[id] for id in ids]


def sources(view: Snapshot, child: CubeId, relation: str, now: datetime) -> list[MemCube]:
    """What a cube came from in this way, oldest first."""
    rows = view.db.execute("SELECT parent FROM lineage WHERE child = ? AND relation = ?", (child, relation)).fetchall()
    return sorted(view.heads([row[0] for row in rows], now).values(), key=lambda cube: cube.id)


# ---------------------------------------------------------------------- checks
def broken_merges(view: Snapshot) -> Iterator[str]:
    """Merged messages that are not what was merged."""
    for seq, id, body, committed, key, detail in view.db.execute(
        "SELECT m.seq, m.id, m.body, m.commitment, c.key, a.detail FROM merged m LEFT JOIN cubes c ON c.id = m.id LEFT JOIN audit a ON a.seq = m.seq"
    ):
        if key is None or detail != committed.hex() or commitment(key, body) != committed:
            yield f"message {seq} merged into cube {id} has been altered"


def searchable(view: Snapshot) -> int:
    """How many memories the index has to hold: all plaintext, but for entries that are not to be found by search."""
    query = (
        "SELECT count(*) FROM cubes c WHERE c.kind = 'plaintext' AND"
        " (c.entry_key IS NULL OR EXISTS (SELECT 1 FROM vectors v WHERE v.row = c.row))"
    )
    return int(view.db.execute(query).fetchone()[0])


# ---------------------------------------------------------------------- entries
_IN_COLLECTION = "c.entry_key IS NOT NULL AND c.entry_key >= ? AND c.entry_key < ?"


def _keys_of(collection: str) -> tuple[str, str]:
    """Bounds of the keys of a collection."""
    first = entry_key(collection, "")
    return first, first[:-1] + " "  # the character after the separator


def entry_ids(view: Snapshot, collection: str, keys: Sequence[tuple[Scope, str]]) -> dict[tuple[Scope, str], tuple[CubeId, bool]]:
    """The cubes that a collection keeps under these keys, in whatever state; and whether each is searched."""
    found = {}
    for scope, key in keys:
        row = view.db.execute(
            "SELECT c.id, EXISTS (SELECT 1 FROM vectors v WHERE v.row = c.row) FROM cubes c JOIN scopes s USING (scope)"
            " WHERE s.key = ? AND c.entry_key = ?",
            (scope_key(scope), entry_key(collection, key)),
        ).fetchone()
        if row:
            found[scope, key] = (row[0], bool(row[1]))
    return found


def entry_rows(view: Snapshot, collection: str, authorised: Authorised, now: datetime) -> list[int]:
    """Rows of the entries of a collection that an actor may read and recall may show, in the order in which they were first written."""
    rows = view.db.execute(
        f"SELECT c.row FROM cubes c WHERE {_IN_COLLECTION} AND {_LIVE} AND {_READABLE.format('c')} ORDER BY c.row",
        (*_keys_of(collection), now.timestamp(), *_arguments(authorised)),
    )
    return [row[0] for row in rows]


def entry_records(view: Snapshot, rows: Sequence[int]) -> dict[int, str | None]:
    """What is kept beside some entries, by row."""
    query = "SELECT row, json_extract(CAST(body AS TEXT), '$.payload.record') FROM cubes WHERE row IN (SELECT value FROM json_each(?))"
    return dict(view.db.execute(query, (json.dumps(list(rows)),)).fetchall())


def entry_scopes(view: Snapshot, collection: str, authorised: Authorised, now: datetime) -> list[Scope]:
    """The scopes of such entries, each once."""
    rows = view.db.execute(
        "SELECT s.key FROM scopes s WHERE EXISTS (SELECT 1 FROM cubes c WHERE c.scope = s.scope"
        f" AND {_IN_COLLECTION} AND {_LIVE} AND {_READABLE.format('c')})",
        (*_keys_of(collection), now.timestamp(), *_arguments(authorised)),
    )
    return sorted(scope_of_key(row[0]) for row in rows)

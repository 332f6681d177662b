"""What an archive takes out of a store: the rows of some scopes, table by table, in the columns of `archive.shapes`. SQL reads only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from memos_core.cube import CubeId, Scope, scope_of_key
from memos_core.store.snapshot import Snapshot, below

_CUBES = "SELECT id FROM cubes WHERE scope IN (SELECT value FROM json_each(:scopes)) AND (:computed OR kind = 'plaintext')"
_HERE = "IN (SELECT value FROM json_each(:scopes))"
_ERASED = f"SELECT id FROM tombstones WHERE scope {_HERE}"

# each reads a table's columns in order, the scope as its number
_QUERIES = {
    "versions": "SELECT v.id, v.version, v.at, v.actor, v.action, CAST(v.body AS TEXT), v.commitment, v.hash FROM cubes c JOIN versions v"
    f" ON v.id = c.id WHERE c.id IN ({_CUBES}) UNION ALL SELECT id, version, at, actor, action, NULL, commitment, hash FROM versions"
    f" WHERE id IN ({_ERASED}) ORDER BY 1, 2",
    "audit": f"SELECT seq, scope, position, at, actor, action, id, version, commitment, detail, hash FROM audit WHERE scope {_HERE} ORDER BY seq",
    "tombstones": f"SELECT id, seq, scope, at, actor, reason FROM tombstones WHERE scope {_HERE} ORDER BY seq, id",
    "lineage": f"SELECT child, parent, relation, parent_version FROM lineage WHERE child IN ({_CUBES}) AND parent IN ({_CUBES}) ORDER BY 1, 2, 3",
    "images": f"SELECT c.id, i.blob FROM images i JOIN cubes c USING (row) WHERE c.id IN ({_CUBES}) ORDER BY c.row, i.blob",
    "concepts": f"SELECT concept, scope, parent, given, label, labelled, seq FROM concepts WHERE scope {_HERE} ORDER BY parent <> 0, concept",
    "relations": "SELECT older, newer, kind, confidence, why, resolution, at FROM relations"
    f" WHERE older IN ({_CUBES}) AND newer IN ({_CUBES}) ORDER BY 1, 2",
    "merged": "SELECT seq, id, identity, scope, session, after, CAST(body AS TEXT), commitment FROM merged"
    f" WHERE id IN ({_CUBES}) ORDER BY seq",
    "turns": f"SELECT scope, session, key, at, system FROM turns WHERE scope {_HERE} ORDER BY at, session, key",
    "placements": "SELECT scope, session, turn, position, id, version FROM placements"
    f" WHERE scope {_HERE} AND id IN ({_CUBES}) ORDER BY 1, 2, 3, 4",
    "uses": f"SELECT id, scope, session, turn, form, at, used, task, success FROM usage_events WHERE scope {_HERE} AND id IN ({_CUBES}) ORDER BY seq",
    "usage": "SELECT id, scope, recalls, sessions, last_used_at, heat_log2, uses, successes, tasks, known_tasks, tokens_saved, seconds_saved"
    f" FROM usage WHERE id IN ({_CUBES}) ORDER BY id",
    "scope_usage": "SELECT scope, turns, recalls, uses, successes, tokens_saved, seconds_saved, last_used_at FROM scope_usage"
    f" WHERE scope {_HERE} ORDER BY 1",
    "budgets": f"SELECT scope, facts, bytes, strength, erase_after FROM budgets WHERE scope {_HERE} ORDER BY 1",
    "retraining": f"SELECT scope, form, ids, reason, seconds FROM retraining WHERE scope {_HERE} AND :computed ORDER BY number",
    "moves": f"SELECT number, at, kind, scope, reason, made, estimated FROM moves WHERE scope {_HERE} ORDER BY number",
    "moved": f"SELECT id, number FROM moved WHERE number IN (SELECT number FROM moves WHERE scope {_HERE}) ORDER BY number, id",
}  # fmt: skip
_SCOPE_AT = {"audit": 1, "tombstones": 2, "concepts": 1, "merged": 3, "turns": 0, "placements": 0, "uses": 1, "usage": 1, "scope_usage": 0,
             "budgets": 0, "retraining": 0, "moves": 3}  # fmt: skip


class Dump:
    """The rows of a scope and all below it, or of everything. computed: also of KV, states and modules."""

    def __init__(self, view: Snapshot, scope: Scope | None, computed: bool) -> None:
        self.view = view
        low, high = below(scope) if scope is not None else ("", "\U0010ffff")
        found = view.db.execute("SELECT scope, key FROM scopes WHERE key >= ? AND key < ? ORDER BY key", (low, high))
        self.names: dict[int, Scope] = {number: scope_of_key(key) for number, key in found}
        self._arguments = {"scopes": json.dumps(list(self.names)), "computed": computed}

    def cubes(self) -> Iterator[tuple[int, CubeId, Scope, int, int, bytes, bytes | None, int | None]]:
        """Row, id, scope, seq, concept, key, identity's digest, the vector's seq; in the order in which they were written."""
        rows = self.view.db.execute(
            "SELECT c.row, c.id, c.scope, c.seq, c.concept, c.key, c.identity, v.seq FROM cubes c LEFT JOIN vectors v ON v.row = c.row"
            f" WHERE c.id IN ({_CUBES}) ORDER BY c.row",
            self._arguments,
        )
        for row, id, scope, *rest in rows:
            yield row, id, self.names[scope], *rest

    def size(self) -> int:
        """How many cubes there are."""
        return int(self.view.db.execute(f"SELECT count(*) FROM ({_CUBES})", self._arguments).fetchone()[0])

    def first_body(self, id: CubeId) -> bytes:
        """A cube as it was written first."""
        return bytes(self.view.db.execute("SELECT body FROM versions WHERE id = ? AND version = 1", (id,)).fetchone()[0])

    def parents(self, id: CubeId, relation: str) -> list[tuple[CubeId, bytes | None]]:
        """What a cube came from in this way, with the digest of each one's identity."""
        return self.view.db.execute(
            "SELECT c.id, c.identity FROM lineage l JOIN cubes c ON c.id = l.parent WHERE l.child = ? AND l.relation = ?", (id, relation)
        ).fetchall()

    def vectors(self) -> Iterator[bytes]:
        """float32 [d] of each cube that has one, in the order of `cubes`."""
        rows = self.view.db.execute(
            f"SELECT v.vector FROM cubes c JOIN vectors v ON v.row = c.row WHERE c.id IN ({_CUBES}) ORDER BY c.row", self._arguments
        )
        return (row[0] for row in rows)

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a table other than `cubes`, scopes by name."""
        place = _SCOPE_AT.get(table)
        for row in self.view.db.execute(_QUERIES[table], self._arguments):
            yield row if place is None else (*row[:place], self.names[row[place]], *row[place + 1 :])

    def blobs(self) -> list[str]:
        """The files that belong to it; of archived KV and modules there are none any more."""
        rows = self.view.db.execute(
            f"SELECT blob FROM cubes WHERE id IN ({_CUBES}) AND blob IS NOT NULL AND state <> 'archived'"
            f" UNION SELECT i.blob FROM images i JOIN cubes c USING (row) WHERE c.id IN ({_CUBES}) ORDER BY 1",
            self._arguments,
        )
        return [row[0] for row in rows]

"""What an archive holds, taken into a store inside a transaction: what is new, what has gone on, and nothing that was forgotten here. SQL writes.

The version chain of a cube is taken as it is, key included: the same history, with the same hashes. A scope's audit log is one chain of what
happened there, so the archive's is taken whole where the scope has none here yet, and goes on with one entry that says who imported it. Where it
has one, that stays, and each version that comes gets an entry `import`: two chains cannot be interleaved without hashing one of them anew.
What belongs to a scope as a whole (its budget, usage, moves, queue) comes with the log.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from memos_core.changes import Arrive, Imported
from memos_core.conflict.resolution import Related, Resolution
from memos_core.cube import CubeId, MemCube, Scope, State, blob_of, entry_key
from memos_core.store import agenda
from memos_core.store.chains import HEAD_COLUMNS, audit, head_columns, scope_ids
from memos_core.store.disputes import relate, settle_contested
from memos_core.store.pieces import doom, hide, holder, write_grants, write_searchable


def arrive(db: sqlite3.Connection, change: Arrive) -> Imported:
    """Write what is new of an archive; the caller owns the transaction. The same archive again changes nothing."""
    return _Arrival(db, change).done()


def with_derived(ids: Iterable[CubeId], lineage: Iterable[Any]) -> set[CubeId]:
    """Cubes and all that was derived from them. lineage: rows with `child` and `parent`."""
    children = defaultdict(list)
    for row in lineage:
        children[row.parent].append(row.child)
    waiting = list(ids)
    found = set(waiting)
    while waiting:
        new = [child for child in children[waiting.pop()] if child not in found]
        found.update(new)
        waiting += new
    return found


class _Arrival:
    def __init__(self, db: sqlite3.Connection, change: Arrive) -> None:
        self.db, self.change, self.tables = db, change, change.tables
        self.fresh: dict[CubeId, int] = {}  # id -> row here
        self.rows: dict[int, int] = {}  # row there -> row here
        self.grown: list[CubeId] = []
        self.known: set[CubeId] = set()
        self.same: dict[CubeId, CubeId] = {}
        self.differing: list[CubeId] = []
        self.unfounded: list[CubeId] = []
        self.seqs: dict[int, int] = {}  # entries of adopted logs, there -> here
        self.entries: dict[tuple[CubeId, int], int] = {}  # entries written for single versions
        self.adopted: set[Scope] = set()

    def done(self) -> Imported:
        erased_here = self._erased_here()
        self._adopt_logs()
        self._concepts()
        for cube in self.tables["cubes"]:
            if cube.id not in self.forgotten:
                self._cube(cube)
        self._tombstones(erased_here)
        self._belongings()
        self._relations()
        self._turns()
        self._scopes()
        change = self.change
        return Imported(
            added=tuple(self.fresh),
            grown=tuple(self.grown),
            known=len(self.known),
            same=tuple(self.same.items()),
            forgotten=tuple(cube.id for cube in self.tables["cubes"] if cube.id in self.forgotten),
            differing=tuple(self.differing),
            forgotten_there=tuple(row.id for row in self.tables["tombstones"] if self._here(row.id)),
            unfounded=tuple(self.unfounded),
            unrecognised=tuple(
                cube.id
                for cube in self.tables["cubes"]
                if cube.id in self.fresh and change.heads[cube.id].payload.kind == "plaintext" and change.identities.get(cube.id) is None
            ),
            embedded=change.embedded and any(id in change.searchables for id in (*self.fresh, *self.grown)),
        )

    # ------------------------------------------------------------------ what may come
    def _here(self, id: CubeId) -> bool:
        return self.db.execute("SELECT 1 FROM cubes WHERE id = ?", (id,)).fetchone() is not None

    def _key_taken(self, scope: Scope, head: MemCube) -> bool:
        """Whether another entry is kept here under the key of this one."""
        said = head.identifiers
        taken = (self._number(scope), entry_key(said.collection or "", said.key or ""))
        found = said.key and self.db.execute("SELECT 1 FROM cubes WHERE scope = ? AND entry_key = ?", taken).fetchone()
        return bool(found)

    def _erased_here(self) -> set[CubeId]:
        there = [row.id for rows in (self.tables["cubes"], self.tables["tombstones"]) for row in rows]
        return {id for id in there if self.db.execute("SELECT 1 FROM tombstones WHERE id = ?", (id,)).fetchone()}

    @cached_property
    def forgotten(self) -> set[CubeId]:
        """Cubes that were forgotten here, and all that was derived from them there: `forget` would have taken it too."""
        return with_derived(self._erased_here(), self.tables["lineage"])

    @cached_property
    def parents(self) -> dict[CubeId, list[CubeId]]:
        found = defaultdict(list)
        for row in self.tables["lineage"]:
            found[row.child].append(row.parent)
        return found

    # ------------------------------------------------------------------ logs and concepts
    def _number(self, scope: Scope) -> int:
        return scope_ids(self.db, scope)[-1]

    def _adopt_logs(self) -> None:
        """The audit logs of scopes that have none here, as they are."""
        db, lengths = self.db, {}
        for scope in dict.fromkeys(row.scope for row in self.tables["audit"]):
            (length,) = db.execute("SELECT length FROM scopes WHERE scope = ?", (self._number(scope),)).fetchone()
            if not length:
                self.adopted.add(scope)
        for row in self.tables["audit"]:
            if row.scope in self.adopted:
                number = self._number(row.scope)
                seq = db.execute(
                    "INSERT INTO audit (scope, position, at, actor, action, id, version, commitment, detail, hash) VALUES (?,?,?,?,?,?,?,?,?,?)",
                    (number, row.position, row.at, row.actor, row.action, row.id, row.version, row.commitment, row.detail, row.hash),
                ).lastrowid
                self.seqs[row.seq] = int(seq or 0)
                lengths[number] = (row.position, row.hash)
        db.executemany("UPDATE scopes SET length = ?, hash = ? WHERE scope = ?", [(*ends, number) for number, ends in lengths.items()])

    def _entry(self, scope: Scope, row: Any) -> int:
        """The entry of the log here that stands for a version: of an adopted log the one it had, else a new one."""
        if scope not in self.adopted:
            detail = self.change.details.get((row.id, row.version), "")
            number = self._number(scope)
            self.entries[row.id, row.version] = audit(
                self.db, number, self.change.at, self.change.actor, "import", row.id, row.version, row.commitment, detail
            )
            return self.entries[row.id, row.version]
        return 0

    def _concepts(self) -> None:
        """Tasks and concepts; those that nothing is filed under in the end go again."""
        self.db.executemany(
            "INSERT OR IGNORE INTO concepts (concept, scope, parent, given, label, labelled, seq) VALUES (?,?,?,?,?,?,?)",
            [
                (row.concept, self._number(row.scope), row.parent, row.given, row.label, row.labelled, self.seqs.get(row.seq, 0))
                for row in self.tables["concepts"]
            ],
        )

    # ------------------------------------------------------------------ cubes
    def _cube(self, cube: Any) -> None:
        head, versions = self.change.heads[cube.id], self.change.versions[cube.id]
        if self._here(cube.id):
            self._go_on(cube, head, versions)
            return
        digest = self.change.identities.get(cube.id)
        told = holder(self.db, digest) if digest is not None else None
        if told is not None:
            self.same[cube.id] = told.id
            return
        if self._key_taken(cube.scope, head):
            self.differing.append(cube.id)
            return
        if head.payload.kind != "plaintext" and any(id not in self.fresh and id not in self.known for id in self.parents.get(cube.id, ())):
            self.unfounded.append(cube.id)
            return
        self._versions(cube.scope, versions)
        seq = self.seqs.get(cube.seq) or self.entries.get((cube.id, versions[-1].version), 0)
        columns = (*HEAD_COLUMNS, "id", "key", "identity", "concept")
        values = (*head_columns(head, self._number(cube.scope), seq, versions[-1].body.encode()), cube.id, cube.key, digest, cube.concept)
        row = self.db.execute(f"INSERT INTO cubes ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", values).lastrowid
        assert row is not None
        self.fresh[cube.id] = self.rows[cube.row] = row
        self._searchable(cube, row, self.seqs.get(cube.vector or 0) or seq)
        write_grants(self.db, row, head)
        self._keep_blob(head)

    def _go_on(self, cube: Any, head: MemCube, versions: Any) -> None:
        """A cube that is here: as it is there, further, behind, or gone another way."""
        db = self.db
        ours = [row[0] for row in db.execute("SELECT hash FROM versions WHERE id = ? ORDER BY version", (cube.id,))]
        theirs = [row.hash for row in versions]
        row, scope, blob = db.execute("SELECT row, scope, blob FROM cubes WHERE id = ?", (cube.id,)).fetchone()
        both = min(len(ours), len(theirs))
        if ours[:both] != theirs[:both] or scope != self._number(cube.scope):
            self.differing.append(cube.id)
            return
        self.known.add(cube.id)
        self.rows[cube.row] = row
        if len(theirs) <= len(ours):
            return
        self.known.discard(cube.id)
        self.grown.append(cube.id)
        self._versions(cube.scope, versions[len(ours) :])
        seq = self.entries.get((cube.id, versions[-1].version), 0)
        columns = ", ".join(f"{column} = ?" for column in (*HEAD_COLUMNS, "concept"))
        values = (*head_columns(head, scope, seq, versions[-1].body.encode()), cube.concept)
        db.execute(f"UPDATE cubes SET {columns} WHERE row = ?", (*values, row))
        self._searchable(cube, row, seq)
        db.execute("DELETE FROM grants WHERE row = ?", (row,))
        write_grants(db, row, head)
        self._keep_blob(head)
        if blob is not None and (blob_of(head.payload) is None or head.state is State.ARCHIVED):
            doom(db, blob)

    def _versions(self, scope: Scope, versions: Any) -> None:
        for row in versions:
            body = None if row.body is None else row.body.encode()
            self.db.execute(
                "INSERT INTO versions VALUES (?,?,?,?,?,?,?,?)",
                (row.id, row.version, row.at, row.actor, row.action, body, row.commitment, row.hash),
            )
            self._entry(scope, row)

    def _searchable(self, cube: Any, row: int, seq: int) -> None:
        found = self.change.searchables.get(cube.id)
        if found is not None:
            write_searchable(self.db, row, self._number(cube.scope), seq, found)
        elif self.change.heads[cube.id].identifiers.key is not None:
            hide(self.db, row)

    def _keep_blob(self, head: MemCube) -> None:
        if (blob := blob_of(head.payload)) is not None and head.state is not State.ARCHIVED:
            self.db.execute("DELETE FROM doomed WHERE blob = ?", (blob,))

    # ------------------------------------------------------------------ what belongs to cubes
    def _tombstones(self, erased_here: set[CubeId]) -> None:
        """What was forgotten there is not to come from an older archive: its tombstone comes, unless it is still here."""
        for row in self.tables["tombstones"]:
            if row.id in erased_here or self._here(row.id):
                continue
            number = self._number(row.scope)
            self._versions(row.scope, self.change.versions.get(row.id, ()))
            seq = self.seqs.get(row.seq) or audit(
                self.db, number, self.change.at, self.change.actor, "import", row.id, detail="forgotten there"
            )
            self.db.execute("INSERT INTO tombstones VALUES (?,?,?,?,?,?,?)", (row.id, 0, seq, number, row.at, row.actor, row.reason))

    def _belongings(self) -> None:
        db, there = self.db, {*self.fresh, *self.grown}
        arrived = there | self.known
        for row in self.tables["lineage"]:
            parent = self.same.get(row.parent, row.parent)
            if row.child in there and (parent in arrived or row.parent in self.same):
                db.execute("INSERT OR IGNORE INTO lineage VALUES (?,?,?,?)", (row.child, parent, row.relation, row.parent_version))
        for row in self.tables["images"]:
            if row.id in there:
                (place,) = db.execute("SELECT row FROM cubes WHERE id = ?", (row.id,)).fetchone()
                db.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (place, row.blob))
                db.execute("DELETE FROM doomed WHERE blob = ?", (row.blob,))
        entries = {row.seq: row for row in self.tables["audit"]}
        befores = sorted(self.rows)
        for row in self.tables["merged"]:
            entry = entries[row.seq]
            seq = self.seqs.get(row.seq) or self.entries.get((entry.id, entry.version))
            if row.id in there and seq is not None:
                digest = self.change.merged.get(row.seq)
                if digest is not None and holder(db, digest) is not None:
                    digest = None
                before = bisect_right(befores, row.after)
                after = self.rows[befores[before - 1]] if before else 0
                db.execute(
                    "INSERT INTO merged (seq, id, identity, scope, session, after, body, commitment) VALUES (?,?,?,?,?,?,?,?)",
                    (seq, row.id, digest, self._number(row.scope), row.session, after, row.body.encode(), row.commitment),
                )
        for row in self.tables["usage"]:
            if row.id in self.fresh:
                db.execute(
                    "INSERT INTO usage (id, scope, recalls, sessions, last_used_at, heat_log2, uses, successes, tasks, known_tasks, tokens_saved,"
                    " seconds_saved) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                    (row.id, self._number(row.scope), *row[2:]),
                )
        db.executemany(
            "INSERT INTO usage_events (id, scope, session, turn, form, at, used, task, success) VALUES (?,?,?,?,?,?,?,?,?)",
            [(row.id, self._number(row.scope), *row[2:]) for row in self.tables["uses"] if row.id in self.fresh],
        )

    def _relations(self) -> None:
        """What stands against what. Between cubes that came as they are, their versions say what follows of it; else it is settled here."""
        there, unsettled = {*self.fresh, *self.grown}, []
        for row in self.tables["relations"]:
            older, newer = self.same.get(row.older, row.older), self.same.get(row.newer, row.newer)
            if not {row.older, row.newer} & there or older == newer:
                continue
            if {row.older, row.newer} <= there | self.known:
                self.db.execute(
                    "INSERT OR IGNORE INTO relations (older, newer, kind, confidence, why, resolution, at) VALUES (?,?,?,?,?,?,?)", row
                )
            elif self._here(older) and self._here(newer):
                unsettled.append(Related(older, newer, row.kind, row.confidence, row.why, Resolution(row.resolution)))
        for each in unsettled:
            relate(self.db, each, self.change.actor, self.change.at)
        contested = [id for id in there if self.change.heads[id].state is State.CONTESTED]
        settle_contested(self.db, sorted(contested), self.change.actor, self.change.at)

    # ------------------------------------------------------------------ what belongs to scopes
    def _turns(self) -> None:
        """Turns that are not known here, with what stood in their prompts as far as it is here."""
        fresh = set()
        for row in self.tables["turns"]:
            number = self._number(row.scope)
            done = self.db.execute("INSERT OR IGNORE INTO turns VALUES (?,?,?,?,?)", (number, *row[1:])).rowcount
            if done:
                fresh.add((row.scope, row.session, row.key))
        for row in self.tables["placements"]:
            here = self.db.execute(
                "SELECT 1 FROM versions v JOIN cubes c USING (id) WHERE v.id = ? AND v.version = ?", (row.id, row.version)
            )
            if (row.scope, row.session, row.turn) in fresh and here.fetchone():
                self.db.execute("INSERT OR IGNORE INTO placements VALUES (?,?,?,?,?,?)", (self._number(row.scope), *row[1:]))

    def _scopes(self) -> None:
        db, change = self.db, self.change
        for table in ("scope_usage", "budgets"):
            for row in self.tables[table]:
                if row.scope in self.adopted:
                    marks = ",".join("?" * len(row))
                    db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", (self._number(row.scope), *row[1:]))
        for row in self.tables["retraining"]:
            if row.scope in self.adopted:
                db.execute(
                    "INSERT INTO retraining (scope, form, ids, reason, seconds) VALUES (?,?,?,?,?)", (self._number(row.scope), *row[1:])
                )
        numbers: dict[int, int | None] = {}
        told_of_forgotten = {row.number for row in self.tables["moved"] if row.id in self.forgotten}
        for row in self.tables["moves"]:
            if row.scope in self.adopted and row.number not in told_of_forgotten:
                numbers[row.number] = db.execute(
                    "INSERT INTO moves (at, kind, scope, reason, made, estimated) VALUES (?,?,?,?,?,?)",
                    (row.at, row.kind, self._number(row.scope), row.reason, row.made, row.estimated),
                ).lastrowid
        db.executemany(
            "INSERT OR IGNORE INTO moved (id, number) VALUES (?, ?)",
            [(row.id, numbers[row.number]) for row in self.tables["moved"] if row.number in numbers],
        )
        empty = "concept NOT IN (SELECT concept FROM cubes WHERE concept <> 0) AND concept NOT IN (SELECT parent FROM concepts)"
        for parent in ("<> 0", "= 0"):
            db.executemany(
                f"DELETE FROM concepts WHERE concept = ? AND parent {parent} AND {empty}",
                [(row.concept,) for row in self.tables["concepts"]],
            )
        for scope in sorted(self.adopted):
            audit(db, self._number(scope), change.at, change.actor, "import", detail=f"{self._count(scope)} cubes, with the log up to here")
        agenda.demand(db, "forms", {self._number(scope) for scope in self._changed_scopes()})

    def _count(self, scope: Scope) -> int:
        return sum(cube.id in self.fresh and cube.scope == scope for cube in self.tables["cubes"])

    def _changed_scopes(self) -> set[Scope]:
        return {cube.scope for cube in self.tables["cubes"] if cube.id in self.fresh or cube.id in self.grown}

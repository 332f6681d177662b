"""Where facts are filed, read: the facts of a scope with their places, the names of places, and what upkeep is due. SQL reads only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from memos_core.cube import CubeId
from memos_core.hierarchy import Place, concept_id


@dataclass(frozen=True, slots=True)
class Authorised:
    """What an actor may read: whole scopes by number, and single rows that were granted."""

    scopes: tuple[int, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Filed:
    """A fact and where it is filed. scope, concept, task: numbers, 0 for none. at: when it was said, in seconds."""

    id: CubeId
    scope: int
    concept: int
    task: int
    given: bool
    row: int
    at: float
    text: str
    speaker: str | None
    sources: tuple[str, ...]


class Shelves:
    """Reads of the hierarchy inside one transaction."""

    db: sqlite3.Connection

    def filed(self, authorised: Authorised, now: datetime) -> list[Filed]:
        """The facts that an actor may read and recall may show, in the order of time."""
        where = "(c.scope IN (SELECT value FROM json_each(?)) OR c.row IN (SELECT value FROM json_each(?)))"
        return self._filed(where, (json.dumps(authorised.scopes), json.dumps(authorised.rows)), now)

    def filed_in(self, scope: int, now: datetime) -> list[Filed]:
        """The facts of exactly one scope that recall may show, in the order of time."""
        return self._filed("c.scope = ?", (scope,), now)

    def _filed(self, where: str, arguments: tuple[Any, ...], now: datetime) -> list[Filed]:
        rows = self.db.execute(
            "SELECT c.id, c.scope, c.concept, coalesce(k.parent, 0), coalesce(k.given, 0), c.row, c.occurred_at, c.body FROM cubes c"
            f" LEFT JOIN concepts k ON k.concept = c.concept WHERE {where} AND c.kind = 'plaintext'"
            " AND c.state IN ('active', 'contested', 'superseded') AND (c.expires_at IS NULL OR c.expires_at > ?)"
            " AND (c.entry_key IS NULL OR EXISTS (SELECT 1 FROM vectors v WHERE v.row = c.row)) ORDER BY c.occurred_at, c.row",
            (*arguments, now.timestamp()),
        )
        found = []
        for id, scope, concept, task, given, row, at, body in rows:
            held = json.loads(body)
            said, text = held["identifiers"], held["payload"]["text"]
            found.append(Filed(id, scope, concept, task, bool(given), row, at, text, said.get("speaker"), tuple(said.get("sources", ()))))
        return found

    def labels(self, scopes: Collection[int]) -> dict[int, dict[int, str]]:
        """The names that tasks and concepts of these scopes have, by scope and number."""
        found: dict[int, dict[int, str]] = {}
        for scope, concept, label in self.db.execute(
            "SELECT scope, concept, label FROM concepts WHERE label <> '' AND scope IN (SELECT value FROM json_each(?))",
            (json.dumps(list(scopes)),),
        ):
            found.setdefault(scope, {})[concept] = label
        return found

    def named(self, scope: int, place: Place) -> Place:
        """A given place, or the one that goes by its names already; a renamed one has left its number to whom it was."""
        named = self.db.execute(
            "SELECT k.concept, k.parent FROM concepts k JOIN concepts t ON t.concept = k.parent WHERE k.scope = ? AND k.given = 1"
            " AND k.label = ? AND t.label = ?",
            (scope, place.labels[1], place.labels[0]),
        ).fetchone()
        if named:
            return replace(place, concept=named[0], task=named[1])
        numbers = [place.concept, place.task]
        for position, label in ((0, place.labels[1]), (1, place.labels[0])):
            held = self.db.execute("SELECT label FROM concepts WHERE concept = ?", (numbers[position],)).fetchone()
            if held and held[0] != label:
                numbers[position] = concept_id(str(numbers[position]), label)
        return replace(place, concept=numbers[0], task=numbers[1])

    def task_named(self, scope: int, name: str) -> int | None:
        """The task of a scope that goes by a name; None for none."""
        row = self.db.execute(
            "SELECT concept FROM concepts WHERE scope = ? AND parent = 0 AND lower(label) = ? ORDER BY given DESC, concept LIMIT 1",
            (scope, name.strip().lower()),
        ).fetchone()
        return int(row[0]) if row else None

    def audit_length(self, scope: int) -> int:
        """How many entries the audit log of a scope has."""
        return int(self.db.execute("SELECT length FROM scopes WHERE scope = ?", (scope,)).fetchone()[0])

    def fresh_labels(self, scope: int) -> dict[int, str]:
        """The names within a scope that are the caller's, or were read when there were about as many facts as now."""
        rows = self.db.execute(
            "SELECT k.concept, k.label FROM concepts k WHERE k.scope = ? AND k.label <> '' AND (k.given = 1 OR 1.33 * k.labelled + 2 >="
            " (SELECT count(*) FROM cubes c WHERE c.concept = k.concept AND c.concept <> 0) + (SELECT count(*) FROM concepts p CROSS JOIN cubes c"
            " ON c.concept = p.concept AND c.concept <> 0 WHERE p.scope = k.scope AND p.parent = k.concept))",
            (scope,),
        )
        return dict(rows.fetchall())

    def untended(self, scope: int) -> bool:
        """Whether a scope holds facts that are not filed, or concepts that have no label or have grown by a third since it was read."""
        found = self.db.execute(
            "SELECT EXISTS (SELECT 1 FROM concepts k WHERE k.scope = ?1 AND k.given = 0 AND k.parent <> 0"
            " AND (k.label = '' OR (SELECT count(*) FROM cubes c WHERE c.concept = k.concept AND c.concept <> 0) > 1.33 * k.labelled + 2))"
            " OR EXISTS (SELECT 1 FROM cubes c INDEXED BY cubes_scope_session WHERE c.scope = ?1 AND c.concept = 0 AND c.kind = 'plaintext'"
            " AND c.state IN ('active', 'contested', 'superseded') AND EXISTS (SELECT 1 FROM vectors v WHERE v.row = c.row))",
            (scope,),
        ).fetchone()
        return bool(found[0])

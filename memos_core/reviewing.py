"""What one tick has to look at: what has changed, was used, or has come to its time, and nothing else. Kept whole when the tick ends early."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from memos_core.changes import Reviewed
from memos_core.cube import Scope, ancestors
from memos_core.house import House
from memos_core.policy import Budget
from memos_core.store import agenda, records

FORMS, BUDGET, HABITS, UPKEEP, ORPHANS = "forms", "budget", "habits", "upkeep", "orphans"
"""Kinds of review: of what is computed from a scope's memories; of a budget; of what is said again and again; of concepts; of files."""
EVERYTHING = 0
"""The number that reviews of the whole directory have in the place of a scope's."""


class Review:
    """The reviews of one tick. Nothing is written before `close`: a tick that dies is begun again, and every decision can be made again."""

    def __init__(self, house: House, now: datetime, by: bytes) -> None:
        """by: stands for the policy, the thresholds and the model; when it is not what it was, all that they decide is due."""
        self._house, self._now, self._by = house, now, by
        self._seen: int | None = None
        self._before = b""
        self._due: dict[tuple[str, int], int] = {}  # how often it was demanded when it was read
        self._done: dict[tuple[str, int], float | None] = {}

    def refresh(self) -> None:
        """Take in what has become due, this tick's own moves among it."""
        with self._house.store.read() as view:
            if self._seen is None:
                self._seen, self._before = agenda.seen(view)
                self._due = {(kind, scope): asked for kind, scope, asked in agenda.due(view, self._now)}
                if self._seen < 0:
                    self._due.setdefault((ORPHANS, EVERYTHING), 0)
                if self._before != self._by:
                    self._add(FORMS, agenda.demands(view, FORMS, occupied := agenda.occupied(view)), occupied)
            latest = view.latest()
            if latest == self._seen:
                return
            changed = agenda.changed(view, self._seen)
            scopes = [scope for scope, _ in changed]
            for kind, which in ((FORMS, scopes), (UPKEEP, scopes), (HABITS, [scope for scope, grew in changed if grew])):
                self._add(kind, agenda.demands(view, kind, which), which)
            touched = {above for _, name in agenda.names(view, scopes) for above in ancestors(name)}
            of = [number for scope, _ in records.budgets(view) if scope in touched and (number := view.scope_number(scope)) is not None]
            self._add(BUDGET, agenda.demands(view, BUDGET, of), of)
            self._seen = latest

    def _add(self, kind: str, asked: dict[int, int], scopes: Iterable[int]) -> None:
        for scope in scopes:
            self._due[kind, scope] = asked.get(scope, 0)
            self._done.pop((kind, scope), None)

    def due(self, kind: str) -> list[tuple[int, Scope]]:
        """Scopes whose review of a kind is due and not done: number and name, by name."""
        numbers = {scope for each, scope in self._due if each == kind and (each, scope) not in self._done}
        if not numbers:
            return []
        with self._house.store.read() as view:
            return agenda.names(view, numbers)

    def budgets(self) -> list[tuple[int, Scope, Budget]]:
        """Budgets whose review is due, the deepest scopes first."""
        due = {scope: number for number, scope in self.due(BUDGET)}
        if not due:
            return []
        with self._house.store.read() as view:
            found = records.budgets(view)
        for scope in set(due) - {scope for scope, _ in found}:
            self.done(BUDGET, due[scope], None)
        return [(due[scope], scope, budget) for scope, budget in found if scope in due]

    def files_due(self) -> bool:
        """Whether files that nothing refers to are to be looked for."""
        return (ORPHANS, EVERYTHING) in self._due

    def done(self, kind: str, scope: int, again: datetime | None) -> None:
        """It has been looked at, and will be again at that time, or when something happens."""
        self._due.setdefault((kind, scope), 0)
        self._done[kind, scope] = None if again is None else again.timestamp()

    def close(self) -> None:
        """Write when everything is due again; what was not reached stays due."""
        rows = [(kind, scope, asked, self._done.get((kind, scope), 0.0)) for (kind, scope), asked in self._due.items()]
        if self._seen is None:
            return
        with self._house.store.read() as view:
            before = agenda.seen(view)
        if rows or before != (self._seen, self._by):
            self._house.store.commit([Reviewed(tuple(rows), self._seen, self._by)])

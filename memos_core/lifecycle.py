"""What becomes of a memory after it was written: versions, conflicts, budgets, and being forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import networkx as nx

from memos_core.access import may_enter, require
from memos_core.bound import ActorLike, Bound, ScopeLike
from memos_core.changes import Erase
from memos_core.conflict import Relation, relate
from memos_core.conflict.resolution import Conflict, Resolution
from memos_core.cube import LOCAL_OWNER, CubeId, MemCube, State, as_id, as_scope, as_text, as_time
from memos_core.differences import Diff, difference
from memos_core.errors import InvalidInput, NotFound
from memos_core.forgetting import forget
from memos_core.governing import answer, found_conflicts, lineage, set_budget
from memos_core.policy import Budget
from memos_core.revise import as_ids, as_of_version, as_version, next_version, restored, revised
from memos_core.store.snapshot import Version
from memos_core.writing import earlier, revise


class Lifecycle(Bound):
    """One cube and its versions; what contradicts what; how much there may be."""

    def get(self, id: CubeId, *, actor: ActorLike = None, now: datetime | None = None) -> MemCube:
        """A cube by its id. Raises NotFound or AccessDenied."""
        return self._permitted(id, "read", self._who(actor, None), as_time(now, "now"))

    def history(self, id: CubeId, *, actor: ActorLike = None) -> list[Version]:
        """All versions of a cube, oldest first. Of an erased cube the local owner still sees who did what and when, without content."""
        who = self._who(actor, None)
        as_id(id)
        with self._house.view() as view:
            erased = view.tombstone(id)
            versions = view.history(id)
        if not erased:
            self._permitted(id, "read", who, as_time(None, "now"))
        elif who != LOCAL_OWNER:
            raise NotFound(f"cube {id} has been forgotten")
        return versions

    def update(
        self,
        id: CubeId,
        *,
        text: str | None = None,
        path: str | Sequence[str] | None = None,
        ttl: timedelta | float | None = None,
        priority: float | None = None,
        read: Iterable[str | Sequence[str]] | None = None,
        write: Iterable[str | Sequence[str]] | None = None,
        tags: Iterable[str] | None = None,
        state: State | str | None = None,
        valid_from: datetime | str | None = None,
        valid_to: datetime | str | None = None,
        expected_version: int | None = None,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> MemCube:
        """The next version of a cube, with what is given changed; the earlier ones stay in its history.

        A contested or superseded memory that is made active has been answered for: both sides are kept.
        expected_version: refuse (VersionConflict) when somebody was faster. Raises InvalidInput, NotFound, AccessDenied or VersionConflict.
        """
        clock, who = as_time(now, "now"), self._who(actor, None)
        cube = self._permitted(id, "write", who, clock)
        new = revised(
            cube, who, clock, text=text, path=path, ttl=ttl, priority=priority, read=read, write=write, tags=tags, state=state,
            valid_from=valid_from, valid_to=valid_to,
        )  # fmt: skip
        return revise(self._house, cube, next_version(cube, new, clock, expected_version), who, "update")

    def rollback(
        self, id: CubeId, version: int, *, expected_version: int | None = None, actor: ActorLike = None, now: datetime | None = None
    ) -> MemCube:
        """Make an earlier version the newest again, as a further version: nothing in between is lost.

        Raises InvalidInput, NotFound, AccessDenied or VersionConflict.
        """
        clock, who = as_time(now, "now"), self._who(actor, None)
        cube = self._permitted(id, "write", who, clock)
        then = earlier(self._house, cube, version)
        new = next_version(cube, as_of_version(cube, then), clock, expected_version)
        return revise(self._house, cube, new, who, "rollback", f"to version {version}")

    def diff(self, id: CubeId, a: int, b: int, *, actor: ActorLike = None) -> Diff:
        """What version `b` of a cube changed over version `a`. Raises InvalidInput, NotFound or AccessDenied."""
        cube = self._permitted(id, "read", self._who(actor, None), as_time(None, "now"))
        return difference(earlier(self._house, cube, a), earlier(self._house, cube, b))

    def lineage(self, id: CubeId, *, actor: ActorLike = None) -> nx.DiGraph[CubeId]:
        """What a cube came from and what came from it: a graph of ids, from source to result, of what the actor may read.

        Nodes have the attribute `cube`, edges `relation`. Raises NotFound or AccessDenied.
        """
        return lineage(self._house, id, self._who(actor, None), as_time(None, "now"))

    def restore(self, id: CubeId, *, actor: ActorLike = None, now: datetime | None = None) -> MemCube:
        """Bring an archived memory back; an expiry that is over no longer counts, and it is as fresh as if just said.

        Raises InvalidInput, NotFound or AccessDenied.
        """
        clock, who = as_time(now, "now"), self._who(actor, None)
        cube = self._permitted(id, "write", who, clock)
        return revise(self._house, cube, next_version(cube, restored(cube, clock), clock, None), who, "restore")

    def forget(
        self,
        id: CubeId | Sequence[CubeId] | None = None,
        *,
        scope: ScopeLike | None = None,
        reason: str = "asked to forget",
        expected_version: int | None = None,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> tuple[CubeId, ...]:
        """Erase cubes and everything derived from them: content, vectors, terms, placements, usage, KV, modules. Returns the erased ids.

        scope: in place of ids, whatever is kept at or below it, in whatever state, and its turns: what somebody asks for who wants to be
        forgotten. The actor must hold it; what its memories were shared with others, those lose too. Nothing there: nothing is erased.
        A tombstone of each and the audit entry stay, with the names of scopes and actors. `reason` is kept: do not put content into it.
        expected_version: of a single cube. Raises InvalidInput, NotFound, AccessDenied or VersionConflict; then nothing was erased.
        """
        clock, place = as_time(now, "now"), None if scope is None else as_scope(scope)
        who, reason, expected = self._who(actor, place), as_text(reason, "reason"), as_version(expected_version, "expected_version")
        if (id is None) == (place is None):
            raise InvalidInput("forget takes ids or scope=, and not both")
        ids = () if id is None else as_ids(id)
        if expected is not None and len(ids) != 1:
            raise InvalidInput("expected_version is of one cube" + (f", got {len(ids)} ids" if place is None else ", not of a scope"))
        if place is not None:
            require(may_enter(who, place, "forget it"), who, "write", f"scope {'/'.join(place)}")
            return forget(self._house, Erase((), who, clock, reason, scope=place))
        for each in ids:
            self._permitted(each, "write", who, clock)
        return forget(self._house, Erase(ids, who, clock, reason, None if expected is None else (expected,)))

    # ------------------------------------------------------------------ conflicts and budgets
    def conflicts(self, *, scope: ScopeLike, settled: bool = False, actor: ActorLike = None, now: datetime | None = None) -> list[Conflict]:
        """Which memories contradict or replace each other, at or below a scope, where both may be read: undecided ones first.

        settled: also those that need nobody any more, since both hold or the newer was dismissed.
        """
        place = as_scope(scope)
        found = found_conflicts(self._house, place, self._who(actor, place), as_time(now, "now"))
        return [each for each in found if settled or each.resolution in (Resolution.OPEN, Resolution.SUPERSEDED)]

    def relation(self, text_a: str, text_b: str) -> Relation:
        """What the second text, the newer, has to do with the first: duplicate, refines, contradicts or unrelated. Reads nothing.

        By rules and the embedder; by the model where the memory was opened with one. Raises InvalidInput.
        """
        return relate(as_text(text_a, "text_a"), as_text(text_b, "text_b"), self._house.similarity, self._house.model)

    def resolve(
        self, conflict: Conflict | Sequence[CubeId], *, keep: str, actor: ActorLike = None, now: datetime | None = None
    ) -> Conflict:
        """Answer a conflict, or answer it anew: keep the "newer" memory, the "older" one, or "both". The other is superseded.

        conflict: one of `conflicts`, or the ids of its older and its newer cube. Raises InvalidInput, NotFound or AccessDenied.
        """
        return answer(self._house, conflict, keep, self._who(actor, None), as_time(now, "now"))

    def set_budget(
        self,
        scope: ScopeLike,
        *,
        facts: int | None = None,
        bytes: int | None = None,
        strength: float | None = None,
        erase_archived_after: timedelta | None = None,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> Budget | None:
        """Say how much plaintext a scope and all below it may hold; `tick` archives what is too much, the weakest first.

        Replaces what was said before; without a limit there is none. See `Budget`. Raises InvalidInput or AccessDenied.
        """
        clock, place = as_time(now, "now"), as_scope(scope)
        who = self._who(actor, place)
        require(may_enter(who, place), who, "write", f"scope {'/'.join(place)}")
        limits = {"facts": facts, "bytes": bytes, "strength": strength, "erase_archived_after": erase_archived_after}
        return set_budget(self._house, place, who, clock, **limits)

"""Memory from other sources than talk: documents in passages, graphs as statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import networkx as nx

from memos_core.access import may_enter, require
from memos_core.bound import ActorLike, Bound, ScopeLike
from memos_core.changes import restated
from memos_core.cube import CubeId, MemCube, Origin, Plaintext, SemanticType, State, as_scope, as_text, as_time
from memos_core.intake import Template
from memos_core.lifespan import recallable
from memos_core.parse import Noted, as_access, as_member, as_path, as_priority
from memos_core.parse.passages import PASSAGE_SIZE, Kind, passages, source
from memos_core.parse.triples import graph, statements
from memos_core.pictures import Shape, content_parts
from memos_core.turn import Remembered
from memos_core.writing import kept


class Sources(Bound):
    """Documents and graphs, remembered with where they came from."""

    def remember_document(
        self,
        text: str,
        *,
        name: str,
        scope: ScopeLike,
        kind: Kind = "plain",
        size: int = PASSAGE_SIZE,
        overlap: int = 0,
        path: str | Sequence[str] | None = None,
        occurred_at: datetime | str | None = None,
        priority: float = 0.0,
        read: Iterable[str | Sequence[str]] = (),
        write: Iterable[str | Sequence[str]] = (),
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> list[Remembered]:
        """Keep a document in passages of at most `size` characters; one Remembered per passage, in order.

        Each cites the document and its characters ("guide.md#char=120,480"). The same document again changes nothing; a changed one
        adds what is new in it and archives what is not in it any more. kind: "plain" or "markdown", which is cut at its headings.
        path: as in `remember`; else a passage below a heading is filed under it. Raises InvalidInput, AccessDenied or StoreError.
        """
        clock, place, title = as_time(now, "now"), as_scope(scope), as_text(name, "name")
        who, said_at = self._who(actor, place), None if occurred_at is None else as_time(occurred_at, "occurred_at")
        require(may_enter(who, place), who, "write", f"scope {'/'.join(place)}")
        template = Template(
            place, who, None, as_path(path), None, as_priority(priority), as_access(read, write), origin=Origin.EXTERNAL_RETRIEVAL
        )
        found = passages(as_text(text), kind, size=size, overlap=overlap)
        before = self._of_document(place, title, clock)
        here = {cube.payload.text: cube for cube in before if isinstance(cube.payload, Plaintext)}
        fresh = [Noted(passage.text, None, None, None, source(title, passage)) for passage in found if passage.text not in here]
        done = dict(zip([item.text for item in fresh], kept(self._house, template, fresh, said_at, clock), strict=True))
        wanted = {passage.text for passage in found}
        gone = [cube for text, cube in here.items() if text not in wanted and cube.id not in {each.id for each in done.values()}]
        self._archive(gone, who, clock, f"no longer in {title}")
        return [done[passage.text] if passage.text in done else Remembered(here[passage.text], "merged") for passage in found]

    def remember_graph(
        self,
        given: Any,
        *,
        scope: ScopeLike,
        path: str | Sequence[str] | None = None,
        origin: Origin | str = Origin.EXTERNAL_RETRIEVAL,
        occurred_at: datetime | str | None = None,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> list[Remembered]:
        """Keep a networkx graph, or triples (subject, predicate, object), as one readable statement per edge and per lone node.

        `memos.graph(scope)` makes the graph again. Raises InvalidInput, AccessDenied or StoreError.
        """
        clock, place = as_time(now, "now"), as_scope(scope)
        who, said_at = self._who(actor, place), None if occurred_at is None else as_time(occurred_at, "occurred_at")
        require(may_enter(who, place), who, "write", f"scope {'/'.join(place)}")
        template = Template(place, who, None, as_path(path), origin=as_member(Origin, origin, "origin"), semantic_type=SemanticType.FACT)
        noted = [Noted(each.text, None, None, None, f"statement {each.id}", record=each.record) for each in statements(given)]
        return kept(self._house, template, noted, said_at, clock)

    def content(self, id: CubeId, *, shape: Shape = "langchain", actor: ActorLike = None) -> list[dict[str, Any]]:
        """A memory as content parts, its images among them, for a model that sees. shape: "langchain", "openai" or "llamaindex".

        Raises InvalidInput, NotFound, AccessDenied or StoreCorrupt.
        """
        cube = self._permitted(id, "read", self._who(actor, None), as_time(None, "now"))
        return content_parts(self._house, cube, shape)

    def graph(self, scope: ScopeLike, *, actor: ActorLike = None, now: datetime | None = None) -> nx.Graph[Any]:
        """The graph of what `remember_graph` kept, as far as the actor may read it. Raises InvalidInput or StoreError."""
        clock, place = as_time(now, "now"), as_scope(scope)
        who = self._who(actor, place)
        with self._house.view() as view:
            rows = [fact.row for fact in view.filed(view.authorised(place, who), clock)]
            cubes = view.heads_by_row(rows, clock)
        stand = [cubes[row] for row in rows if row in cubes and cubes[row].state in (State.ACTIVE, State.CONTESTED)]
        payloads = [cube.payload for cube in stand if cube.identifiers.key is None]  # the record of an entry is its caller's
        made: nx.Graph[Any] = graph(payload.record for payload in payloads if isinstance(payload, Plaintext) and payload.record is not None)
        return made

    # ------------------------------------------------------------------ inside
    def _of_document(self, place: tuple[str, ...], name: str, clock: datetime) -> list[MemCube]:
        """The passages of a document that a scope holds."""
        with self._house.view() as view:
            number = view.scope_number(place)
            facts = [] if number is None else view.filed_in(number, clock)
            ids = [fact.id for fact in facts if any(cited.startswith(f"{name}#char=") for cited in fact.sources)]
            cubes = view.heads(ids, clock)
        return [cube for cube in cubes.values() if cube.identifiers.origin is Origin.EXTERNAL_RETRIEVAL and recallable(cube, clock)]

    def _archive(self, cubes: Sequence[MemCube], who: tuple[str, ...], clock: datetime, reason: str) -> None:
        if cubes:
            self._store.commit([restated(cube, State.ARCHIVED, who, "update", clock, reason) for cube in cubes])

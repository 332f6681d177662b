"""MemOS: opens the house and wires the rooms."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from memos_core import books
from memos_core.access import may, may_enter, require, rules
from memos_core.archive import Progress
from memos_core.archiving import Archiving
from memos_core.books import Verification
from memos_core.bound import ActorLike, ScopeLike
from memos_core.browsing import Browsing
from memos_core.conflict.resolution import OnConflict
from memos_core.credit import Credit
from memos_core.cube import (
    CubeId,
    MemCube,
    Origin,
    SemanticType,
    as_count,
    as_id,
    as_scope,
    as_text,
    as_time,
    as_validity,
)
from memos_core.embed import CANARIES, CachedEmbedder, check_identity, late_embedder, local_embedder
from memos_core.entries import Entries
from memos_core.errors import InvalidInput
from memos_core.house import House
from memos_core.index import Index
from memos_core.intake import Template
from memos_core.lifecycle import Lifecycle
from memos_core.lifespan import recallable
from memos_core.parse import as_access, as_member, as_path, as_priority, as_session, as_tags, as_ttl
from memos_core.parse.triples import template as check_template
from memos_core.pictures import flattened, noted_with_images
from memos_core.plan import Message, strip_blocks
from memos_core.policies import Policy
from memos_core.policy import Thresholds
from memos_core.reading import Wanted, search, timeline, understood
from memos_core.recall import Recall, Timeline, as_window, for_prompt
from memos_core.revise import as_ids
from memos_core.scheduling import Scheduling
from memos_core.sources import Sources
from memos_core.store import SQLiteStore
from memos_core.store.snapshot import AuditEntry
from memos_core.turn import Remembered, Turn, visible
from memos_core.turns import begun
from memos_core.writing import bring_up, kept


def as_model(given: Any) -> Callable[[str], str] | None:
    """A callable from a prompt to text, as it is or from a model: LangChain's, LlamaIndex's, or an HFEngine. Raises InvalidInput."""
    if callable(getattr(given, "invoke", None)):  # LangChain's: text, or a message

        def invoked(prompt: str) -> str:
            answer = given.invoke(prompt)
            return answer if isinstance(answer, str) else str(answer.text)

        return invoked
    if callable(getattr(given, "complete", None)):  # LlamaIndex's
        return lambda prompt: str(given.complete(prompt).text)
    if callable(getattr(given, "generate", None)):
        return lambda prompt: str(given.generate([{"role": "user", "content": prompt}], max_new_tokens=512).text)
    if given is not None and not callable(given):
        raise InvalidInput(
            f"model must be a callable from a prompt to text, or a model of LangChain or LlamaIndex, got {type(given).__name__}"
        )
    return given  # type: ignore[no-any-return]


class MemOS(Lifecycle, Browsing, Sources, Archiving, Entries, Scheduling):
    """A memory: one directory, many scopes. Open it with `MemOS.open`."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        embedder: Any = None,
        engine: Any = None,
        model: Any = None,
        captioner: Callable[[bytes, str], str] | None = None,
        on_conflict: OnConflict | str = OnConflict.CONTEST,
        thresholds: Thresholds | None = None,
        policy: Policy | None = None,
        credit: Credit | str = Credit.WORDS,
        late: bool = False,
    ) -> MemOS:
        """Open a directory, or make it. A context manager; `close()` otherwise.

        embedder: n texts to float32 [n, d], or embeddings of LangChain or LlamaIndex; without one, all-MiniLM-L6-v2 on this machine.
        engine: an HFEngine, for KV reuse. model: any callable from a prompt to text, a model of LangChain's or LlamaIndex's, or an HFEngine:
        it judges what the rules find and reads facts out of messages.
        on_conflict: what is made of contradictions. thresholds: when memory moves by its use, such as LATENCY, MEMORY or QUALITY. policy: a
        function (view, thresholds, now) -> Move | None that is asked before they decide, scope by scope; see `Policy`.
        captioner: an image's bytes and mime type to a caption, for images that come without one. credit: how `usage.uses` is counted: by
        the "words" that an answer has in common with a memory, or by its "attention" to it, for which the engine reads the answer once more.
        late: of a directory that is there, load the local embedder when it is first needed, and check only then that it is the one.
        Raises StoreError when the directory cannot be used, or was written by a newer version or with another embedder.
        """
        rule, counted_by = as_member(OnConflict, on_conflict, "on_conflict"), as_member(Credit, credit, "credit")
        if engine is not None and not hasattr(engine, "capabilities"):
            raise InvalidInput(
                f"engine must be an HFEngine, such as HFEngine.load(), got {type(engine).__name__}; other models go into model="
            )
        if not isinstance(thresholds, Thresholds | None):
            raise InvalidInput(f"thresholds must be a Thresholds, such as memos_core.LATENCY, got {type(thresholds).__name__}")
        for what, given in (("policy", policy), ("captioner", captioner)):
            if given is not None and not callable(given):
                raise InvalidInput(f"{what} must be a function, got {type(given).__name__}")
        if counted_by is Credit.ATTENTION and not hasattr(engine, "influence"):
            raise InvalidInput("credit='attention' needs a model that can be looked into: MemOS.open(..., engine=HFEngine.load())")
        judge = as_model(model)
        cached = None if embedder is None and late else CachedEmbedder(embedder if embedder is not None else local_embedder())
        if cached is not None:
            cached.canaries()  # one that does not work leaves no directory behind
        store = SQLiteStore(path)
        try:
            with store.read() as view:
                stored, latest = view.meta("canaries"), view.latest()
            if cached is None:
                known = None if stored is None else np.frombuffer(stored, dtype="<f4").reshape(len(CANARIES), -1)
                cached = CachedEmbedder(local_embedder() if known is None else late_embedder(known, str(store.path)))
            canaries = cached.canaries()
            if stored is None:
                store.set_meta("canaries", canaries.astype("<f4").tobytes())
            else:
                check_identity(np.frombuffer(stored, dtype="<f4").reshape(canaries.shape[0], -1), canaries, str(store.path))
            bring_up(store, cached)
            index = Index(canaries.shape[1], store.path / "index.faiss", sha256(store.secret).hexdigest())
            with store.file_lock:
                index.load(latest)
        except BaseException:
            store.close()
            raise
        return cls(House(store, cached, index, engine, rule, judge, captioner, counted_by), thresholds or Thresholds(), policy)

    @classmethod
    def import_(cls, file: str | Path, into: str | Path, *, progress: Progress | None = None, **settings: Any) -> MemOS:
        """Open a directory, or make it, with an archive taken in: see `import_archive`, which tells what came of it. settings: as of `open`.

        No directory is made for an archive that is damaged. Raises as both of them do.
        """
        if not isinstance(into, (str, Path)) or not (Path(into) / "memos.db").exists():
            cls.check_archive(file)
        opened = cls.open(into, **settings)
        try:
            opened.import_archive(file, progress=progress)
        except BaseException:
            opened.close()
            raise
        return opened

    @property
    def path(self) -> Path:
        """The directory."""
        return self._store.path

    def close(self) -> None:
        """Write the index file and let go of the directory. Safe to call twice."""
        if self._store.closed:
            return
        for worker in list(self._workers):
            worker.stop()
        self._modules.remove()
        with self._store.file_lock:  # an erasure elsewhere comes before or after, never between catching up and saving
            with self._house.view():
                pass
            if self._index.seq > self._index.saved_seq:
                self._index.save()
        self._store.close()

    def __enter__(self) -> MemOS:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def as_actor(self, actor: str | Sequence[str]) -> MemOS:
        """The same memory, where every call without `actor=` acts as this one. Closing it closes the memory."""
        bound = copy.copy(self)
        bound._actor = as_scope(actor, "actor")
        return bound

    # ------------------------------------------------------------------ remember
    def remember(
        self,
        what: str | Message | Sequence[str | Message],
        *,
        scope: ScopeLike,
        session: str | None = None,
        occurred_at: datetime | str | None = None,
        path: str | Sequence[str] | None = None,
        ttl: timedelta | float | None = None,
        priority: float = 0.0,
        read: Iterable[str | Sequence[str]] = (),
        write: Iterable[str | Sequence[str]] = (),
        semantic_type: SemanticType | str = SemanticType.FACT,
        origin: Origin | str = Origin.USER_INPUT,
        valid_from: datetime | str | None = None,
        valid_to: datetime | str | None = None,
        supersedes: CubeId | Sequence[CubeId] = (),
        tags: Iterable[str] = (),
        in_passing: bool = False,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> list[Remembered]:
        """Keep text or messages, verbatim; one Remembered per message, in order. All of them durably, or none.

        content: text, or content parts as LangChain, OpenAI and LlamaIndex shape them; `images` beside it: bytes, paths, data URLs.
        A message with an `id` is kept once per scope, session, id and text; one without, once per speaker, time and text.
        occurred_at: for messages without a `timestamp`. ttl: from occurred_at on, a timedelta or seconds. priority: 0 to 1.
        read, write: actors beyond the scope that may read or change it. valid_from, valid_to: when it was true, where known.
        supersedes: ids of memories whose place the one message takes: they stay recallable, marked, and stopped being true when it
        was said. tags: of sensitivity; "no-training" keeps it out of weights. in_passing: of a conversation that goes on anyway: an image
        in a content that cannot be kept is logged and marked in the text, where it else is refused.
        Raises InvalidInput, NotFound, AccessDenied or StoreError.
        """
        clock, place = as_time(now, "now"), as_scope(scope)
        who = self._who(actor, place)
        require(may_enter(who, place), who, "write", f"scope {'/'.join(place)}")
        said_at = None if occurred_at is None else as_time(occurred_at, "occurred_at")
        template = Template(
            place, who, as_session(session), as_path(path), as_ttl(ttl), as_priority(priority), as_access(read, write),
            as_member(SemanticType, semantic_type, "semantic_type"), as_member(Origin, origin, "origin"),
            *as_validity(valid_from, valid_to), as_tags(tags),
        )  # fmt: skip
        read_in = noted_with_images(self._house, what, in_passing=in_passing)
        noted = [replace(item, text=as_text(strip_blocks(item.text))) for item in read_in]
        if template.semantic_type is SemanticType.TEMPLATE:
            for item in noted:
                check_template(item.text)
        return kept(self._house, template, noted, said_at, clock, as_ids(supersedes))

    # ------------------------------------------------------------------ recall
    def recall(
        self,
        query: str,
        *,
        scope: ScopeLike,
        k: int = 10,
        now: datetime | None = None,
        actor: ActorLike = None,
        as_of: datetime | str | None = None,
        between: Sequence[datetime | str] | None = None,
        context: Sequence[str] = (),
        exact: bool = True,
    ) -> Recall:
        """What the memory holds on a query, best first, of what the actor may read at or below the scope. Reads only.

        Exact: every such memory is scored, and no other. as_of: what had been said by that time and was true then, with the text of
        then; what has been forgotten or has expired since stays out. between: only what was said from then until then; a time
        that the query names is a preference instead. context: what was said just before.

        exact=False: of a scope of more than 30,000, look only at those nearest by fingerprint, the best by words and what was
        said beside them; then `recall.exact` is False. For very large scopes. Not with as_of. Raises InvalidInput or StoreError.
        """
        if not isinstance(query, str):
            raise InvalidInput(f"query must be a str, got {type(query).__name__}")
        most = as_count(k, "k", 1)
        clock, place = as_time(now, "now"), as_scope(scope)
        then = None if as_of is None else as_time(as_of, "as_of")
        window = None if between is None else as_window(between)
        who = self._who(actor, place)
        if not query.strip():
            return Recall(query, ())
        if isinstance(context, str) or not isinstance(context, Iterable):
            raise InvalidInput(f"context must be a list of texts, got {type(context).__name__}")
        before = tuple(as_text(text, "context") for text in context if text != "")
        return search(self._house, Wanted(as_text(query, "query"), place, who, most, clock, then, window, before, exact=exact))

    def timeline(
        self,
        *,
        scope: ScopeLike,
        query: str | None = None,
        between: Sequence[datetime | str] | None = None,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> Timeline:
        """Everything that was said in a window of time, oldest first, of what the actor may read at or below the scope.

        The window is given as `between` two times, half-open, or in words ("last Tuesday", "our third conversation"), relative to
        `now`; words that name no time find nothing, and then `timeline.window` is None. Raises InvalidInput or StoreError.
        """
        if (query is None) == (between is None):
            raise InvalidInput("timeline takes query= or between=, and not both")
        clock, place = as_time(now, "now"), as_scope(scope)
        who = self._who(actor, place)
        window = as_window(between) if between is not None else understood(self._house, as_text(query, "query"), place, who, clock)
        return Timeline((), None) if window is None else timeline(self._house, window, place, who, clock)

    def conversation(self, *, scope: ScopeLike, session: str, actor: ActorLike = None) -> list[MemCube]:
        """The messages of a session that are remembered, in the order they were written."""
        place, clock = as_scope(scope), as_time(None, "now")
        who = self._who(actor, place)
        if (name := as_session(session)) is None:
            raise InvalidInput("session must be a non-empty str, got None")
        with self._house.view() as view:
            cubes = view.conversation(place, name, clock)
        return [cube for cube in cubes if may(cube, who, "read") and recallable(cube, clock)]

    # ------------------------------------------------------------------ the turn
    def begin(
        self,
        messages: Sequence[Message],
        *,
        scope: ScopeLike,
        session: str | None = None,
        token_budget: int = 512,
        k: int = 8,
        task: str | None = None,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> Turn:
        """Recall and plan for the last user message of a conversation; nothing is written until `turn.commit(reply)`.

        messages: the visible conversation, dictionaries with `role` and `content`; never mutated. Contents may be lists of parts, and
        `images` may come beside them, as in `remember`: the prompt holds them as they came. token_budget: tokens that
        this turn's memory may take of the prompt, its head included, counted by the engine's tokenizer, else about four characters each; what
        earlier turns placed stands beside it. task: what the turn is for, as
        usage counts tasks: any name, kept as a keyed hash; None: the task that most of what is recalled is filed under.
        Raises InvalidInput, AccessDenied or StoreError.
        """
        clock, place, name = as_time(now, "now"), as_scope(scope), as_session(session) or "default"
        who = self._who(actor, place)
        require(may_enter(who, place), who, "write", f"scope {'/'.join(place)}")
        k, token_budget = as_count(k, "k", 0), as_count(token_budget, "token_budget", 0)
        number = None if task is None else self._task(place, as_text(task, "task"))
        flat, pictured = flattened(messages)
        seen = visible(flat)
        query = seen.user["content"]
        # the visible conversation must not take the places of what it does not say
        most = 3 * k + len(seen.said)
        wanted = Wanted(query, place, who, most, clock, context=seen.before, for_prompt=True)
        found = search(self._house, wanted) if query.strip() else Recall(query, ())
        recall = Recall(
            query,
            for_prompt(
                [
                    hit
                    for hit in found.hits
                    if hit.text not in seen.said and hit.cube.identifiers.semantic_type is not SemanticType.TEMPLATE
                ],
                k,
            ),
            found.window,
        )
        chosen = self._modules.chosen(query, seen.before, place, clock) if rules(who, place) else []
        turn = begun(self._house, seen, pictured, recall, place, name, who, token_budget, clock, chosen, number)
        self._house.traffic.began(turn)
        return turn

    # ------------------------------------------------------------------ the books
    def audit(self, scope: ScopeLike | None = None, *, id: CubeId | None = None, actor: ActorLike = None) -> list[AuditEntry]:
        """Who did what, oldest first, of a scope and all below it, of one cube, or of everything; what the actor holds of it."""
        place = None if scope is None else as_scope(scope)
        who = self._who(actor, place)
        if id is not None:
            as_id(id)
        with self._house.view() as view:
            return [entry for entry in view.audit(place, id) if rules(who, entry.scope)]

    def verify(self) -> Verification:
        """Check everything: the database, all hash chains, every blob, and that the index holds what the store holds."""
        with self._house.view() as view:
            return books.verify(self._store, view, len(self._index))

    def stats(self) -> dict[str, Any]:
        """How much there is of everything, on disk and in the engine."""
        with self._house.view() as view:
            return books.sizes(self._store, view) | {
                "kv": self._house.engine.kv.stats() if self._house.reuses else {},
                "modules": self._modules.stats(),
            }


def as_memos(memos: Any) -> MemOS:
    """That it is an open memory, for those who take one. Raises InvalidInput."""
    if not isinstance(memos, MemOS):
        raise InvalidInput(f"memos must be an open memory, as MemOS.open(directory) gives it; got {memos!r}")
    return memos

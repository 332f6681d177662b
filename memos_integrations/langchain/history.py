"""MemosChatHistory: a session's messages, kept as memory."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from memos_core import Entry, as_memos, as_scope
from memos_integrations.langchain.messages import ScopeLike, answers, as_dict

COLLECTION = "cleared chat histories"

_failed: dict[tuple[str, tuple[str, ...], str], Exception] = {}
_lock = threading.Lock()


class MemosChatHistory(BaseChatMessageHistory):
    """What was said in a session, for RunnableWithMessageHistory and the like; everything said is memory for all that recalls.

    memos: an open MemOS. scope: whose memory. session: the conversation, continued if it exists.

    What the user and the assistant said is kept and comes back, oldest first, with the ids the messages had. System messages, tool calls and
    what tools said are the application's and are not kept: a history with calls but without their results would break models.
    The history adds no memory to a prompt. LangChain logs errors of the write at the end of a run and goes on: such an error is raised
    again by the next call for this session.
    """

    def __init__(self, *, memos: Any, scope: ScopeLike, session: str) -> None:
        self.memos = as_memos(memos)
        self.scope: tuple[str, ...] = as_scope(scope)
        self.session = session

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The session's messages since it was last cleared, oldest first."""
        self._raise_earlier()
        kinds = {"user": HumanMessage, "assistant": AIMessage}
        since, again = self._cleared()
        found = []
        for cube in self.memos.conversation(scope=self.scope, session=self.session):
            known = cube.identifiers
            if known.role in kinds and (since is None or known.created_at > since or not again.isdisjoint(known.sources[:1])):
                shown = self.memos.content(cube.id) if cube.payload.parts else cube.payload.text
                name = known.speaker if known.role == "user" and known.speaker != "User" else None
                found.append(kinds[known.role](content=shown, id=next(iter(known.sources), None), name=name))
        return found

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Remember messages, all or none. A message whose id the session holds with the same text is the same message; one from before
        the session was cleared is shown again."""
        self._raise_earlier()
        said = [as_dict(message) for message in messages if isinstance(message, HumanMessage) or answers(message)]
        kept = [{"id": uuid.uuid4().hex, **message} for message in said if message["content"]]
        try:
            if kept:
                done = self.memos.remember(kept, scope=self.scope, session=self.session, in_passing=True)
                self._show_again([message["id"] for message, each in zip(kept, done, strict=True) if each.outcome == "merged"])
        except Exception as error:
            with _lock:
                _failed[self._key()] = error
            raise

    def clear(self) -> None:
        """Begin the session anew. Nothing is erased: `memos.forget` does that."""
        self._raise_earlier()
        self._mark(datetime.now(UTC), set())

    def _show_again(self, ids: Sequence[str]) -> None:
        """What is known already may be from before the session was cleared: put back, as by whoever keeps the last few messages alone."""
        if ids:
            with _lock:
                since, again = self._cleared()
                if since is not None and not again.issuperset(ids):
                    self._mark(since, again.union(ids))

    def _mark(self, at: datetime, again: set[str]) -> None:
        record = {"at": at.isoformat(), "again": sorted(again)}
        entry = Entry(self.session, f"The chat history of {self.session} was cleared.", record, searched=False)
        self.memos.write_entries([entry], scope=self.scope, collection=COLLECTION)

    def _cleared(self) -> tuple[datetime | None, set[str]]:
        """When the session was last cleared, and the ids of older messages that were put back since."""
        marker = self.memos.entry(self.session, scope=self.scope, collection=COLLECTION)
        if marker is None:
            return None, set()
        record = json.loads(marker.payload.record)
        return datetime.fromisoformat(record["at"]), set(record.get("again", ()))

    def _key(self) -> tuple[str, tuple[str, ...], str]:
        return (str(self.memos.path), self.scope, self.session)

    def _raise_earlier(self) -> None:
        with _lock:
            error = _failed.pop(self._key(), None)
        if error is not None:
            error.add_note(f"raised by an earlier write of session {self.session!r}: what was said then has not been remembered")
            raise error

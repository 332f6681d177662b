"""MemosChatHistory: a session's messages, kept as memory."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from memos_core import Entry
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
        self.memos = memos
        self.scope: tuple[str, ...] = (scope,) if isinstance(scope, str) else tuple(scope)
        self.session = session

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The session's messages since it was last cleared, oldest first."""
        self._raise_earlier()
        kinds = {"user": HumanMessage, "assistant": AIMessage}
        since = self._cleared_at()
        found = []
        for cube in self.memos.conversation(scope=self.scope, session=self.session):
            known = cube.identifiers
            if known.role in kinds and (since is None or known.created_at > since):
                shown = self.memos.content(cube.id) if cube.payload.parts else cube.payload.text
                name = known.speaker if known.role == "user" and known.speaker != "User" else None
                found.append(kinds[known.role](content=shown, id=next(iter(known.sources), None), name=name))
        return found

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Remember messages, all or none. A message whose id the session holds with the same text is the same message."""
        self._raise_earlier()
        said = [as_dict(message) for message in messages if isinstance(message, HumanMessage) or answers(message)]
        kept = [{"id": uuid.uuid4().hex, **message} for message in said if message["content"]]
        try:
            if kept:
                self.memos.remember(kept, scope=self.scope, session=self.session, in_passing=True)
        except Exception as error:
            with _lock:
                _failed[self._key()] = error
            raise

    def clear(self) -> None:
        """Begin the session anew. Nothing is erased: `memos.forget` does that."""
        self._raise_earlier()
        entry = Entry(
            self.session, f"The chat history of {self.session} was cleared.", {"at": datetime.now(UTC).isoformat()}, searched=False
        )
        self.memos.write_entries([entry], scope=self.scope, collection=COLLECTION)

    def _cleared_at(self) -> datetime | None:
        marker = self.memos.entry(self.session, scope=self.scope, collection=COLLECTION)
        return None if marker is None else marker.identifiers.occurred_at

    def _key(self) -> tuple[str, tuple[str, ...], str]:
        return (str(self.memos.path), self.scope, self.session)

    def _raise_earlier(self) -> None:
        with _lock:
            error = _failed.pop(self._key(), None)
        if error is not None:
            error.add_note(f"raised by an earlier write of session {self.session!r}: what was said then has not been remembered")
            raise error

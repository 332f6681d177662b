"""One user turn: the conversation it belongs to, what was recalled and planned for it, and its commit, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from memos_core.changes import Outcome
from memos_core.cube import CubeId, MemCube, Scope
from memos_core.parse import notes, turn_keys
from memos_core.plan import Message, Plan, check_messages, strip_blocks
from memos_core.recall import Recall

BEFORE = 2
"""So many messages before the one to be answered say what it is about."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What became of one message: the cube that holds it, and whether it is new, took the place of another, or was known."""

    cube: MemCube
    outcome: Literal["added", "merged", "superseded"]

    @classmethod
    def of(cls, outcome: Outcome) -> Remembered:
        """What a store said of an added message."""
        return cls(outcome.cubes[0], outcome.kind if outcome.kind in ("merged", "superseded") else "added")

    @property
    def id(self) -> CubeId:
        return self.cube.id


@dataclass(frozen=True, slots=True)
class Visible:
    """The conversation that a caller shows, without our own blocks. index: the user message to be answered.

    said: every text it holds. system: its leading system text. key, earlier: turn keys of that message and of the user messages
    before it, by index.
    """

    messages: tuple[dict[str, Any], ...]
    index: int
    said: frozenset[str]
    system: str | None
    key: str
    earlier: dict[int, str]

    @property
    def user(self) -> dict[str, Any]:
        return self.messages[self.index]

    @property
    def before(self) -> tuple[str, ...]:
        """What was said just before it, newest last."""
        talk = [message["content"] for message in self.messages[: self.index] if message["role"] in ("user", "assistant")]
        return tuple(text for text in talk[-BEFORE:] if text.strip())


def visible(messages: Sequence[Message]) -> Visible:
    """Check and copy a conversation. Raises InvalidInput."""
    clean = tuple({**message, "content": strip_blocks(message["content"])} for message in check_messages(messages))
    users = [index for index, message in enumerate(clean) if message["role"] == "user"]
    if clean[users[-1]]["content"].strip():  # refused now, not after it has been answered
        notes(clean[users[-1]])
    keys = turn_keys(clean, users)
    return Visible(
        messages=clean,
        index=users[-1],
        said=frozenset(message["content"] for message in clean),
        system=clean[0]["content"] if clean[0]["role"] == "system" else None,
        key=keys.pop(users[-1]),
        earlier=keys,
    )


class Turn:
    """A turn under way. prompt: the messages to give to a model. plan: what was put into them and why. recall: what came up.

    Nothing is written until `commit`.
    """

    def __init__(
        self,
        *,
        scope: Scope,
        session: str,
        key: str,
        prompt: tuple[dict[str, Any], ...],
        plan: Plan,
        recall: Recall,
        write: Callable[[Turn, str, datetime | None], Sequence[Remembered]],
    ) -> None:
        self.scope = scope
        self.session = session
        self.key = key
        self.prompt = prompt
        self.plan = plan
        self.recall = recall
        self._write = write
        self._lock = threading.Lock()
        self._done: list[Remembered] | None = None

    @property
    def committed(self) -> bool:
        """Whether it has been written."""
        return self._done is not None

    def commit(self, reply: str, now: datetime | None = None) -> list[Remembered]:
        """Remember the user's message and the reply, and what was used, in one transaction.

        Written once, whatever the number of calls, in this process or another; later calls return what the first wrote.
        now: when the reply was given. Raises InvalidInput, AccessDenied or StoreError; then nothing was written.
        """
        with self._lock:
            if self._done is None:
                self._done = list(self._write(self, reply, now))
            return list(self._done)

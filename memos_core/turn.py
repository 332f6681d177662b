"""One user turn: what was recalled and planned for it, and its commit, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from memos_core.cube import CubeId, MemCube, Scope
from memos_core.plan import Plan
from memos_core.recall import Recall


@dataclass(frozen=True, slots=True)
class Remembered:
    """What became of one message: the cube that holds it, and whether it is new or was known."""

    cube: MemCube
    outcome: Literal["added", "merged"]

    @property
    def id(self) -> CubeId:
        return self.cube.id


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

    def commit(self, reply: str, now: datetime | None = None) -> list[Remembered]:
        """Remember the user's message and the reply, and what was used, in one transaction.

        Written once, whatever the number of calls, in this process or another; later calls return what the first wrote.
        now: when the reply was given. Raises InvalidInput, AccessDenied or StoreError; then nothing was written.
        """
        with self._lock:
            if self._done is None:
                self._done = list(self._write(self, reply, now))
            return list(self._done)

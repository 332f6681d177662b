"""Long-term memory as a block of LlamaIndex's own `Memory`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field, field_validator
from llama_index.core.memory import BaseMemoryBlock
from pydantic import AfterValidator

from memos_core import InvalidInput, as_memos, as_scope
from memos_integrations.llamaindex.messages import Said

CHARACTERS = 4
"""About as many make a token."""


class MemosMemoryBlock(BaseMemoryBlock[str]):
    """A block that remembers the conversation of the `Memory` it is in, and recalls what its scope remembers.

    memos: an open MemOS. scope: whose memory; what one session says, the others of the scope recall. For a block that several users'
    sessions share, a function of the session's id that says whose it is. token_budget: tokens of what it recalls. k: memories at most.

    `Memory` hands a block its messages only when its queue overflows, which short conversations never do. But it shows the block the
    queue each time it is read, before every answer. By default both are remembered, each text of a speaker once per session, so that
    only an answer that nothing followed yet is not. eager=False: remember what overflows, alone. Write with `MemosMemory` instead
    where each message must be safe when `put` returns, or the prompt's beginning must not change: `Memory` puts what blocks recall
    at the head of the system message, or with insert_method="user" before the last user message, and takes it away again after.

    Keeps nothing about a session between calls. Messages are not changed. Errors of the memory are raised by `Memory`'s get and put.
    A `Memory` with blocks is not saved with a workflow's Context: pass it to each run.
    """

    name: str = "memos"
    memos: Annotated[Any, AfterValidator(as_memos)] = Field(exclude=True, repr=False)
    scope: Any
    token_budget: int = 512
    k: int = 8
    eager: bool = True

    @field_validator("scope")
    @classmethod
    def _check_scope(cls, scope: Any) -> Any:
        return scope if callable(scope) else as_scope(scope)

    async def aput(self, messages: list[ChatMessage], from_short_term_memory: bool = False, session_id: str | None = None) -> None:
        """Remember messages that overflow."""
        if not from_short_term_memory or self.accept_short_term_memory:
            await asyncio.to_thread(self._remember, messages, session_id)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        await self.aput(messages)

    async def _aget(self, messages: list[ChatMessage] | None = None, session_id: str | None = None, **_: Any) -> str:
        """What is recalled for the last user message, as lines, oldest first; "" when there is none."""
        return await asyncio.to_thread(self._recall, list(messages or ()), session_id)

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """The same without its oldest memories, shorter by about so many tokens; None when nothing is left."""
        lines = content.split("\n- ")
        cut = 0
        while lines and cut < tokens_to_truncate * CHARACTERS:
            cut += len(lines.pop(0)) + len("\n- ")
        return f"- {rest}" if (rest := "\n- ".join(lines)) else None

    def _recall(self, messages: Sequence[ChatMessage], session: str | None) -> str:
        said = [Said(message) for message in messages]
        if not any(each.role == "user" for each in said):
            return ""
        scope = self._place(session)
        if self.eager:
            self._remember(messages, session)
        plan = self.memos.begin(
            [each.as_dict() for each in said], scope=scope, session=session, token_budget=self.token_budget, k=self.k
        ).plan
        return "\n".join(each.text for each in (*plan.reuse, *plan.inject))

    def _remember(self, messages: Sequence[ChatMessage], session: str | None) -> None:
        if lasting := [said for said in map(Said, messages) if said.lasts]:
            self.memos.remember([said.as_dict() for said in lasting], scope=self._place(session), session=session, in_passing=True)

    def _place(self, session: str | None) -> Any:
        """The scope of a session."""
        if not callable(self.scope):
            return self.scope
        if session is None:
            raise InvalidInput("this block's scope depends on the session, and none was named: pass session_id=, as Memory does")
        return self.scope(session)

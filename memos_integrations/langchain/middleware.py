"""MemosMiddleware: memory for agents."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import BaseMessage, SystemMessage

from memos_core import Turn, as_memos
from memos_integrations.langchain.messages import ScopeLike, answers, as_dict, as_json, placed, text_of
from memos_integrations.langchain.running import configured, scope_in, session_in
from memos_integrations.langchain.tools import TOOLS, memory_tools

HELD = 256
"""So many turns under way are held; of what is beyond, the turn is begun again when its run ends."""
Key = tuple[tuple[str, ...], str, str | None]
"""Scope, session, and the id of the user's message."""


class MemosMiddleware(AgentMiddleware):
    """Memory for `create_agent`: recalled text reaches the model with each call and is never saved into the agent's state.

    memos: an open MemOS. scope, session: whose memory and which conversation, or functions of the runtime, such as
    `lambda runtime: ("clinic", runtime.context.user)`; else what the run's `config["configurable"]` names: `scope`, and `session`,
    `session_id` or `thread_id`, else "default". token_budget, k: as in MemosChat. tools: give the model `memory_tools` for the same
    scope, all or those named.

    What is recalled for a user's message stays the same in all calls of the run. The turn (last human message, final answer) is remembered
    once, when the agent ends, as the state then holds it: so with what other middleware made of question and answer, and with what a tool
    said that returns directly. A message edited under its id after that is taken for the one that was answered: give it a new id. What the
    user said just before and nobody answered, such as when a model failed, is remembered with it; a run that fails is not. Put it first in
    `middleware=[...]`, so that retries of others happen inside, and what they change is seen. One instance
    serves all users. Errors of the memory are raised, and end the run.
    """

    def __init__(
        self,
        *,
        memos: Any,
        scope: ScopeLike | Callable[[Any], ScopeLike] | None = None,
        session: str | Callable[[Any], str] | None = None,
        token_budget: int = 512,
        k: int = 8,
        tools: bool | Sequence[str] = False,
    ) -> None:
        super().__init__()
        self.memos = as_memos(memos)
        self.scope = scope
        self.session = session
        self.token_budget = token_budget
        self.k = k
        names = (TOOLS if tools is True else tools) or ()
        self.tools = memory_tools(memos=memos, scope=scope, names=names, k=k)
        self._held: dict[Key, tuple[list[dict[str, Any]], Turn]] = {}  # with the conversation that it was begun for
        self._lock = threading.Lock()

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
        """Call the model with memory in its prompt."""
        prepared = self._begin_call(request)
        return handler(prepared)

    async def awrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]) -> ModelResponse:
        """The same; the memory is read in a worker thread."""
        prepared = await asyncio.to_thread(self._begin_call, request)
        return await handler(prepared)

    def after_agent(self, state: Any, runtime: Any) -> None:
        """Remember what was said in the run. What is remembered already stays as it is."""
        messages = state["messages"]
        conversation = [as_dict(message) for message in messages]
        asked = _asked(conversation)
        if not asked or asked[-1] == len(messages) - 1:
            return
        scope, session = self._where(runtime)
        unanswered = []
        for place, end in pairwise([*asked, len(messages)]):
            with self._lock:
                shown, turn = self._held.pop((scope, session, messages[place].id), ([], None))
            if turn is not None and shown[-1] != conversation[place]:  # other middleware has changed what the user said
                turn = self._begin(conversation[: place + 1], scope, session)
            if end == len(messages):
                if unanswered:
                    self.memos.remember(unanswered, scope=scope, session=session, in_passing=True)
                structured = None if answers(messages[-1]) else state.get("structured_response")
                turn = turn or self._begin(conversation, scope, session)
                turn.commit(text_of(messages[-1]) if structured is None else as_json(structured))
            elif answer := next((text_of(message) for message in reversed(messages[place:end]) if answers(message)), ""):
                unanswered = []
                if turn is not None:  # answered in this run, in which other middleware then asked again
                    turn.commit(answer)
            else:
                unanswered.append(conversation[place])

    async def aafter_agent(self, state: Any, runtime: Any) -> None:
        """The same, in a worker thread."""
        await asyncio.to_thread(self.after_agent, state, runtime)

    def _where(self, runtime: Any) -> tuple[tuple[str, ...], str]:
        """The scope and the session of a run."""
        session = self.session(runtime) if callable(self.session) else self.session
        return scope_in(self.scope, lambda: runtime), session or session_in(configured(), "default")

    def _begin(self, conversation: Sequence[dict[str, Any]], scope: tuple[str, ...], session: str) -> Turn:
        return self.memos.begin(conversation, scope=scope, session=session, token_budget=self.token_budget, k=self.k)

    def _begin_call(self, request: ModelRequest) -> ModelRequest:
        """The request with memory in it, as soon as a user has said anything."""
        system = [] if request.system_message is None else [request.system_message]
        messages: list[BaseMessage] = [*system, *request.messages]
        conversation = [as_dict(message) for message in messages]
        asked = _asked(conversation)
        if not asked:
            return request
        shown = conversation[: asked[-1] + 1]
        key = (*self._where(request.runtime), messages[asked[-1]].id)
        before, turn = self._held.get(key, (None, None))
        if turn is None or before != shown:
            turn = self._begin(conversation, *key[:2])
            with self._lock:
                self._held[key] = shown, turn
                for oldest in list(self._held)[:-HELD]:
                    del self._held[oldest]
        prompt = placed(messages, turn.plan)
        if not isinstance(prompt[0], SystemMessage):
            return request.override(messages=prompt)
        return request.override(system_message=prompt[0], messages=prompt[1:])


def _asked(conversation: Sequence[dict[str, Any]]) -> list[int]:
    """Where the user speaks."""
    return [place for place, message in enumerate(conversation) if message["role"] == "user"]

"""MemosMiddleware: memory for agents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from memos_core import Turn
from memos_integrations.langchain.messages import ScopeLike, as_dict, as_json, commit, placed, text_of
from memos_integrations.langchain.running import configured, scope_in, session_in
from memos_integrations.langchain.tools import TOOLS, memory_tools


class MemosMiddleware(AgentMiddleware):
    """Memory for `create_agent`: recalled text reaches the model with each call and is never saved into the agent's state.

    memos: an open MemOS. scope, session: whose memory and which conversation, or functions of the runtime, such as
    `lambda runtime: ("clinic", runtime.context.user)`; else what the run's `config["configurable"]` names: `scope`, and `session`,
    `session_id` or `thread_id`, else "default". token_budget, k: as in MemosChat. tools: give the model `memory_tools` for the same
    scope, all or those named.

    The turn (last human message, final answer) is remembered once, with the final answer; a run that ends otherwise (structured
    output, a tool that returns directly, another middleware's last word) is remembered when the agent ends. Put it first in
    `middleware=[...]`, so that retries of others happen inside. It keeps nothing between calls: one instance serves all users.
    Errors of the memory are raised, and end the run.
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
        self.memos = memos
        self.scope = scope
        self.session = session
        self.token_budget = token_budget
        self.k = k
        names = (TOOLS if tools is True else tools) or ()
        self.tools = memory_tools(memos=memos, scope=scope, names=names, k=k)

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
        """Call the model with memory in its prompt; remember the turn when the answer is final."""
        turn, prepared = self._begin_call(request)
        response = handler(prepared)
        self._commit_call(turn, response)
        return response

    async def awrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]) -> ModelResponse:
        """The same; the memory is read and written in a worker thread."""
        turn, prepared = await asyncio.to_thread(self._begin_call, request)
        response = await handler(prepared)
        await asyncio.to_thread(self._commit_call, turn, response)
        return response

    def after_agent(self, state: Any, runtime: Any) -> None:
        """Remember a run that ended without a final answer of the model. What is remembered already stays as it is."""
        messages = state["messages"]
        if (turn := self._begin(messages, runtime)) is not None and not isinstance(messages[-1], HumanMessage):
            structured = state.get("structured_response")
            turn.commit(text_of(messages[-1]) if structured is None else as_json(structured))

    async def aafter_agent(self, state: Any, runtime: Any) -> None:
        """The same, in a worker thread."""
        await asyncio.to_thread(self.after_agent, state, runtime)

    def _begin(self, messages: Sequence[BaseMessage], runtime: Any) -> Turn | None:
        """The turn under way; None when no user has said anything yet."""
        conversation = [as_dict(message) for message in messages]
        if not any(message["role"] == "user" for message in conversation):
            return None
        scope = scope_in(self.scope, lambda: runtime)
        session = self.session(runtime) if callable(self.session) else self.session
        if session is None:
            session = session_in(configured(), None)
        return self.memos.begin(conversation, scope=scope, session=session, token_budget=self.token_budget, k=self.k)

    def _begin_call(self, request: ModelRequest) -> tuple[Turn | None, ModelRequest]:
        system = [] if request.system_message is None else [request.system_message]
        messages = [*system, *request.messages]
        turn = self._begin(messages, request.runtime)
        if turn is None:
            return None, request
        shown = placed(messages, turn.plan)
        if not isinstance(shown[0], SystemMessage):
            return turn, request.override(messages=shown)
        return turn, request.override(system_message=shown[0], messages=shown[1:])

    def _commit_call(self, turn: Turn | None, response: ModelResponse) -> None:
        if turn is not None and response.result:
            commit(turn, response.result[-1])

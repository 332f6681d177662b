"""Memory for LangChain: a chat model that remembers, a retriever, and middleware for `create_agent`.

Use one of MemosChat and MemosMiddleware for a conversation, not both: each recalls and writes back by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from memos_core import InvalidInput, MissingExtra, NotAvailable, Plan, Turn

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
    from langchain_core.documents import Document
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage, HumanMessage, SystemMessage
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
    from langchain_core.outputs.chat_generation import merge_chat_generation_chunks
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, ensure_config, run_in_executor
    from pydantic import Field, model_validator
except ImportError as error:
    raise MissingExtra("memos_integrations.langchain", "langchain") from error

ScopeLike = str | tuple[str, ...]


class MemosChat(BaseChatModel):
    """A chat model with memory: each call recalls, puts what fits before the user's message, answers, and remembers the turn.

    memos: an open MemOS. scope: whose memory. model: any chat model, or an HFEngine, whose KV of the memory is then reused.
    session: the conversation; without one, "default". token_budget: tokens that memory may take of a prompt. k: memories recalled
    per turn. max_tokens: length of an HFEngine's answer.

    One call may name another conversation in `config["configurable"]`: `session` (or `session_id`, `thread_id`) and `scope`. They
    win over the constructor's, so that one instance can serve many users; they are the application's to fill, never the user's.
    The last human message and the final answer are remembered in one transaction before the call returns. A message with tool
    calls is not final: the turn is remembered when its text answer comes. A stream that fails or is abandoned remembers nothing.
    What was used, and why, is in `response_metadata["memos"]`. Errors of the memory are raised, never swallowed.
    """

    memos: Any = Field(repr=False, exclude=True)
    scope: ScopeLike | None = None
    model: Any = Field(repr=False, exclude=True)
    session: str | None = None
    token_budget: int = 512
    k: int = 8
    max_tokens: int = 256
    cache: Any = False  # an answer from LangChain's cache would pass the memory by

    @model_validator(mode="after")
    def _check_model(self) -> MemosChat:
        if isinstance(self.model, BaseChatModel):
            self.profile = self.profile or self.model.profile
            self.rate_limiter = self.rate_limiter or self.model.rate_limiter
        elif not self._has_engine():
            raise InvalidInput(f"model must be a LangChain chat model or an HFEngine, got {type(self.model).__name__}")
        return self

    @property
    def _llm_type(self) -> str:
        return "memos-chat"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        own = {**super()._get_ls_params(stop=stop, **kwargs), "ls_model_name": self._model_name()}
        return own if self._has_engine() else {**own, **self.model._get_ls_params(stop=stop, **kwargs)}

    # ------------------------------------------------------------------ which conversation
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """Answer, and remember the turn. Raises what the model or the memory raises."""
        return super().invoke(input, config, **self._addressed(config, kwargs))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """Answer, and remember the turn; the memory is read and written in a worker thread."""
        return await super().ainvoke(input, config, **self._addressed(config, kwargs))

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[AIMessageChunk]:
        """Answer piece by piece; the turn is remembered before the last, empty piece."""
        return super().stream(input, config, **self._addressed(config, kwargs))

    def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[AIMessageChunk]:
        """Answer piece by piece; the turn is remembered before the last, empty piece."""
        return super().astream(input, config, **self._addressed(config, kwargs))

    def stream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As in LangChain; remembers as `stream` does."""
        return super().stream_events(input, config, **self._addressed(config, kwargs))

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As in LangChain; remembers as `astream` does."""
        return super().astream_events(input, config, **self._addressed(config, kwargs))

    def _addressed(self, config: RunnableConfig | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The call's arguments with the scope and session it is for."""
        named = ensure_config(config).get("configurable", {})
        session = next((str(named[name]) for name in ("session", "session_id", "thread_id") if named.get(name)), self.session)
        return {"memory_scope": named.get("scope") or self.scope, "memory_session": session, **kwargs}

    def _begin(self, messages: Sequence[BaseMessage], kwargs: dict[str, Any]) -> tuple[Turn, dict[str, Any]]:
        """The turn under way, and the arguments that are left for the model."""
        rest = self._addressed(None, kwargs)
        scope, session = rest.pop("memory_scope"), rest.pop("memory_session")
        if scope is None:
            raise InvalidInput('MemosChat has no scope: pass scope= or config={"configurable": {"scope": ...}}')
        turn = self.memos.begin(
            [_as_dict(message) for message in messages], scope=scope, session=session, token_budget=self.token_budget, k=self.k
        )
        return turn, rest

    # ------------------------------------------------------------------ answering
    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        turn, rest = self._begin(messages, kwargs)
        if self._has_engine():
            reply = self.model.generate(turn.prompt, turn.plan, turn.scope, **self._engine_arguments(messages, stop, rest))
            message = AIMessage(content=reply.text, **_cost(reply, self._model_name()))
            result = ChatResult(generations=[ChatGeneration(message=message)])
        else:
            result = self.model._generate(_placed(messages, turn.plan), stop=stop, run_manager=run_manager, **rest)
        return self._remember(turn, result)

    async def _agenerate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        if self._has_engine():
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        turn, rest = await run_in_executor(None, self._begin, messages, kwargs)
        result = await self.model._agenerate(_placed(messages, turn.plan), stop=stop, run_manager=run_manager, **rest)
        return await run_in_executor(None, self._remember, turn, result)

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        turn, rest = self._begin(messages, kwargs)
        if self._has_engine():
            with self.model.stream(turn.prompt, turn.plan, turn.scope, **self._engine_arguments(messages, stop, rest)) as pieces:
                for text in pieces:
                    chunk = ChatGenerationChunk(message=AIMessageChunk(content=text))
                    if run_manager is not None:
                        run_manager.on_llm_new_token(text, chunk=chunk)
                    yield chunk
            turn.commit(pieces.reply.text)
            yield _last_chunk(turn, **_cost(pieces.reply, self._model_name()))
        elif type(self.model)._stream is BaseChatModel._stream:
            result = self.model._generate(_placed(messages, turn.plan), stop=stop, run_manager=run_manager, **rest)
            yield _as_chunk(self._remember(turn, result))
        else:
            chunks = []
            for chunk in self.model._stream(_placed(messages, turn.plan), stop=stop, run_manager=run_manager, **rest):
                chunks.append(chunk)
                yield chunk
            if (whole := merge_chat_generation_chunks(chunks)) is not None:
                _commit(turn, whole.message)
                yield _last_chunk(turn)

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if self._has_engine():
            async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
                yield chunk
            return
        turn, rest = await run_in_executor(None, self._begin, messages, kwargs)
        prompt = _placed(messages, turn.plan)
        kind = type(self.model)
        if kind._astream is BaseChatModel._astream and kind._stream is BaseChatModel._stream:
            result = await self.model._agenerate(prompt, stop=stop, run_manager=run_manager, **rest)
            yield _as_chunk(await run_in_executor(None, self._remember, turn, result))
            return
        chunks = []
        async for chunk in self.model._astream(prompt, stop=stop, run_manager=run_manager, **rest):
            chunks.append(chunk)
            yield chunk
        if (whole := merge_chat_generation_chunks(chunks)) is not None:
            await run_in_executor(None, _commit, turn, whole.message)
            yield _last_chunk(turn)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """The same model with tools in the inner model's format; calls still go through the memory.

        Raises NotAvailable with an HFEngine, or when the inner model does not return an ordinary binding.
        """
        if self._has_engine():
            raise NotAvailable("an HFEngine cannot call tools; give MemosChat a chat model with tool calling as model=")
        bound = self.model.bind_tools(tools, **kwargs)
        if not isinstance(bound, RunnableBinding) or bound.bound is not self.model:
            raise NotAvailable(
                f"bind_tools of {type(self.model).__name__} returns {type(bound).__name__}; use MemosMiddleware with this model"
            )
        return RunnableBinding(bound=self, kwargs=bound.kwargs, config=bound.config)

    def _remember(self, turn: Turn, result: ChatResult) -> ChatResult:
        """Commit a final answer. The result, with what memory was used for it."""
        first, *others = result.generations
        _commit(turn, first.message)
        metadata = {**first.message.response_metadata, "memos": _used(turn)}
        marked = first.model_copy(update={"message": first.message.model_copy(update={"response_metadata": metadata})})
        return ChatResult(generations=[marked, *others], llm_output=result.llm_output)

    # ------------------------------------------------------------------ the engine
    def _has_engine(self) -> bool:
        return hasattr(self.model, "next_token_logits")

    def _model_name(self) -> str:
        config = getattr(getattr(self.model, "model", None), "config", None)
        return str(getattr(config, "name_or_path", "") or type(self.model).__name__)

    def _engine_arguments(self, messages: Sequence[BaseMessage], stop: list[str] | None, rest: dict[str, Any]) -> dict[str, Any]:
        known = {name: rest[name] for name in ("temperature", "top_p", "seed", "reuse") if name in rest}
        if unknown := rest.keys() - known.keys() - {"max_tokens", "stream"}:
            raise InvalidInput(f"an HFEngine takes no {', '.join(sorted(unknown))}, but max_tokens, temperature, top_p, seed and reuse")
        for message in messages:
            if isinstance(message, HumanMessage) and any(block["type"] != "text" for block in message.content_blocks):
                raise NotAvailable("an HFEngine reads text alone; this conversation holds other content, such as an image")
        return {**known, "max_new_tokens": rest.get("max_tokens", self.max_tokens), "stop": tuple(stop or ())}


class MemosRetriever(BaseRetriever):
    """Recalled memories as documents, best first: `id` is the cube's id, `metadata` holds score, reasons, time, sources and path.

    memos: an open MemOS. scope: whose memory. k: how many, also per call: `retriever.invoke(query, k=3)`. Reads only.
    """

    memos: Any = Field(repr=False, exclude=True)
    scope: ScopeLike
    k: int = 10

    def _get_relevant_documents(self, query: str, *, run_manager: Any, k: int | None = None) -> list[Document]:
        recall = self.memos.recall(query, scope=self.scope, k=self.k if k is None else k)
        return [_document(hit) for hit in recall.hits]


class MemosMiddleware(AgentMiddleware):
    """Memory for `create_agent`: recalled text reaches the model with each call and is never saved into the agent's state.

    memos: an open MemOS. scope, session: whose memory and which conversation, or functions of the runtime, such as
    `lambda runtime: ("clinic", runtime.context.user)`. Without a session, the run's `thread_id`, else "default".
    token_budget, k: as in MemosChat.

    The turn (last human message, final answer) is remembered once, with the final answer; a run that ends otherwise (structured
    output, a tool that returns directly, another middleware's last word) is remembered when the agent ends. Put it first in
    `middleware=[...]`, so that retries of others happen inside. It keeps nothing between calls: one instance serves all users.
    Errors of the memory are raised, and end the run.
    """

    def __init__(
        self,
        *,
        memos: Any,
        scope: ScopeLike | Callable[[Any], ScopeLike],
        session: str | Callable[[Any], str] | None = None,
        token_budget: int = 512,
        k: int = 8,
    ) -> None:
        super().__init__()
        self.memos = memos
        self.scope = scope
        self.session = session
        self.token_budget = token_budget
        self.k = k

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
        """Call the model with memory in its prompt; remember the turn when the answer is final."""
        turn, placed = self._begin_call(request)
        response = handler(placed)
        self._commit_call(turn, response)
        return response

    async def awrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]) -> ModelResponse:
        """The same; the memory is read and written in a worker thread."""
        turn, placed = await asyncio.to_thread(self._begin_call, request)
        response = await handler(placed)
        await asyncio.to_thread(self._commit_call, turn, response)
        return response

    def after_agent(self, state: Any, runtime: Any) -> None:
        """Remember a run that ended without a final answer of the model. What is remembered already stays as it is."""
        messages = state["messages"]
        if (turn := self._begin(messages, runtime)) is not None and not isinstance(messages[-1], HumanMessage):
            structured = state.get("structured_response")
            turn.commit(_text(messages[-1]) if structured is None else _as_json(structured))

    async def aafter_agent(self, state: Any, runtime: Any) -> None:
        """The same, in a worker thread."""
        await asyncio.to_thread(self.after_agent, state, runtime)

    def _begin(self, messages: Sequence[BaseMessage], runtime: Any) -> Turn | None:
        """The turn under way; None when no user has said anything yet."""
        conversation = [_as_dict(message) for message in messages]
        if not any(message["role"] == "user" for message in conversation):
            return None
        scope = self.scope(runtime) if callable(self.scope) else self.scope
        session = self.session(runtime) if callable(self.session) else self.session
        if session is None:
            session = getattr(getattr(runtime, "execution_info", None), "thread_id", None)
        return self.memos.begin(conversation, scope=scope, session=session, token_budget=self.token_budget, k=self.k)

    def _begin_call(self, request: ModelRequest) -> tuple[Turn | None, ModelRequest]:
        system = [] if request.system_message is None else [request.system_message]
        messages = [*system, *request.messages]
        turn = self._begin(messages, request.runtime)
        if turn is None:
            return None, request
        placed = _placed(messages, turn.plan)
        if not isinstance(placed[0], SystemMessage):
            return turn, request.override(messages=placed)
        return turn, request.override(system_message=placed[0], messages=placed[1:])

    def _commit_call(self, turn: Turn | None, response: ModelResponse) -> None:
        if turn is not None and response.result:
            _commit(turn, response.result[-1])


def text_model(model: BaseChatModel) -> Callable[[str], str]:
    """A chat model as `MemOS.open(model=...)` takes it, from a prompt to text: it reads facts out of messages and judges contradictions."""
    return lambda prompt: _text(model.invoke(prompt))


# ---------------------------------------------------------------------- messages
def _text(message: BaseMessage) -> str:
    return str(message.text)


def _as_dict(message: BaseMessage) -> dict[str, Any]:
    """A message as the core takes it: a user's with its images. A summary that middleware wrote is not what the user said."""
    if isinstance(message, HumanMessage):
        role = "assistant" if message.additional_kwargs.get("lc_source") == "summarization" else "user"
    elif isinstance(message, AIMessage):
        role = "assistant"
    else:
        role = message.role if isinstance(message, ChatMessage) else "system" if isinstance(message, SystemMessage) else "tool"
    optional = {"id": message.id, "name": message.name if role == "user" else None}
    pictured = role == "user" and any(block["type"] == "image" for block in message.content_blocks)
    content = [dict(block) for block in message.content_blocks] if pictured else _text(message)
    return {"role": role, "content": content, **{key: value for key, value in optional.items() if value is not None}}


def _placed(messages: Sequence[BaseMessage], plan: Plan) -> list[BaseMessage]:
    """The messages with the plan's memory in them, as copies where something changes; all other attributes stay."""
    texts = {insertion.index: insertion.text for insertion in plan.insertions}
    placed = [_with_text(message, texts.get(index, ""), "") for index, message in enumerate(messages)]
    if plan.head and isinstance(placed[0], SystemMessage):
        placed[0] = _with_text(placed[0], "", f"\n\n{plan.head}")
    elif plan.head:
        placed.insert(0, SystemMessage(content=f"{plan.shared_system}\n\n{plan.head}"))
    return placed


def _with_text(message: BaseMessage, before: str, after: str) -> BaseMessage:
    if not before and not after:
        return message
    if isinstance(message.content, str):
        return message.model_copy(update={"content": f"{before}{message.content}{after}"})
    blocks = [[{"type": "text", "text": text}] if text else [] for text in (before, after)]
    return message.model_copy(update={"content": [*blocks[0], *message.content, *blocks[1]]})


def _commit(turn: Turn, message: BaseMessage) -> None:
    """Remember the turn if the message answers it: tool calls, or what a tool said, do not."""
    if isinstance(message, AIMessage) and not (message.tool_calls or message.invalid_tool_calls):
        turn.commit(_text(message))


def _as_json(value: Any) -> str:
    if hasattr(value, "model_dump_json"):
        return str(value.model_dump_json())
    return json.dumps(value, ensure_ascii=False, default=vars)


def _used(turn: Turn) -> dict[str, Any]:
    """What of the memory is in the prompt, and why."""
    plan = turn.plan
    used = [{"id": each.id, "form": str(each.form), "reason": each.reason, "text": each.text} for each in (*plan.reuse, *plan.inject)]
    spent = {"left_out": len(plan.left_out), "tokens": plan.tokens, "why": list(plan.why)}
    return {"scope": list(turn.scope), "session": turn.session, "used": used, **spent}


def _cost(reply: Any, model_name: str) -> dict[str, Any]:
    """An engine's reply as LangChain's fields of a message."""
    usage = UsageMetadata(
        input_tokens=reply.prompt_tokens,
        output_tokens=len(reply.token_ids),
        total_tokens=reply.prompt_tokens + len(reply.token_ids),
        input_token_details={"cache_read": reply.reused_tokens},
    )
    metadata = {"model_name": model_name, "finish_reason": reply.finish_reason, "exact": reply.exact}
    return {"usage_metadata": usage, "response_metadata": {**metadata, "seconds_to_first_token": reply.seconds_to_first_token}}


def _last_chunk(turn: Turn, response_metadata: dict[str, Any] | None = None, **fields: Any) -> ChatGenerationChunk:
    metadata = {**(response_metadata or {}), "memos": _used(turn)}
    return ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata=metadata, chunk_position="last", **fields))


def _as_chunk(result: ChatResult) -> ChatGenerationChunk:
    fields = result.generations[0].message.model_dump(exclude={"type"})
    return ChatGenerationChunk(message=AIMessageChunk(**fields, chunk_position="last"))


def _document(hit: Any) -> Document:
    known = hit.cube.identifiers
    described = known.model_dump(mode="json", include={"occurred_at", "sources", "path", "session", "speaker"})
    found = {"score": hit.score, "reasons": [str(reason) for reason in hit.reasons]}
    metadata = {**described, "scope": list(hit.cube.governance.scope), **found}
    return Document(id=hit.cube.id, page_content=hit.cube.payload.text, metadata=metadata)

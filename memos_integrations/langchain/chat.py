"""MemosChat: a chat model that remembers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableLambda, ensure_config, run_in_executor
from pydantic import AfterValidator, Field, model_validator

from memos_core import InvalidInput, NotAvailable, Turn, as_memos
from memos_integrations.langchain.engine import (
    arguments,
    as_message,
    called,
    for_engine,
    is_engine,
    last_piece,
    offered,
    pieces_said,
    profile_of,
)
from memos_integrations.langchain.messages import ScopeLike, as_dict, commit, placed
from memos_integrations.langchain.running import session_in

TAKEN_OVER = ("profile", "rate_limiter", "disable_streaming", "output_version", "callbacks", "tags")
"""What a chat model was given holds for MemosChat around it, which calls it below the place where LangChain looks at these."""


class MemosChat(BaseChatModel):
    """A chat model with memory: each call recalls, puts what fits before the user's message, answers, and remembers the turn.

    memos: an open MemOS. scope: whose memory. model: any chat model, or an HFEngine, whose KV of the memory is then reused.
    session: the conversation; without one, "default". token_budget: tokens that memory may take of a prompt. k: memories recalled
    per turn. max_tokens: length of an HFEngine's answer.

    One call may name another conversation in `config["configurable"]`: `session` (or `session_id`, `thread_id`) and `scope`. They
    win over the constructor's, so that one instance can serve many users; they are the application's to fill, never the user's.
    The last human message and the final answer are remembered in one transaction before the call returns, once: messages that are shown
    again, with their ids or word for word without any, are the same turn, a plain text is said anew. A message that is edited under its id
    is taken for the one that was answered: what is to be remembered anew needs a new id. A message with tool calls is not final:
    the turn is remembered when its text answer comes; but what `with_structured_output` asked for is an answer. An agent whose runs end in
    another way (structured output, a tool that returns directly) takes MemosMiddleware. A stream that fails or is abandoned remembers nothing.
    What the inner chat model was given, such as callbacks, holds for this one.
    An HFEngine calls tools where its model's chat template shows them, which `engine.takes_tools` says (that of the small default model
    does not). A call is asked for, never forced: structured output raises OutputParserException where the model says something else.
    What was used, and why, is in `response_metadata["memos"]`. Errors of the memory are raised, never swallowed.
    """

    memos: Annotated[Any, AfterValidator(as_memos)] = Field(repr=False, exclude=True)
    scope: ScopeLike | None = None
    model: Any = Field(repr=False, exclude=True)
    session: str | None = None
    token_budget: int = 512
    k: int = 8
    max_tokens: int = 256
    streaming: bool | None = None  # as LangChain knows it of chat models: whether `invoke` streams, for callbacks
    cache: Any = False  # an answer from LangChain's cache would pass the memory by

    @model_validator(mode="after")
    def _check_model(self) -> MemosChat:
        if isinstance(self.model, BaseChatModel):
            for name in TAKEN_OVER:
                setattr(self, name, getattr(self, name) or getattr(self.model, name))
            self.metadata = {**(self.model.metadata or {}), **(self.metadata or {})}
            if "streaming" in self.model.model_fields_set - self.model_fields_set:
                self.streaming = getattr(self.model, "streaming", None)
        elif self._has_engine():
            self.profile = self.profile or profile_of(self.model)
        else:
            raise InvalidInput(f"model must be a LangChain chat model or an HFEngine, got {type(self.model).__name__}")
        return self

    @property
    def _llm_type(self) -> str:
        return "memos-chat"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        own = {**super()._get_ls_params(stop=stop, **kwargs), "ls_model_name": kwargs.get("model") or self._model_name()}
        return own if self._has_engine() else {**own, **self.model._get_ls_params(stop=stop, **kwargs)}

    def get_token_ids(self, text: str) -> list[int]:
        """A text's tokens, as the model has them."""
        return self.model.tokenizer.encode(text, add_special_tokens=False) if self._has_engine() else self.model.get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """How many they are."""
        return super().get_num_tokens(text) if self._has_engine() else self.model.get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """The tokens of a conversation as the model counts them, without memory: for `trim_messages` and the like."""
        counter = super() if self._has_engine() else self.model
        return counter.get_num_tokens_from_messages(messages, tools)

    # ------------------------------------------------------------------ which conversation
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """Answer, and remember the turn. Raises what the model or the memory raises."""
        return super().invoke(_said(input), config, **self._addressed(config, kwargs))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """Answer, and remember the turn; the memory is read and written in a worker thread."""
        return await super().ainvoke(_said(input), config, **self._addressed(config, kwargs))

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[AIMessageChunk]:
        """Answer piece by piece; the turn is remembered before the last, empty piece."""
        return super().stream(_said(input), config, **self._addressed(config, kwargs))

    def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[AIMessageChunk]:
        """Answer piece by piece; the turn is remembered before the last, empty piece."""
        return super().astream(_said(input), config, **self._addressed(config, kwargs))

    def stream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As in LangChain; remembers as `stream` does."""
        return super().stream_events(_said(input), config, **self._addressed(config, kwargs))

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As in LangChain; remembers as `astream` does."""
        return super().astream_events(_said(input), config, **self._addressed(config, kwargs))

    def _addressed(self, config: RunnableConfig | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The call's arguments with the scope and session it is for."""
        named = ensure_config(config).get("configurable", {})
        scope = self.scope if named.get("scope") is None else named["scope"]  # one that is empty is refused, and nobody else's is taken
        where = {"memory_scope": scope, "memory_session": session_in(named, self.session)}
        return {**where, "memory_structured": "ls_structured_output_format" in kwargs, **kwargs}

    def _begin(self, messages: Sequence[BaseMessage], kwargs: dict[str, Any]) -> tuple[Turn, dict[str, Any], bool]:
        """The turn under way, the arguments that are left for the model, and whether the answer is to be structured."""
        rest = self._addressed(None, kwargs)
        scope, session, structured = (rest.pop(f"memory_{name}") for name in ("scope", "session", "structured"))
        if scope is None:
            raise InvalidInput('MemosChat has no scope: pass scope= or config={"configurable": {"scope": ...}}')
        shaped = for_engine(messages, self.model.takes_tools) if self._has_engine() else [as_dict(message) for message in messages]
        turn = self.memos.begin(shaped, scope=scope, session=session, token_budget=self.token_budget, k=self.k)
        return turn, rest, structured

    # ------------------------------------------------------------------ answering
    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        turn, rest, structured = self._begin(messages, kwargs)
        if self._has_engine():
            reply = self.model.generate(turn.prompt, turn.plan, turn.scope, **arguments(rest, stop, self.max_tokens))
            result = ChatResult(generations=[ChatGeneration(message=as_message(reply, self._model_name()))])
        else:
            result = self.model._generate(placed(messages, turn.plan), stop=stop, run_manager=run_manager, **rest)
        return self._remember(turn, result, structured)

    async def _agenerate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        if self._has_engine():
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        turn, rest, structured = await run_in_executor(None, self._begin, messages, kwargs)
        result = await self.model._agenerate(placed(messages, turn.plan), stop=stop, run_manager=run_manager, **rest)
        return await run_in_executor(None, self._remember, turn, result, structured)

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        turn, rest, structured = self._begin(messages, kwargs)
        if self._has_engine():
            shown = 0
            with self.model.stream(turn.prompt, turn.plan, turn.scope, **arguments(rest, stop, self.max_tokens)) as pieces:
                for text in pieces_said(pieces, tools=bool(rest.get("tools"))):
                    chunk = ChatGenerationChunk(message=AIMessageChunk(content=text))
                    if run_manager is not None:
                        run_manager.on_llm_new_token(text, chunk=chunk)
                    yield chunk
                    shown += len(text)
            message = as_message(pieces.reply, self._model_name())
            self._commit(turn, message, structured)
            yield _last_chunk(turn, **last_piece(message, shown))
        elif type(self.model)._stream is BaseChatModel._stream:
            result = self.model._generate(placed(messages, turn.plan), stop=stop, run_manager=run_manager, **rest)
            yield _as_chunk(self._remember(turn, result, structured))
        else:
            chunks = []
            for chunk in self.model._stream(placed(messages, turn.plan), stop=stop, run_manager=run_manager, **rest):
                chunks.append(chunk)
                yield chunk
            if (whole := merge_chat_generation_chunks(chunks)) is not None:
                self._commit(turn, whole.message, structured)
                yield _last_chunk(turn)

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if self._has_engine():
            async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
                yield chunk
            return
        turn, rest, structured = await run_in_executor(None, self._begin, messages, kwargs)
        prompt = placed(messages, turn.plan)
        kind = type(self.model)
        if kind._astream is BaseChatModel._astream and kind._stream is BaseChatModel._stream:
            result = await self.model._agenerate(prompt, stop=stop, run_manager=run_manager, **rest)
            yield _as_chunk(await run_in_executor(None, self._remember, turn, result, structured))
            return
        chunks = []
        async for chunk in self.model._astream(prompt, stop=stop, run_manager=run_manager, **rest):
            chunks.append(chunk)
            yield chunk
        if (whole := merge_chat_generation_chunks(chunks)) is not None:
            await run_in_executor(None, self._commit, turn, whole.message, structured)
            yield _last_chunk(turn)

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any) -> Runnable[Any, AIMessage]:
        """The same model with tools; calls still go through the memory.

        tools: functions, classes, LangChain's tools or OpenAI's descriptions. tool_choice: with an HFEngine, what is to be called can be
        asked for ("any"), and made certain only by binding one tool alone.
        Raises NotAvailable with an HFEngine whose chat template shows no tools, or when the inner model returns no ordinary binding.
        """
        if self._has_engine():
            return self.bind(tools=offered(self.model, tools, tool_choice), **kwargs)
        bound = self.model.bind_tools(tools, **({} if tool_choice is None else {"tool_choice": tool_choice}), **kwargs)
        if not isinstance(bound, RunnableBinding) or bound.bound is not self.model:
            raise NotAvailable(
                f"bind_tools of {type(self.model).__name__} returns {type(bound).__name__}; use MemosMiddleware with this model"
            )
        return RunnableBinding(bound=self, kwargs=bound.kwargs, config=bound.config)

    def with_structured_output(self, schema: Any, *, include_raw: bool = False, **kwargs: Any) -> Runnable[Any, Any]:
        """Answers in the form of a schema, by way of a tool.

        Raises what `bind_tools` raises; over an HFEngine, a run raises OutputParserException where the model does not call the tool. With
        include_raw the reply is there, and `parsed` is None.
        """
        chain = super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        if not self._has_engine() or include_raw:
            return chain
        asked, parser = chain.steps
        return asked | RunnableLambda(called) | parser

    def _remember(self, turn: Turn, result: ChatResult, structured: bool) -> ChatResult:
        """Commit a final answer. The result, with what memory was used for it."""
        first, *others = result.generations
        self._commit(turn, first.message, structured)
        metadata = {**first.message.response_metadata, "memos": used(turn)}
        marked = first.model_copy(update={"message": first.message.model_copy(update={"response_metadata": metadata})})
        return ChatResult(generations=[marked, *others], llm_output=result.llm_output)

    def _commit(self, turn: Turn, message: BaseMessage, structured: bool) -> None:
        """Remember the turn if the message answers it; of an HFEngine, an answer in a form comes as a call or not at all."""
        if not self._has_engine() or bool(message.tool_calls) == structured:
            commit(turn, message, structured)

    def _has_engine(self) -> bool:
        return is_engine(self.model)

    def _model_name(self) -> str:
        config = getattr(getattr(self.model, "model", None), "config", None)
        return str(getattr(config, "name_or_path", "") or type(self.model).__name__)


def _said(input: Any) -> Any:
    """A plain text as a message of its own: said anew, even if it was said before."""
    return [HumanMessage(input, id=uuid.uuid4().hex)] if isinstance(input, str) else input


def used(turn: Turn) -> dict[str, Any]:
    """What of the memory is in the prompt, and why."""
    plan = turn.plan
    used = [{"id": each.id, "form": str(each.form), "reason": each.reason, "text": each.text} for each in (*plan.reuse, *plan.inject)]
    spent = {"left_out": len(plan.left_out), "tokens": plan.tokens, "why": list(plan.why)}
    return {"scope": list(turn.scope), "session": turn.session, "used": used, **spent}


def _last_chunk(turn: Turn, content: str = "", response_metadata: dict[str, Any] | None = None, **fields: Any) -> ChatGenerationChunk:
    metadata = {**(response_metadata or {}), "memos": used(turn)}
    return ChatGenerationChunk(message=AIMessageChunk(content=content, response_metadata=metadata, chunk_position="last", **fields))


def _as_chunk(result: ChatResult) -> ChatGenerationChunk:
    """A whole answer as a stream's only piece, with what LangChain puts into an answer's metadata from beside it."""
    first = result.generations[0]
    fields = first.message.model_dump(exclude={"type"})
    fields["response_metadata"] = {**(result.llm_output or {}), **fields["response_metadata"]}
    return ChatGenerationChunk(message=AIMessageChunk(**fields, chunk_position="last"), generation_info=first.generation_info)

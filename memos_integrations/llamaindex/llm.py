"""An HFEngine as LlamaIndex's LLM."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response, stream_chat_response_to_completion_response
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata, ToolCallBlock
from llama_index.core.base.llms.types import MessageRole as Role
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection

from memos_core import InvalidInput, NotAvailable, Plan
from memos_core.hf import surely_said
from memos_integrations.llamaindex.memory import MemosMemory
from memos_integrations.llamaindex.messages import for_engine, tool_calls


class MemosLLM(FunctionCallingLLM):
    """An HFEngine as LLM: each prompt is computed only from where the KV known for its scope ends.

    engine: an HFEngine. scope: whose content the prompts hold, None for public. max_tokens: length of an answer.
    memory: the conversation it answers, set by `MemosMemory.llm`. Then the conversation's stable memory goes behind the leading
    system text, in one system message, which is the text that the scheduler prefills KV for.
    The answer's `additional_kwargs` say what it cost: prompt_tokens, completion_tokens, reused_tokens, seconds_to_first_token.
    Arguments of a call: max_tokens, stop, temperature, top_p, seed, reuse. Raises what the engine raises.

    It calls functions where the model's chat template shows tools, which `metadata.is_function_calling_model` says (that of the small
    default model does not: take a ReActAgent, and structured output is read from its text). A call is asked for, never forced.
    """

    engine: Any = Field(exclude=True, repr=False)
    scope: str | tuple[str, ...] | None = None
    max_tokens: int = 256
    memory: MemosMemory | None = Field(default=None, exclude=True, repr=False)

    @classmethod
    def class_name(cls) -> str:
        return "MemosLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What the model is: its context window, its name, whether it can be shown tools."""
        config = self.engine.model.config
        name = getattr(config, "name_or_path", "") or type(self.engine.model).__name__
        known = {} if self.engine.context_window is None else {"context_window": self.engine.context_window}
        tools = bool(self.engine.takes_tools)
        return LLMMetadata(num_output=self.max_tokens, is_chat_model=True, model_name=name, is_function_calling_model=tools, **known)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        prompt, plan = self._prompt(messages)
        return self._answer(prompt, plan, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Iterator[ChatResponse]:
        """Answer a conversation piece by piece; the last piece is empty and carries the costs."""
        prompt, plan = self._prompt(messages)
        return self._pieces(prompt, plan, kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a text, as the only message of a conversation; no memory is put into it."""
        return chat_response_to_completion_response(self._answer([{"role": "user", "content": prompt}], None, kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Iterator[CompletionResponse]:
        """The same, piece by piece; the last piece is empty and carries the costs."""
        return stream_chat_response_to_completion_response(self._pieces([{"role": "user", "content": prompt}], None, kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation in a worker thread."""
        return await asyncio.to_thread(self.chat, messages, **kwargs)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a text in a worker thread."""
        return await asyncio.to_thread(self.complete, prompt, formatted, **kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncIterator[ChatResponse]:
        """Answer a conversation piece by piece in a worker thread."""
        return _in_thread(await asyncio.to_thread(self.stream_chat, messages, **kwargs))

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> AsyncIterator[CompletionResponse]:
        """Answer a text piece by piece in a worker thread."""
        return _in_thread(await asyncio.to_thread(self.stream_complete, prompt, formatted, **kwargs))

    def _prompt(self, messages: Sequence[ChatMessage]) -> tuple[list[dict[str, Any]], Plan | None]:
        """The messages for the engine, and the plan they follow, if they are the memory's conversation."""
        prompt = for_engine(messages, self.engine.takes_tools)
        if self.memory is None or self.memory.last_turn is None or not self.memory.asks(messages):
            return prompt, None
        leading = next((place for place, message in enumerate(prompt) if message["role"] != "system"), len(prompt))
        shown = self.memory.last_turn.plan.head
        system = "\n\n".join(message["content"] for message in prompt[:leading] if message["content"] != shown) or None
        turn = self.memory.begin_behind(system)
        assert turn is not None
        whole = f"{turn.plan.shared_system}\n\n{turn.plan.head}" if turn.plan.head else system
        return [*([] if whole is None else [{"role": "system", "content": whole}]), *prompt[leading:]], turn.plan

    # ------------------------------------------------------------------ functions
    def _prepare_chat_with_tools(
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        if tool_choice not in (None, "auto", "required"):
            raise NotAvailable(f"an HFEngine cannot be made to call {tool_choice!r}; offer it that tool alone")
        asked = [ChatMessage(role=Role.USER, content=user_msg)] if isinstance(user_msg, str) else [user_msg] if user_msg else []
        described = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
        return {"messages": [*(chat_history or ()), *asked], "tools": described, **kwargs}

    def _validate_chat_with_tools_response(
        self, response: ChatResponse, tools: Sequence[Any], allow_parallel_tool_calls: bool = False, **kwargs: Any
    ) -> ChatResponse:
        """The response with its first call alone, where one is all that is asked for."""
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not allow_parallel_tool_calls:
            response.message.blocks = [block for block in response.message.blocks if block not in calls[1:]]
        return response

    def get_tool_calls_from_response(self, response: ChatResponse, error_on_no_tool_call: bool = True, **_: Any) -> list[ToolSelection]:
        """The calls that a response asks for. Raises ValueError when there is none and one is needed."""
        calls = tool_calls(response.message)
        if error_on_no_tool_call and not calls:
            raise ValueError(f"the model called no tool; it said {response.message.content!r}")
        return [ToolSelection(tool_id=call["id"] or "", tool_name=call["name"], tool_kwargs=call["arguments"]) for call in calls]

    # ------------------------------------------------------------------ the engine
    def _answer(self, prompt: list[dict[str, Any]], plan: Plan | None, given: dict[str, Any]) -> ChatResponse:
        return _response(self.engine.generate(prompt, plan, self.scope, **self._arguments(given)))

    def _pieces(self, prompt: list[dict[str, Any]], plan: Plan | None, given: dict[str, Any]) -> Iterator[ChatResponse]:
        arguments = self._arguments(given)
        text = shown = ""
        with self.engine.stream(prompt, plan, self.scope, **arguments) as pieces:
            for piece in pieces:
                text += piece
                said = surely_said(text) if arguments["tools"] else text
                delta, shown = said[len(shown) :], said
                if delta:
                    yield ChatResponse(message=ChatMessage(role=Role.ASSISTANT, content=shown), delta=delta)
        yield _response(pieces.reply, delta=pieces.reply.said[len(shown) :])

    def _arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        if unknown := given.keys() - {"max_tokens", "stop", "temperature", "top_p", "seed", "reuse", "tools"}:
            raise InvalidInput(f"an HFEngine takes no {', '.join(sorted(unknown))}; see MemosLLM for what it takes")
        known = {name: given[name] for name in ("temperature", "top_p", "seed", "reuse") if name in given}
        ends = {"max_new_tokens": given.get("max_tokens", self.max_tokens), "stop": given.get("stop") or ()}
        return {**known, **ends, "tools": tuple(given.get("tools") or ())}


def _response(reply: Any, delta: str | None = None) -> ChatResponse:
    """An engine's reply with what it cost, where LlamaIndex's users and its token counter look for it."""
    new = len(reply.token_ids)
    cost = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": new, "total_tokens": reply.prompt_tokens + new}
    cost |= {
        "reused_tokens": reply.reused_tokens,
        "seconds_to_first_token": reply.seconds_to_first_token,
        "finish_reason": reply.finish_reason,
    }
    calls = [ToolCallBlock(tool_call_id=uuid.uuid4().hex, tool_name=call.name, tool_kwargs=call.arguments) for call in reply.tool_calls]
    message = ChatMessage(role=Role.ASSISTANT, content=reply.said, additional_kwargs=dict(cost))
    message.blocks.extend(calls)
    return ChatResponse(message=message, delta=delta, raw={**cost, "usage": dict(cost)}, additional_kwargs=cost)


async def _in_thread(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece

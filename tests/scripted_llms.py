"""Models of LlamaIndex that answer from a script: what its engines and agents are driven with where no answer of a real model matters."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection

from memos_core import MemOS

ANA = ("clinic", "ana")


class Scripted(CustomLLM):
    """Answers from a list, or as a function of the conversation says, and keeps the conversations it saw."""

    script: Any = Field(default_factory=list)
    seen: list[list[ChatMessage]] = Field(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True)

    def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        said = self._next(messages)
        if isinstance(said, Exception):
            raise said
        return ChatResponse(message=ChatMessage(role="assistant", content=said))

    def _next(self, messages: Any) -> Any:
        self.seen.append(copy.deepcopy(list(messages)))
        return self.script(self.seen[-1]) if callable(self.script) else self.script[len(self.seen) - 1]

    def stream_chat(self, messages: Any, **kwargs: Any) -> Iterator[ChatResponse]:
        whole = self.chat(messages)

        def pieces() -> Iterator[ChatResponse]:
            text = ""
            for word in str(whole.message.content).split(" "):
                text += (" " if text else "") + word
                yield ChatResponse(message=ChatMessage(role="assistant", content=text), delta=word if text == word else f" {word}")

        return pieces()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=str(self.chat([ChatMessage(content=prompt)]).message.content))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Iterator[CompletionResponse]:
        yield self.complete(prompt)


class Calling(Scripted, FunctionCallingLLM):
    """The same with function calling: a script entry ("tool", name) or ("tool", name, arguments) calls it."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True)

    def _prepare_chat_with_tools(self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kwargs: Any) -> dict[str, Any]:
        return {"messages": list(chat_history or [])}

    async def achat_with_tools(self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kwargs: Any) -> ChatResponse:
        said = self._next(chat_history)
        if isinstance(said, tuple):
            call = {"id": "c1", "name": said[1], "arguments": said[2] if len(said) > 2 else {}}
            return ChatResponse(message=ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [call]}))
        return ChatResponse(message=ChatMessage(role="assistant", content=said))

    async def astream_chat_with_tools(self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kwargs: Any) -> Any:
        whole = await self.achat_with_tools(tools, chat_history=chat_history)

        async def pieces() -> Any:
            yield whole

        return pieces()

    def get_tool_calls_from_response(self, response: Any, error_on_no_tool_call: bool = True, **kwargs: Any) -> list[ToolSelection]:
        calls = response.message.additional_kwargs.get("tool_calls", [])
        return [ToolSelection(tool_id=call["id"], tool_name=call["name"], tool_kwargs=call["arguments"]) for call in calls]


def said(memos: MemOS, session: str, scope: tuple[str, ...] = ANA) -> list[tuple[str | None, str]]:
    return [(cube.identifiers.role, cube.payload.text) for cube in memos.conversation(scope=scope, session=session)]


def contents(messages: list[ChatMessage]) -> list[str]:
    return [message.content or "" for message in messages]


def clock() -> str:
    """The time."""
    return "It is nine."

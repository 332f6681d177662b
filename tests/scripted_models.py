"""Chat models of LangChain that answer from a script: what its chains and agents are driven with where no answer of a real model matters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from pydantic import Field

from memos_core import MemOS

ANA = ("clinic", "ana")
BEN = ("clinic", "ben")
FACT = "Ana is allergic to penicillin."
QUESTION = "Which antibiotic is safe for Ana, who asks about penicillin?"


class Scripted(BaseChatModel):
    """Answers from a script, or by a function of the prompt, and keeps the prompts it saw."""

    script: list[Any] = Field(default_factory=list)
    answer: Callable[[list[BaseMessage]], Any] | None = None
    seen: list[list[BaseMessage]] = Field(default_factory=list)
    given: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.seen.append(copy.deepcopy(messages))
        self.given.append(kwargs)
        said = self.answer(messages) if self.answer else self.script[len(self.seen) - 1]
        if isinstance(said, Exception):
            raise said
        message = said if isinstance(said, AIMessage) else AIMessage(content=said)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[getattr(each, "name", str(each)) for each in tools], **kwargs)


class Streaming(Scripted):
    """The same, word by word. An exception in the script is raised after the words before it."""

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.seen.append(copy.deepcopy(messages))
        for word in self.script[len(self.seen) - 1]:
            if isinstance(word, Exception):
                raise word
            yield ChatGenerationChunk(message=word if isinstance(word, AIMessageChunk) else AIMessageChunk(content=word))


def said(memos: MemOS, scope: tuple[str, ...] = ANA, session: str = "default") -> list[tuple[str | None, str]]:
    return [(cube.identifiers.role, cube.payload.text) for cube in memos.conversation(scope=scope, session=session)]


def calling(name: str, **arguments: Any) -> AIMessage:
    return AIMessage(content="", tool_calls=[{"name": name, "args": arguments, "id": f"call-{name}"}])


@tool
def clock() -> str:
    """The time."""
    return "It is nine."

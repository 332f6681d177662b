"""LangChain's messages as the core takes them, and a plan's memory put into them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage

from memos_core import Plan, Turn

ScopeLike = str | tuple[str, ...]
_SUMMARY = "Here is a summary of the conversation to date:\n\n"
"""How SummarizationMiddleware begins; before LangChain 1.2 it left no other sign."""


def text_of(message: BaseMessage) -> str:
    return str(message.text)


def as_dict(message: BaseMessage) -> dict[str, Any]:
    """A message as the core takes it: a user's with its images and files. A summary that middleware wrote is not what the user said."""
    if isinstance(message, HumanMessage):
        summed_up = message.additional_kwargs.get("lc_source") == "summarization" or text_of(message).startswith(_SUMMARY)
        role = "assistant" if summed_up else "user"
    elif isinstance(message, AIMessage):
        role = "assistant"
    else:
        role = message.role if isinstance(message, ChatMessage) else "system" if isinstance(message, SystemMessage) else "tool"
    optional = {"id": message.id, "name": message.name if role == "user" else None}
    blocks = message.content_blocks if role == "user" and not isinstance(message.content, str) else []
    more = any(block["type"] != "text" for block in blocks)
    content = [dict(block) for block in blocks] if more else text_of(message)
    return {"role": role, "content": content, **{key: value for key, value in optional.items() if value is not None}}


def placed(messages: Sequence[BaseMessage], plan: Plan) -> list[BaseMessage]:
    """The messages with the plan's memory in them, as copies where something changes; all other attributes stay."""
    texts = {insertion.index: insertion.text for insertion in plan.insertions}
    placed = [_with_text(message, texts.get(index, ""), "") for index, message in enumerate(messages)]
    if plan.head and as_dict(placed[0])["role"] == "system":
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


def answers(message: BaseMessage) -> bool:
    """Whether a message is the assistant's final word: tool calls, or what a tool said, are not."""
    return isinstance(message, AIMessage) and not (message.tool_calls or message.invalid_tool_calls)


def commit(turn: Turn, message: BaseMessage, structured: bool = False) -> None:
    """Remember the turn if the message answers it. structured: so does a tool call, which is the form that the answer was asked in."""
    if answers(message):
        turn.commit(text_of(message))
    elif structured and isinstance(message, AIMessage) and message.tool_calls:
        turn.commit(as_json(message.tool_calls[0]["args"]))


def as_json(value: Any) -> str:
    if hasattr(value, "model_dump_json"):
        return str(value.model_dump_json())
    return json.dumps(value, ensure_ascii=False, default=vars)

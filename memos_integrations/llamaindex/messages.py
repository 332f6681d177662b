"""LlamaIndex's messages as the memory and the engine take them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import CachePoint, ChatMessage, ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.base.llms.types import MessageRole as Role

from memos_core import NotAvailable
from memos_core.hf import spoken

_MARK = re.compile(r"^\[(?:image|audio|video|document)(?:: .*)?\]$\n?", re.MULTILINE)
"""What stands in a remembered text for what is no text."""
_REASONED = re.compile(r"\A\s*(?=Thought:)(?:.*^)?Thought:.*?^Answer:\s*", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Said:
    """A message of a conversation, and the id under which the memory knows it. tokens: of it, where somebody counts."""

    message: ChatMessage
    id: str | None = None
    tokens: int = 0

    @property
    def text(self) -> str:
        return self.message.content or ""

    @property
    def role(self) -> str:
        """user, system, tool, call (of a tool, by the assistant), or assistant, for all else that a model said."""
        if self.message.role in (Role.ASSISTANT, Role.CHATBOT, Role.MODEL):
            return "call" if tool_calls(self.message) else "assistant"
        return {Role.USER: "user", Role.SYSTEM: "system", Role.DEVELOPER: "system"}.get(self.message.role, "tool")

    @property
    def worth(self) -> str:
        """The text to remember: of what a ReActAgent writes (thoughts, actions, observations, an answer), the answer alone."""
        return _REASONED.sub("", self.text) if self.role == "assistant" else self.text

    @property
    def pictures(self) -> tuple[str, ...]:
        """The images that a user's message holds: base64 where the bytes are there, else addresses."""
        return tuple(_picture(block) for block in self.message.blocks if isinstance(block, ImageBlock)) if self.role == "user" else ()

    @property
    def is_more_than_text(self) -> bool:
        """Whether a user's message holds images, sound, documents and the like."""
        return self.role == "user" and _more_than_text(self.message)

    @property
    def lasts(self) -> bool:
        """Whether it is a message to remember."""
        return self.role in ("user", "assistant") and bool(self.worth.strip() or self.is_more_than_text)

    @property
    def words(self) -> tuple[str, str]:
        """Who says what, whether images and the like are marked in the text or not: the same of a message and of what is remembered of it."""
        return self.role, _MARK.sub("", self.worth).strip() if self.role == "user" else self.worth

    def as_dict(self) -> dict[str, Any]:
        """The message as the core takes it: with its images, and with a mark for what else is no text."""
        role = "assistant" if self.role == "call" else self.role
        content: Any = [_block(block) for block in self.message.blocks] if self.is_more_than_text else self.worth
        return {"role": role, "content": content, **({} if self.id is None else {"id": self.id})}


def _more_than_text(message: ChatMessage) -> bool:
    return any(not isinstance(block, TextBlock | CachePoint) for block in message.blocks)


def _block(block: Any) -> dict[str, Any]:
    """A block as the core takes it; one that is a file object is read, an address stays one."""
    fields = block.model_dump(exclude_none=True)
    return {**fields, **{name: str(fields[name]) for name in ("url", "path") if name in fields}}


def _picture(block: ImageBlock) -> str:
    data = block.image if isinstance(block.image, bytes | None) else base64.b64encode(_block(block)["image"])
    return data.decode() if data else str(block.url or block.path or "").rpartition("base64,")[2]


def tool_calls(message: ChatMessage) -> list[dict[str, Any]]:
    """The calls that an assistant's message makes: id, name, arguments. From its blocks, or as OpenAI shapes them."""
    found = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if found:
        return [{"id": block.tool_call_id, "name": block.tool_name, "arguments": _arguments(block.tool_kwargs)} for block in found]
    calls = []
    for each in message.additional_kwargs.get("tool_calls") or []:
        one = each if isinstance(each, dict) else {name: getattr(each, name, None) for name in ("id", "function", "name", "arguments")}
        function = one.get("function") or one
        name, given = (function.get(key) if isinstance(function, dict) else getattr(function, key, None) for key in ("name", "arguments"))
        calls.append({"id": one.get("id"), "name": str(name), "arguments": _arguments(given)})
    return calls


def _arguments(given: Any) -> Any:
    """A call's arguments as a dictionary, where they are one."""
    if not isinstance(given, str):
        return dict(given or {})
    try:
        return json.loads(given or "{}")
    except json.JSONDecodeError:
        return given


def for_engine(messages: Sequence[ChatMessage], takes_tools: bool) -> list[dict[str, Any]]:
    """The messages as an HFEngine takes them. takes_tools: whether its model is shown calls as such; else it reads them as JSON.

    Raises NotAvailable for an image and the like from the user or from a tool.
    """
    made, names = [], {}
    for message in messages:
        said, calls = Said(message), tool_calls(message)
        if said.role in ("user", "tool") and _more_than_text(message):
            raise NotAvailable("an HFEngine reads text alone; this conversation holds other content, such as an image")
        one: dict[str, Any] = {"role": "assistant" if said.role == "call" else said.role, "content": said.text}
        if said.role == "call" and takes_tools:
            one["tool_calls"] = calls
        elif said.role == "call":
            one["content"] = spoken(said.text, calls)
        elif said.role == "tool" and (answered := message.additional_kwargs.get("tool_call_id")):
            one |= {"tool_call_id": answered, **({"name": names[answered]} if answered in names else {})}
        names |= {call["id"]: call["name"] for call in calls}
        made.append(one)
    return made


def put_before(message: ChatMessage, text: str) -> None:
    """Recalled text in front of a message's text (of a copy that is ours)."""
    first, *rest = message.blocks or [TextBlock(text="")]
    message.blocks = [TextBlock(text=text + first.text), *rest] if isinstance(first, TextBlock) else [TextBlock(text=text), first, *rest]

"""Tools in a conversation: as a chat template takes them, and the calls in what a model says.

Models write calls in two ways: between <tool_call> tags (Hermes, Qwen, SmolLM3), or as JSON that is the whole answer (Llama, Mistral,
whose marks are special tokens, which an answer's text does not hold).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memos_core.errors import InvalidInput

OPEN = "<tool_call>"
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)\s*", re.DOTALL)
_PROBE = {
    "type": "function",
    "function": {"name": "probe_of_tools", "description": "A probe.", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True)
class ToolCall:
    """A call that a model asks for: of which tool, with which arguments."""

    name: str
    arguments: dict[str, Any]


def takes_tools(tokenizer: Any) -> bool:
    """Whether the tokenizer's chat template shows tools to the model."""
    if not getattr(tokenizer, "chat_template", None):
        return False
    message = [{"role": "user", "content": "Hello."}]
    text = tokenizer.apply_chat_template(message, tools=[_PROBE], tokenize=False, add_generation_prompt=True)
    return "probe_of_tools" in text


def checked_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tools as templates take them. Raises InvalidInput for what is no description of a function."""
    found = []
    for place, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidInput(
                f"tools[{place}] must be a dictionary that describes a function: name, description, parameters (a JSON schema)"
            )
        found.append({"type": "function", "function": dict(function)})
    return found


def checked_calls(calls: Any, place: int) -> list[dict[str, Any]]:
    """The calls of an assistant's message as templates take them. Raises InvalidInput."""
    if isinstance(calls, str | Mapping) or not isinstance(calls, Sequence):
        raise InvalidInput(f"tool_calls of messages[{place}] must be a list")
    found = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidInput(f"tool_calls of messages[{place}] must hold dictionaries with a name and arguments")
        arguments = function.get("arguments") or {}
        one = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
        assert isinstance(call, Mapping)
        found.append({"id": str(call["id"]), **one} if call.get("id") else one)
    return found


def names_of(tools: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The names of checked tools."""
    return frozenset(str(tool["function"]["name"]) for tool in tools)


def read_calls(text: str, names: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls of known tools in an answer. What cannot be read as calls is speech: then there are none."""
    tagged = _TAGGED.findall(text)
    calls = [_call(found, names) for found in tagged] if tagged else _bare(text, names)
    return () if any(call is None for call in calls) else tuple(call for call in calls if call is not None)


def without_calls(text: str) -> str:
    """What an answer with calls says beside them."""
    return _TAGGED.sub("", text).rstrip() if OPEN in text else ""


def spoken(text: str, calls: Sequence[Mapping[str, Any]]) -> str:
    """What an assistant's message says and calls, as text: for a model whose template shows it no calls."""
    return "\n".join(filter(None, [text, *(json.dumps(call, ensure_ascii=False) for call in calls)]))


def surely_said(text: str) -> str:
    """The beginning of an unfinished answer that cannot become part of a call."""
    if text.lstrip()[:1] in ("", "{", "["):
        return ""
    place = text.find(OPEN)
    if place < 0:
        place = next((len(text) - size for size in range(min(len(OPEN) - 1, len(text)), 0, -1) if OPEN.startswith(text[-size:])), len(text))
    return text[:place].rstrip()


def _bare(text: str, names: Collection[str]) -> list[ToolCall | None]:
    if text.strip()[:1] not in ("{", "["):
        return []
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return []
    return [_as_call(each, names) for each in (found if isinstance(found, list) else [found])]


def _call(text: str, names: Collection[str]) -> ToolCall | None:
    try:
        return _as_call(json.loads(text), names)
    except json.JSONDecodeError:
        return None


def _as_call(found: Any, names: Collection[str]) -> ToolCall | None:
    if not isinstance(found, dict) or found.get("name") not in names:
        return None
    arguments = found.get("arguments", found.get("parameters", {}))
    return ToolCall(found["name"], arguments) if isinstance(arguments, dict) else None

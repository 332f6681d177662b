"""An HFEngine's requests and replies as LangChain has them: messages, arguments, costs, tool calls."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.utils.function_calling import convert_to_openai_tool

from memos_core import InvalidInput, NotAvailable
from memos_core.hf import spoken, surely_said
from memos_integrations.langchain.messages import as_dict

_TAKEN = ("temperature", "top_p", "seed", "reuse", "tools")


def is_engine(model: Any) -> bool:
    return hasattr(model, "next_token_logits")


def profile_of(engine: Any) -> dict[str, Any]:
    """What LangChain asks a model's profile for."""
    window = {} if engine.context_window is None else {"max_input_tokens": engine.context_window}
    return {"tool_calling": bool(engine.takes_tools), **window}


def for_engine(messages: Sequence[BaseMessage], takes_tools: bool) -> list[dict[str, Any]]:
    """The messages as an HFEngine takes them. takes_tools: whether its model is shown calls as such; else it reads them as JSON.

    Raises NotAvailable for an image and the like from the user or from a tool.
    """
    made, names = [], {}
    for message in messages:
        if isinstance(message, HumanMessage | ToolMessage) and any(block["type"] != "text" for block in message.content_blocks):
            raise NotAvailable("an HFEngine reads text alone; this conversation holds other content, such as an image")
        one = as_dict(message)
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        shaped = [{"id": call["id"], "name": call["name"], "arguments": call["args"]} for call in calls]
        if calls and takes_tools:
            one["tool_calls"] = shaped
        elif calls:
            one["content"] = spoken(one["content"], shaped)
        elif isinstance(message, ToolMessage):
            one |= {"tool_call_id": message.tool_call_id}
            if name := message.name or names.get(message.tool_call_id):
                one["name"] = name
        names |= {call["id"]: call["name"] for call in calls}
        made.append(one)
    return made


def offered(engine: Any, tools: Sequence[Any], tool_choice: Any) -> list[dict[str, Any]]:
    """Tools as an HFEngine takes them. Raises NotAvailable where its model is shown none, or where one of several is to be forced."""
    if not engine.takes_tools:
        raise NotAvailable(
            "this HFEngine's model cannot call tools: its chat template shows none. Take a model whose template does, or give MemosChat "
            "a chat model with tool calling as model="
        )
    described = [convert_to_openai_tool(tool) for tool in tools]
    named = tool_choice.get("function", tool_choice).get("name") if isinstance(tool_choice, dict) else tool_choice
    alone = len(described) == 1 and named == described[0].get("function", {}).get("name")
    if not alone and named not in (None, "auto", "any", "required", True):
        raise NotAvailable(f"an HFEngine cannot be made to call {named!r}; bind that tool alone")
    return described


def arguments(given: dict[str, Any], stop: Sequence[str] | None, max_tokens: int) -> dict[str, Any]:
    """A call's arguments as an HFEngine takes them. Raises InvalidInput for those that it does not."""
    known = {name: given[name] for name in _TAKEN if name in given}
    if unknown := given.keys() - known.keys() - {"max_tokens", "stream"}:
        raise InvalidInput(f"an HFEngine takes no {', '.join(sorted(unknown))}, but max_tokens and {', '.join(_TAKEN)}")
    return {**known, "max_new_tokens": given.get("max_tokens", max_tokens), "stop": stop or ()}


def as_message(reply: Any, model_name: str) -> AIMessage:
    """A reply with the calls in it, and what it cost."""
    calls = [{"name": call.name, "args": call.arguments, "id": _new_id(), "type": "tool_call"} for call in reply.tool_calls]
    return AIMessage(content=reply.said, tool_calls=calls, **_cost(reply, model_name))


def pieces_said(pieces: Iterator[str], tools: bool) -> Iterator[str]:
    """What is said, piece by piece. tools: whether some of it may be a call, which is held back."""
    text, shown = "", 0
    for piece in pieces:
        text += piece
        said = surely_said(text) if tools else text
        if len(said) > shown:
            yield said[shown:]
            shown = len(said)


def last_piece(message: AIMessage, shown: int) -> dict[str, Any]:
    """The fields of a stream's last piece: what of the message was not shown, its calls, its costs. shown: characters that were."""
    calls = [
        {
            "name": call["name"],
            "args": json.dumps(call["args"], ensure_ascii=False),
            "id": call["id"],
            "index": place,
            "type": "tool_call_chunk",
        }
        for place, call in enumerate(message.tool_calls)
    ]
    fields = {"usage_metadata": message.usage_metadata, "response_metadata": message.response_metadata}
    return {"content": message.text[shown:], "tool_call_chunks": calls, **fields}


def called(message: BaseMessage) -> BaseMessage:
    """A message that calls. Raises OutputParserException for one that does not: structured output is asked for, never forced."""
    if not getattr(message, "tool_calls", None):
        said = str(message.text)
        raise OutputParserException(f"the model did not give the answer as it was asked to; it said {said!r}", llm_output=said)
    return message


def _cost(reply: Any, model_name: str) -> dict[str, Any]:
    usage = UsageMetadata(
        input_tokens=reply.prompt_tokens,
        output_tokens=len(reply.token_ids),
        total_tokens=reply.prompt_tokens + len(reply.token_ids),
        input_token_details={"cache_read": reply.reused_tokens},
    )
    metadata = {"model_name": model_name, "finish_reason": reply.finish_reason, "exact": reply.exact}
    return {"usage_metadata": usage, "response_metadata": {**metadata, "seconds_to_first_token": reply.seconds_to_first_token}}


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex}"

"""MemosChat over an HFEngine whose model calls tools: calls, their results, streams, structured output, agents, and what is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel
from tiny_models import ASK, ASKED, clock_caller, tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemOS, NotAvailable
from memos_core.hf import HFEngine
from memos_integrations.langchain import MemosChat

ANA = ("clinic", "ana")
SYSTEM = SystemMessage(ASKED[0]["content"])


@tool("clock")
def look(zone: str) -> str:
    """The time."""
    return "nine"


class clock(BaseModel):
    """The time."""

    zone: str


@pytest.fixture(scope="module")
def caller() -> Any:
    """An engine whose model calls the tool and then answers."""
    return HFEngine(*clock_caller(*(convert_to_openai_tool(each)["function"] for each in (look, clock))))


@pytest.fixture(scope="module")
def plain() -> Any:
    """An engine whose model is shown no tools."""
    return HFEngine(tiny_model(max_position_embeddings=4096), tiny_tokenizer())


@pytest.fixture
def chat(memos: MemOS, caller: Any) -> Iterator[MemosChat]:
    yield MemosChat(memos=memos, scope=ANA, model=caller, max_tokens=80)


def said(memos: MemOS, scope: tuple[str, ...] = ANA) -> list[tuple[str | None, str]]:
    return [(cube.identifiers.role, cube.payload.text) for cube in memos.conversation(scope=scope, session="default")]


def whole(pieces: Any) -> AIMessage:
    first, *rest = pieces
    for piece in rest:
        first += piece
    return first


TURN = [("user", ASK), ("assistant", "It is nine.")]


def test_a_call_its_result_and_an_answer_of_which_the_answer_alone_is_remembered(memos: MemOS, chat: MemosChat) -> None:
    bound = chat.bind_tools([look], tool_choice="any")
    messages: list[BaseMessage] = [SYSTEM, HumanMessage(ASK)]
    asked = bound.invoke(messages)
    (call,) = asked.tool_calls
    assert (call["name"], call["args"], asked.text) == ("clock", {"zone": "Oslo"}, "") and call["id"]
    assert said(memos) == []
    messages += [asked, look.invoke(call)]
    assert isinstance(messages[-1], ToolMessage)
    final = bound.invoke(messages)
    assert final.text == "It is nine." and final.tool_calls == [] and said(memos) == TURN
    # the second request goes on where the first ended, tools and call included
    assert final.usage_metadata["input_token_details"]["cache_read"] >= asked.usage_metadata["input_tokens"]
    bound.invoke(messages)
    assert said(memos) == TURN


async def test_streams_of_calls_and_of_answers(memos: MemOS, chat: MemosChat) -> None:
    bound = chat.bind_tools([look])
    messages: list[BaseMessage] = [SYSTEM, HumanMessage(ASK)]
    pieces = list(bound.stream(messages))
    asked = whole(pieces)
    (call,) = asked.tool_calls
    assert (call["name"], call["args"], asked.text) == ("clock", {"zone": "Oslo"}, "") and call["id"]
    assert not any(piece.text for piece in pieces) and asked.usage_metadata["output_tokens"] > 0 and said(memos) == []
    messages += [AIMessage(asked.content, tool_calls=asked.tool_calls), ToolMessage("nine", tool_call_id=call["id"])]
    spoken = [piece async for piece in bound.astream(messages)]
    assert whole(spoken).text == "It is nine." and sum(bool(piece.text) for piece in spoken) > 2
    assert said(memos) == TURN


@pytest.mark.parametrize("run", ["invoke", "stream", "ainvoke", "astream"])
async def test_an_agent_over_a_local_model(memos: MemOS, chat: MemosChat, run: str) -> None:
    agent = create_agent(chat, [look], system_prompt=SYSTEM.text)
    question = {"messages": [HumanMessage(ASK)]}
    if run == "stream":
        state = list(agent.stream(question, stream_mode="values"))[-1]
    elif run == "astream":
        state = [each async for each in agent.astream(question, stream_mode="values")][-1]
    else:
        state = agent.invoke(question) if run == "invoke" else await agent.ainvoke(question)
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][-1].text == "It is nine." and said(memos) == TURN


async def test_structured_output_is_a_call_and_the_answer(memos: MemOS, chat: MemosChat, caller: Any) -> None:
    assert chat.with_structured_output(clock).invoke(ASK) == clock(zone="Oslo")
    assert said(memos) == [("user", ASK), ("assistant", '{"zone": "Oslo"}')]
    # of other people: what was said here would be recalled, and this model knows its own prompts alone
    others = [MemosChat(memos=memos, scope=("clinic", name), model=caller, max_tokens=80) for name in "abc"]
    assert await others[0].with_structured_output(clock).ainvoke(ASK) == clock(zone="Oslo")
    assert list(others[1].with_structured_output(convert_to_openai_tool(clock)).stream(ASK))[-1] == {"zone": "Oslo"}
    raw = others[2].with_structured_output(clock, include_raw=True).invoke(ASK)
    assert raw["parsed"] == clock(zone="Oslo") and raw["raw"].tool_calls and raw["parsing_error"] is None
    assert all(said(memos, ("clinic", name)) == said(memos) for name in "abc")


def test_an_answer_in_another_form_than_asked_for_is_an_error_and_not_remembered(memos: MemOS, caller: Any) -> None:
    chat = MemosChat(memos=memos, scope=ANA, model=caller, max_tokens=3)  # too short for a call
    for run in (lambda model: model.invoke(ASK), lambda model: list(model.stream(ASK))):
        with pytest.raises(OutputParserException, match="<to"):
            run(chat.with_structured_output(clock))
    raw = chat.with_structured_output(clock, include_raw=True).invoke(ASK)
    assert raw["parsed"] is None and raw["raw"].text.startswith("<to")
    assert said(memos) == []


def test_which_tool_is_called_cannot_be_forced(chat: MemosChat) -> None:
    @tool
    def calendar(day: str) -> str:
        """A day's entries."""
        return day

    for choice in ("clock", {"type": "function", "function": {"name": "clock"}}):
        assert chat.bind_tools([look], tool_choice=choice).kwargs["tools"] == [convert_to_openai_tool(look)]
        with pytest.raises(NotAvailable, match="'clock'; bind that tool alone"):
            chat.bind_tools([look, calendar], tool_choice=choice)
    with pytest.raises(InvalidInput, match="frequency_penalty"):
        chat.bind_tools([look], frequency_penalty=1.0).invoke(ASK)


def test_a_model_that_is_shown_no_tools_says_so_and_reads_calls_of_others_as_text(memos: MemOS, plain: Any) -> None:
    chat = MemosChat(memos=memos, scope=ANA, model=plain, max_tokens=2)
    for refused in (lambda: chat.bind_tools([look]), lambda: chat.with_structured_output(clock)):
        with pytest.raises(NotAvailable, match="chat template shows none"):
            refused()
    call = {"name": "clock", "args": {"zone": "Oslo"}, "id": "1", "type": "tool_call"}
    costs = [
        chat.invoke(
            [HumanMessage(ASK), AIMessage("", tool_calls=calls), ToolMessage("nine", tool_call_id="1")], reuse=False
        ).usage_metadata["input_tokens"]
        for calls in ([call], [])
    ]
    assert costs[0] > costs[1] + 10


def test_a_tool_that_returns_an_image_is_refused_and_not_left_out(chat: MemosChat) -> None:
    image = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
    call = {"name": "clock", "args": {"zone": "Oslo"}, "id": "1", "type": "tool_call"}
    with pytest.raises(NotAvailable, match="image"):
        chat.invoke([HumanMessage(ASK), AIMessage("", tool_calls=[call]), ToolMessage([image], tool_call_id="1")])


def test_users_of_one_engine_that_calls_tools_share_the_tools_and_nothing_of_theirs(
    tmp_path: Path, hash_embedder: Any, caller: Any
) -> None:
    caller.close()
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=caller) as memos:
        reused = []
        for name in ("ana", "ben", "ana"):
            bound = MemosChat(memos=memos, scope=("clinic", name), model=caller, max_tokens=80).bind_tools([look])
            reused.append(bound.invoke([SYSTEM, HumanMessage(ASK)]).usage_metadata["input_token_details"]["cache_read"])
    public = len(
        caller.tokens([*ASKED[:1], {"role": "user", "content": ""}], add_generation_prompt=False, tools=[convert_to_openai_tool(look)])
    )
    assert reused[0] == 0 and 10 <= reused[1] <= public and reused[2] > public - 10

"""MemosLLM over an HFEngine: alone, as the model of a conversation, and calling functions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel, ConfigDict
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from scripted_llms import ANA, contents, said
from tiny_models import ASK, ASKED, clock_caller

from memos_core import InvalidInput, MemOS, NotAvailable
from memos_integrations.llamaindex import MemosLLM, MemosMemory
from memos_integrations.llamaindex.messages import for_engine

FACT = "Ana is allergic to penicillin."
QUESTION = "Which antibiotic is safe for Ana, who asks about penicillin?"


@pytest.fixture
def memos(tmp_path: Path, hash_embedder: Any) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder) as opened:
        yield opened


@pytest.fixture(scope="module")
def engine() -> Any:
    from tiny_models import tiny_model, tiny_tokenizer

    from memos_core.hf import HFEngine

    return HFEngine(tiny_model(max_position_embeddings=4096), tiny_tokenizer())


def test_an_engine_as_llm(engine: Any) -> None:
    llm = MemosLLM(engine=engine, scope=ANA, max_tokens=6)
    assert llm.metadata.context_window == 4096 and llm.metadata.is_chat_model and not llm.metadata.is_function_calling_model
    messages = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Is penicillin safe?")]
    first, again = llm.chat(messages), llm.chat(messages)
    assert first.message.content == again.message.content and again.additional_kwargs["reused_tokens"] == again.raw["prompt_tokens"] - 1
    assert again.message.additional_kwargs["seconds_to_first_token"] > 0 and first.raw["completion_tokens"] <= 6
    pieces = list(llm.stream_chat(messages))
    assert "".join(piece.delta for piece in pieces) == pieces[-1].message.content == first.message.content
    assert pieces[-1].raw["reused_tokens"] > 0
    whole = llm.complete("Hello.", max_tokens=4)
    assert [piece for piece in llm.stream_complete("Hello.", max_tokens=4)][-1].text == whole.text
    with pytest.raises(InvalidInput, match="logit_bias"):
        llm.chat(messages, logit_bias={})
    with pytest.raises(NotAvailable, match="text"):
        llm.chat([ChatMessage(role="user", blocks=[ImageBlock(image=b"AAAA")])])


def test_what_a_tool_said_reaches_the_engine_with_its_call_or_is_refused() -> None:
    call = ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_call_id="c1", tool_name="clock", tool_kwargs={"zone": "Oslo"})])
    said = ChatMessage(role="tool", content="nine", additional_kwargs={"tool_call_id": "c1"})
    asked = ChatMessage(role="user", content=ASK)
    assert for_engine([asked, call, said], takes_tools=True)[2] == {
        "role": "tool",
        "content": "nine",
        "tool_call_id": "c1",
        "name": "clock",
    }
    shown = ChatMessage(role="tool", blocks=[ImageBlock(image=b"AAAA")], additional_kwargs={"tool_call_id": "c1"})
    with pytest.raises(NotAvailable, match="image"):  # and not left out
        for_engine([asked, call, shown], takes_tools=True)


async def test_an_engine_as_llm_in_async_code(engine: Any) -> None:
    llm = MemosLLM(engine=engine, max_tokens=4)
    messages = [ChatMessage(role="user", content="Is penicillin safe?")]
    whole = (await llm.achat(messages)).message.content
    assert "".join([piece.delta async for piece in await llm.astream_chat(messages)]) == whole
    assert (await llm.acomplete("Is penicillin safe?")).text == whole
    assert [piece async for piece in await llm.astream_complete("Is penicillin safe?")][-1].text == whole


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_kv_prefilled_by_the_scheduler_is_hit_by_the_first_turn_after_reopening(
    tmp_path: Path, hash_embedder: Any, engine: Any, system: str | None
) -> None:
    from memos_core.hf import HFEngine

    engine = HFEngine(engine.model, engine.tokenizer)  # one that has not measured yet whether reading a file is worth it: it tries
    later = datetime.now(UTC) + timedelta(hours=2)
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        memos.remember(FACT, scope=ANA)
        for session in ("a", "b", "c"):
            memory = MemosMemory(memos=memos, scope=ANA, session=session)
            SimpleChatEngine.from_defaults(memory=memory, llm=memory.llm(engine, max_tokens=2), system_prompt=system).chat(QUESTION)
        assert [move.kind for move in memos.tick(later)] == ["prefill"]
    engine.close()
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        memory = MemosMemory(memos=memos, scope=ANA, session="d")
        chat = SimpleChatEngine.from_defaults(memory=memory, llm=memory.llm(engine, max_tokens=2), system_prompt=system)
        chat.chat(QUESTION)
        cost = memory.get_all()[-1].additional_kwargs
        assert memory.last_turn is not None and memory.last_turn.plan.reuse
        assert cost["reused_tokens"] >= engine.count(memory.last_turn.plan.head)
        list(chat.stream_chat("And the dose?").response_gen)
        assert memory.get_all()[-1].additional_kwargs["reused_tokens"] >= cost["prompt_tokens"]


def test_an_llm_of_a_memory_leaves_other_questions_alone(memos: MemOS, engine: Any) -> None:
    memos.remember(FACT, scope=ANA)
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    llm = memory.llm(engine, max_tokens=2)
    memory.put(ChatMessage(role="user", content=QUESTION))
    shown = memory.get()
    before = memory.last_turn
    llm.chat([ChatMessage(role="system", content="Condense."), ChatMessage(role="user", content="Shorten this.")])
    assert memory.last_turn is before
    llm.chat([ChatMessage(role="system", content="Be brief."), *shown])
    assert memory.last_turn is not before and memory.last_turn.plan.shared_system == "Be brief."
    assert contents(memory.get()) == contents(shown)


def test_each_prompt_goes_on_where_the_one_before_ended(memos: MemOS, engine: Any) -> None:
    """Memory is recalled in every turn, and yet nothing that was read before is read again."""
    plums = ("bears", "flowers", "rests", "grows")
    memos.remember([f"The plum tree {verb} in month {number}." for number, verb in enumerate(plums)], scope=ANA)
    memory = MemosMemory(memos=memos, scope=ANA, session="s", k=1)
    chat = SimpleChatEngine.from_defaults(memory=memory, llm=memory.llm(engine, max_tokens=3), system_prompt="Be brief.")
    costs, placed = [], 0
    for verb in plums:
        list(chat.stream_chat(f"In which month is it that the plum tree {verb}?").response_gen)
        costs.append(memory.get_all()[-1].additional_kwargs)
        placed += len(memory.last_turn.plan.placed) if memory.last_turn else 0
    assert placed == 4
    assert all(now["reused_tokens"] >= before["prompt_tokens"] for before, now in pairwise(costs))


@pytest.mark.real
async def test_the_small_default_model_as_llm(tmp_path: Path, hash_embedder: Any) -> None:
    from memos_core.hf import HFEngine

    engine = HFEngine.load()
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        memos.remember(FACT, scope=ANA)
        memory = MemosMemory(memos=memos, scope=ANA, session="s")
        llm = memory.llm(engine, max_tokens=8)
        assert not llm.metadata.is_function_calling_model and llm.metadata.context_window == 8192  # its template shows no tools
        chat = SimpleChatEngine.from_defaults(memory=memory, llm=llm, system_prompt="Be brief.")
        await chat.achat(QUESTION)
        first = memory.get_all()[-1].additional_kwargs
        streamed = await chat.astream_chat("And which dose?")
        assert [piece async for piece in streamed.async_response_gen()]
        assert memory.get_all()[-1].additional_kwargs["reused_tokens"] >= first["prompt_tokens"] > 40
        assert (await llm.acomplete("Say yes.", max_tokens=2)).text


# ---------------------------------------------------------------------- functions
class clock(BaseModel):
    """The time."""

    # described as LangChain describes it, without a title, so that one taught model serves the tests of both
    model_config = ConfigDict(json_schema_extra=lambda shape: shape["properties"]["zone"].pop("title", None))
    zone: str


def look(zone: str) -> str:
    """The time."""
    return "nine"


TOOL = FunctionTool.from_defaults(look, name="clock", description="The time.", fn_schema=clock)


@pytest.fixture(scope="module")
def caller() -> Any:
    """An engine whose model calls the tool and then answers."""
    from memos_core.hf import HFEngine

    tool, form = (each.metadata.to_openai_tool()["function"] for each in (TOOL, get_function_tool(clock)))
    return HFEngine(*clock_caller(tool, form))


async def test_functions_are_called_where_the_template_shows_them(caller: Any, engine: Any) -> None:
    llm = MemosLLM(engine=caller, max_tokens=80)
    assert llm.metadata.is_function_calling_model and not MemosLLM(engine=engine).metadata.is_function_calling_model
    history = [ChatMessage(**message) for message in ASKED]
    response = llm.chat_with_tools([TOOL], chat_history=history)
    (call,) = llm.get_tool_calls_from_response(response)
    assert (call.tool_name, call.tool_kwargs) == ("clock", {"zone": "Oslo"}) and not response.message.content
    result = ChatMessage(role="tool", content="nine", additional_kwargs={"tool_call_id": call.tool_id})
    final = await llm.achat_with_tools([TOOL], chat_history=[*history, response.message, result])
    assert final.message.content == "It is nine." and final.raw["reused_tokens"] >= response.raw["prompt_tokens"]
    assert llm.get_tool_calls_from_response(final, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="called no tool"):
        llm.get_tool_calls_from_response(final)
    pieces = list(llm.stream_chat_with_tools([TOOL], chat_history=history))
    assert "".join(piece.delta or "" for piece in pieces) == "" and isinstance(pieces[-1].message.blocks[-1], ToolCallBlock)
    spoken = list(llm.stream_chat_with_tools([TOOL], chat_history=[*history, response.message, result]))
    assert "".join(piece.delta or "" for piece in spoken) == spoken[-1].message.content == "It is nine." and len(spoken) > 2
    with pytest.raises(NotAvailable, match="that tool alone"):
        llm.chat_with_tools([TOOL], user_msg=ASK, tool_choice="clock")
    with pytest.raises(NotAvailable, match="knows no tools"):
        MemosLLM(engine=engine).chat_with_tools([TOOL], user_msg=ASK)
    assert str(llm.predict_and_call([TOOL], chat_history=history)) == "nine"


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_function_agent_over_a_local_model_with_memory(memos: MemOS, caller: Any, streaming: bool) -> None:
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    agent = FunctionAgent(tools=[TOOL], llm=memory.llm(caller, max_tokens=80), system_prompt=ASKED[0]["content"], streaming=streaming)
    assert str(await agent.run(ASK, memory=memory)) == "It is nine."
    assert said(memos, "s") == [("user", ASK), ("assistant", "It is nine.")]
    answer = memory.get_all()[-1].additional_kwargs
    assert answer["reused_tokens"] > answer["prompt_tokens"] / 2  # the second call goes on where the first ended


def test_structured_output_is_a_call_or_is_read_from_the_text(caller: Any, engine: Any) -> None:
    llm = MemosLLM(engine=caller, max_tokens=80)
    found = llm.structured_predict(clock, PromptTemplate(ASK))
    assert found == clock(zone="Oslo")
    with pytest.raises(ValueError):
        MemosLLM(engine=engine, max_tokens=4).structured_predict(clock, PromptTemplate(ASK))


def test_calls_of_another_model_are_read_as_text(engine: Any) -> None:
    """A conversation that began with a model that calls tools goes on with one whose template knows none."""
    call = ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_call_id="1", tool_name="clock", tool_kwargs={"zone": "Oslo"})])
    openai = {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "Oslo"}'}}]}
    both = [call, ChatMessage(role="assistant", content="", additional_kwargs=openai)]
    question, result = (
        ChatMessage(role="user", content=ASK),
        ChatMessage(role="tool", content="nine", additional_kwargs={"tool_call_id": "1"}),
    )
    costs = [MemosLLM(engine=engine, max_tokens=2).chat([question, one, result]).raw["prompt_tokens"] for one in both]
    bare = MemosLLM(engine=engine, max_tokens=2).chat([question, ChatMessage(role="assistant", content=""), result]).raw["prompt_tokens"]
    assert costs[0] == costs[1] > bare + 10


async def test_a_react_agent_over_a_model_without_tools(memos: MemOS, engine: Any) -> None:
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    agent = ReActAgent(tools=[TOOL], llm=memory.llm(engine, max_tokens=4), streaming=False)
    answer = str(await agent.run(ASK, memory=memory))  # what a random model says is an answer without an act
    assert [(role, text.strip()) for role, text in said(memos, "s")] == [("user", ASK), ("assistant", answer.strip())]


def test_two_users_on_one_engine_share_no_kv_of_what_is_theirs(memos: MemOS, engine: Any) -> None:
    engine.close()
    talk = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="My secret word is plum. What is it?")]
    costs = [MemosLLM(engine=engine, scope=("clinic", name), max_tokens=2).chat(talk).raw for name in ("ana", "ben", "ana")]
    assert [cost["reused_tokens"] for cost in costs] == [0, 0, costs[0]["prompt_tokens"] - 1]
    public = len(engine.tokens([{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}], add_generation_prompt=False))
    engine.close()
    for name in ("ana", "ben"):  # with a memory, the application's own system text is shared, and nothing behind it
        memory = MemosMemory(memos=memos, scope=("clinic", name))
        chat = SimpleChatEngine.from_defaults(memory=memory, llm=memory.llm(engine, max_tokens=2), system_prompt="Be brief.")
        chat.chat("My secret word is plum. What is it?")
        assert (name == "ben") * 10 <= memory.get_all()[-1].additional_kwargs["reused_tokens"] < (public if name == "ben" else 1)


def test_a_failing_engine_reaches_whoever_asks(memos: MemOS, engine: Any) -> None:
    class Broken:
        model, tokenizer, takes_tools, count = engine.model, engine.tokenizer, False, engine.count
        context_window = engine.context_window

        def generate(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("out of memory")

    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    with pytest.raises(RuntimeError, match="out of memory"):
        SimpleChatEngine.from_defaults(memory=memory, llm=memory.llm(Broken())).chat(QUESTION)

"""Every way in which LlamaIndex drives a memory, under the same laws: remembered once, nobody else's, an error when the store fails."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine, SimpleChatEngine
from llama_index.core.memory import Memory
from llama_index.core.storage.chat_store.sql import MessageStatus
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context
from scripted_llms import ANA, Calling, Scripted, clock, contents, said

from memos_core import InvalidInput, MemOS, StoreUnusable
from memos_integrations.llamaindex import MemosMemory, MemosMemoryBlock, MemosRetriever

Ask = Callable[[str], Awaitable[str]]
BEN = ("clinic", "ben")


@pytest.fixture
def memos(tmp_path: Path, hash_embedder: Any) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder) as opened:
        opened.remember("The clinic opens at nine.", scope=("library",))
        yield opened


# ---------------------------------------------------------------------- the doors
def answer(messages: list[ChatMessage]) -> str:
    """A numbered answer to a numbered question, whatever stands around it."""
    asked = re.findall(r"uestion (\w+)", " ".join(contents(messages)))
    return f"Answer {asked[-1]}."


def simple(memos: MemOS, memory: Any, llm: Any) -> Any:
    return SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="Be brief.")


def context(memos: MemOS, memory: Any, llm: Any) -> Any:
    return ContextChatEngine.from_defaults(llm=llm, memory=memory, retriever=MemosRetriever(memos=memos, scope="library"))


def condense(memos: MemOS, memory: Any, llm: Any) -> Any:
    return CondensePlusContextChatEngine.from_defaults(llm=llm, memory=memory, retriever=MemosRetriever(memos=memos, scope="library"))


def whole(engine: Any) -> Ask:
    return lambda question: asyncio.to_thread(lambda: str(engine.chat(question)))


def awhole(engine: Any) -> Ask:
    async def ask(question: str) -> str:
        return str(await engine.achat(question))

    return ask


def streamed(engine: Any) -> Ask:
    return lambda question: asyncio.to_thread(lambda: "".join(engine.stream_chat(question).response_gen))


def astreamed(engine: Any) -> Ask:
    async def ask(question: str) -> str:
        response = await engine.astream_chat(question)
        return "".join([piece async for piece in response.async_response_gen()])

    return ask


def running(agent: Any, memory: Any, handler: bool = False) -> Ask:
    state = Context(agent)

    async def ask(question: str) -> str:
        run = agent.run(question, memory=memory, ctx=state)
        if handler:
            async for _ in run.stream_events():
                pass
        return str(await run)

    return ask


def tools() -> list[FunctionTool]:
    return [FunctionTool.from_defaults(clock)]


def function_agent(memos: MemOS, memory: Any, llm: Any, streaming: bool = False) -> Ask:
    """Calls a tool before each answer."""
    llm.script = lambda messages: answer(messages) if messages[-1].role == "tool" else ("tool", "clock")
    return running(FunctionAgent(tools=tools(), llm=llm, system_prompt="Be brief.", streaming=streaming), memory, streaming)


def react_agent(memos: MemOS, memory: Any, llm: Any, streaming: bool = False) -> Ask:
    """Thinks, acts, observes, answers."""
    act = "Thought: I need the time.\nAction: clock\nAction Input: {}"
    llm.script = lambda messages: f"Thought: now I know.\nAnswer: {answer(messages)}" if "Observation" in contents(messages)[-1] else act
    return running(ReActAgent(tools=tools(), llm=llm, streaming=streaming), memory, streaming)


def workflow(memos: MemOS, memory: Any, llm: Any) -> Ask:
    """Two agents: the first hands over to the second, which answers."""

    def script(messages: list[ChatMessage]) -> Any:
        if "You are the second" in contents(messages)[0]:
            return answer(messages) if messages[-1].role == "tool" and "nine" in contents(messages)[-1] else ("tool", "clock")
        return ("tool", "handoff", {"to_agent": "second", "reason": "knows more"})

    llm.script = script
    first = FunctionAgent(name="first", description="asks", llm=llm, tools=[], can_handoff_to=["second"], streaming=False)
    second = FunctionAgent(name="second", description="knows", llm=llm, tools=tools(), system_prompt="You are the second.", streaming=False)

    async def ask(question: str) -> str:
        return str(await AgentWorkflow(agents=[first, second], root_agent="first").run(question, memory=memory))

    return ask


DOORS: dict[str, Callable[[MemOS, Any, Any], Ask]] = {
    f"{kind.__name__}-{way.__name__}": lambda memos, memory, llm, kind=kind, way=way: way(kind(memos, memory, llm))  # type: ignore[misc]
    for kind in (simple, context, condense)
    for way in (whole, awhole, streamed, astreamed)
} | {
    "function-agent": function_agent,
    "function-agent-streaming": lambda memos, memory, llm: function_agent(memos, memory, llm, True),
    "react-agent": react_agent,
    "react-agent-streaming": lambda memos, memory, llm: react_agent(memos, memory, llm, True),
    "agent-workflow": workflow,
}
doors = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


# ---------------------------------------------------------------------- MemosMemory
@doors
async def test_six_short_turns_are_remembered_once_each(memos: MemOS, door: Any) -> None:
    memos.remember("Ana asks many a question.", scope=ANA)
    llm = Calling(script=answer)
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    ask = door(memos, memory, llm)
    for number in range(6):
        assert (await ask(f"Question {number}?")).strip() == f"Answer {number}."
    expected = [pair for number in range(6) for pair in (("user", f"Question {number}?"), ("assistant", f"Answer {number}."))]
    assert said(memos, "s") == expected
    counts = memos.stats()["counts"]
    assert (counts["turns"], counts["plaintext"]) == (6, 14)
    told = [prompt for prompt in llm.seen if any("Ana asks many" in text for text in contents(prompt))]
    assert len({text for prompt in told for text in re.findall(r"uestion (\d)\?", " ".join(contents(prompt)))}) == 6
    for prompt in told:  # placed once in the conversation, wherever it is read from
        assert " ".join(contents(prompt)).count("Ana asks many") == 1


@doors
async def test_a_failing_store_reaches_whoever_asks(memos: MemOS, door: Any) -> None:
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    ask = door(memos, memory, Calling(script=answer))
    await ask("Question 0?")
    memos.close()
    with pytest.raises((StoreUnusable, ValueError), match="has been closed"):  # a Context wraps what fails when it is loaded
        await ask("Question 1?")


# ---------------------------------------------------------------------- many users on one instance
USER: ContextVar[tuple[str, ...]] = ContextVar("user")


@pytest.mark.parametrize("seed", range(3))
async def test_two_users_on_one_instance_never_see_each_other(memos: MemOS, seed: int) -> None:
    """Through doors taken at random, at the same time, with one block and one retriever for both."""
    shared = MemosMemoryBlock(memos=memos, scope=lambda session: ("clinic", session.partition("-")[0]))
    personal = MemosRetriever(memos=memos, scope=USER.get)
    rng = random.Random(seed)
    own = dict.fromkeys(("ana", "ben"), 0)

    async def day(name: str, other: str) -> None:
        USER.set(("clinic", name))
        for number, kind in enumerate(rng.sample([*rng.sample(list(DOORS), 5), "block", "block", "retriever"], 8)):
            llm = Calling(script=answer)
            session = f"{name}-{seed}-{number}"
            if kind == "block":
                ask = awhole(simple(memos, Memory.from_defaults(session_id=session, memory_blocks=[shared]), llm))
            else:
                memory = MemosMemory(memos=memos, scope=("clinic", name), session=session)
                if kind == "retriever":
                    ask = awhole(ContextChatEngine.from_defaults(llm=llm, memory=memory, retriever=personal))
                else:
                    ask = DOORS[kind](memos, memory, llm)
            for turn in range(2):
                reply = await ask(f"My secret word is {name}plum{number}{turn}. Which secret word did I say? Question {number}{turn}?")
                assert f"{other}plum" not in reply
            for prompt in llm.seen:
                text = " ".join(contents(prompt))
                assert f"{other}plum" not in text
                own[name] += len(set(re.findall(rf"{name}plum\d\d", text))) > 1

    await asyncio.gather(day("ana", "ben"), day("ben", "ana"))
    assert min(own.values()) > 8  # what is recalled is one's own
    for name, other in (("ana", "ben"), ("ben", "ana")):
        found = [hit.text for hit in memos.recall("secret word", scope=("clinic", name), k=100).hits]
        assert found and not any(f"{other}plum" in text for text in found)


# ---------------------------------------------------------------------- the block
async def test_a_block_learns_short_conversations_and_each_thing_once(memos: MemOS) -> None:
    memos.remember("Ana asks many a question.", scope=ANA)
    block = MemosMemoryBlock(memos=memos, scope=ANA)
    llm = Scripted(script=answer)
    memory = Memory.from_defaults(session_id="s", memory_blocks=[block])
    chat = simple(memos, memory, llm)
    for number in range(6):
        await chat.achat(f"Question {number}?")
    expected = [pair for number in range(6) for pair in (("user", f"Question {number}?"), ("assistant", f"Answer {number}."))]
    assert said(memos, "s") == expected[:-1]  # nothing followed the last answer yet
    assert all(" ".join(contents(prompt)).count("Ana asks many a question.") == 1 for prompt in llm.seen)
    assert all(
        " ".join(contents(prompt)).count("Question 0?") == 1 for prompt in llm.seen
    )  # what the conversation says anyway is not recalled
    await memory.aget()
    assert said(memos, "s") == expected
    await block.aput(await memory.aget_all(), from_short_term_memory=True, session_id="s")
    assert said(memos, "s") == expected and memos.stats()["counts"]["plaintext"] == 14


async def test_a_block_that_waits_remembers_what_overflows_once(memos: MemOS) -> None:
    block = MemosMemoryBlock(memos=memos, scope=ANA, eager=False)
    memory = Memory.from_defaults(session_id="s", memory_blocks=[block], token_limit=60, token_flush_size=12, chat_history_token_ratio=0.5)
    chat = simple(memos, memory, Scripted(script=answer))
    for number in range(4):
        await chat.achat(f"Question {number} of a conversation that will not fit?")
    kept = contents(await memory.aget_all(status=MessageStatus.ACTIVE))
    flushed = [text for _, text in said(memos, "s")]
    assert flushed and [*flushed, *kept] == contents(await memory.aget_all())
    message = ChatMessage(role="user", content="Once.")
    before = message.model_dump()
    for _ in range(2):
        await block.aput([message], session_id="s")
    assert message.model_dump() == before and [text for _, text in said(memos, "s")] == [*flushed, "Once."]
    MemosMemoryBlock(memos=memos, scope="x", accept_short_term_memory=False)
    closed = MemosMemoryBlock(memos=memos, scope=ANA, accept_short_term_memory=False)
    await closed.aput([ChatMessage(role="user", content="Not this.")], from_short_term_memory=True, session_id="s")
    assert "Not this." not in [text for _, text in said(memos, "s")]


async def test_a_block_shared_by_two_sessions_answers_neither_with_the_other(memos: MemOS) -> None:
    """As VectorMemoryBlock does, which keeps the first session's filter: run-llama/llama_index#22701."""
    block = MemosMemoryBlock(memos=memos, scope=lambda session: ("clinic", session))
    seen = {}
    for name in ("ana", "ben"):
        llm = Scripted(script=answer)
        chat = simple(memos, Memory.from_defaults(session_id=name, memory_blocks=[block]), llm)
        await chat.achat(f"The secret of {name} is plum. Question 1?")
        await chat.achat("What is the secret? Question 2?")
        seen[name] = " ".join(text for prompt in llm.seen for text in contents(prompt))
    assert "secret of ana" not in seen["ben"] and "secret of ben" not in seen["ana"]
    later = Scripted(script=answer)
    await simple(memos, Memory.from_defaults(session_id="ana", memory_blocks=[block]), later).achat("What is the secret? Question 3?")
    recalled = " ".join(contents(later.seen[0]))
    assert "secret of ana is plum" in recalled and "secret of ben" not in recalled
    with pytest.raises(InvalidInput, match="session_id"):
        await block.aget([ChatMessage(role="user", content="Whose secret?")])
    same = MemosMemoryBlock(memos=memos, scope=("clinic", "ana"))  # one person, several sessions
    assert "plum" in await same.aget([ChatMessage(role="user", content="Which secret?")], session_id="another")


async def test_a_block_is_cut_to_what_fits(memos: MemOS) -> None:
    memos.remember([f"Ana's plum tree number {number} bears well." for number in range(8)], scope=ANA)
    block = MemosMemoryBlock(memos=memos, scope=ANA, k=8)
    whole = await block.aget([ChatMessage(role="user", content="How do the plum trees bear?")])
    assert len(whole.splitlines()) == 8 and await block.aget([ChatMessage(role="system", content="Be brief.")]) == ""
    shorter = await block.atruncate(whole, 30)
    assert shorter is not None and whole.endswith(shorter) and len(whole) - len(shorter) >= 120 and shorter.startswith("- (")
    assert await block.atruncate(whole, 10_000) is None
    small = MemosMemoryBlock(memos=memos, scope=ANA, token_budget=40)
    assert 0 < len((await small.aget([ChatMessage(role="user", content="How do the plum trees bear?")])).splitlines()) <= 2


@pytest.mark.parametrize("eager", [True, False])
async def test_a_failing_store_reaches_whoever_reads_or_fills_a_memory_with_a_block(memos: MemOS, eager: bool) -> None:
    block = MemosMemoryBlock(memos=memos, scope=ANA, eager=eager)
    memory = Memory.from_defaults(session_id="s", memory_blocks=[block], token_limit=30, token_flush_size=6, chat_history_token_ratio=0.3)
    chat = simple(memos, memory, Scripted(script=answer))
    memos.close()
    with pytest.raises(StoreUnusable, match="closed"):
        await chat.achat("Question 1?")
    with pytest.raises(StoreUnusable, match="closed"):
        for _ in range(4):
            await memory.aput(ChatMessage(role="user", content="A message that fills the queue until it overflows."))
    retriever = MemosRetriever(memos=memos, scope=ANA)
    with pytest.raises(StoreUnusable, match="closed"):
        await retriever.aretrieve("Anything?")
    with pytest.raises(StoreUnusable, match="closed"):
        retriever.retrieve("Anything?")


@pytest.mark.parametrize("whose", [42, None, ("clinic", 42)])
def test_a_scope_that_is_no_name_is_refused_and_shown(memos: MemOS, whose: Any) -> None:
    for kind in (MemosMemory, MemosMemoryBlock):
        with pytest.raises(ValueError, match=r"scope must be a non-empty string or a tuple of them, such as .*; got .*(42|None)"):
            kind(memos=memos, scope=whose)


def test_what_is_no_open_memory_is_refused_and_shown() -> None:
    for kind in (MemosMemory, MemosMemoryBlock, MemosRetriever):
        with pytest.raises(ValueError, match=r"memos must be an open memory, as MemOS.open\(directory\) gives it; got 'clinic.memos'"):
            kind(memos="clinic.memos", scope=ANA)

"""MemosMiddleware in agents of LangChain: what the model sees and the state does not hold, users, ends of runs, failures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel
from scripted_models import ANA, BEN, FACT, QUESTION, Scripted, calling, clock, said

from memos_core import MemOS, StoreUnusable
from memos_integrations.langchain import MemosChat, MemosMiddleware


@dataclass
class Visit:
    user: str


def texts(state: dict[str, Any]) -> list[str]:
    return [message.text for message in state["messages"]]


def test_an_agent_sees_memory_that_its_state_does_not_hold(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(script=[calling("clock"), "Nine; no penicillin."])
    agent = create_agent(
        model, [clock], system_prompt="Be brief.", middleware=[MemosMiddleware(memos=memos, scope=ANA)], checkpointer=InMemorySaver()
    )
    state = agent.invoke({"messages": [HumanMessage(QUESTION)]}, {"configurable": {"thread_id": "t1"}})
    assert texts(state) == [QUESTION, "", "It is nine.", "Nine; no penicillin."]
    for prompt in model.seen:
        assert prompt[0].content == "Be brief." and FACT in prompt[1].text and prompt[1].text.endswith(QUESTION)
    assert [message.text for message in model.seen[1]][: len(model.seen[0])] == [message.text for message in model.seen[0]]
    assert said(memos, session="t1") == [("user", QUESTION), ("assistant", "Nine; no penicillin.")]
    assert memos.stats()["counts"]["turns"] == 1


def test_six_turns_of_an_agent_are_remembered_once_each(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(answer=lambda messages: f"Answer {sum(isinstance(m, HumanMessage) for m in messages)} on penicillin.")
    agent = create_agent(model, middleware=[MemosMiddleware(memos=memos, scope=ANA)], checkpointer=InMemorySaver())
    state: dict[str, Any] = {}
    for number in range(6):
        state = agent.invoke({"messages": [HumanMessage(f"Penicillin question {number}?")]}, {"configurable": {"thread_id": "t"}})
    assert [text for _, text in said(memos, session="t")] == texts(state) and len(texts(state)) == 12
    assert all("<memory" not in text for text in texts(state)) and memos.stats()["counts"]["turns"] == 6
    prompts = [[message.text for message in prompt] for prompt in model.seen]
    assert all(later[: len(earlier)] == earlier for earlier, later in itertools.pairwise(prompts))


async def test_users_of_one_agent_do_not_see_each_other(memos: MemOS) -> None:
    import asyncio

    for name in ("ana", "ben"):
        memos.remember(f"The secret word of {name} is {name}-secret.", scope=("clinic", name))
    model = Scripted(answer=lambda messages: " | ".join(message.text for message in messages))
    middleware = MemosMiddleware(
        memos=memos, scope=lambda runtime: ("clinic", runtime.context.user), session=lambda runtime: f"s-{runtime.context.user}"
    )
    agent = create_agent(model, middleware=[middleware], context_schema=Visit)

    async def ask(name: str, turn: int) -> tuple[str, str]:
        state = await agent.ainvoke({"messages": [HumanMessage(f"What is my secret word? ({turn})")]}, context=Visit(name))
        return name, texts(state)[-1]

    for name, text in await asyncio.gather(*(ask(name, turn) for turn in range(4) for name in ("ana", "ben"))):
        assert f"{name}-secret" in text and ("ben" if name == "ana" else "ana") + "-secret" not in text
    assert len(said(memos, ANA, "s-ana")) == len(said(memos, BEN, "s-ben")) == 8


def test_runs_that_end_without_a_last_word_of_the_model_are_remembered(memos: MemOS) -> None:
    class Safe(BaseModel):
        """Whether it is safe."""

        drug: str
        safe: bool

    @tool(return_direct=True)
    def reception() -> str:
        """Call the reception."""
        return "The reception will call back."

    middleware = MemosMiddleware(memos=memos, scope=ANA, session="s")
    model = Scripted(script=[calling("Safe", drug="penicillin", safe=False)])
    state = create_agent(model, middleware=[middleware], response_format=ToolStrategy(Safe)).invoke(
        {"messages": [HumanMessage("Is it safe?")]}
    )
    assert state["structured_response"] == Safe(drug="penicillin", safe=False)
    create_agent(Scripted(script=[calling("reception")]), [reception], middleware=[middleware]).invoke(
        {"messages": [HumanMessage("Call me.")]}
    )
    assert said(memos, session="s") == [
        ("user", "Is it safe?"),
        ("assistant", '{"drug":"penicillin","safe":false}'),
        ("user", "Call me."),
        ("assistant", "The reception will call back."),
    ]


def test_a_failing_model_remembers_nothing_and_a_failing_write_ends_the_run(memos: MemOS) -> None:
    def close(messages: list[BaseMessage]) -> str:
        memos.close()
        return "Too late."

    middleware = [MemosMiddleware(memos=memos, scope=ANA)]
    with pytest.raises(ConnectionError):
        create_agent(Scripted(script=[ConnectionError("down")]), middleware=middleware).invoke({"messages": [HumanMessage("Hi.")]})
    assert memos.stats()["counts"]["turns"] == 0
    with pytest.raises(StoreUnusable):
        create_agent(Scripted(answer=close), middleware=middleware).invoke({"messages": [HumanMessage("Hi.")]})


def test_an_agent_over_memoschat_as_its_model(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(script=[calling("clock"), "Nine; no penicillin."])
    agent = create_agent(MemosChat(memos=memos, scope=ANA, model=model), [clock], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t1"}}
    pieces = [piece for piece, _ in agent.stream({"messages": [HumanMessage(QUESTION)]}, config, stream_mode="messages")]
    assert [piece.text for piece in pieces if isinstance(piece, AIMessage) and piece.text] == ["Nine; no penicillin."]
    assert said(memos, session="t1") == [("user", QUESTION), ("assistant", "Nine; no penicillin.")]

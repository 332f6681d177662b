"""MemosMiddleware beside LangChain's own middleware, and in runs that do not go straight: what is remembered is what the state holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from conftest import bag_of_words
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    before_model,
    hook_config,
)
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Command
from scripted_models import ANA, FACT, Scripted, calling, clock, said

from memos_core import MemOS
from memos_integrations.langchain import MemosMiddleware

THREAD: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as opened:
        yield opened


def ours(memos: MemOS, **more: Any) -> MemosMiddleware:
    return MemosMiddleware(memos=memos, scope=ANA, **more)


def ask(agent: Any, text: str, config: Any = THREAD) -> Any:
    return agent.invoke({"messages": [HumanMessage(text)]}, config)


@tool
def send(text: str) -> str:
    """Send a letter."""
    return f"Sent: {text}"


@before_model
def keep_three(state: Any, runtime: Any) -> Any:
    kept = state["messages"][-3:]
    return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), *kept]} if len(state["messages"]) > 3 else None


def summary(memos: MemOS, keep: int = 2) -> list[Any]:
    writer = Scripted(answer=lambda messages: "They spoke of tea.")
    return [ours(memos), SummarizationMiddleware(model=writer, trigger=("messages", 5), keep=("messages", keep))]


def flaky() -> Any:
    """Fails each other time."""
    calls: list[int] = []

    def answer(messages: Any) -> Any:
        calls.append(1)
        return ConnectionError("down") if len(calls) % 2 else f"Noted {messages[-1].text[-2:]}"

    return answer


BESIDE: dict[str, Any] = {
    "alone": lambda memos: [ours(memos)],
    "summary": summary,
    "summary of all before": lambda memos: summary(memos, 1),
    "summary first": lambda memos: summary(memos)[::-1],
    "trimming": lambda memos: [ours(memos), keep_three],
    "trimming first": lambda memos: [keep_three, ours(memos)],
    "retries": lambda memos: [ours(memos), ModelRetryMiddleware(initial_delay=0, jitter=False)],
    "retries first": lambda memos: [ModelRetryMiddleware(initial_delay=0, jitter=False), ours(memos)],
    "fallback": lambda memos: [ours(memos), ModelFallbackMiddleware(Scripted(answer=lambda messages: f"Noted {messages[-1].text[-2:]}"))],
}


@pytest.mark.parametrize("name", BESIDE)
def test_six_turns_are_remembered_once_each_beside_other_middleware(memos: MemOS, name: str) -> None:
    memos.remember("Ana drinks tea.", scope=ANA)
    answer = flaky() if name.startswith(("retries", "fallback")) else lambda messages: f"Noted {messages[-1].text[-2:]}"
    agent = create_agent(Scripted(answer=answer), middleware=BESIDE[name](memos), checkpointer=InMemorySaver())
    for number in range(6):
        state = ask(agent, f"I like tea {number}.")
        assert not any("<memory" in message.text for message in state["messages"])
    pairs = [(("user", f"I like tea {number}."), ("assistant", f"Noted {number}.")) for number in range(6)]
    assert said(memos, session="t") == [each for pair in pairs for each in pair]
    assert memos.stats()["counts"]["turns"] == 6


def test_the_memory_holds_what_other_middleware_made_of_an_answer(memos: MemOS) -> None:
    class Guard(AgentMiddleware):
        def after_model(self, state: Any, runtime: Any) -> Any:
            last = state["messages"][-1]
            return {"messages": [AIMessage("I may not say that.", id=last.id)]} if "plan" in last.text else None

    model = Scripted(script=["Write to ana@example.com.", "The secret plan is plum."])
    redacted = PIIMiddleware("email", apply_to_input=False, apply_to_output=True)
    agent = create_agent(model, middleware=[ours(memos), Guard(), redacted])
    ask(agent, "What is her address?")
    ask(agent, "What is secret?")
    assert [text for role, text in said(memos, session="t") if role == "assistant"] == [
        "Write to [REDACTED_EMAIL].",
        "I may not say that.",
    ]
    assert not any(word in memos.recall("plum example", scope=ANA).text for word in ("plum", "example.com"))


def test_the_memory_holds_what_other_middleware_made_of_a_question(memos: MemOS) -> None:
    class Redact(AgentMiddleware):
        @hook_config(can_jump_to=["model"])
        def after_model(self, state: Any, runtime: Any) -> Any:
            hidden = [HumanMessage("My number is hidden.", id=state["messages"][0].id)]
            more = {"messages": [*hidden, HumanMessage("Say it shorter.")], "jump_to": "model"}
            return more if "long" in state["messages"][0].text and len(state["messages"]) < 3 else {"messages": hidden}

    agent = create_agent(Scripted(script=["Noted.", "It is noted.", "Yes."]), middleware=[ours(memos), Redact()])
    ask(agent, "My number is 4711.")
    ask(agent, "My long number is 4711.", {"configurable": {"thread_id": "asked again"}})
    hidden = ("user", "My number is hidden.")
    assert said(memos, session="t") == [hidden, ("assistant", "Noted.")]
    again = [("user", "Say it shorter."), ("assistant", "Yes.")]
    assert said(memos, session="asked again") == [hidden, ("assistant", "It is noted."), *again]
    assert "4711" not in memos.recall("number", scope=ANA).text


def test_what_nobody_answered_is_remembered_with_the_next_answer(memos: MemOS) -> None:
    model = Scripted(script=[ConnectionError("down"), ConnectionError("down"), "I see.", "Indeed."])
    agent = create_agent(model, middleware=[ours(memos)], checkpointer=InMemorySaver())
    for text in ("My sister is called Eva.", "She lives in Porto."):
        with pytest.raises(ConnectionError):
            ask(agent, text)
        assert said(memos, session="t") == []
    ask(agent, "Are you there?")
    agent.invoke({"messages": [HumanMessage("She plays the cello."), HumanMessage("And the flute.")]}, THREAD)
    assert [text for _, text in said(memos, session="t")] == [
        "My sister is called Eva.",
        "She lives in Porto.",
        "Are you there?",
        "I see.",
        "She plays the cello.",
        "And the flute.",
        "Indeed.",
    ]


def test_a_question_that_other_middleware_asks_again_is_remembered_as_it_went(memos: MemOS) -> None:
    class Again(AgentMiddleware):
        @hook_config(can_jump_to=["model"])
        def after_model(self, state: Any, runtime: Any) -> Any:
            return {"messages": [HumanMessage("Say it shorter.")], "jump_to": "model"} if len(state["messages"]) < 3 else None

    agent = create_agent(Scripted(script=["At nine in the morning.", "Nine."]), middleware=[ours(memos), Again()])
    ask(agent, "When does it open?")
    assert [text for _, text in said(memos, session="t")] == ["When does it open?", "At nine in the morning.", "Say it shorter.", "Nine."]


def test_what_is_recalled_stays_the_same_in_all_calls_of_a_run(memos: MemOS) -> None:
    """Else what a model remembers by a tool would change the beginning of its next prompt, and no prefix would be reused."""
    memos.remember(FACT, scope=ANA)

    def answer(messages: Any) -> Any:
        told = sum(isinstance(message, ToolMessage) for message in messages)
        return calling("remember", text=f"Penicillin fact {told}.") if told < 3 else "Done."

    model = Scripted(answer=answer)
    ask(create_agent(model, middleware=[ours(memos, tools=True)]), "Remember what penicillin does to Ana.")
    first, *later = [[message.text for message in prompt] for prompt in model.seen]
    assert FACT in first[0] and len(later) == 3 and all(prompt[:1] == first for prompt in later)
    assert memos.stats()["counts"]["turns"] == 1 and "fact 2" in memos.recall("penicillin", scope=ANA).text


@pytest.mark.parametrize("decision", ["approve", "edit", "reject"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_interrupted_run_is_remembered_when_it_is_resumed_here_or_elsewhere(memos: MemOS, decision: str, elsewhere: bool) -> None:
    memos.remember(FACT, scope=ANA)
    saver, model = InMemorySaver(), Scripted(answer=lambda messages: "Done." if len(messages) > 1 else calling("send", text="penicillin"))

    def agent() -> Any:
        stop = HumanInTheLoopMiddleware(interrupt_on={"send": True})
        return create_agent(model, [send], middleware=[ours(memos), stop], checkpointer=saver)

    started = agent()
    assert "__interrupt__" in ask(started, "Send for penicillin.") and said(memos, session="t") == []
    edited = {"edited_action": {"name": "send", "args": {"text": "tea"}}} if decision == "edit" else {}
    (agent() if elsewhere else started).invoke(Command(resume={"decisions": [{"type": decision, **edited}]}), THREAD)
    assert said(memos, session="t") == [("user", "Send for penicillin."), ("assistant", "Done.")]
    assert all(FACT in prompt[0].text for prompt in model.seen) and len(model.seen) == 2
    ask(agent(), "Is it sent?")
    assert [message.text for message in model.seen[-1]][:2] == [message.text for message in model.seen[0]] + [""]


def test_a_run_that_a_limit_ends_is_remembered_with_what_the_user_saw(memos: MemOS) -> None:
    stop = ModelCallLimitMiddleware(run_limit=1, exit_behavior="end")
    state = ask(create_agent(Scripted(script=[calling("send", text="tea")]), [send], middleware=[ours(memos), stop]), "Send for tea.")
    assert said(memos, session="t") == [("user", "Send for tea."), ("assistant", state["messages"][-1].text)]


def test_users_whose_messages_have_the_same_ids_at_the_same_time_are_apart(memos: MemOS) -> None:
    """What is held of the turns under way is each scope's own."""
    both = Barrier(2, timeout=60)

    def answer(messages: Any) -> Any:
        both.wait()
        return calling("clock") if isinstance(messages[-1], HumanMessage) else f"Re {messages[0].text}"

    for user in ("ana", "ben"):
        memos.remember(f"The secret word of {user} is {user}-plum.", scope=("clinic", user))
    agent = create_agent(Scripted(answer=answer), [clock], middleware=[MemosMiddleware(memos=memos)])
    given: list[Any] = [{"messages": [HumanMessage(f"What is my secret word, says {user}?", id="m1")]} for user in ("ana", "ben")]
    configs: list[Any] = [{"configurable": {"thread_id": "t", "scope": ("clinic", user)}} for user in ("ana", "ben")]
    for user, other, state in zip(("ana", "ben"), ("ben", "ana"), agent.batch(given, configs), strict=True):
        assert f"{user}-plum" in state["messages"][-1].text and other not in state["messages"][-1].text
        assert other not in " ".join(text for _, text in said(memos, ("clinic", user), "t"))


def test_more_runs_at_once_than_are_held_are_all_remembered(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memos_integrations.langchain.middleware.HELD", 1)
    agent = create_agent(Scripted(answer=lambda messages: f"Re {messages[-1].text}"), middleware=[ours(memos)])
    runs: list[Any] = [{"configurable": {"thread_id": f"t{number}"}} for number in range(4)]
    agent.batch([{"messages": [HumanMessage(f"Run {number}")]} for number in range(4)], runs)
    for number in range(4):
        assert said(memos, session=f"t{number}") == [("user", f"Run {number}"), ("assistant", f"Re Run {number}")]

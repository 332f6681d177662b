"""Every class of the LangChain and LangGraph doors: users apart, each turn once, failures out loud. And the middleware's tools in agents."""

from __future__ import annotations

import importlib.util
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from conftest import bag_of_words
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel
from scripted_models import Scripted, calling, said
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemOS, MissingExtra, StoreUnusable
from memos_core.hf import HFEngine
from memos_integrations import langchain as door
from memos_integrations.langchain import MemosChat, MemosChatHistory, MemosMiddleware, MemosRetriever, MemosVectorStore
from memos_integrations.langgraph import MemosStore

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from langchain_classic.chains import LLMChain

    from memos_integrations.langchain_classic import MemosMemory

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ANA = ("clinic", "ana")
FACT = "Ana is allergic to penicillin."


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as opened:
        yield opened


@dataclass
class Visit:
    user: str


def shown(messages: Any) -> str:
    return "Seen: " + " | ".join(message.text for message in messages)


def scope_of(runtime: Any) -> tuple[str, str]:
    return ("clinic", runtime.context.user)


# ---------------------------------------------------------------------- one way to say something through each class
Say = Callable[[str, str], str]
"""A user, and what the user says; returns all that was shown to the model, or to whoever asked."""


def chat(memos: MemOS) -> Say:
    one = MemosChat(memos=memos, model=Scripted(answer=shown))
    return lambda user, text: one.invoke(text, {"configurable": {"scope": ("clinic", user), "session": "chat"}}).text


def middleware(memos: MemOS) -> Say:
    one = MemosMiddleware(memos=memos, scope=scope_of, session="agent")
    agent = create_agent(Scripted(answer=shown), middleware=[one], context_schema=Visit)
    return lambda user, text: agent.invoke({"messages": [HumanMessage(text)]}, context=Visit(user))["messages"][-1].text


def tools(memos: MemOS) -> Say:
    def answer(messages: Any) -> Any:
        told = [message for message in messages if isinstance(message, ToolMessage)]
        if len(told) < 2:
            return (
                calling("recall", query="secret word")
                if told
                else calling("remember", text=f"On record: {messages[-1].text.rpartition(chr(10))[2]}")
            )
        return " | ".join(message.text for message in told)

    one = MemosMiddleware(memos=memos, scope=scope_of, session="tools", tools=True)
    agent = create_agent(Scripted(answer=answer), middleware=[one], context_schema=Visit)
    return lambda user, text: agent.invoke({"messages": [HumanMessage(text)]}, context=Visit(user))["messages"][-1].text


def history(memos: MemOS) -> Say:
    def of(session_id: str) -> MemosChatHistory:
        return MemosChatHistory(memos=memos, scope=("clinic", session_id), session="history")

    talk = RunnableWithMessageHistory(RunnableLambda(lambda messages: AIMessage(shown(messages)[:4000])), of)
    return lambda user, text: talk.invoke([HumanMessage(text)], {"configurable": {"session_id": user}}).text


def classic(memos: MemOS) -> Say:
    model, prompt = Scripted(answer=lambda messages: shown(messages)[-4000:]), PromptTemplate.from_template("{history}\n{input}")

    def say(user: str, text: str) -> str:
        memory = MemosMemory(memos=memos, scope=("clinic", user), session="classic")
        return str(LLMChain(llm=model, prompt=prompt, memory=memory).invoke({"input": text})["text"])

    return say


def store(memos: MemOS) -> Say:
    one = MemosStore(memos=memos, scope="clinic", fields=["text"])

    def say(user: str, text: str) -> str:
        one.put((user,), text, {"text": text})
        assert one.get((user,), text).value == {"text": text}
        return shown_items(one.search((user,), query="secret word", limit=100))

    return say


def shown_items(items: Any) -> str:
    return " | ".join(item.value["text"] for item in items)


def vectors(memos: MemOS) -> Say:
    def say(user: str, text: str) -> str:
        one = MemosVectorStore(memos=memos, scope=("clinic", user, "documents"))
        one.add_texts([text], ids=[text])
        return " | ".join(document.page_content for document in one.similarity_search("secret word", k=100))

    return say


def retriever(memos: MemOS) -> Say:
    def say(user: str, text: str) -> str:
        memos.remember(text, scope=("clinic", user), session="retriever")
        return " | ".join(
            document.page_content for document in MemosRetriever(memos=memos, scope=("clinic", user)).invoke("secret word", k=100)
        )

    return say


DOORS: dict[str, Callable[[MemOS], Say]] = {
    each.__name__: each for each in (chat, middleware, tools, history, classic, store, vectors, retriever)
}
USERS = ("ana", "an", "ben")


@pytest.mark.parametrize("threads", [1, 6])
def test_users_of_one_memory_never_see_each_other_through_any_class(memos: MemOS, threads: int) -> None:
    generator = random.Random(threads)
    ways = {name: door(memos) for name, door in DOORS.items()}
    steps = [(name, generator.choice(USERS), number) for name in ways for number in range(8)]
    generator.shuffle(steps)

    def step(each: tuple[str, str, int]) -> tuple[str, str]:
        name, user, number = each
        return user, ways[name](user, f"My secret word is {user}-plum-{name}-{number}.")

    with ThreadPoolExecutor(threads) as pool:
        seen = list(pool.map(step, steps))
    leaks = [(user, text) for user, text in seen for other in USERS if other != user and f" {other}-plum" in text]
    assert leaks == []
    own = [text.count(f" {user}-plum") for user, text in seen]
    assert sum(count > 1 for count in own) > len(own) // 2  # there was something that could have leaked


@pytest.mark.parametrize("name", DOORS)
def test_six_short_turns_are_remembered_once_and_only_once(memos: MemOS, name: str) -> None:
    say = DOORS[name](memos)
    texts = [f"Secret word {word}." for word in ("plum", "tea", "rye", "oats", "milk", "salt")]
    for text in texts:
        say("ana", text)
    found = [hit.cube.payload.text for hit in memos.recall("secret word", scope=ANA, k=100).hits]
    assert [found.count(text) for text in texts] == [1] * 6
    assert sum(text.startswith("On record: ") for text in found) == (6 if name == "tools" else 0)
    assert not any("<memory" in text for text in found)
    talks = {"chat": "chat", "middleware": "agent", "tools": "tools", "history": "history", "classic": "classic"}
    if name in talks:
        conversation = said(memos, ANA, talks[name])
        assert [text for role, text in conversation if role == "user"] == texts and len(conversation) == 12


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_store_that_fails_is_never_silent(memos: MemOS, name: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    say = DOORS[name](memos)
    say("ana", "Secret word plum.")

    def full(*args: Any, **kwargs: Any) -> Any:
        raise StoreUnusable("the disk is full")

    if when == "before":
        memos.close()
    else:
        monkeypatch.setattr(memos._store, "commit", full)
    with pytest.raises(StoreUnusable):
        say("ana", "Secret word tea.")
        say("ana", "Secret word rye.")  # what LangChain's listeners swallow at the end of a run is raised here


# ---------------------------------------------------------------------- middleware: tools, context, configuration, structured output
def test_a_model_remembers_recalls_and_forgets_with_tools(memos: MemOS) -> None:
    memos.remember("Ben likes coffee.", scope=("clinic", "ben"))
    found: list[str] = []

    def answer(messages: Any) -> Any:
        told = [message.text for message in messages if isinstance(message, ToolMessage)]
        found[:] = told
        id = told[0].partition("[")[2].rstrip("]") if told else ""
        steps = [
            calling("remember", text="Ana likes oolong.", scope="clinic/ben"),  # a scope that the model names does not count
            calling("recall", query="likes", scope=["clinic", "ben"]),
            calling("timeline", period="today"),
            calling("forget", id=id),
            calling("recall", query="oolong"),
            calling("forget", id="no such id"),
        ]
        return (
            steps[len(told)].model_copy(update={"tool_calls": [{**steps[len(told)].tool_calls[0], "id": str(len(told))}]})
            if len(told) < 6
            else "Done."
        )

    agent = create_agent(
        Scripted(answer=answer), middleware=[MemosMiddleware(memos=memos, scope=scope_of, tools=True)], context_schema=Visit
    )
    state = agent.invoke({"messages": [HumanMessage("Hello.")]}, {"configurable": {"scope": ("clinic", "ben")}}, context=Visit("ana"))
    remembered, recalled, listed, forgotten, gone, unknown = found
    assert remembered.startswith("Remembered") and "oolong" in recalled and "coffee" not in recalled and "oolong" in listed
    assert (forgotten, gone) == ("Forgotten.", "Nothing is remembered about that.") and unknown.startswith("No memory here")
    assert memos.recall("oolong", scope="clinic").hits == () or "oolong" not in memos.recall("oolong", scope="clinic").text
    assert state["messages"][-1].text == "Done." and memos.recall("coffee", scope=("clinic", "ben")).hits
    assert said(memos, ANA) == [("user", "Hello."), ("assistant", "Done.")]


def test_a_run_that_names_its_scope_and_thread_in_its_configuration(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(answer=lambda messages: "Noted.")
    agent = create_agent(model, middleware=[MemosMiddleware(memos=memos, tools=["recall"])], checkpointer=InMemorySaver())
    agent.invoke({"messages": [HumanMessage("Is penicillin safe?")]}, {"configurable": {"scope": ANA, "thread_id": "t7"}})
    assert FACT in model.seen[0][0].text and said(memos, ANA, "t7")[0] == ("user", "Is penicillin safe?")
    assert model.given[0]["tools"] == ["recall"]
    with pytest.raises(InvalidInput, match="no scope"):
        agent.invoke({"messages": [HumanMessage("Whose?")]}, {"configurable": {"thread_id": "t8"}})
    with pytest.raises(InvalidInput, match="names"):
        MemosMiddleware(memos=memos, tools=["erase everything"])


class Safe(BaseModel):
    """Whether it is safe."""

    safe: bool


@pytest.mark.parametrize("run", ["sync", "async"])
async def test_tools_structured_output_and_a_checkpointer_together(memos: MemOS, run: str) -> None:
    memos.remember(FACT, scope=ANA)

    def answer(messages: Any) -> Any:
        asked = max(place for place, message in enumerate(messages) if isinstance(message, HumanMessage))
        return calling("Safe", safe=False) if len(messages) > asked + 1 else calling("recall", query="penicillin")

    middleware = MemosMiddleware(memos=memos, scope=scope_of, tools=True)
    saver = InMemorySaver()
    agent = create_agent(
        Scripted(answer=answer), middleware=[middleware], response_format=ToolStrategy(Safe), context_schema=Visit, checkpointer=saver
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    for number in range(2):
        given: Any = {"messages": [HumanMessage(f"Is penicillin safe ({number})?")]}
        state = (
            await agent.ainvoke(given, config, context=Visit("ana"))
            if run == "async"
            else agent.invoke(given, config, context=Visit("ana"))
        )
        assert state["structured_response"] == Safe(safe=False)
    kept = [message for message in state["messages"] if not isinstance(message, ToolMessage)]  # what the model asked for by a tool stays
    assert not any("<memory" in message.text or FACT in message.text for message in kept)
    assert [text for _, text in said(memos, ANA, "t")] == [
        "Is penicillin safe (0)?",
        '{"safe":false}',
        "Is penicillin safe (1)?",
        '{"safe":false}',
    ]
    assert memos.stats()["counts"]["turns"] == 2


async def test_streaming_an_agent_remembers_the_turn_once(memos: MemOS) -> None:
    agent = create_agent(Scripted(answer=lambda messages: "Noted."), middleware=[MemosMiddleware(memos=memos, scope=ANA)])
    pieces = [piece async for piece, _ in agent.astream({"messages": [HumanMessage("I like tea.")]}, stream_mode="messages")]
    assert "".join(piece.text for piece in pieces if isinstance(piece, AIMessage)) == "Noted."
    assert said(memos, ANA) == [("user", "I like tea."), ("assistant", "Noted.")]


def test_users_of_one_engine_are_apart_in_text_and_in_keys_and_values(tmp_path: Path) -> None:
    engine = HFEngine(tiny_model(max_position_embeddings=4096), tiny_tokenizer())
    with MemOS.open(tmp_path / "m", embedder=bag_of_words, engine=engine) as memos:
        one = MemosChat(memos=memos, model=engine, max_tokens=2)
        for user in ("ana", "ben"):
            memos.remember(f"The secret word of {user} is {user}-plum.", scope=("clinic", user))
        for number in range(4):
            for user, other in (("ana", "ben"), ("ben", "ana")):
                config: Any = {"configurable": {"scope": ("clinic", user), "session": f"s{number}"}}
                answer = one.invoke("What is my secret word?", config)
                used = " ".join(memory["text"] for memory in answer.response_metadata["memos"]["used"])
                assert f"{user}-plum" in used and f"{other}-plum" not in used
                if number == 0:  # the same question, and nothing of it is taken from what the other user's prompt computed
                    public = engine.count("<|start|>user\n")
                    assert answer.usage_metadata["input_token_details"]["cache_read"] <= public + 8
    engine.close()


@pytest.mark.parametrize("whose", [42, UUID(int=7), {"user": "ana"}, ("clinic", 42)], ids=["number", "UUID", "dict", "number in it"])
def test_a_scope_that_is_no_name_is_refused_and_shown_by_every_class(memos: MemOS, whose: Any) -> None:
    """A user's id is a number or a UUID in most applications."""

    def run(given: Any, named: Any) -> Any:
        agent = create_agent(Scripted(answer=lambda messages: "Hi."), middleware=[MemosMiddleware(memos=memos, scope=given)])
        return agent.invoke({"messages": [HumanMessage("Hi.")]}, {"configurable": {"scope": named}})

    for call in (
        lambda: run(whose, None),
        lambda: run(None, whose),
        lambda: MemosChat(memos=memos, model=Scripted(script=["Hi."])).invoke("Hi.", {"configurable": {"scope": whose}}),
        lambda: MemosChatHistory(memos=memos, scope=whose, session="s"),
        lambda: MemosStore(memos=memos, scope=whose),
    ):
        with pytest.raises(InvalidInput, match=r"scope must be a non-empty string or a tuple of them, such as .*; got .*(42|UUID|ana)"):
            call()


@pytest.mark.parametrize("given", ["clinic.memos", None])
def test_what_is_no_open_memory_is_refused_and_shown_by_every_class(given: Any) -> None:
    """Its directory, for one."""
    for call in (
        lambda: MemosMiddleware(memos=given, scope="ana"),
        lambda: MemosChat(memos=given, model=Scripted(script=["Hi."]), scope="ana"),
        lambda: MemosRetriever(memos=given, scope="ana"),
        lambda: MemosChatHistory(memos=given, scope="ana", session="s"),
        lambda: MemosVectorStore(memos=given, scope="ana"),
        lambda: door.MemosEmbeddings(given),
        lambda: door.memory_tools(memos=given, scope="ana"),
        lambda: MemosStore(memos=given, scope="ana"),
        lambda: MemosMemory(memos=given, scope="ana"),
    ):
        with pytest.raises(
            ValueError, match=r"memos must be an open memory, as MemOS.open\(directory\) gives it; got ('clinic.memos'|None)"
        ):
            call()


def test_a_missing_framework_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_core.retrievers", None)
    spec = importlib.util.spec_from_file_location("without_langchain", door.__file__)
    assert spec is not None and spec.loader is not None
    with pytest.raises(MissingExtra, match=r"\[langchain\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

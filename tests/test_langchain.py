"""MemosChat, MemosRetriever and MemosMiddleware on a real memory, with LangChain's own classes around them."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import bag_of_words
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, Field

from memos_core import InvalidInput, MemOS, MissingExtra, NotAvailable, StoreUnusable
from memos_integrations import langchain as door
from memos_integrations.langchain import MemosChat, MemosMiddleware, MemosRetriever

ANA = ("clinic", "ana")
BEN = ("clinic", "ben")
FACT = "Ana is allergic to penicillin."
QUESTION = "Which antibiotic is safe for Ana, who asks about penicillin?"


class Scripted(BaseChatModel):
    """Answers from a script, or by a function of the prompt, and keeps the prompts it saw."""

    script: list[Any] = Field(default_factory=list)
    answer: Callable[[list[BaseMessage]], Any] | None = None
    seen: list[list[BaseMessage]] = Field(default_factory=list)
    given: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.seen.append(copy.deepcopy(messages))
        self.given.append(kwargs)
        said = self.answer(messages) if self.answer else self.script[len(self.seen) - 1]
        if isinstance(said, Exception):
            raise said
        message = said if isinstance(said, AIMessage) else AIMessage(content=said)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[getattr(each, "name", str(each)) for each in tools], **kwargs)


class Streaming(Scripted):
    """The same, word by word. An exception in the script is raised after the words before it."""

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.seen.append(copy.deepcopy(messages))
        for word in self.script[len(self.seen) - 1]:
            if isinstance(word, Exception):
                raise word
            yield ChatGenerationChunk(message=word if isinstance(word, AIMessageChunk) else AIMessageChunk(content=word))


@pytest.fixture
def memos(tmp_path: Path, hash_embedder: Any) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder) as opened:
        yield opened


def said(memos: MemOS, scope: tuple[str, ...] = ANA, session: str = "default") -> list[tuple[str | None, str]]:
    return [(cube.identifiers.role, cube.payload.text) for cube in memos.conversation(scope=scope, session=session)]


def calling(name: str, **arguments: Any) -> AIMessage:
    return AIMessage(content="", tool_calls=[{"name": name, "args": arguments, "id": f"call-{name}"}])


@tool
def clock() -> str:
    """The time."""
    return "It is nine."


# ---------------------------------------------------------------------- MemosChat
def test_memory_stands_before_the_question_and_the_turn_is_remembered(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(script=["Take macrolides."])
    answer = MemosChat(memos=memos, scope=ANA, model=model, session="s").invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    system, human = model.seen[0]
    assert system.content == "Be brief."
    assert FACT in human.content and human.content.endswith(QUESTION) and human.content.startswith("<memory>")
    assert answer.content == "Take macrolides."
    assert said(memos, session="s") == [("user", QUESTION), ("assistant", "Take macrolides.")]
    used = answer.response_metadata["memos"]
    assert [memory["text"].endswith(FACT) for memory in used["used"]] == [True] and used["session"] == "s"


def test_six_turns_are_remembered_once_each_and_nothing_recalled_again(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(answer=lambda messages: f"Answer {len(messages)} about penicillin.")
    chat = MemosChat(memos=memos, scope=ANA, model=model, session="s")
    history: list[BaseMessage] = []
    for number in range(6):
        history.append(HumanMessage(f"Penicillin question {number}?"))
        history.append(chat.invoke(history))
    assert said(memos, session="s") == [("user" if isinstance(m, HumanMessage) else "assistant", m.content) for m in history]
    before = memos.stats()["counts"]
    chat.invoke(history[:-1])  # the caller tries the last turn again
    assert memos.stats()["counts"] == before
    assert all("<memory" not in text for _, text in said(memos, session="s"))
    assert sum(FACT in str(cube.payload.text) for cube in (hit.cube for hit in memos.recall("penicillin", scope=ANA, k=50).hits)) == 1


def test_the_prompt_of_a_session_only_grows(memos: MemOS) -> None:
    memos.remember([FACT, "The clinic opens at nine.", "Ben likes tea."], scope=ANA)
    model = Scripted(answer=lambda messages: "Noted.")
    chat = MemosChat(memos=memos, scope=ANA, model=model, k=2)
    history: list[BaseMessage] = [SystemMessage("Be brief.")]
    for question in ("Is penicillin safe?", "When does the clinic open?", "What does Ben like?"):
        history.append(HumanMessage(question))
        history.append(chat.invoke(history))
    texts = [[message.text for message in prompt] for prompt in model.seen]
    assert texts[1][: len(texts[0])] == texts[0] and texts[2][: len(texts[1])] == texts[1]


def test_what_is_handed_over_stays_as_it_is_and_other_attributes_reach_the_model(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [
        SystemMessage([{"type": "text", "text": "Be brief."}]),
        HumanMessage([{"type": "text", "text": QUESTION}, picture], name="ana", id="m1", additional_kwargs={"x": 1}),
    ]
    before = copy.deepcopy(messages)
    model = Scripted(script=["Yes."])
    MemosChat(memos=memos, scope=ANA, model=model).invoke(messages)
    assert messages == before
    human = model.seen[0][1]
    assert human.content[0]["text"].startswith("<memory") and human.content[1:] == before[1].content
    assert (human.id, human.name, human.additional_kwargs) == ("m1", "ana", {"x": 1})
    cube = memos.conversation(scope=ANA, session="default")[0]
    assert cube.identifiers.sources == ("m1",) and cube.identifiers.speaker == "ana" and cube.payload.text == f"{QUESTION}\n[image]"


def test_one_instance_serves_many_users_at_once(memos: MemOS) -> None:
    for name in ("ana", "ben"):
        memos.remember(f"The secret word of {name} is {name}-secret.", scope=("clinic", name))
    model = Scripted(answer=lambda messages: " | ".join(message.text for message in messages))
    chat = MemosChat(memos=memos, model=model)

    def ask(name: str, turn: int) -> tuple[str, str]:
        config = {"configurable": {"scope": ("clinic", name), "thread_id": f"t-{name}"}}
        return name, chat.invoke(f"What is my secret word? ({turn})", config).text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, ["ana", "ben"] * 8, range(16)))
    for name, text in answers:
        other = "ben" if name == "ana" else "ana"
        assert f"{name}-secret" in text and f"{other}-secret" not in text
    assert len(said(memos, ANA, "t-ana")) == len(said(memos, BEN, "t-ben")) == 16
    with pytest.raises(InvalidInput, match="scope"):
        chat.invoke("Whose am I?")


def test_config_reaches_every_way_of_calling(memos: MemOS) -> None:
    config: Any = {"configurable": {"scope": BEN, "session": "s9"}}
    chat = MemosChat(memos=memos, scope=ANA, model=Scripted(answer=lambda messages: "Noted."))
    chain = ChatPromptTemplate.from_messages([("human", "{text}")]) | chat
    chain.invoke({"text": "one"}, config)
    list(chat.stream("two", config))
    chat.batch(["three"], config)
    assert [text for role, text in said(memos, BEN, "s9") if role == "user"] == ["one", "two", "three"]
    assert memos.recall("one two three", scope=ANA).hits == ()


def test_a_finished_stream_is_remembered_before_its_last_piece(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    chat = MemosChat(memos=memos, scope=ANA, model=Streaming(script=[["Take ", "macro", "lides."]]))
    pieces = list(chat.stream(QUESTION))
    assert [piece.text for piece in pieces][:3] == ["Take ", "macro", "lides."]
    assert said(memos) == [("user", QUESTION), ("assistant", "Take macrolides.")]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.text == "Take macrolides." and whole.response_metadata["memos"]["used"]


def test_an_abandoned_or_failing_stream_remembers_nothing(memos: MemOS) -> None:
    broken = ConnectionError("the line is dead")
    chat = MemosChat(memos=memos, scope=ANA, model=Streaming(script=[["Take ", "this."], ["Take ", broken]]))
    abandoned = chat.stream("First?")
    assert next(abandoned).text == "Take "
    abandoned.close()
    with pytest.raises(ConnectionError):
        list(chat.stream("Second?"))
    assert said(memos) == [] and memos.stats()["counts"]["turns"] == 0


async def test_async_calls_and_streams(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    plain, streaming = Scripted(script=["One.", "Two."]), Streaming(script=[["Th", "ree."]])
    assert (await MemosChat(memos=memos, scope=ANA, model=plain).ainvoke(QUESTION)).text == "One."
    chat = MemosChat(memos=memos, scope=ANA, model=plain, session="b")
    assert "".join([piece.text async for piece in chat.astream("And?")]) == "Two."
    chat = MemosChat(memos=memos, scope=ANA, model=streaming, session="c")
    assert "".join([piece.text async for piece in chat.astream("So?")]) == "Three."
    events = [
        event["event"]
        async for event in MemosChat(memos=memos, scope=ANA, model=Scripted(script=["E."]), session="d").astream_events("Hm?")
    ]
    assert events[-1] == "on_chat_model_end"
    assert [said(memos, session=session)[-1][1] for session in ("default", "b", "c", "d")] == ["One.", "Two.", "Three.", "E."]
    assert FACT in plain.seen[0][-1].text


def test_tool_calls_are_no_answer_and_tools_go_to_the_inner_model(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(script=[calling("clock"), "It is nine, and no penicillin."])
    bound = MemosChat(memos=memos, scope=ANA, model=model).bind_tools([clock], tool_choice="auto")
    messages: list[BaseMessage] = [HumanMessage(QUESTION)]
    messages.append(bound.invoke(messages))
    assert said(memos) == []
    messages.append(ToolMessage("It is nine.", tool_call_id="call-clock"))
    bound.invoke(messages)
    assert said(memos) == [("user", QUESTION), ("assistant", "It is nine, and no penicillin.")]
    assert model.given[0] == {"tools": ["clock"], "tool_choice": "auto"}
    first, second = ([message.text for message in prompt] for prompt in model.seen)
    assert second[: len(first)] == first


def test_structured_output_goes_through_the_memory(memos: MemOS) -> None:
    class Safe(BaseModel):
        """Whether it is safe."""

        safe: bool

    memos.remember(FACT, scope=ANA)
    model = Scripted(script=[calling("Safe", safe=False)])
    assert MemosChat(memos=memos, scope=ANA, model=model).with_structured_output(Safe).invoke(QUESTION) == Safe(safe=False)
    assert FACT in model.seen[0][0].text
    assert said(memos) == [("user", QUESTION), ("assistant", '{"safe": false}')]  # here the call is the answer
    list(
        MemosChat(memos=memos, scope=ANA, session="b", model=Scripted(script=[calling("Safe", safe=True)]))
        .with_structured_output(Safe)
        .stream("So?")
    )
    assert said(memos, session="b") == [("user", "So?"), ("assistant", '{"safe": true}')]


def test_a_write_that_fails_reaches_the_caller(memos: MemOS) -> None:
    def answer(messages: list[BaseMessage]) -> str:
        memos.close()
        return "Too late."

    chat = MemosChat(memos=memos, scope=ANA, model=Scripted(answer=answer))
    with pytest.raises(StoreUnusable, match="closed"):
        chat.invoke(QUESTION)
    with pytest.raises(StoreUnusable, match="closed"):
        list(chat.stream(QUESTION))


def test_a_model_that_is_none_is_refused(memos: MemOS) -> None:
    with pytest.raises(ValueError, match="HFEngine"):
        MemosChat(memos=memos, scope=ANA, model="gpt")


# ---------------------------------------------------------------------- MemosChat over an HFEngine
@pytest.fixture(scope="module")
def engine() -> Any:
    from tiny_models import tiny_model, tiny_tokenizer

    from memos_core.hf import HFEngine

    return HFEngine(tiny_model(max_position_embeddings=4096), tiny_tokenizer())


def test_an_engine_answers_with_reuse_and_says_what_it_cost(tmp_path: Path, hash_embedder: Any, engine: Any) -> None:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        memos.remember(FACT, scope=ANA)
        chat = MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=8)
        history: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage(QUESTION)]
        history.append(chat.invoke(history))
        history.append(HumanMessage("And when does the clinic open?"))
        second = chat.invoke(history)
        assert second.usage_metadata["input_token_details"]["cache_read"] > 0.5 * history[2].usage_metadata["input_tokens"]
        assert second.usage_metadata["output_tokens"] <= 8 and second.response_metadata["exact"] is True
        assert second.response_metadata["seconds_to_first_token"] > 0 and second.response_metadata["memos"]["used"] is not None
        assert [role for role, _ in said(memos)].count("user") == 2
        history += [second, HumanMessage("Thanks.")]
        pieces = list(MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=8, session="other").stream(history))
        whole = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        assert whole.usage_metadata["input_tokens"] > 0 and whole.response_metadata["memos"]["session"] == "other"
        assert said(memos, session="other")[0] == ("user", "Thanks.")


def test_kv_prefilled_by_the_scheduler_is_hit_by_the_first_turn_after_reopening(tmp_path: Path, hash_embedder: Any, engine: Any) -> None:
    system, later = SystemMessage("Be brief."), datetime.now(UTC) + timedelta(hours=2)
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        memos.remember(FACT, scope=ANA)
        for session in ("a", "b", "c"):
            MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=2, session=session).invoke([system, HumanMessage(QUESTION)])
        assert [move.kind for move in memos.tick(later)] == ["prefill"]
    engine.close()
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        answer = MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=2, session="d").invoke([system, HumanMessage(QUESTION)])
        used = answer.response_metadata["memos"]["used"]
        assert "reuse" in {memory["form"] for memory in used}
        assert answer.usage_metadata["input_token_details"]["cache_read"] >= engine.count(FACT)


async def test_an_engine_in_async_code(tmp_path: Path, hash_embedder: Any, engine: Any) -> None:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        chat = MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=4)
        whole = (await chat.ainvoke("Hello.")).text
        again = "".join([piece.text async for piece in chat.astream("Hello.", {"configurable": {"session": "b"}}, reuse=False)])
        assert said(memos)[0] == said(memos, session="b")[0] == ("user", "Hello.")
        assert isinstance(whole, str) and isinstance(again, str)


def test_what_an_engine_cannot_do_is_said(memos: MemOS, engine: Any) -> None:
    chat = MemosChat(memos=memos, scope=ANA, model=engine)
    with pytest.raises(NotAvailable, match="tools"):
        chat.bind_tools([clock])
    with pytest.raises(InvalidInput, match="frequency_penalty"):
        chat.invoke("Hi.", frequency_penalty=1.0)
    with pytest.raises(NotAvailable, match="text"):
        chat.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])])
    assert said(memos) == []


class TestMemosChat(ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _memory(self, memos: MemOS) -> None:
        self.memos = memos

    @property
    def chat_model_class(self) -> type[MemosChat]:
        return MemosChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"memos": self.memos, "scope": ANA, "model": Scripted()}


# ---------------------------------------------------------------------- MemosRetriever
class TestMemosRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _memory(self, memos: MemOS) -> None:
        memos.remember([f"Fact {number} about the clinic." for number in range(5)], scope=ANA, path="care/facts")
        self.memos = memos

    @property
    def retriever_constructor(self) -> type[MemosRetriever]:
        return MemosRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"memos": self.memos, "scope": ANA}

    @property
    def retriever_query_example(self) -> str:
        return "What is known about the clinic?"


def test_documents_carry_what_the_memory_knows(memos: MemOS) -> None:
    memos.remember([{"role": "user", "content": FACT, "id": "m7", "name": "ana"}], scope=ANA, session="s", path="care/allergies")
    memos.remember("Ben is allergic to penicillin as well.", scope=BEN)
    (document,) = MemosRetriever(memos=memos, scope=ANA).invoke("penicillin")
    assert document.page_content == FACT and memos.get(document.id).payload.text == FACT
    expected = {"sources": ["m7"], "path": ["care", "allergies"], "session": "s", "speaker": "ana", "scope": list(ANA)}
    assert {name: document.metadata[name] for name in expected} == expected
    assert document.metadata["score"] > 0 and document.metadata["reasons"] and document.metadata["occurred_at"].endswith("Z")


# ---------------------------------------------------------------------- MemosMiddleware
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


# ---------------------------------------------------------------------- without the framework
def test_a_missing_framework_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_core.retrievers", None)
    spec = importlib.util.spec_from_file_location("without_langchain", door.__file__)
    assert spec is not None and spec.loader is not None
    with pytest.raises(MissingExtra, match=r"\[langchain\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


# ---------------------------------------------------------------------- images, and a model for the memory
def test_a_human_message_with_an_image_is_remembered_with_it(memos: MemOS) -> None:
    data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    blocks = [{"type": "text", "text": "What is this?"}, {"type": "image", "base64": data, "mime_type": "image/png"}]
    chat = MemosChat(memos=memos, scope="ana", model=Scripted(script=["A dot."]))
    assert chat.invoke([HumanMessage(content=blocks)]).text == "A dot."
    question = memos.conversation(scope="ana", session="default")[0]
    assert question.payload.text == "What is this?\n[image]" and question.payload.parts[0].mime_type == "image/png"
    assert memos.content(question.id)[1]["base64"] == data


def test_a_chat_model_judges_for_the_memory(tmp_path: Path) -> None:
    answer = '{"relation": "contradicts", "confidence": 0.9, "update": true, "why": "moved"}'
    with MemOS.open(tmp_path / "x.memos", embedder=bag_of_words, model=Scripted(script=[answer])) as memos:
        assert str(memos.relation("I live in Lisbon.", "Oslo is home now.").kind) == "contradicts"

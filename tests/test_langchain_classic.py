"""The legacy memory in the chains that people still run."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.tools import tool
from pydantic import Field

from memos_core import InvalidInput, MemOS, MissingExtra, StoreUnusable
from memos_integrations.langchain import MemosRetriever

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from langchain_classic.agents import AgentExecutor, create_react_agent, create_tool_calling_agent
    from langchain_classic.base_memory import BaseMemory
    from langchain_classic.chains import ConversationalRetrievalChain, ConversationChain, LLMChain
    from langchain_classic.memory import CombinedMemory, ConversationBufferMemory, ReadOnlySharedMemory, SimpleMemory

    from memos_integrations import langchain_classic as door
    from memos_integrations.langchain_classic import MemosMemory

pytestmark = pytest.mark.filterwarnings("ignore")
ANA = ("clinic", "ana")
FACT = "Ana is allergic to penicillin."


class Recording(FakeListLLM):
    """Answers from a list, and keeps the prompts it saw."""

    seen: list[str] = []  # noqa: RUF012  pydantic copies it

    def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        self.seen.append(prompt)
        return super()._call(prompt, *args, **kwargs)


@pytest.fixture
def memos(tmp_path: Path, hash_embedder: Any) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder) as opened:
        yield opened


def said(memos: MemOS, session: str) -> list[str]:
    return [cube.payload.text for cube in memos.conversation(scope=ANA, session=session)]


def test_a_conversation_chain_remembers_across_sessions_and_processes(memos: MemOS, tmp_path: Path, hash_embedder: Any) -> None:
    llm = Recording(responses=["Noted.", "Not penicillin."])
    ConversationChain(llm=llm, memory=MemosMemory(memos=memos, scope=ANA)).predict(input="I am allergic to penicillin.")
    memos.close()
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder) as again:
        memory = MemosMemory(memos=again, scope=ANA)
        assert isinstance(memory, BaseMemory)
        ConversationChain(llm=llm, memory=memory).predict(input="Is penicillin safe?")
        prompt = llm.seen[1]
        assert "I am allergic to penicillin." in prompt and prompt.index("allergic") < prompt.index("Human: Is penicillin safe?")
        assert said(again, memory.session) == ["Is penicillin safe?", "Not penicillin."]


def test_six_turns_are_remembered_once_each_and_nothing_recalled_again(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    llm = Recording(responses=[f"Answer {number}." for number in range(6)])
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    chain = ConversationChain(llm=llm, memory=memory)
    for number in range(6):
        chain.predict(input=f"Penicillin question {number}?")
    expected = [text for number in range(6) for text in (f"Penicillin question {number}?", f"Answer {number}.")]
    assert said(memos, "s") == expected and memos.stats()["counts"]["turns"] == 6
    assert memos.stats()["counts"]["plaintext"] == 13
    histories = [prompt.partition("Current conversation:\n")[2].rpartition("\nHuman: ")[0] for prompt in llm.seen]
    assert all("AI: Answer 0." in history for history in histories[1:]) and FACT in histories[0]


def test_messages_and_keys_as_users_of_the_buffer_expect(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    memory = MemosMemory(memos=memos, scope=ANA, memory_key="chat_history", return_messages=True, input_key="question", output_key="text")
    assert memory.memory_variables == ["chat_history"]
    assert memory.load_memory_variables({}) == {"chat_history": []}
    inputs, outputs = {"question": "Is penicillin safe?", "tone": "kind"}, {"text": "No.", "log": "x"}
    (recalled,) = memory.load_memory_variables(inputs)["chat_history"]
    assert isinstance(recalled, SystemMessage) and FACT in recalled.text
    memory.save_context(inputs, outputs)
    assert inputs == {"question": "Is penicillin safe?", "tone": "kind"} and outputs == {"text": "No.", "log": "x"}
    human, ai = memory.load_memory_variables({})["chat_history"]
    assert isinstance(human, HumanMessage) and isinstance(ai, AIMessage) and (human.text, ai.text) == ("Is penicillin safe?", "No.")
    human, _ = memory.load_memory_variables({"question": "Why?"})["chat_history"][:2]
    assert FACT in human.text and human.text.endswith("Is penicillin safe?")  # it stays where it was placed
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("chat_history"), ("human", "{question} {tone}")])
    chain = LLMChain(llm=Recording(responses=["Because."]), prompt=prompt, memory=memory)
    assert chain.invoke({"question": "Why?", "tone": "kind"})["text"] == "Because."


@pytest.mark.parametrize("run", ["invoke", "ainvoke"])
async def test_a_chain_that_condenses_questions_and_returns_its_sources(memos: MemOS, run: str) -> None:
    """As with ConversationBufferMemory: the history by its own key, the answer named among several outputs."""
    memos.remember(FACT, scope=ANA)
    keys: dict[str, Any] = {"memory_key": "chat_history", "output_key": "answer", "return_messages": True}
    llm = Recording(responses=["Condensed?", "No penicillin."])
    chain = ConversationalRetrievalChain.from_llm(
        llm,
        MemosRetriever(memos=memos, scope=ANA),
        memory=MemosMemory(memos=memos, scope=ANA, session="s", **keys),
        return_source_documents=True,
    )
    for question in ("What about penicillin?", "Why?"):
        given = {"question": question}
        found = await chain.ainvoke(given) if run == "ainvoke" else chain.invoke(given)
        assert found["answer"] == "No penicillin." and found["source_documents"]
    assert said(memos, "s") == ["What about penicillin?", "No penicillin.", "Why?", "No penicillin."]
    if run == "invoke":  # what the second question is condensed from
        assert all(text in llm.seen[2] for text in ("Human: ", "What about penicillin?", FACT))


def test_an_unclear_input_or_output_is_refused(memos: MemOS) -> None:
    memory = MemosMemory(memos=memos, scope=ANA)
    with pytest.raises(ValueError, match="One input key"):
        memory.save_context({"a": "x", "b": "y"}, {"text": "z"})
    with pytest.raises(InvalidInput, match="output_key"):
        memory.save_context({"a": "x"}, {"text": "z", "log": "w"})
    with pytest.warns(UserWarning, match="'output'"):
        memory.save_context({"a": "x"}, {"output": "z", "log": "w"})
    assert said(memos, memory.session) == ["x", "z"]


def test_clear_starts_a_new_session_and_erases_nothing(memos: MemOS) -> None:
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    memory.save_context({"input": "I like tea."}, {"response": "Noted."})
    memory.clear()
    assert memory.load_memory_variables({}) == {"history": ""}
    assert memory.session != "s" and said(memos, "s") == ["I like tea.", "Noted."]
    assert "I like tea." in memory.load_memory_variables({"input": "What tea?"})["history"]


def test_two_users_do_not_see_each_other(memos: MemOS) -> None:
    ana, ben = (MemosMemory(memos=memos, scope=("clinic", name), session="s") for name in ("ana", "ben"))
    ana.save_context({"input": "My secret word is plum."}, {"response": "Noted."})
    assert ben.load_memory_variables({"input": "What is the secret word?"}) == {"history": ""}


async def test_async_and_a_write_that_fails(memos: MemOS) -> None:
    memory = MemosMemory(memos=memos, scope=ANA)
    await memory.asave_context({"input": "I like tea."}, {"response": "Noted."})
    assert "Human: I like tea.\nAI: Noted." in (await memory.aload_memory_variables({"input": "Hm?"}))["history"]
    chain = LLMChain(llm=Recording(responses=["x"]), prompt=PromptTemplate.from_template("{history} {input}"), memory=memory)
    memos.close()
    with pytest.raises(StoreUnusable):
        chain.invoke({"input": "Anything?"})
    with pytest.raises(StoreUnusable):
        memory.save_context({"input": "a"}, {"response": "b"})


# ---------------------------------------------------------------------- conventions, and agents
@pytest.mark.parametrize("return_messages", [False, True])
@pytest.mark.parametrize("memory_key", ["history", "chat_history"])
@pytest.mark.parametrize(("input_key", "output_key"), [(None, None), ("input", "text"), ("input", None)])
def test_it_is_the_buffer_as_long_as_there_is_nothing_to_recall(
    memos: MemOS, return_messages: bool, memory_key: str, input_key: str | None, output_key: str | None
) -> None:
    keys: dict[str, Any] = {"memory_key": memory_key, "input_key": input_key, "output_key": output_key}
    keys |= {"return_messages": return_messages, "human_prefix": "Patient", "ai_prefix": "Nurse"}
    place = MessagesPlaceholder(memory_key) if return_messages else ("human", f"{{{memory_key}}}")
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), place, ("human", "{input}")])
    seen = []
    for memory in (MemosMemory(memos=memos, scope=ANA, **keys), ConversationBufferMemory(**keys)):
        llm = Recording(responses=[f"Answer {number}." for number in range(6)], seen=[])
        chain = LLMChain(llm=llm, prompt=prompt, memory=memory)
        for number in range(6):
            given = {"input": f"Question {number}?"}
            assert chain.invoke(given)["text"] == f"Answer {number}." and given == {"input": f"Question {number}?"}
        seen.append((llm.seen, memory.load_memory_variables({})[memory_key]))
    (mine, held), (theirs, expected) = seen
    assert mine == theirs
    shown = [[(type(each), each.text) for each in messages] if return_messages else messages for messages in (held, expected)]
    assert shown[0] == shown[1] and memos.stats()["counts"]["plaintext"] == 12


@tool
def clock() -> str:
    """The time."""
    return "It is nine."


class Calling(BaseChatModel):
    """Calls the clock first, then answers; keeps the prompts it saw."""

    seen: list[list[str]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "calling"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.seen.append([message.text for message in messages])
        told = messages[-1].type == "tool"
        calls = [] if told else [{"name": "clock", "args": {}, "id": f"c{len(self.seen)}"}]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(f"Nine ({len(self.seen)})." if told else "", tool_calls=calls))])

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


@pytest.mark.parametrize("steps", [False, True])
async def test_an_agent_executor_that_calls_tools_remembers_each_turn_once(memos: MemOS, steps: bool) -> None:
    memos.remember(FACT, scope=ANA)
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Be brief."), MessagesPlaceholder("chat_history"), ("human", "{input}"), MessagesPlaceholder("agent_scratchpad")]
    )
    llm = Calling()
    memory = MemosMemory(memos=memos, scope=ANA, session="s", memory_key="chat_history", return_messages=True, output_key="output")
    executor = AgentExecutor(
        agent=create_tool_calling_agent(llm, [clock], prompt), tools=[clock], memory=memory, return_intermediate_steps=steps
    )
    for number in range(6):
        given = {"input": f"What time is it for penicillin ({number})?"}
        done = await executor.ainvoke(given) if number % 2 else executor.invoke(given)
        assert done["output"] == f"Nine ({2 * number + 2})." and ("intermediate_steps" in done) is steps
    expected = [text for number in range(6) for text in (f"What time is it for penicillin ({number})?", f"Nine ({2 * number + 2}).")]
    assert said(memos, "s") == expected and memos.stats()["counts"]["turns"] == 6
    assert all(any(FACT in text for text in prompt) for prompt in llm.seen)
    assert sum(FACT in text for text in llm.seen[-1]) == 1  # it stays where it was placed, once


def test_an_agent_executor_by_text_remembers_each_turn_once(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    template = "{chat_history}\nTools: {tools} {tool_names}\nQuestion: {input}\n{agent_scratchpad}"
    answers = [text for number in range(6) for text in ("Action: clock\nAction Input: ", f"Final Answer: Nine {number}.")]
    llm = Recording(responses=answers, seen=[])
    memory = MemosMemory(memos=memos, scope=ANA, session="s", memory_key="chat_history")

    @tool
    def clock(text: str = "") -> str:
        """The time."""
        return "It is nine."

    agent = create_react_agent(llm, [clock], PromptTemplate.from_template(template))
    executor = AgentExecutor(agent=agent, tools=[clock], memory=memory, handle_parsing_errors=False)
    for number in range(6):
        assert executor.invoke({"input": f"Penicillin {number}?"})["output"] == f"Nine {number}."
    assert said(memos, "s") == [text for number in range(6) for text in (f"Penicillin {number}?", f"Nine {number}.")]
    assert all(FACT in prompt for prompt in llm.seen) and len(llm.seen) == 12
    memos.close()
    with pytest.raises(StoreUnusable):
        executor.invoke({"input": "And now?"})


def test_it_goes_together_with_other_memories(memos: MemOS) -> None:
    memory = MemosMemory(memos=memos, scope=ANA, session="s", input_key="input")
    both = CombinedMemory(memories=[memory, SimpleMemory(memories={"tone": "kind"})])
    llm = Recording(responses=["Noted.", "Tea.", "x"], seen=[])
    prompt = PromptTemplate.from_template("{tone} {history} {input}")
    LLMChain(llm=llm, prompt=prompt, memory=both).invoke({"input": "I like tea."})
    assert said(memos, "s") == ["I like tea.", "Noted."]
    reader = LLMChain(llm=llm, prompt=PromptTemplate.from_template("{history} {input}"), memory=ReadOnlySharedMemory(memory=memory))
    assert "I like tea." in llm.seen[0] and reader.invoke({"input": "What?"})["text"] == "Tea."
    assert "Human: I like tea." in llm.seen[1] and said(memos, "s") == ["I like tea.", "Noted."]


def test_a_missing_framework_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_classic.base_memory", None)
    spec = importlib.util.spec_from_file_location("without_langchain_classic", door.__file__)
    assert spec is not None and spec.loader is not None
    with pytest.raises(MissingExtra, match=r"\[langchain-classic\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

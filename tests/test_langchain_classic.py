"""The legacy memory in the chains that people still run."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate

from memos_core import InvalidInput, MemOS, MissingExtra, StoreUnusable

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from langchain_classic.base_memory import BaseMemory
    from langchain_classic.chains import ConversationChain, LLMChain

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


def test_a_missing_framework_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_classic.base_memory", None)
    spec = importlib.util.spec_from_file_location("without_langchain_classic", door.__file__)
    assert spec is not None and spec.loader is not None
    with pytest.raises(MissingExtra, match=r"\[langchain-classic\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

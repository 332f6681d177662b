"""MemosMemory and MemosRetriever on a real memory, with LlamaIndex's own engines and agents around them."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ImageBlock, TextBlock
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine, SimpleChatEngine
from llama_index.core.memory import BaseMemory, Memory
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context
from scripted_llms import ANA, Calling, Scripted, clock, contents, said

from memos_core import InvalidInput, MemOS, MissingExtra, StoreUnusable
from memos_integrations import llamaindex as door
from memos_integrations.llamaindex import MemosMemory, MemosRetriever
from memos_integrations.llamaindex import memory as conversation

FACT = "Ana is allergic to penicillin."
QUESTION = "Which antibiotic is safe for Ana, who asks about penicillin?"


@pytest.fixture
def memos(tmp_path: Path, hash_embedder: Any) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder) as opened:
        yield opened


# ---------------------------------------------------------------------- MemosMemory
def test_a_chat_engine_remembers_and_recalls(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    llm = Scripted(script=["Macrolides are.", "Yes."])
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    assert isinstance(memory, BaseMemory)
    chat = SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="Be brief.")
    assert chat.chat(QUESTION).response == "Macrolides are."
    chat.chat("Really, no penicillin?")
    system, user = llm.seen[0]
    assert system.content == "Be brief." and FACT in user.content and user.content.endswith(QUESTION)
    assert contents(llm.seen[1])[:2] == contents(llm.seen[0])  # the prompt only grows
    expected = [QUESTION, "Macrolides are.", "Really, no penicillin?", "Yes."]
    assert contents(chat.chat_history) == expected and [text for _, text in said(memos, "s")] == expected
    assert memory.last_turn is not None and memory.last_turn.plan.why
    first = memos.conversation(scope=ANA, session="s")[0]
    assert first.identifiers.sources[0].startswith("s#") and memos.stats()["counts"]["uses"] > 0


def test_six_turns_are_remembered_once_each_also_across_reopening(memos: MemOS, tmp_path: Path, hash_embedder: Any) -> None:
    memos.remember(FACT, scope=ANA)
    for number in range(3):
        llm = Scripted(script=[f"Answer {number}."])
        SimpleChatEngine.from_defaults(llm=llm, memory=MemosMemory(memos=memos, scope=ANA, session="s")).chat(
            f"Penicillin question {number}?"
        )
    memos.close()
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder) as again:
        memory = MemosMemory(memos=again, scope=ANA, session="s")
        llm = Scripted(script=[f"Answer {number}." for number in range(3, 6)])
        chat = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
        for number in range(3, 6):
            chat.chat(f"Penicillin question {number}?")
        expected = [text for number in range(6) for text in (f"Penicillin question {number}?", f"Answer {number}.")]
        assert [text for _, text in said(again, "s")] == contents(memory.get_all()) == expected
        counts = again.stats()["counts"]
        assert counts["turns"] == 6 and counts["plaintext"] == 13
        first = llm.seen[0]
        assert FACT in (first[0].content or "")  # where the first process placed it
        assert contents(llm.seen[1])[: len(first)] == contents(first)


async def test_async_chat_and_streams(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    llm = Scripted(script=["One.", "Two words.", "Three more words."])
    chat = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    await chat.achat(QUESTION)
    assert "".join(chat.stream_chat("And?").response_gen) == "Two words."
    streamed = await chat.astream_chat("So?")
    assert "".join([piece async for piece in streamed.async_response_gen()]) == "Three more words."
    assert streamed.is_done
    assert [text for _, text in said(memos, "s")] == [QUESTION, "One.", "And?", "Two words.", "So?", "Three more words."]
    assert memos.stats()["counts"]["turns"] == 3
    await memory.aput(ChatMessage(role="user", content="Hm?"))
    assert contents(await memory.aget()) == contents(memory.get()) and contents(await memory.aget_all())[-1] == "Hm?"


def test_context_engines_ask_before_they_put(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    memos.remember("Penicillin was found in 1928.", scope=("library",))
    documents = MemosRetriever(memos=memos, scope="library")
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    llm = Scripted(script=["No.", "Still no."])
    chat = ContextChatEngine.from_defaults(retriever=documents, memory=memory, llm=llm)
    chat.chat("Is penicillin safe?")
    chat.chat("Is penicillin safe now?")
    (*_, recalled, question) = contents(llm.seen[0])
    assert "1928" in contents(llm.seen[0])[0]
    assert FACT in recalled and question == "Is penicillin safe?"
    assert [text for _, text in said(memos, "s")] == ["Is penicillin safe?", "No.", "Is penicillin safe now?", "Still no."]
    assert memos.stats()["counts"]["turns"] == 2
    other = MemosMemory(memos=memos, scope=ANA, session="t")
    CondensePlusContextChatEngine.from_defaults(retriever=documents, memory=other, llm=Scripted(script=["A.", "B.", "C."])).chat("Safe?")
    assert said(memos, "t")[0] == ("user", "Safe?") and len(said(memos, "t")) == 2


async def test_a_function_agent(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    llm = Calling(script=[("tool", "clock"), "Nine; no penicillin."])
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(clock)], llm=llm, system_prompt="Be brief.", streaming=False)
    assert str(await agent.run(QUESTION, memory=memory)) == "Nine; no penicillin."
    assert said(memos, "s") == [("user", QUESTION), ("assistant", "Nine; no penicillin.")]
    assert [message.role.value for message in memory.get_all()] == ["user", "assistant", "tool", "assistant"]
    assert all(any(FACT in text for text in contents(prompt)) for prompt in llm.seen)
    assert memos.stats()["counts"]["turns"] == 1


async def test_a_react_agent_and_its_saved_context(memos: MemOS, tmp_path: Path, hash_embedder: Any) -> None:
    memos.remember(FACT, scope=ANA)
    llm = Scripted(script=["Thought: easy.\nAnswer: Not penicillin.", "Thought: easy.\nAnswer: As I said."])
    agent = ReActAgent(tools=[FunctionTool.from_defaults(clock)], llm=llm, streaming=False)
    context = Context(agent)
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    assert str(await agent.run(QUESTION, memory=memory, ctx=context)) == "Not penicillin."
    assert any(FACT in text for text in contents(llm.seen[0]))
    saved = context.to_dict()
    loaded = Context.from_dict(agent, saved)
    assert str(await agent.run("What did I ask?", ctx=loaded)) == "As I said."
    assert [text for role, text in said(memos, "s") if role == "user"] == [QUESTION, "What did I ask?"]
    assert any(QUESTION in text for text in contents(llm.seen[1]))


def test_serialised_memory_reopens_its_directory(tmp_path: Path, hash_embedder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder) as memos:
        memory = MemosMemory(memos=memos, scope=ANA, session="s", k=3)
        memory.put(ChatMessage(role="user", content="I like tea."))
        fields = memory.to_dict()
        assert MemosMemory.from_dict(fields).memos is memos and pickle.loads(pickle.dumps(memory)).memos is memos  # noqa: S301
    assert {name: fields[name] for name in ("scope", "session", "k")} == {"scope": ANA, "session": "s", "k": 3}
    original = MemOS.open
    monkeypatch.setattr(conversation, "_handed_over", {})  # as in another process
    monkeypatch.setattr(conversation.MemOS, "open", lambda path, **_: opened.append(path) or original(path, embedder=hash_embedder))
    opened: list[Any] = []
    reloaded = MemosMemory.from_dict(fields)
    assert contents(reloaded.get_all()) == ["I like tea."] and [Path(path) for path in opened] == [tmp_path / "memory"]
    reloaded.memos.close()


def test_set_and_reset_erase_nothing_and_remember_nothing_twice(memos: MemOS) -> None:
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    SimpleChatEngine.from_defaults(llm=Scripted(script=["Noted."]), memory=memory).chat("I like tea.")
    history = memory.get_all()
    llm = Scripted(script=["Tea.", "Cake."])
    chat = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    chat.chat("What do I like?", chat_history=history)  # a server without state gets the whole history each time
    expected = ["I like tea.", "Noted.", "What do I like?", "Tea."]
    assert [text for _, text in said(memos, "s")] == contents(memory.get_all()) == expected
    chat.chat(
        "And to eat?",
        chat_history=[*history, ChatMessage(role="user", content="I like cake."), ChatMessage(role="assistant", content="Ah.")],
    )
    assert contents(memory.get_all()) == ["I like tea.", "Noted.", "I like cake.", "Ah.", "And to eat?", "Cake."]
    assert [text for _, text in said(memos, "s")] == [*expected, "I like cake.", "Ah.", "And to eat?", "Cake."]
    chat.reset()
    assert memory.get_all() == [] and memory.get() == [] and memory.session != "s" and len(said(memos, "s")) == 8
    memory.put(ChatMessage(role="user", content="Which cake do I like?"))
    assert "I like cake." in contents(memory.get())[0]
    begun = MemosMemory.from_defaults(chat_history=history, memos=memos, scope=ANA, session="t", llm=None)
    assert contents(begun.get_all()) == contents(history) and len(said(memos, "t")) == 2


def words(text: str) -> list[str]:
    return text.split()


def test_the_token_limit_holds_and_cuts_seldom(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    memory = MemosMemory(memos=memos, scope=ANA, session="s", k=1, token_limit=260, token_budget=160, tokenizer_fn=words)
    llm = Scripted(script=lambda messages: "One answer of six words, always.")
    memory.put(ChatMessage(role="user", content="My bicycle is called Rosinante."))
    memory.put(ChatMessage(role="assistant", content="Noted."))
    chat = SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="Be brief.")
    for number in range(30):
        chat.chat(f"Question {number} on penicillin, of eight words, Ana?")
    sizes = [sum(len(text.split()) for text in contents(prompt)) for prompt in llm.seen]
    assert 100 < max(sizes) <= 260
    assert all(
        contents(prompt)[-1].endswith(f"Question {number} on penicillin, of eight words, Ana?") for number, prompt in enumerate(llm.seen)
    )
    assert all(prompt[1].role == "user" for prompt in llm.seen)  # whole turns go
    grown = [contents(now)[: len(before)] == contents(before) for before, now in pairwise(llm.seen)]
    assert 0 < grown.count(False) <= 8  # each cut is a prefix lost
    assert len(memory.get_all()) == 62 and len(said(memos, "s")) == 62
    memory.put(ChatMessage(role="user", content="How is my bicycle called?"))
    shown = contents(memory.get())
    assert "Rosinante" in shown[-1] and not any(text.startswith("My bicycle") for text in shown)  # not shown, but recalled
    memory.put(ChatMessage(role="user", content="word " * 300))
    assert contents(memory.get())[-1].endswith("word " * 300) and len(memory.get()) == 1


def test_the_token_limit_of_context_engines_and_models(memos: MemOS) -> None:
    memory = MemosMemory(memos=memos, scope=ANA, session="s", token_limit=100, token_budget=20, tokenizer_fn=words)
    for number in range(10):
        memory.put(ChatMessage(role="user", content=f"Question {number} of five words."))
        memory.put(ChatMessage(role="assistant", content="Answer of four words."))
    whole = [sum(len(text.split()) for text in contents(memory.get(input="w " * size, initial_token_count=30))) + size for size in (5, 20)]
    assert all(0 < size <= 70 for size in whole)
    assert [message.role.value for message in memory.get(input="w " * 300) if message.role != "system"] == ["user", "assistant"]
    llm = Scripted()
    assert MemosMemory.from_defaults(memos=memos, scope=ANA, llm=llm).token_limit == llm.metadata.context_window * 3 // 4
    assert MemosMemory(memos=memos, scope=ANA).token_limit == Memory.from_defaults().token_limit
    with pytest.raises(InvalidInput, match="token_limit=100 leaves no room"):
        MemosMemory(memos=memos, scope=ANA, token_limit=100)


async def test_what_is_not_remembered_is_saved_with_the_context(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = ImageBlock(image=b"AAAA", image_mimetype="image/png")
    llm = Calling(script=[("tool", "clock"), "Nine.", "As I said."])
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(clock)], llm=llm, streaming=False)
    context = Context(agent)
    asked = ChatMessage(role="user", blocks=[TextBlock(text="What time is it in the picture?"), picture])
    await agent.run(asked, memory=MemosMemory(memos=memos, scope=ANA, session="s"), ctx=context)
    loaded = Context.from_dict(agent, json.loads(json.dumps(context.to_dict())))
    await agent.run("And now?", ctx=loaded)
    assert [message.role.value for message in llm.seen[-1]] == ["user", "assistant", "tool", "assistant", "user"]
    assert llm.seen[-1][0].blocks[1].image and contents(llm.seen[-1])[2] == "It is nine."
    assert [text for _, text in said(memos, "s")] == ["What time is it in the picture?\n[image]", "Nine.", "And now?", "As I said."]
    fields = (await loaded.store.get("memory")).to_dict()
    memos.forget(memos.conversation(scope=ANA, session="s")[0].id)
    assert contents(MemosMemory.from_dict(fields).get_all()) == ["Nine.", "And now?", "As I said."]  # nor what hung on it
    memory = MemosMemory(memos=memos, scope=ANA, session="t")
    memory.put(ChatMessage(role="user", content="Hm?"))
    thought = "Thought: easy.\nAction: clock\nAction Input: {}\nObservation: It is nine.\nThought: so.\nAnswer: Nine:\nAnswer: sharp."
    memory.put(ChatMessage(role="assistant", content=thought))
    assert [text for _, text in said(memos, "t")] == ["Hm?", "Nine:\nAnswer: sharp."]
    assert contents(MemosMemory.from_dict(memory.to_dict()).get_all()) == ["Hm?", thought]
    memory.set([ChatMessage(role="user", content="Hm?"), ChatMessage(role="assistant", content=thought)])
    assert len(said(memos, "t")) == 2
    memory.reset()
    assert memory.aside == [] and memory.get_all() == []


def test_what_goes_in_and_what_comes_out_are_copies(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    memory = MemosMemory(memos=memos, scope=ANA)
    picture = ImageBlock(image=b"AAAA")
    message = ChatMessage(role="user", blocks=[TextBlock(text=QUESTION), picture], additional_kwargs={"x": 1})
    before = copy.deepcopy(message)
    memory.put(message)
    (shown,) = memory.get()
    assert message == before and shown.blocks[1] == picture and shown.additional_kwargs == {"x": 1}
    assert FACT in shown.blocks[0].text and shown.blocks[0].text.endswith(QUESTION)
    shown.blocks[0].text = "changed by an agent"
    message.blocks[0].text = "changed by the caller"
    assert contents(memory.get_all()) == [QUESTION]
    wordless = MemosMemory(memos=memos, scope=ANA)
    wordless.put(ChatMessage(role="user", blocks=[picture]))
    wordless.put(ChatMessage(role="assistant", content="A picture."))
    assert len(wordless.get()) == 2 and said(memos, wordless.session) == [("user", "[image]"), ("assistant", "A picture.")]


def test_a_question_to_come_may_be_a_message(memos: MemOS) -> None:
    """As LlamaIndex's `Memory` takes one."""
    memos.remember(FACT, scope=ANA)
    shown = [MemosMemory(memos=memos, scope=ANA).get(input=asked) for asked in (QUESTION, ChatMessage(role="user", content=QUESTION))]
    assert FACT in contents(shown[0])[-1] and shown[0] == shown[1]


def test_users_do_not_see_each_other(memos: MemOS) -> None:
    for name in ("ana", "ben"):
        memory = MemosMemory(memos=memos, scope=("clinic", name), session="s")
        memory.put(ChatMessage(role="user", content=f"My secret word is {name}-plum."))
        memory.put(ChatMessage(role="assistant", content="Noted."))
    for name, other in (("ana", "ben"), ("ben", "ana")):
        memory = MemosMemory(memos=memos, scope=("clinic", name), session="s2")
        memory.put(ChatMessage(role="user", content="What is my secret word?"))
        (shown,) = contents(memory.get())
        assert f"{name}-plum" in shown and f"{other}-plum" not in shown


def test_a_session_open_twice_and_used_from_threads_loses_nothing(memos: MemOS) -> None:
    memories = [MemosMemory(memos=memos, scope=ANA, session="s") for _ in range(2)]

    def turns(number: int) -> None:
        for turn in range(4):
            llm = Scripted(script=[f"Answer {number}.{turn}."])
            SimpleChatEngine.from_defaults(llm=llm, memory=memories[number]).chat(f"Question {number}.{turn}?")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(turns, range(2)))
    expected = {text for number in range(2) for turn in range(4) for text in (f"Question {number}.{turn}?", f"Answer {number}.{turn}.")}
    kept = [text for _, text in said(memos, "s")]
    assert set(kept) == expected and len(kept) == 16
    one = MemosMemory(memos=memos, scope=ANA, session="t")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: one.put(ChatMessage(role="user", content=f"Note {n}.")) or one.get(), range(12)))
    assert sorted(contents(one.get_all())) == sorted(text for _, text in said(memos, "t")) and len(one.get_all()) == 12


def test_a_failed_answer_leaves_the_question_and_the_next_turn_works(memos: MemOS) -> None:
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    chat = SimpleChatEngine.from_defaults(llm=Scripted(script=[ConnectionError("down"), "Hello again."]), memory=memory)
    with pytest.raises(ConnectionError):
        chat.chat("Hello.")
    chat.chat("Hello?")
    assert [text for _, text in said(memos, "s")] == ["Hello.", "Hello?", "Hello again."]


def test_a_write_that_fails_reaches_the_caller(memos: MemOS) -> None:
    class Closing(Scripted):
        def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
            memos.close()
            return super().chat(messages)

    chat = SimpleChatEngine.from_defaults(llm=Closing(script=["Late.", "Late."]), memory=MemosMemory(memos=memos, scope=ANA, session="s"))
    with pytest.raises(StoreUnusable, match="closed"):
        chat.chat(QUESTION)
    assert contents(chat.chat_history) == [QUESTION]
    with pytest.raises(InvalidInput, match="location"):
        MemosMemory(scope=ANA)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_write_that_fails_while_streaming_reaches_the_reader(memos: MemOS) -> None:
    class Closing(Scripted):
        def stream_chat(self, messages: Any, **kwargs: Any) -> Iterator[ChatResponse]:
            def pieces() -> Iterator[ChatResponse]:
                yield ChatResponse(message=ChatMessage(role="assistant", content="Late."), delta="Late.")
                memos.close()

            return pieces()

    chat = SimpleChatEngine.from_defaults(llm=Closing(), memory=MemosMemory(memos=memos, scope=ANA))
    with pytest.raises(StoreUnusable, match="closed"):
        list(chat.stream_chat(QUESTION).response_gen)


# ---------------------------------------------------------------------- MemosRetriever
async def test_nodes_carry_what_the_memory_knows(memos: MemOS) -> None:
    memos.remember([{"role": "user", "content": FACT, "id": "m7", "name": "ana"}], scope=ANA, session="s", path="care/allergies")
    memos.remember("Ben is allergic to penicillin as well.", scope=("clinic", "ben"))
    retriever = MemosRetriever(memos=memos, scope=ANA, k=5)
    (found,) = retriever.retrieve("penicillin")
    assert found.node.get_content() == FACT and memos.get(found.node_id).payload.text == FACT and found.score
    expected = {"sources": ["m7"], "path": ["care", "allergies"], "session": "s", "speaker": "ana", "scope": list(ANA)}
    assert {name: found.metadata[name] for name in expected} == expected and found.metadata["reasons"]
    assert [each.node_id for each in await retriever.aretrieve("penicillin")] == [found.node_id]


# ---------------------------------------------------------------------- without the framework
def test_a_missing_framework_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_index.core.memory", None)
    spec = importlib.util.spec_from_file_location("without_llamaindex", door.__file__)
    assert spec is not None and spec.loader is not None
    with pytest.raises(MissingExtra, match=r"\[llamaindex\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

"""What holds for LlamaIndex's own classes holds for ours that take their place in one line."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import bag_of_words
from llama_index.core import VectorStoreIndex
from llama_index.core.base.llms.types import AudioBlock, CachePoint, ChatMessage, DocumentBlock, TextBlock
from llama_index.core.base.llms.types import CacheControl as Control
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.memory import ChatMemoryBuffer, FactExtractionMemoryBlock, Memory, StaticMemoryBlock
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from scripted_llms import ANA, Scripted, contents, said
from test_llamaindex_doors import answer
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemOS
from memos_core.hf import HFEngine
from memos_integrations.llamaindex import MemosLLM, MemosMemory, MemosMemoryBlock, MemosRetriever


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as opened:
        yield opened


@pytest.mark.parametrize("seed", range(6))
async def test_it_is_the_buffer_as_long_as_there_is_no_room_for_memory(memos: MemOS, seed: int) -> None:
    """The same calls at random, sync and async, to both."""
    rng = random.Random(seed)
    both = [
        ChatMemoryBuffer.from_defaults(token_limit=3000),
        MemosMemory.from_defaults(memos=memos, scope=ANA, token_budget=0, token_limit=3000),
    ]
    for step in range(40):
        words = ChatMessage(role=rng.choice(["user", "assistant"]), content=f"{rng.choice(['Tea', 'Rye'])} {rng.randrange(4)}.")
        kind = rng.choice(["put", "put", "aput", "put_messages", "aput_messages", "get", "aget", "input", "set", "aset", "reset"])
        seen = []
        for memory in both:
            if kind in ("put", "put_messages"):
                getattr(memory, kind)(words if kind == "put" else [words, words])
            elif kind in ("aput", "aput_messages"):
                await getattr(memory, kind)(words if kind == "aput" else [words, words])
            elif kind == "set":
                memory.set([*memory.get_all()[-2:], words])
            elif kind == "aset":
                await memory.aset(memory.get_all()[:3])
            elif kind == "reset" and step % 5 == 0:
                memory.reset()
            shown = await memory.aget() if kind == "aget" else memory.get(input="Which tea?") if kind == "input" else memory.get()
            seen.append([(message.role, message.content) for message in (*shown, *memory.get_all())])
        assert seen[0] == seen[1], (step, kind)


@pytest.mark.parametrize("mode", ["best", "context", "condense_question", "condense_plus_context", "simple"])
def test_every_chat_mode_of_an_index_remembers_six_turns_once_each(memos: MemOS, mode: str) -> None:
    index = VectorStoreIndex([TextNode(text="The clinic opens at nine.")], embed_model=MockEmbedding(4))
    engine = index.as_chat_engine(chat_mode=mode, memory=MemosMemory(memos=memos, scope=ANA, session="s"), llm=Scripted(script=told))
    answers = [str(engine.chat(f"Question {number}?")) for number in range(6)]
    expected = [pair for number in range(6) for pair in (("user", f"Question {number}?"), ("assistant", answers[number]))]
    assert said(memos, "s") == expected and contents(engine.chat_history) == [text for _, text in expected]
    engine.reset()
    assert engine.chat_history == [] and said(memos, "s") == expected


def told(messages: list[ChatMessage]) -> str:
    return answer(messages) if "uestion " in " ".join(contents(messages)) else "Nothing."


@pytest.mark.parametrize("insert", ["system", "user"])
async def test_a_block_goes_together_with_other_blocks_and_a_queue_that_overflows(memos: MemOS, insert: Any) -> None:
    memos.remember("Ana asks many a question.", scope=ANA)
    blocks: list[Any] = [
        StaticMemoryBlock(name="core", static_content="The clinic opens at nine.", priority=0),
        MemosMemoryBlock(memos=memos, scope=ANA, priority=1),
        FactExtractionMemoryBlock(name="facts", llm=Scripted(script=lambda messages: "<facts><fact>Plums.</fact></facts>"), priority=2),
    ]
    memory = Memory.from_defaults(
        session_id="s", memory_blocks=blocks, token_limit=400, token_flush_size=20, chat_history_token_ratio=0.1, insert_method=insert
    )
    llm = Scripted(script=answer)
    chat = SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="Be brief.")
    for number in range(8):
        await chat.achat(f"Question {number}?")
    last = " ".join(contents(llm.seen[-1]))
    assert all(last.count(text) == 1 for text in ("opens at nine", "Plums.", "Ana asks many a question.", "Question 0?", "Question 7?"))
    await memory.aget()
    expected = [pair for number in range(8) for pair in (("user", f"Question {number}?"), ("assistant", f"Answer {number}."))]
    assert said(memos, "s") == expected


def test_what_is_no_text_is_marked_once_and_for_all(memos: MemOS) -> None:
    sound, paper = AudioBlock(audio=b"aGVsbG8=", format="wav"), DocumentBlock(data=b"aGVsbG8=", title="plan", document_mimetype="text/pdf")
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    for blocks in (
        [TextBlock(text="Listen."), sound],
        [sound],
        [TextBlock(text="Read."), paper, CachePoint(cache_control=Control(type="x"))],
    ):
        memory.put(ChatMessage(role="user", blocks=blocks))
        shown = memory.get()
        assert shown[-1].blocks[-len(blocks) :] == blocks or blocks[0].text in shown[-1].blocks[0].text  # the model gets all of it
        memory.put(ChatMessage(role="assistant", content="Noted."))
    texts = ["Listen.\n[audio]", "Noted.", "[audio]", "Noted.", "Read.\n[document: plan]", "Noted."]
    assert [text for _, text in said(memos, "s")] == texts
    memory.set(memory.get_all())
    again = MemosMemory(memos=memos, scope=ANA, session="s")
    again.set(memory.get_all())
    assert [text for _, text in said(memos, "s")] == texts


def test_a_model_reads_no_speaker_where_nobody_spoke(memos: MemOS) -> None:
    memos.remember("Ana likes tea.", scope=ANA)
    memos.remember([{"role": "user", "name": "Ana", "content": "I like tea with milk."}], scope=ANA)
    llm = Scripted(script=lambda messages: "Tea.")
    RetrieverQueryEngine.from_args(MemosRetriever(memos=memos, scope=ANA), llm=llm).query("Who likes tea?")
    read = " ".join(contents(llm.seen[0]))
    assert "speaker: Ana" in read and "Ana likes tea." in read and "None" not in read


def test_an_engines_tokens_are_counted_and_stop_is_no_single_text() -> None:
    engine = HFEngine(tiny_model(max_position_embeddings=512), tiny_tokenizer())
    counter = TokenCountingHandler(tokenizer=str.split)
    llm = MemosLLM(engine=engine, max_tokens=6, callback_manager=CallbackManager([counter]))
    whole = llm.chat([ChatMessage(role="user", content="Is tea safe?")])
    *_, last = llm.stream_complete("Is tea safe?")
    costs = [whole.additional_kwargs, last.additional_kwargs]
    assert [(event.prompt_token_count, event.completion_token_count) for event in counter.llm_token_counts] == [
        (cost["prompt_tokens"], cost["completion_tokens"]) for cost in costs
    ]
    with pytest.raises(InvalidInput, match="list"):
        llm.complete("Is tea safe?", stop="END")
    engine.close()

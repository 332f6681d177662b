"""What holds for LangChain's own classes holds for ours that take their place in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import bag_of_words
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, trim_messages
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from scripted_models import ANA, Scripted, Streaming, said
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemOS
from memos_core.hf import HFEngine
from memos_integrations.langchain import MemosChat, MemosChatHistory, MemosRetriever, MemosVectorStore


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as opened:
        yield opened


class Counting(Scripted):
    """Counts letters."""

    def get_num_tokens(self, text: str) -> int:
        return len(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Any = None) -> int:
        return sum(len(message.text) for message in messages)

    def get_token_ids(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


class Listening(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, *, tags: Any = None, metadata: Any = None, **kwargs: Any) -> None:
        self.heard.append((tags, metadata["team"]))


def test_what_a_chat_model_was_given_holds_for_the_chat_around_it(memos: MemOS) -> None:
    listening, limiter = Listening(), InMemoryRateLimiter(requests_per_second=1000, check_every_n_seconds=0.001)
    inner = Streaming(
        script=[["No", "ted."]],
        disable_streaming=True,
        callbacks=[listening],
        tags=["clinic"],
        metadata={"team": "care"},
        rate_limiter=limiter,
        output_version="v1",
    )
    chat = MemosChat(memos=memos, scope=ANA, model=inner)
    assert [piece.text for piece in chat.stream("I like tea.") if piece.text] == ["Noted."]  # as the inner model streams by itself
    assert listening.heard == [(["clinic"], "care")] and chat.rate_limiter is limiter and chat.output_version == "v1"
    assert MemosChat(memos=memos, scope=ANA, model=inner, tags=["mine"], disable_streaming="tool_calling").tags == ["mine"]
    assert said(memos) == [("user", "I like tea."), ("assistant", "Noted.")] and inner.tags == ["clinic"]


class Telling(Scripted):
    """Tells of an answer beside it."""

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        usage = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
        answer = ChatGeneration(message=AIMessage("Noted.", usage_metadata=usage), generation_info={"finish_reason": "stop"})
        return ChatResult(generations=[answer], llm_output={"model_name": "telling", "token_usage": {"total": 4}})


async def test_what_a_model_tells_beside_its_answer_is_in_the_answer_however_it_is_called(memos: MemOS) -> None:
    inner = Telling()
    chat = MemosChat(memos=memos, scope=ANA, model=inner)
    answers = [chat.invoke("Tea?"), await chat.ainvoke("Tea?"), *chat.stream("Tea?"), *[piece async for piece in chat.astream("Tea?")]]
    expected = inner.invoke("Tea?").response_metadata
    assert len(answers) == 4 and expected["finish_reason"] == "stop" and expected["model_name"] == "telling"
    for answer in answers:
        assert answer.response_metadata == {**expected, "memos": answer.response_metadata["memos"]}
        assert answer.usage_metadata["total_tokens"] == 4


class Hearing(BaseCallbackHandler):
    def __init__(self) -> None:
        self.pieces: list[str] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.pieces.append(token)


class Switched(Streaming):
    streaming: bool = False


async def test_a_model_that_was_told_to_stream_streams_to_callbacks(memos: MemOS) -> None:
    for given, expected in (({"streaming": True}, ["No", "ted."]), ({}, []), ({"streaming": False}, [])):
        hearing = Hearing()
        inner = Switched(script=[["No", "ted."], ["No", "ted."]], answer=lambda messages: "Noted.", callbacks=[hearing], **given)
        chat = MemosChat(memos=memos, scope=ANA, model=inner)
        assert chat.invoke("Tea?").text == (await chat.ainvoke("Tea?")).text == "Noted."
        assert [piece for piece in hearing.pieces if piece] == expected * 2, given
    assert not MemosChat(memos=memos, scope=ANA, model=Switched(streaming=True), streaming=False).streaming


def test_tokens_are_counted_as_the_model_counts_them(memos: MemOS) -> None:
    talk = [HumanMessage("I like tea."), AIMessage("Noted."), HumanMessage("Which?")]
    chat = MemosChat(memos=memos, scope=ANA, model=Counting())
    assert (chat.get_num_tokens("tea"), chat.get_num_tokens_from_messages(talk), chat.get_token_ids("ab")) == (3, 23, [97, 98])
    assert trim_messages(talk, max_tokens=12, token_counter=chat, strategy="last") == talk[1:]
    engine = HFEngine(tiny_model(max_position_embeddings=512), tiny_tokenizer())
    local = MemosChat(memos=memos, scope=ANA, model=engine)
    assert local.get_num_tokens("I like tea.") == engine.count("I like tea.") > 1
    assert trim_messages(talk, max_tokens=10_000, token_counter=local) == talk
    assert trim_messages(talk, max_tokens=local.get_num_tokens_from_messages(talk[2:]), token_counter=local) == talk[2:]
    assert local.profile == {"max_input_tokens": 512, "tool_calling": False}  # what summaries at a share of the window ask for
    with pytest.raises(InvalidInput, match="list"):
        local.invoke("I like tea.", stop="END")  # three letters, if it were taken for a list
    engine.close()


def test_langchains_indexing_keeps_documents_in_step(memos: MemOS) -> None:
    store, records = MemosVectorStore(memos=memos, scope=(*ANA, "documents")), InMemoryRecordManager("tea")
    records.create_schema()
    pages = [Document(f"Tea number {number}.", metadata={"source": f"page {number}"}) for number in range(3)]

    def run(pages: list[Document]) -> tuple[int, ...]:
        done = index(pages, records, store, cleanup="full", source_id_key="source", key_encoder="sha256")
        return tuple(done[f"num_{what}"] for what in ("added", "skipped", "deleted"))

    assert [run(pages), run(pages), run(pages[:1])] == [(3, 0, 0), (0, 3, 0), (0, 1, 2)]
    assert [document.page_content for document in store.similarity_search("Tea", k=9)] == ["Tea number 0."]


def test_one_retriever_serves_many_users_by_langchains_own_configurable_fields(memos: MemOS) -> None:
    for user in ("ana", "ben"):
        memos.remember(f"The secret word of {user} is {user}-plum.", scope=("clinic", user))
    one = MemosRetriever(memos=memos, scope=("nobody",)).configurable_fields(scope=ConfigurableField(id="scope"))
    chain = one | (lambda documents: [document.page_content for document in documents])
    configs: list[Any] = [{"configurable": {"scope": ("clinic", user)}} for user in ("ana", "ben") * 8]
    found = chain.batch(["What is my secret word?"] * 16, configs)
    assert found == [[f"The secret word of {user} is {user}-plum."] for user in ("ana", "ben") * 8]
    assert chain.invoke("What is my secret word?") == []


NOT_TEXT = {
    "[audio]": {"type": "audio", "base64": "aGVsbG8=", "mime_type": "audio/wav"},
    "[file]": {"type": "file", "base64": "aGVsbG8=", "mime_type": "application/pdf"},
    "[image: https://example.com/a.png]": {"type": "input_image", "image_url": "https://example.com/a.png"},
    "[image]": {"type": "image", "base64": "aGVsbG8=", "mime_type": "image/heic"},
}


@pytest.mark.parametrize("mark", NOT_TEXT)
@pytest.mark.parametrize("words", [[], [{"type": "text", "text": "Look."}]])
def test_what_is_no_text_and_cannot_be_kept_is_marked_and_the_conversation_goes_on(memos: MemOS, mark: str, words: list[Any]) -> None:
    message = HumanMessage([*words, NOT_TEXT[mark]])
    model = Scripted(answer=lambda messages: "Noted.")
    MemosChat(memos=memos, scope=ANA, model=model).invoke([message])
    history = MemosChatHistory(memos=memos, scope=ANA, session="history")
    history.add_messages([message, AIMessage("Noted.")])
    expected = "\n".join([*(block["text"] for block in words), mark])
    assert said(memos) == said(memos, session="history") == [("user", expected), ("assistant", "Noted.")]
    assert model.seen[0][0].content == message.content and history.messages[0].text == expected


async def test_the_same_text_is_said_anew_and_the_same_messages_are_the_same_turn(memos: MemOS) -> None:
    texts = iter(range(9))
    chat = MemosChat(memos=memos, scope=ANA, model=Streaming(script=[["Noted", f" {next(texts)}."] for _ in range(9)]))
    chat.invoke("I have taken my pill.")
    await chat.ainvoke("I have taken my pill.")
    list(chat.stream("I have taken my pill."))
    [piece async for piece in chat.astream("I have taken my pill.")]
    assert said(memos) == [each for number in range(4) for each in (("user", "I have taken my pill."), ("assistant", f"Noted {number}."))]
    for _ in range(2):
        chat.invoke([HumanMessage("I have had lunch.")])
        chat.invoke([HumanMessage("I have had dinner.", id="m1")])
    assert len(said(memos)) == 12

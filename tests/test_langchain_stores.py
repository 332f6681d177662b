"""MemosVectorStore, MemosRetriever, MemosChatHistory and the tools, under LangChain's own suites where there are any; its embeddings and models in the core."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import bag_of_words
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    ToolsIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import ToolsUnitTests

from memos_core import EmbedderMismatch, InvalidInput, MemOS, StoreUnusable
from memos_integrations.langchain import (
    MemosChatHistory,
    MemosEmbeddings,
    MemosRetriever,
    MemosVectorStore,
    caption_model,
    memory_tools,
)

ANA = ("clinic", "ana")
BEN = ("clinic", "ben")
FACT = "Ana is allergic to penicillin."
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemOS]:
    """For suites whose tests do not care what else is in the memory."""
    with MemOS.open(tmp_path_factory.mktemp("shared") / "m", embedder=bag_of_words) as opened:
        yield opened


# ---------------------------------------------------------------------- MemosVectorStore
class TestMemosVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with MemOS.open(tmp_path / "suite", embedder=self.get_embeddings()) as memos:
            yield MemosVectorStore(memos=memos, scope=("clinic", "documents"))


def test_documents_come_back_as_they_were(memos: MemOS) -> None:
    store = MemosVectorStore(memos=memos, scope=ANA)
    given = [Document(page_content="Tea is grown in Assam.", metadata={"page": 1, "by": {"name": "bo"}, "tags": ["a"]}, id="1")]
    before = given[0].model_copy(deep=True)
    assert store.add_documents(given) == ["1"] and given == [before] and store.get_by_ids(["1", "2"]) == given
    (named,) = store.add_texts(["Coffee is not."])
    assert store.similarity_search("coffee", k=1)[0].id == named
    assert store.add_texts(["one", "two"], ids=["same", "same"]) == ["same", "same"] and store.get_by_ids(["same"])[0].page_content == "two"
    assert store.delete(["1", "nobody"]) and store.get_by_ids(["1"]) == [] and memos.verify().ok
    again = MemosVectorStore.from_texts(["Milk"], None, [{"page": 3}], ids=["m"], memos=memos, scope=BEN)
    assert again.similarity_search("milk")[0].metadata == {"page": 3}


def test_search_equals_exact_search_over_scope_and_filter(memos: MemOS) -> None:
    generator, words = random.Random(0), ["tea", "milk", "rye", "oats", "salt", "plum"]
    documents = [
        Document(page_content=" ".join(generator.choices(words, k=4)), metadata={"user": user, "page": page}, id=f"{user}-{page}")
        for user in range(20)
        for page in range(5)
    ]
    theirs = InMemoryVectorStore(MemosEmbeddings(memos))
    theirs.add_documents(documents)
    for document in documents:
        MemosVectorStore(memos=memos, scope=("clinic", str(document.metadata["user"]))).add_documents([document])
    store = MemosVectorStore(memos=memos, scope=("clinic", "7"))
    whole = MemosVectorStore(memos=memos, scope="clinic")
    for query in ("tea with plum", "rye", "salt oats milk"):
        for mine, keep in (
            (store.similarity_search_with_score(query, k=3), lambda each: each.metadata["user"] == 7),
            (whole.similarity_search_with_score(query, k=3, filter={"page": {"$in": [1, 2]}, "user": {"$lt": 9}}),
             lambda each: each.metadata["page"] in (1, 2) and each.metadata["user"] < 9),
            (whole.similarity_search_with_score(query, k=3, filter=lambda each: each.metadata["page"] == 4), lambda each: each.metadata["page"] == 4),
        ):  # fmt: skip
            best = theirs.similarity_search_with_score(query, k=3, filter=keep)
            assert all(keep(document) for document, _ in mine)
            assert [score for _, score in mine] == pytest.approx([score for _, score in best], abs=1e-5)
        vector = store.embeddings.embed_query(query)
        assert store.similarity_search_by_vector(vector, k=2) == store.similarity_search(query, k=2)
        spread = whole.max_marginal_relevance_search(query, k=3, fetch_k=10, lambda_mult=0.2)
        assert (
            len({document.id for document in spread}) == 3 and spread[0].page_content == whole.similarity_search(query, k=1)[0].page_content
        )
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.0, "k": 2})
    assert len(retriever.invoke("rye")) == 2


def test_what_the_vector_store_does_not_do_is_said(memos: MemOS) -> None:
    store = MemosVectorStore(memos=memos, scope=ANA)
    for call in (
        lambda: store.add_texts(["x"], [{"at": datetime.now(UTC)}]),
        lambda: store.add_texts(["x", "y"], [{}]),
        lambda: store.add_texts(["x"], ids=["a", "b"]),
        lambda: store.add_texts(["x"], colour="red"),
        lambda: store.similarity_search("x", namespace="a"),
        lambda: store.delete(),
        lambda: MemosVectorStore.from_texts(["x"], MemosEmbeddings(memos), memos=memos, scope=ANA),
        lambda: MemosVectorStore.from_texts(["x"]),
    ):
        with pytest.raises(InvalidInput):
            call()
    assert memos.stats()["counts"]["cubes"] == 0
    memos.close()
    for call in (
        lambda: store.add_texts(["x"]),
        lambda: store.similarity_search("x"),
        lambda: store.get_by_ids(["x"]),
        lambda: store.delete(["x"]),
    ):
        with pytest.raises(StoreUnusable):
            call()


# ---------------------------------------------------------------------- embeddings and models of LangChain's
class TestMemosEmbeddings(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _memory(self, shared: MemOS) -> None:
        self.memos = shared

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MemosEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"memos": self.memos}


def test_embeddings_and_models_of_langchain_are_taken_as_they_are(tmp_path: Path) -> None:
    embeddings = DeterministicFakeEmbedding(size=24)
    answer = '{"relation": "contradicts", "confidence": 0.9, "update": true, "why": "moved"}'
    for number, model in enumerate(
        (FakeListChatModel(responses=[answer]), FakeListLLM(responses=[answer]), RunnableLambda(lambda prompt: answer))
    ):
        with MemOS.open(tmp_path / str(number), embedder=embeddings, model=model) as memos:
            assert str(memos.relation("I live in Lisbon.", "Oslo is home now.").kind) == "contradicts"
            assert memos.embed(["x"]).shape == (1, 24)
    with pytest.raises(EmbedderMismatch):
        MemOS.open(tmp_path / "0", embedder=DeterministicFakeEmbedding(size=12))
    with pytest.raises(InvalidInput, match="model"):
        MemOS.open(tmp_path / "0", embedder=embeddings, model=7)


def test_a_model_that_sees_writes_captions(tmp_path: Path) -> None:
    seen: list[Any] = []

    def look(messages: Any) -> AIMessage:
        seen.extend(messages)
        return AIMessage("A red square.")

    with MemOS.open(tmp_path / "m", embedder=bag_of_words, captioner=caption_model(RunnableLambda(look))) as memos:
        memos.remember({"role": "user", "content": "Look.", "images": [b"\x89PNG\r\n\x1a\n"]}, scope=ANA)
        assert "A red square." in memos.recall("square", scope=ANA).hits[0].text
    assert seen[0].content[1]["type"] == "image" and seen[0].content[0]["text"]


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


# ---------------------------------------------------------------------- MemosChatHistory
def test_what_was_said_comes_back_and_is_memory(memos: MemOS) -> None:
    history = MemosChatHistory(memos=memos, scope=ANA, session="s")
    said = [
        HumanMessage("I like tea.", name="ana", id="m1"),
        AIMessage("Noted."),
        HumanMessage("Yes."),
        AIMessage("Good."),
        HumanMessage("Yes."),
    ]
    before = [message.model_copy(deep=True) for message in said]
    history.add_messages(said[:3])
    history.add_messages(said[3:])
    assert said == before and [message.text for message in history.messages] == [message.text for message in said]
    assert [type(message) for message in history.messages] == [type(message) for message in said]
    assert (history.messages[0].id, history.messages[0].name) == ("m1", "ana")
    history.add_messages([said[0]])  # the same message again
    assert len(history.messages) == 5
    assert "I like tea." in MemosChatHistory(memos=memos, scope=ANA, session="other").memos.recall("tea", scope=ANA).text
    assert MemosChatHistory(memos=memos, scope=BEN, session="s").messages == []
    history.clear()
    assert history.messages == [] and memos.recall("tea", scope=ANA).hits
    history.add_user_message("And now?")
    assert [message.text for message in MemosChatHistory(memos=memos, scope=ANA, session="s").messages] == ["And now?"]


def test_a_history_that_is_cut_to_its_last_messages_shows_them(memos: MemOS) -> None:
    """As LangChain's guides cut one: it is cleared, and what is to stay is added again."""
    history = MemosChatHistory(memos=memos, scope=ANA, session="s")
    history.add_messages([HumanMessage("I like tea.", id="m1"), AIMessage("Noted."), HumanMessage("And rye."), AIMessage("Yes.")])
    for last in (3, 2):
        kept = history.messages[-last:]
        history.clear()
        for message in kept:
            history.add_message(message)
        assert history.messages == kept
    history.add_messages([*kept, HumanMessage("Hm?")])
    again = MemosChatHistory(memos=memos, scope=ANA, session="s")
    assert [message.text for message in again.messages] == ["And rye.", "Yes.", "Hm?"]
    assert len(memos.conversation(scope=ANA, session="s")) == 5  # each is remembered once
    again.clear()
    assert history.messages == []


def test_images_come_back_and_what_is_not_said_is_left_out(memos: MemOS) -> None:
    data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    history = MemosChatHistory(memos=memos, scope=ANA, session="s")
    history.add_messages(
        [
            SystemMessage("Be brief."),
            HumanMessage([{"type": "text", "text": "What is this?"}, {"type": "image", "base64": data, "mime_type": "image/png"}]),
            AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "c"}]),
            ToolMessage("dot", tool_call_id="c"),
            AIMessage("A dot."),
        ]
    )
    human, answer = history.messages
    assert [block["type"] for block in human.content_blocks] == ["text", "image"] and human.content_blocks[1]["base64"] == data
    assert answer.text == "A dot."


@pytest.mark.parametrize("keyed", [False, True])
async def test_six_turns_with_message_history_are_remembered_once_each(memos: MemOS, keyed: bool) -> None:
    seen: list[list[str]] = []

    def answer(prompt: Any) -> AIMessage:
        seen.append([message.text for message in (prompt.to_messages() if hasattr(prompt, "to_messages") else prompt)])
        return AIMessage(f"Answer {len(seen)}.")

    chain: Any = RunnableLambda(answer)
    keys: dict[str, Any] = {}
    if keyed:
        chain = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{input}")]) | chain
        keys = {"input_messages_key": "input", "history_messages_key": "history"}
    talk = RunnableWithMessageHistory(chain, lambda session_id: MemosChatHistory(memos=memos, scope=ANA, session=session_id), **keys)
    config: Any = {"configurable": {"session_id": "s"}}
    for number in range(6):
        given: Any = {"input": f"Question {number}?"} if keyed else [HumanMessage(f"Question {number}?")]
        await talk.ainvoke(given, config) if number % 2 else talk.invoke(given, config)
    expected = [text for number in range(6) for text in (f"Question {number}?", f"Answer {number + 1}.")]
    assert [message.text for message in MemosChatHistory(memos=memos, scope=ANA, session="s").messages] == expected
    assert seen[-1] == expected[:-1] and memos.stats()["counts"]["plaintext"] == 12


def test_a_write_that_langchain_only_logs_is_raised_by_the_next_call(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = RunnableWithMessageHistory(
        RunnableLambda(lambda messages: AIMessage("Hm.")), lambda session_id: MemosChatHistory(memos=memos, scope=ANA, session=session_id)
    )
    config: Any = {"configurable": {"session_id": "s"}}

    def full(*args: Any, **kwargs: Any) -> Any:
        raise StoreUnusable("the disk is full")

    with monkeypatch.context() as context:
        context.setattr(memos._store, "commit", full)
        talk.invoke([HumanMessage("Lost?")], config)  # LangChain swallows what its listeners raise
        with pytest.raises(StoreUnusable, match="full"):
            MemosChatHistory(memos=memos, scope=ANA, session="direct").add_user_message("x")
    with pytest.raises(StoreUnusable, match="full") as caught:
        talk.invoke([HumanMessage("And?")], config)
    assert "has not been remembered" in caught.value.__notes__[0]
    talk.invoke([HumanMessage("Again.")], config)
    assert [message.text for message in MemosChatHistory(memos=memos, scope=ANA, session="s").messages] == ["Again.", "Hm."]
    with pytest.raises(StoreUnusable):
        MemosChatHistory(memos=memos, scope=ANA, session="direct").clear()
    memos.close()
    for call in (lambda: talk.invoke([HumanMessage("x")], config), lambda: MemosChatHistory(memos=memos, scope=ANA, session="s").clear()):
        with pytest.raises(StoreUnusable):
            call()


# ---------------------------------------------------------------------- tools
EXAMPLES: dict[str, dict[str, Any]] = {
    "remember": {"text": "Ana likes tea.", "path": "food/drinks"},
    "recall": {"query": "tea"},
    "forget": {"id": "none"},
    "timeline": {"period": "last week"},
}


@pytest.fixture(params=sorted(EXAMPLES))
def named(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class OneTool:
    """What both suites ask of a test class."""

    @pytest.fixture(autouse=True)
    def _memory(self, shared: MemOS, named: str) -> None:
        self.made, self.example = memory_tools(memos=shared, scope=ANA, names=[named])[0], EXAMPLES[named]

    @property
    def tool_constructor(self) -> Any:
        return self.made

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return self.example


class TestMemoryTools(OneTool, ToolsUnitTests):
    pass


class TestMemoryToolsAtWork(OneTool, ToolsIntegrationTests):
    pass


def test_the_tools_do_what_they_say_and_for_their_scope_alone(memos: MemOS) -> None:
    remember, recall, forget, timeline = memory_tools(memos=memos, scope=ANA)
    (secret,) = memos.remember("Ben's secret word is plum.", scope=BEN)
    said = remember.invoke({"text": "Ana likes tea.", "path": "food/drinks"})
    id = said.partition("[")[2].rstrip("]")
    assert memos.get(id).governance.scope == ANA and memos.get(id).identifiers.path == ("food", "drinks")
    assert memos.get(id).identifiers.origin == "inference extraction"  # the model's words, not the user's
    assert remember.invoke({"text": "Ana likes tea."}).startswith("That is remembered already")
    assert recall.invoke({"query": "tea"}) == f"[{id}] {datetime.now(UTC):%Y-%m-%d} Ana likes tea."
    assert "plum" not in recall.invoke({"query": "plum"}) and id in timeline.invoke({"period": "today"})
    assert "names no time" in timeline.invoke({"period": "plum"}) and "text is empty" in remember.invoke({"text": " "})
    assert forget.invoke({"id": secret.id}).replace(secret.id, "?") == forget.invoke({"id": "nobody"}).replace("nobody", "?")
    assert memos.get(secret.id) and forget.invoke({"id": f"[{id}]"}) == "Forgotten."
    assert recall.invoke({"query": "tea"}) == "Nothing is remembered about that."
    with pytest.raises(InvalidInput, match="names"):
        memory_tools(memos=memos, scope=ANA, names="recall")
    with pytest.raises(InvalidInput, match="scope"):
        memory_tools(memos=memos)[1].func(query="x")
    memos.close()
    for tool, example in zip((remember, recall, timeline), ("remember", "recall", "timeline"), strict=True):
        with pytest.raises(StoreUnusable):
            tool.invoke(EXAMPLES[example])

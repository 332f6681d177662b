"""MemosStore against LangGraph's own InMemoryStore, operation by operation, and what it promises beyond."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from conftest import bag_of_words
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from langgraph.config import get_store
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import GetOp, InvalidNamespaceError, Item, ListNamespacesOp, MatchCondition, PutOp, SearchItem, SearchOp
from langgraph.store.memory import InMemoryStore

from memos_core import InvalidInput, MemOS, StoreUnusable
from memos_integrations.langgraph import MemosStore

ROOT = ("clinic", "store")


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as opened:
        yield opened


@pytest.fixture
def store(memos: MemOS) -> MemosStore:
    return MemosStore(memos=memos, scope=ROOT)


# ---------------------------------------------------------------------- against InMemoryStore
class Reference(InMemoryStore):
    """InMemoryStore without two faults of it: namespaces that hold nothing are listed, and vectors of a value outlive it."""

    def _extract_texts(self, put_ops: Any) -> Any:
        for namespace, key in put_ops:
            self._vectors[namespace].pop(key, None)
        return super()._extract_texts(put_ops)

    def _handle_list_namespaces(self, op: Any) -> Any:
        for namespace in [each for each, held in self._data.items() if not held]:
            del self._data[namespace]
        return super()._handle_list_namespaces(op)


WORDS = ["tea", "coffee", "penicillin", "lisbon", "oslo", "cello"]
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
VALUE = st.fixed_dictionaries(
    {"text": TEXT, "n": st.integers(0, 4), "of": st.fixed_dictionaries({"kind": st.sampled_from("ab")})}, optional={"more": JSON}
)
NAMESPACE = st.lists(st.sampled_from(["a", "b", "users"]), min_size=1, max_size=3).map(tuple)
PREFIX = st.lists(st.sampled_from(["a", "b", "users"]), max_size=2).map(tuple)
KEY = st.sampled_from(["k", "Key two", "ключ", ""])
FILTER = st.one_of(
    st.none(),
    st.just({}),
    st.integers(0, 4).map(lambda n: {"n": n}),
    st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), st.integers(0, 4)).map(lambda each: {"n": {each[0]: each[1]}}),
    st.sampled_from("ab").map(lambda kind: {"of": {"kind": kind}, "n": {"$gte": 1}}),
)
CONDITION = st.builds(
    MatchCondition, st.sampled_from(["prefix", "suffix"]), st.lists(st.sampled_from(["a", "b", "users", "*"]), max_size=2).map(tuple)
)
PUT = st.tuples(NAMESPACE, KEY, VALUE, st.sampled_from([None, None, False, ["text"]])).map(lambda each: PutOp(*each))
OP = st.one_of(
    PUT,
    PUT,
    st.tuples(NAMESPACE, KEY, st.none()).map(lambda each: PutOp(*each)),
    st.tuples(NAMESPACE, KEY).map(lambda each: GetOp(*each)),
    st.tuples(PREFIX, FILTER, st.just(50), st.just(0), st.none() | TEXT).map(lambda each: SearchOp(*each)),
    st.tuples(NAMESPACE, FILTER, st.integers(0, 3), st.integers(0, 2)).map(lambda each: SearchOp(*each)),
    st.tuples(
        st.none() | st.lists(CONDITION, max_size=2).map(tuple), st.none() | st.integers(1, 2), st.integers(0, 5), st.integers(0, 2)
    ).map(lambda each: ListNamespacesOp(*each)),
)


def plain(item: Item | None) -> Any:
    return None if item is None else (item.namespace, item.key, item.value)


def same(op: Any, ours: Any, theirs: Any) -> None:
    if isinstance(op, GetOp):
        assert plain(ours) == plain(theirs)
    elif isinstance(op, ListNamespacesOp | PutOp):
        assert ours == theirs
    else:
        assert len(ours) == len(theirs) and all(isinstance(item, SearchItem) for item in ours)
        scores = [[item.score for item in found if item.score is not None] for found in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5) and scores[0] == sorted(scores[0], reverse=True)
        if op.limit == 50:  # several namespaces: the order of equals is nobody's business
            listed = [
                sorted((item.namespace, item.key, repr(item.value), round(item.score or 0, 4) + 0.0) for item in found)
                for found in (ours, theirs)
            ]
            assert listed[0] == listed[1]


@settings(max_examples=25, phases=[Phase.generate])
@given(batches=st.lists(st.lists(OP, min_size=1, max_size=5), max_size=6))
def test_it_answers_as_the_store_in_memory_does(batches: list[list[Any]]) -> None:
    with TemporaryDirectory() as folder, MemOS.open(Path(folder) / "m", embedder=bag_of_words) as memos:
        store = MemosStore(memos=memos, scope=ROOT)
        theirs = Reference(index={"dims": 64, "embed": lambda texts: bag_of_words(texts).tolist(), "fields": ["$"]})
        for batch in batches:
            for op, mine, other in zip(batch, store.batch(batch), theirs.batch(batch), strict=True):
                same(op, mine, other)
        for namespace in theirs.list_namespaces():  # one namespace, page by page: in the order in which keys were first put
            pages = [store.search(namespace, limit=2, offset=offset) for offset in range(0, 6, 2)]
            mine = [item.key for page in pages for item in page if item.namespace == namespace]
            assert mine == [item.key for item in theirs.search(namespace, limit=50) if item.namespace == namespace]
        assert memos.verify().ok


# ---------------------------------------------------------------------- its own promises
def test_items_are_memory_with_versions_and_deleting_erases(memos: MemOS, store: MemosStore) -> None:
    store.put(("users", "ana"), "diet", {"text": "Ana eats no fish."})
    first = store.get(("users", "ana"), "diet")
    store.put(("users", "ana"), "diet", {"text": "Ana eats plaice."})
    second = store.get(("users", "ana"), "diet")
    assert first.created_at == second.created_at and first.updated_at < second.updated_at
    (hit,) = memos.recall("plaice", scope=(*ROOT, "users", "ana")).hits
    assert "plaice" in hit.text and len(memos.history(hit.cube.id)) == 2
    assert memos.recall("fish", scope=(*ROOT, "users", "ben")).hits == ()
    store.delete(("users", "ana"), "diet")
    assert store.get(("users", "ana"), "diet") is None and store.list_namespaces() == []
    assert memos.recall("fish", scope=ROOT).hits == () and "forget" in [entry.action for entry in memos.audit(ROOT)]
    memos.close()
    assert b"plaice" not in (memos.path / "memos.db").read_bytes()


def test_an_item_is_never_merged_with_what_was_said(memos: MemOS, store: MemosStore) -> None:
    for key in ("one", "two"):
        store.put(("u",), key, {"text": "I like tea."}, index=["text"])
    (said,) = memos.remember("I like tea.", scope=(*ROOT, "u"))
    assert said.outcome == "added" and len(store.search(("u",))) == 2
    for key in ("one", "two"):
        store.delete(("u",), key)
    assert memos.get(said.id).identifiers.mentions == 1
    assert memos.graph((*ROOT, "u")).number_of_nodes() == 0


def test_what_is_put_is_there_after_reopening_and_for_another_process(memos: MemOS, store: MemosStore) -> None:
    value = {"text": "tea", "n": 1.5, "deep": [{"a": None}, [True, "ü\u2028"]]}
    store.put(("u",), "k", value)
    memos.close()
    with MemOS.open(memos.path, embedder=bag_of_words) as again:
        assert MemosStore(memos=again, scope=ROOT).get(("u",), "k").value == value and again.verify().ok


@pytest.mark.parametrize(
    "value", [["a"], "text", 7, {1: "a"}, {"at": datetime(2026, 3, 2, tzinfo=UTC)}, {"x": [{"y": {1, 2}}]}, {"b": b"x"}], ids=repr
)
def test_what_is_not_json_is_refused_before_anything_is_written(memos: MemOS, store: MemosStore, value: Any) -> None:
    with pytest.raises(InvalidInput, match="JSON"):
        store.batch([PutOp(("u",), "good", {"a": 1}), PutOp(("u",), "bad", value)])
    assert store.search(("u",)) == [] and memos.stats()["counts"]["cubes"] == 0


def test_namespaces_are_checked_by_langgraph_and_by_the_memory(store: MemosStore) -> None:
    for namespace in ((), ("a.b",), ("langgraph", "x"), ("",)):
        with pytest.raises(InvalidNamespaceError):
            store.put(namespace, "k", {"a": 1})
    with pytest.raises(InvalidInput, match="scope"):
        store.put(("a", " "), "k", {"a": 1})
    with pytest.raises(InvalidInput, match="operator"):
        store.put(("a",), "k", {"a": 1})
        store.search(("a",), filter={"a": {"$near": 1}})
    assert store.search(("a",), filter={"a": {"$gt": 0}})[0].key == "k" and store.search(("a",), filter={"b": {"$gt": 0}}) == []


def test_fields_say_what_is_searched(memos: MemOS) -> None:
    store = MemosStore(memos=memos, scope=ROOT, fields=["title", "notes[*].text"])
    store.put(("u",), "a", {"title": "tea", "notes": [{"text": "green"}, {"text": "from lisbon"}], "hidden": "cello"})
    store.put(("u",), "b", {"title": "cello"})
    store.put(("u",), "c", {"other": "nothing to search"})
    found = store.search(("u",), query="cello")
    assert [item.key for item in found] == ["b", "a", "c"] and found[2].score is None and found[0].score == pytest.approx(1)
    assert store.search(("u",), query="lisbon", limit=1)[0].key == "a"
    with pytest.raises(InvalidInput, match="fields"):
        MemosStore(memos=memos, scope=ROOT, fields="title")


def test_an_item_can_leave_the_search_and_come_back(memos: MemOS, store: MemosStore) -> None:
    store.put(("u",), "k", {"text": "tea"})
    for index, found in ((False, 0), (None, 1), (False, 0), (["text"], 1)):
        store.put(("u",), "k", {"text": "tea"}, index=index)
        assert len(memos.recall("tea", scope=ROOT).hits) == found and len(store.search(("u",), query="tea")) == 1
        assert memos.verify().ok
    memos.tick()
    assert memos.verify().ok


def test_time_to_live(memos: MemOS) -> None:
    store = MemosStore(memos=memos, scope=ROOT, ttl={"default_ttl": 10, "refresh_on_read": True})
    store.put(("u",), "short", {"text": "tea"})
    store.put(("u",), "long", {"text": "tea"}, ttl=None)
    assert memos.entry("long", scope=(*ROOT, "u"), collection="langgraph").governance.expires_at is None
    (before,) = [cube for cube in [memos.entry("short", scope=(*ROOT, "u"), collection="langgraph")] if cube]
    assert timedelta(minutes=9) < before.governance.expires_at - datetime.now(UTC) <= timedelta(minutes=10)
    item = store.get(("u",), "short", refresh_ttl=False)
    assert memos.get(before.id).version == before.version
    assert store.get(("u",), "short").updated_at == item.updated_at and store.search(("u",), query="tea")
    after = memos.get(before.id)
    assert after.governance.expires_at > before.governance.expires_at and after.version == before.version + 2
    memos.update(before.id, ttl=1e-4)
    time.sleep(0.01)
    assert store.get(("u",), "short") is None and [item.key for item in store.search(("u",))] == ["long"]
    memos.tick()
    store.put(("u",), "short", {"text": "coffee"})  # put away by the tick, and written again
    assert store.get(("u",), "short").value == {"text": "coffee"} and memos.verify().ok


def test_users_of_one_store_do_not_see_each_other(memos: MemOS, store: MemosStore) -> None:
    other = MemosStore(memos=memos, scope=("clinic", "other"))
    store.put(("ana",), "k", {"text": "plum"})
    assert other.get(("ana",), "k") is None and other.search(()) == [] and other.list_namespaces() == []
    assert store.search(("an",)) == [] and store.search(("ben",), query="plum") == []
    bound = MemosStore(memos=memos.as_actor(("clinic", "eve")), scope=ROOT)
    assert bound.search(()) == [] and bound.get(("ana",), "k") is None
    with pytest.raises(PermissionError):
        bound.put(("ana",), "k", {"text": "mine"})


def test_many_threads_put_one_key(memos: MemOS, store: MemosStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put(("u",), "k", {"n": n}), range(24)))
    cube = memos.entry("k", scope=(*ROOT, "u"), collection="langgraph")
    assert cube.version == 24 and sorted(entry.cube.payload.record for entry in memos.history(cube.id)) == sorted(
        f'{{"value":{{"n":{n}}},"ttl":null}}' for n in range(24)
    )


async def test_async_and_a_graph_with_the_store(memos: MemOS, store: MemosStore) -> None:
    await asyncio.gather(*(store.aput(("u",), f"k{n}", {"text": WORDS[n]}) for n in range(6)))
    assert (await store.asearch(("u",), query="oslo", limit=1))[0].key == "k4"

    async def node(state: MessagesState) -> Any:
        store = get_store()
        found = await store.asearch(("u",), query="cello", limit=1)
        await store.aput(("u",), "seen", {"by": "node"})
        return {"messages": [("ai", found[0].value["text"])]}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile(store=store)
    assert (await graph.ainvoke({"messages": [("human", "hi")]}))["messages"][-1].content == "cello"
    assert (await store.aget(("u",), "seen")).value == {"by": "node"}


def test_a_closed_memory_is_an_error(memos: MemOS, store: MemosStore) -> None:
    store.put(("u",), "k", {"a": 1})
    memos.close()
    for call in (
        lambda: store.get(("u",), "k"),
        lambda: store.put(("u",), "k", {"a": 2}),
        lambda: store.search(("u",)),
        lambda: store.list_namespaces(),
        lambda: store.delete(("u",), "k"),
    ):
        with pytest.raises(StoreUnusable):
            call()

"""Entries: memory under keys of the caller's."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import numpy as np
import pytest
from conftest import NOW, bag_of_words

from memos_core import AccessDenied, Entry, InvalidInput, MemOS, State

ANA = ("clinic", "ana")
DAY = timedelta(days=1)


def test_a_key_is_written_read_changed_and_removed(memos: MemOS) -> None:
    (first,) = memos.write_entries([Entry("diet", "Ana eats no fish.", {"fish": False})], scope=ANA, now=NOW)
    assert memos.entry("diet", scope=ANA) == memos.get(first.id) and first.payload.record == '{"fish":false}'
    (second,) = memos.write_entries([Entry("diet", "Ana eats plaice.")], scope=ANA, now=NOW + DAY)
    assert (second.id, second.version, second.identifiers.occurred_at) == (first.id, 2, NOW + DAY)
    assert [entry.cube.payload.text for entry in memos.history(first.id)] == ["Ana eats no fish.", "Ana eats plaice."]
    assert [hit.cube.id for hit in memos.recall("plaice", scope="clinic").hits] == [first.id]
    assert memos.write_entries([Entry("diet"), Entry("unknown")], scope=ANA) == [None, None]
    assert memos.entry("diet", scope=ANA) is None and memos.entries(ANA) == [] and memos.verify().ok
    (third,) = memos.write_entries([Entry("diet", "Ana eats no fish.")], scope=ANA)
    assert third.id != first.id and third.version == 1


def test_a_list_of_entries_is_all_or_nothing_and_may_lie_in_several_scopes(memos: MemOS) -> None:
    memos.write_entries([Entry("k", "one"), Entry("k", "two", below=("phone",)), Entry("k", "three", below=("phone", "new"))], scope=ANA)
    assert memos.entry_scopes("clinic") == [ANA, (*ANA, "phone"), (*ANA, "phone", "new")]
    assert [hit.text for hit in memos.entries((*ANA, "phone"))] == ["two", "three"]
    for bad in (
        Entry("k", ""),
        Entry("k", "x" * (2 << 20)),
        Entry("k", "\ud800"),
        Entry("\ud800", "x"),
        Entry(7, "x"),
        Entry("k" * 2000, "x"),
        Entry("k", "x", ttl=-1),
        Entry("k", "x", {1: 2}),
        Entry("k", "x", [NOW]),
    ):  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            memos.write_entries([Entry("k", "changed"), Entry("new", "x"), bad], scope=(*ANA, "phone"))
    with pytest.raises(InvalidInput, match="twice"):
        memos.write_entries([Entry("k", "changed"), Entry("k", "x")], scope=ANA)
    with pytest.raises(AccessDenied):
        memos.write_entries([Entry("k", "changed")], scope=ANA, actor=("clinic", "ben"))
    memos.write_entries([Entry("k"), Entry("other", "four")], scope=ANA)  # a removal and a write in one
    assert [hit.text for hit in memos.entries(ANA)] == ["two", "three", "four"] and memos.stats()["counts"]["cubes"] == 3


def test_search_is_exact_over_what_the_filter_lets_through(memos: MemOS) -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(["tea", "milk", "rye", "oats", "salt"], 4)) for _ in range(60)]
    for user in ("ana", "ben"):
        memos.write_entries(
            [Entry(f"{number}", text, record={"part": number % 3}) for number, text in enumerate(texts)], scope=("clinic", user)
        )
    memos.remember("tea tea tea tea", scope=ANA)  # no entry
    hits = memos.entries(ANA, query="tea", where={"part": 0}, limit=5)
    vector = bag_of_words(["tea"])[0]
    scores = {number: float(bag_of_words([text])[0] @ vector) for number, text in enumerate(texts) if number % 3 == 0}
    best = sorted(scores.values(), reverse=True)[:5]
    assert [hit.score for hit in hits] == pytest.approx(best) and all(hit.cube.governance.scope == ANA for hit in hits)
    assert [
        hit.cube.id for hit in memos.entries(ANA, query=list(vector * 3), where=lambda cube: cube.payload.record == '{"part":0}', limit=5)
    ] == [hit.cube.id for hit in hits]
    pages = [hit.cube.id for offset in range(0, 60, 7) for hit in memos.entries(ANA, query="rye", limit=7, offset=offset)]
    assert pages == [hit.cube.id for hit in memos.entries(ANA, query="rye")] and len(set(pages)) == 60
    for bad in ({"query": [1.0, 2.0]}, {"query": [float("nan")] * 64}, {"limit": -1}, {"offset": True}, {"query": " "}):
        with pytest.raises(InvalidInput):
            memos.entries(ANA, **bad)  # type: ignore[arg-type]


def test_an_entry_is_neither_merged_nor_contested(memos: MemOS) -> None:
    memos.write_entries([Entry("a", "Ana lives in Lisbon."), Entry("b", "Ana lives in Lisbon.")], scope=ANA)
    said, other = memos.remember(["Ana lives in Lisbon.", "Ana lives in Oslo."], scope=ANA)
    assert said.outcome == "added" and len(memos.entries(ANA)) == 2
    assert {conflict.older.id for conflict in memos.conflicts(scope=ANA)} | {
        conflict.newer.id for conflict in memos.conflicts(scope=ANA)
    } <= {said.id, other.id}


def test_an_entry_that_is_put_away_or_has_expired_is_not_shown_and_lives_again_when_written(memos: MemOS) -> None:
    (cube,) = memos.write_entries([Entry("k", "tea", ttl=DAY)], scope=ANA, now=NOW)
    assert memos.entry("k", scope=ANA, now=NOW + DAY) is None and memos.entry_scopes(ANA, now=NOW + DAY) == []
    memos.tick(NOW + 2 * DAY)
    assert memos.get(cube.id).state is State.ARCHIVED and memos.entries(ANA, now=NOW) == []
    memos.write_entries([Entry("k", "milk")], scope=ANA, now=NOW + 3 * DAY)
    assert memos.entry("k", scope=ANA).version == 3 and [hit.text for hit in memos.entries(ANA, query="milk")] == ["milk"]
    memos.update(cube.id, state="archived")
    assert memos.entry("k", scope=ANA) is None


def test_earlier_versions_can_be_recalled_and_brought_back(memos: MemOS) -> None:
    (cube,) = memos.write_entries([Entry("k", "tea", 1)], scope=ANA, now=NOW)
    memos.write_entries([Entry("k", "milk", 2, searched=False)], scope=ANA, now=NOW + DAY)
    assert memos.recall("tea milk", scope=ANA, as_of=NOW, now=NOW + 2 * DAY).hits == ()
    memos.rollback(cube.id, 1)
    (hit,) = memos.entries(ANA, query="tea")
    assert (hit.text, hit.cube.payload.record) == ("tea", "1") and hit.score == pytest.approx(1) and memos.verify().ok


def test_a_key_that_the_row_and_the_content_disagree_on_is_found_by_verify(memos: MemOS) -> None:
    memos.write_entries([Entry("k", "tea"), Entry("hidden", "milk", searched=False)], scope=ANA)
    assert memos.verify().ok
    db = sqlite3.connect(memos.path / "memos.db")
    db.execute("UPDATE cubes SET entry_key = 'other' WHERE entry_key LIKE '%k'")
    db.commit()
    db.close()
    assert "is not what its content says" in memos.verify().problems[0]


def test_what_is_not_searched_stands_nowhere_but_under_its_key(memos: MemOS) -> None:
    memos.write_entries([Entry("k", "tea", searched=False), Entry("shown", "milk")], scope=ANA, now=NOW)
    labels = [label for _, label in memos.tree(ANA).nodes(data="label")]
    assert "milk" in labels and "tea" not in labels
    assert [cube.payload.text for cube in memos.timeline(scope=ANA, between=(NOW - DAY, NOW + DAY), now=NOW + DAY)] == ["milk"]
    assert memos.recall("tea", scope=ANA).text.count("tea") == 0 and memos.entry("k", scope=ANA).payload.text == "tea"
    assert memos.tick(NOW + DAY) == memos.tick(NOW + DAY) == [] and memos.verify().ok


def test_embed_is_what_search_compares_with(memos: MemOS) -> None:
    memos.write_entries([Entry("k", "tea with milk")], scope=ANA)
    vectors = memos.embed(["tea", "tea with milk"])
    assert vectors.shape == (2, 64) and memos.embed([]).shape == (0, 64)
    assert memos.entries(ANA, query="tea")[0].score == pytest.approx(float(vectors[0] @ vectors[1]))


def test_collections_do_not_see_each_other(memos: MemOS) -> None:
    for collection in ("a", "ab", "b"):
        memos.write_entries([Entry("k", f"tea {collection}")], scope=ANA, collection=collection)
    assert [hit.text for hit in memos.entries("clinic", collection="a", query="tea")] == ["tea a"]
    memos.write_entries([Entry("k")], scope=ANA, collection="ab")
    assert memos.entry("k", scope=ANA, collection="ab") is None and memos.entry("k", scope=ANA) is None
    assert memos.entry_scopes("clinic", collection="b") == [ANA] and memos.entry_scopes("clinic", collection="ab") == []
    with pytest.raises(InvalidInput, match="collection"):
        memos.write_entries([Entry("k", "x")], scope=ANA, collection="a\x1fb")

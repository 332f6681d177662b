"""Damage on disk is found, named and survived: never a silent wrong answer, never an error that is not ours."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from conftest import NOW, bag_of_words

from memos_core import MemOS, StoreCorrupt, StoreError
from memos_core.blobs import Blobs

ANA, BEN = ("clinic", "ana"), ("clinic", "ben")
FACT = "Ana is allergic to penicillin."
FLIPS = 60


def answers(memos: MemOS) -> list[object]:
    hits = [(hit.text, hit.score) for hit in memos.recall("penicillin weather 7", scope=ANA, now=NOW, k=50).hits]
    said = [cube.payload.text for cube in memos.conversation(scope=ANA, session="one")]
    return [hits, said, len(memos.audit())]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed memory with a bit of everything in it."""
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as memos:
        facts = memos.remember([FACT, *(f"Note {number} about the weather." for number in range(30))], scope=ANA, occurred_at=NOW)
        memos.remember("Ben plays chess.", scope=BEN, read=[ANA])
        memos.update(facts[3].id, text="Changed weather.", ttl=3600, priority=0.5)
        memos.begin([{"role": "user", "content": "Penicillin?"}], scope=ANA, session="one", now=NOW).commit("No.", now=NOW)
        memos.forget(facts[4].id)
    return tmp_path / "m"


def tamper(path: Path, statement: str) -> None:
    db = sqlite3.connect(path / "memos.db", isolation_level=None)
    assert db.execute(statement).rowcount > 0
    db.close()


def test_no_flipped_bit_gives_another_answer_unnoticed(path: Path, tmp_path: Path) -> None:
    with MemOS.open(path, embedder=bag_of_words) as memos:
        wanted = answers(memos)
    data = (path / "memos.db").read_bytes()
    used = [position for position, byte in enumerate(data) if byte]
    for flip in range(FLIPS):
        position = random.Random(flip).choice(used)
        copy = tmp_path / f"flip {flip}"
        shutil.copytree(path, copy)
        damaged = bytearray(data)
        damaged[position] ^= 1 << flip % 8
        (copy / "memos.db").write_bytes(damaged)
        try:
            with MemOS.open(copy, embedder=bag_of_words) as memos:
                assert answers(memos) == wanted or memos.verify().problems, position
        except StoreError as error:
            assert "backup" in str(error) or "embedder" in str(error), (position, error)
        shutil.rmtree(copy)


def test_no_flipped_bit_of_the_index_file_is_believed(path: Path) -> None:
    with MemOS.open(path, embedder=bag_of_words) as memos:
        index, latest = memos._index, memos._index.seq
        data = index.path.read_bytes()
        wanted = answers(memos)
        assert index.load(latest) and len(index) == 33
        spots = [*range(500), *random.Random(0).sample(range(len(data)), 200)]
        for spot in spots:
            damaged = bytearray(data)
            damaged[spot] ^= 1 << spot % 8
            index.path.write_bytes(damaged)
            assert not index.load(latest) and len(index) == 0, spot
        for length in (*range(40), len(data) - 1):
            index.path.write_bytes(data[:length])
            assert not index.load(latest), length
        assert answers(memos) == wanted and len(index) == 33  # rebuilt


COLUMNS = {
    "scope": "scope = (SELECT scope FROM scopes WHERE key LIKE '%ben%')",
    "state": "state = 'archived'",
    "kind": "kind = 'activation'",
    "session": "session = 'another'",
    "role": "role = 'assistant'",
    "occurred_at": "occurred_at = occurred_at + 1",
    "expires_at": "expires_at = 1.0",
    "priority": "priority = 1.0",
    "blob": f"blob = '{'0' * 64}'",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_row_that_says_something_else_than_its_content(path: Path, column: str) -> None:
    tamper(path, f"UPDATE cubes SET {COLUMNS[column]} WHERE row = 1")
    with MemOS.open(path, embedder=bag_of_words) as memos:
        assert any("is not what its content says" in problem for problem in memos.verify().problems)


def test_a_row_moved_to_another_scope_is_not_shown_there(path: Path) -> None:
    (path / "index.faiss").unlink()
    tamper(path, f"UPDATE cubes SET {COLUMNS['scope']} WHERE row = 1")
    with MemOS.open(path, embedder=bag_of_words) as memos:
        assert [hit.text for hit in memos.recall("penicillin", scope=BEN).hits] == ["Ben plays chess."]


UNREADABLE = {
    "a state that is none": "UPDATE cubes SET state = 'actife'",
    "a time that is none": "UPDATE cubes SET occurred_at = 'noon'",
    "a vector cut short": "UPDATE vectors SET vector = substr(vector, 1, 100)",
    "terms of no length": "UPDATE vectors SET terms = CAST(terms || 'x' AS BLOB)",
    "content that is no cube": "UPDATE cubes SET body = CAST('{}' AS BLOB)",
    "content that is not JSON": "UPDATE cubes SET body = x'ff00'",
}


@pytest.mark.parametrize("damage", UNREADABLE)
def test_values_that_nobody_wrote(path: Path, damage: str) -> None:
    (path / "index.faiss").unlink()
    tamper(path, UNREADABLE[damage])
    memos = MemOS.open(path, embedder=bag_of_words)
    for _ in range(2):  # found once, found again
        with pytest.raises(StoreCorrupt, match=r"damaged .*Restore .* from a backup; nothing has been overwritten"):
            memos.recall("penicillin", scope=ANA)
    memos._store.close()


def test_what_has_been_repaired_is_searched_again(path: Path) -> None:
    with MemOS.open(path, embedder=bag_of_words) as memos:
        wanted = answers(memos)
    (path / "index.faiss").unlink()
    with MemOS.open(path, embedder=bag_of_words) as memos:
        db = memos._store._writer
        (vector,) = db.execute("SELECT vector FROM vectors WHERE row = 20").fetchone()
        db.execute("UPDATE vectors SET vector = x'00' WHERE row = 20")
        with pytest.raises(StoreCorrupt):
            answers(memos)
        db.execute("UPDATE vectors SET vector = ? WHERE row = 20", (vector,))
        assert answers(memos) == wanted and memos.verify().ok


WRONG_TYPES = {
    "audit": "UPDATE audit SET actor = x'ff' WHERE seq = 2",
    "versions": "UPDATE versions SET hash = 'text' WHERE version = 1",
    "heads": "UPDATE scopes SET hash = 7",
}


@pytest.mark.parametrize("table", WRONG_TYPES)
def test_links_of_the_wrong_type_are_a_problem_not_an_exception(path: Path, table: str) -> None:
    tamper(path, WRONG_TYPES[table])
    with MemOS.open(path, embedder=bag_of_words) as memos:
        assert not memos.verify().ok


def test_a_flipped_blob_is_healed_by_its_content(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    name = blobs.put(b"keys and values")
    blobs.path(name).write_bytes(b"keys and Values")
    assert blobs.put(b"keys and values") == name and blobs.get(name) == b"keys and values"
    written = blobs.path(name).stat().st_mtime_ns
    assert blobs.put(b"keys and values") == name and blobs.path(name).stat().st_mtime_ns == written  # whole: left alone

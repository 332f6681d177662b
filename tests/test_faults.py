"""What a memory stands on fails: the embedder, the disk, the directory. Each failure is ours by name, says what to do, and loses nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from conftest import NOW, bag_of_words

import memos_core.store
from memos_core import InvalidInput, MemOS, MemosError, StoreUnusable

ANA = ("clinic", "ana")
FACT = "Ana is allergic to penicillin."


def holds(memos: MemOS, *texts: str) -> bool:
    found = sorted(hit.text for hit in memos.recall("penicillin", scope=ANA, k=50).hits)
    return found == sorted(texts) and memos.stats()["counts"]["cubes"] == len(texts) and memos.verify().ok


# ---------------------------------------------------------------------- the embedder

ANSWERS: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "another size": (lambda texts: np.ones((len(texts), 32)), "32 dimensions after 64 before"),
    "too few rows": (lambda texts: np.ones((len(texts) - 1, 64)), r"it must return \[n, d\]"),
    "text": (lambda texts: [["x"] * 64 for _ in texts], "not an array of numbers"),
    "rows of unlike length": (lambda texts: [[1.0, [2.0, 3.0]] for _ in texts], "not an array of numbers"),
    "None": (lambda texts: None, "it must return"),
    "infinite": (lambda texts: np.full((len(texts), 64), np.inf), "not finite"),
    "beyond float32": (lambda texts: np.full((len(texts), 64), 1e300), "not finite"),
}


class Turning:
    """An embedder that behaves until it is told otherwise."""

    def __init__(self) -> None:
        self.answer: Callable[[list[str]], Any] = bag_of_words

    def __call__(self, texts: list[str]) -> Any:
        return self.answer(texts)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("name", ANSWERS)
def test_an_embedder_that_turns_bad(tmp_path: Path, name: str) -> None:
    answer, advice = ANSWERS[name]
    embedder = Turning()
    with MemOS.open(tmp_path / "m", embedder=embedder) as memos:
        (done,) = memos.remember(FACT, scope=ANA)
        turn = memos.begin([{"role": "user", "content": "Penicillin?"}], scope=ANA)
        embedder.answer = answer
        for act in (
            lambda: memos.remember(["new", "newer"], scope=ANA),
            lambda: memos.recall("a question", scope=ANA),
            lambda: memos.update(done.id, text="changed"),
            lambda: memos.begin([{"role": "user", "content": "Again?"}], scope=ANA),
            lambda: turn.commit("No."),
        ):
            with pytest.raises(InvalidInput, match=advice):
                act()
        embedder.answer = bag_of_words
        assert holds(memos, FACT) and memos.get(done.id).version == 1
        assert len(turn.commit("No.")) == 2  # what could not be written then can be now


def test_an_embedder_that_raises(tmp_path: Path) -> None:
    def refuse(texts: list[str]) -> Any:
        raise TimeoutError("the service is down")

    with pytest.raises(TimeoutError, match="the service is down"):
        MemOS.open(tmp_path / "m", embedder=refuse)
    embedder = Turning()
    with MemOS.open(tmp_path / "m", embedder=embedder) as memos:
        memos.remember(FACT, scope=ANA)
        embedder.answer = refuse
        with pytest.raises(TimeoutError, match="the service is down"):
            memos.remember("new", scope=ANA)
        embedder.answer = bag_of_words
        assert holds(memos, FACT)


def test_an_embedder_that_knows_no_canary_is_still_itself(tmp_path: Path) -> None:
    def few_words(texts: list[str]) -> Any:
        return [[text.count("zebra"), text.count("gnu")] for text in texts]

    for _ in range(2):
        with MemOS.open(tmp_path / "m", embedder=few_words) as memos:
            memos.remember("A zebra.", scope=ANA)
            assert len(memos.recall("zebra", scope=ANA).hits) == 1


# ---------------------------------------------------------------------- the directory


@pytest.mark.parametrize("path", [None, 5, b"m", "", " ", "a\0b", "a\ud800b"], ids=repr)
def test_a_path_that_cannot_be(path: Any) -> None:
    with pytest.raises(InvalidInput, match=r"path .*(must be a non-empty str or a Path|use printable characters)"):
        MemOS.open(path, embedder=bag_of_words)


PLACES = {"blobs": "cannot be made", "lock": "cannot be opened", "memos.db": "could not be read or written"}


@pytest.mark.parametrize("name", PLACES)
def test_something_else_stands_where_a_part_belongs(tmp_path: Path, name: str) -> None:
    place = tmp_path / "m" / name
    place.parent.mkdir()
    place.write_text("mine") if name == "blobs" else place.mkdir()
    with pytest.raises(StoreUnusable, match=PLACES[name]) as caught:
        MemOS.open(tmp_path / "m", embedder=bag_of_words)
    assert str(place) in str(caught.value)
    place.unlink() if name == "blobs" else place.rmdir()
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as memos:
        memos.remember(FACT, scope=ANA)
        assert holds(memos, FACT)


def test_an_index_that_cannot_be_read_is_done_without(tmp_path: Path) -> None:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as memos:
        memos.remember(FACT, scope=ANA)
    (tmp_path / "m" / "index.faiss").unlink()
    (tmp_path / "m" / "index.faiss").mkdir()
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as memos:
        assert holds(memos, FACT)
        (tmp_path / "m" / "index.faiss").rmdir()


def test_a_directory_that_another_process_holds_for_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memos_core.store, "BUSY_SECONDS", 0.2)
    (tmp_path / "m").mkdir()
    other = filelock.FileLock(tmp_path / "m" / "lock")
    with other, pytest.raises(StoreUnusable, match=r"held by another process .* Close it there and try again"):
        MemOS.open(tmp_path / "m", embedder=bag_of_words)
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as memos:
        assert holds(memos)


# ---------------------------------------------------------------------- the disk


def test_no_room_for_a_turn_or_a_change(memos: MemOS) -> None:
    (done,) = memos.remember(FACT, scope=ANA)
    turn = memos.begin([{"role": "user", "content": "Penicillin?"}], scope=ANA, session="s")
    writer = memos._store._writer
    for statement in ("CREATE TABLE filler (x)", "INSERT INTO filler VALUES (zeroblob(4500000))"):  # what was laid out for the log
        writer.execute(statement)
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    big = "penicillin " * 90_000
    for act in (lambda: turn.commit(big), lambda: memos.update(done.id, text=big)):
        with pytest.raises(StoreUnusable, match="Free some space"):
            act()
    assert holds(memos, FACT) and memos.get(done.id).version == 1
    assert memos.conversation(scope=ANA, session="s") == [] and memos.stats()["counts"]["turns"] == 0
    writer.execute("PRAGMA max_page_count = 1073741823")
    turn.commit("No.")
    assert [cube.payload.text for cube in memos.conversation(scope=ANA, session="s")] == ["Penicillin?", "No."] and memos.verify().ok
    assert memos.get(done.id).usage.recalls == 1


NO_ROOM = """
import resource, signal, sys
sys.path[:0] = sys.argv[2:]
from conftest import bag_of_words
from memos_core import MemOS, StoreUnusable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
memos = MemOS.open(sys.argv[1], embedder=bag_of_words)
memos.remember("Ana had penicillin once.", scope=("clinic", "ana"))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    memos.close()
except StoreUnusable as error:
    print(error)
"""


def test_no_room_for_the_index(tmp_path: Path) -> None:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as memos:
        memos.remember(FACT, scope=ANA)
    before = (tmp_path / "m" / "index.faiss").read_bytes()
    command = [sys.executable, "-c", NO_ROOM, str(tmp_path / "m"), str(Path(__file__).parent), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "index.faiss" in done.stdout and "Free some space or check the rights" in done.stdout, done.stderr
    assert (tmp_path / "m" / "index.faiss").read_bytes() == before and not list((tmp_path / "m").glob(".index*"))
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as memos:
        assert holds(memos, FACT, "Ana had penicillin once.")


# ---------------------------------------------------------------------- names that cannot be stored

HALF = "a\ud800"
NAMES: dict[str, Callable[[MemOS], Any]] = {
    "id": lambda m: m.get(HALF),
    "id of a history": lambda m: m.history(HALF),
    "session": lambda m: m.conversation(scope=ANA, session=HALF),
    "session of a turn": lambda m: m.begin([{"role": "user", "content": "x"}], scope=ANA, session=HALF),
    "question": lambda m: m.recall(HALF, scope=ANA),
    "message": lambda m: m.begin([{"role": "user", "content": HALF}], scope=ANA),
    "earlier message": lambda m: m.begin([{"role": "user", "content": HALF}, {"role": "user", "content": "x"}], scope=ANA),
    "system text": lambda m: m.begin([{"role": "system", "content": HALF}, {"role": "user", "content": "x"}], scope=ANA),
    "id of a message": lambda m: m.begin([{"role": "user", "content": "x", "id": HALF}], scope=ANA),
    "reply": lambda m: m.begin([{"role": "user", "content": "x"}], scope=ANA).commit(HALF),
    "actor": lambda m: m.recall("x", scope=ANA, actor=HALF),
    "grant": lambda m: m.remember("x", scope=ANA, read=[HALF]),
    "new text": lambda m: m.update(m.recall("penicillin", scope=ANA).hits[0].cube.id, text=HALF),
}


@pytest.mark.parametrize("name", NAMES)
def test_half_a_surrogate_is_refused_wherever_it_comes_in(memos: MemOS, name: str) -> None:
    memos.remember(FACT, scope=ANA, now=NOW)
    with pytest.raises(MemosError, match=r"half a surrogate pair|no cube"):
        NAMES[name](memos)
    assert holds(memos, FACT) and memos.stats()["counts"]["turns"] == 0

"""Law *forget*: after erasure, no byte of the content is on disk or in the index, whatever was done to it before; the rest is whole."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core import InvalidInput, MemOS, NotFound, VersionConflict
from tests.conftest import NOW, bag_of_words

ANA = ("clinic", "ana")
PICTURE = b"\x89PNG\r\n\x1a\n"
numbers = st.integers(0, 30)
step = st.one_of(
    st.tuples(st.just("remember"), st.sampled_from(["s", "t", None])),
    st.tuples(st.just("remember filed"), st.just("care/home")),
    st.tuples(st.just("remember with a picture"), st.none()),
    st.tuples(st.just("document"), st.none()),
    st.tuples(st.just("turn"), numbers),
    st.tuples(st.just("again"), numbers),
    st.tuples(st.just("deny"), numbers),
    st.tuples(st.just("update"), numbers),
    st.tuples(st.just("rollback"), numbers),
    st.tuples(st.just("move"), numbers),
    st.tuples(st.just("supersede"), numbers),
    st.tuples(st.just("tick"), st.none()),
    st.tuples(st.just("reopen"), st.none()),
    st.tuples(st.just("forget"), numbers),
)


def marker(number: int) -> str:
    """A word that only one memory says, and that no stem of another holds."""
    return "qz" + "".join(chr(ord("a") + int(digit)) for digit in f"{number:03d}") + "x"


class Life:
    """A memory, and the words that each of its cubes alone says."""

    def __init__(self, path: Path) -> None:
        self.path, self.count, self.said = path, 0, dict[str, set[str]]()
        self.gone: set[str] = set()
        self.memos = MemOS.open(path, embedder=bag_of_words)

    def new(self) -> str:
        self.count += 1
        return marker(self.count)

    def keep(self, done: Any, *words: str) -> None:
        self.said.setdefault(done.id, set()).update(words)

    def some(self, number: int) -> str | None:
        return list(self.said)[number % len(self.said)] if self.said else None

    def do(self, kind: str, what: Any) -> None:
        memos, word, id = self.memos, self.new(), self.some(what) if isinstance(what, int) else None
        if kind == "remember":
            self.keep(memos.remember(f"Ana has {word} cats.", scope=ANA, session=what, now=NOW)[0], word)
        elif kind == "remember filed":
            self.keep(memos.remember(f"I like {word}.", scope=ANA, path=what, now=NOW)[0], word)
        elif kind == "remember with a picture":
            message = {"role": "user", "content": "Look.", "images": [{"image": PICTURE + word.encode(), "caption": f"a {word}"}]}
            self.keep(memos.remember(message, scope=ANA, now=NOW)[0], word)
        elif kind == "document":
            for done in memos.remember_document(f"How to {word} a bow.", name=f"bow {self.count}", scope=ANA, now=NOW):
                self.keep(done, word)
        elif kind == "tick":
            memos.tick(NOW + timedelta(days=self.count))
        elif kind == "reopen":
            memos.close()
            self.memos = MemOS.open(self.path, embedder=bag_of_words)
        elif id is not None:
            self.change(kind, id, word)

    def change(self, kind: str, id: str, word: str) -> None:
        memos, text = self.memos, self.memos.get(id, now=NOW).payload.text
        if kind == "turn":
            known, own = sorted(self.said[id]), f"answer{self.new()}"
            asked = {"role": "user", "content": f"What about {' '.join(known)} and {word}?"}
            question, answer = memos.begin([asked], scope=ANA, session="u", now=NOW).commit(f"Nothing {own}.", now=NOW)
            self.keep(question, word, *known)
            self.keep(answer, own)
        elif kind == "again":
            done = memos.remember({"role": "user", "content": f"{text.upper()}", "timestamp": NOW}, scope=ANA, now=NOW)[0]
            self.keep(done, *self.said[id])
        elif kind == "deny":
            done = memos.remember(f"I have never seen {word} or {' '.join(sorted(self.said[id]))}.", scope=ANA, now=NOW)[0]
            self.keep(done, word, *self.said[id])
        elif kind == "update":
            memos.update(id, text=f"{text} And {word} " + "more " * (self.count % 40), now=NOW)
            self.said[id].add(word)
        elif kind == "rollback":
            memos.rollback(id, 1, now=NOW)
        elif kind == "move":
            memos.move(id, f"life/{self.count}", now=NOW)
        elif kind == "supersede":
            self.keep(memos.remember(f"Now it is {word}.", scope=ANA, supersedes=id, now=NOW)[0], word)
        elif kind == "forget":
            for each in memos.forget(id, now=NOW):
                self.gone |= self.said.pop(each, set())

    def check(self) -> None:
        data = b"".join(path.read_bytes().lower() for path in self.path.rglob("*") if path.is_file())
        still = set().union(*self.said.values()) if self.said else set()
        for word in self.gone - still:
            assert word.encode() not in data, word
            assert not any(word in hit.text.lower() for hit in self.memos.recall(word, scope=ANA, k=100, now=NOW).hits)
        for id in self.said:
            assert self.memos.get(id, now=NOW).id == id
        assert self.memos.verify().ok


@settings(max_examples=40, deadline=None)
@given(st.lists(step, min_size=4, max_size=14), st.lists(numbers, min_size=1, max_size=4))
def test_what_is_forgotten_is_on_no_byte(steps: list[tuple[str, Any]], forgotten: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder) / "x.memos")
        try:
            for kind, what in [*steps, *(("forget", number) for number in forgotten)]:
                try:
                    life.do(kind, what)
                except (InvalidInput, NotFound, VersionConflict):
                    pytest.fail(f"{kind} {what} was refused")
            life.check()
        finally:
            life.memos.close()


@settings(max_examples=15, deadline=None)
@given(st.lists(step, min_size=1, max_size=12))
def test_a_scope_that_is_forgotten_is_on_no_byte(steps: list[tuple[str, Any]]) -> None:
    """Nor are its conversations: their names, their system text, the callers' ids. What lies beside the scope stays."""
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder) / "x.memos")
        try:
            (other,) = life.memos.remember("Ben knows of Qzben.", scope=("clinic", "ben"), read=[ANA], now=NOW)
            life.memos.remember("An app notes Qzapp.", scope=(*ANA, "app"), now=NOW)
            talk = [{"role": "system", "content": "You serve Qzsystem."}, {"role": "user", "content": "Qzben?", "id": "qzid"}]
            life.memos.begin(talk, scope=ANA, session="qzsession", now=NOW).commit("Yes.", now=NOW)
            for kind, what in steps:
                life.do(kind, what)
            there = life.memos.stats()["counts"]["cubes"]
            gone = life.memos.forget(scope=ANA, now=NOW)
            assert len(gone) == there - 1 and life.memos.forget(scope=ANA, now=NOW) == ()
            data = b"".join(path.read_bytes().lower() for path in life.path.rglob("*") if path.is_file())
            for word in ("qzapp", "qzsystem", "qzid", "qzsession", "qza", "qzb", "qzc"):
                assert word.encode() not in data.replace(b"qzben", b""), word
            assert [hit.cube.id for hit in life.memos.recall("Qzben", scope="clinic", now=NOW).hits] == [other.id]
            with pytest.raises(NotFound, match="has been forgotten"):
                life.memos.get(gone[0])
            assert life.memos.verify().ok
        finally:
            life.memos.close()

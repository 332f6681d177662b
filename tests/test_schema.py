"""Migrations: each once, each together with its record, or not at all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from conftest import bag_of_words

from memos_core import MemOS, schema

NEXT = (*schema.MIGRATIONS, (schema.VERSION + 1, "a test's own", "CREATE TABLE added (x); INSERT INTO added VALUES (7);"))
BROKEN = (*schema.MIGRATIONS, (schema.VERSION + 1, "broken", "CREATE TABLE added (x); INSERT INTO nowhere VALUES (7);"))


def migrations(path: Path) -> list[tuple[int, str]]:
    db = sqlite3.connect(path / "memos.db")
    found = db.execute("SELECT version, name FROM migrations ORDER BY version").fetchall()
    db.close()
    return found


def use(monkeypatch: pytest.MonkeyPatch, listed: tuple[tuple[int, str, str], ...]) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", listed)
    monkeypatch.setattr(schema, "VERSION", listed[-1][0])


def test_an_older_directory_is_brought_up_once_and_keeps_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words) as memos:
        memos.remember("Ana is allergic to penicillin.", scope="ana")
    use(monkeypatch, NEXT)
    for _ in range(2):
        with MemOS.open(tmp_path / "m", embedder=bag_of_words) as memos:
            assert memos.recall("penicillin", scope="ana").hits and memos.verify().ok
    assert migrations(tmp_path / "m") == [(1, "the first schema"), (2, "a test's own")]
    db = sqlite3.connect(tmp_path / "m" / "memos.db")
    assert db.execute("SELECT x FROM added").fetchall() == [(7,)]
    db.close()


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MemOS.open(tmp_path / "m", embedder=bag_of_words).close()
    with monkeypatch.context() as context:
        use(context, BROKEN)
        with pytest.raises(Exception, match="nowhere"):
            MemOS.open(tmp_path / "m", embedder=bag_of_words)
    assert migrations(tmp_path / "m") == [(1, "the first schema")]
    db = sqlite3.connect(tmp_path / "m" / "memos.db")
    assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'added'").fetchall()
    db.close()
    MemOS.open(tmp_path / "m", embedder=bag_of_words).close()

"""Migrations: each once, each together with its record, or not at all."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import NOW, bag_of_words

from memos_core import MemOS
from memos_core.store import schema

DAY = timedelta(days=1)
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
    assert migrations(tmp_path / "m") == [(version, name) for version, name, _ in NEXT]
    db = sqlite3.connect(tmp_path / "m" / "memos.db")
    assert db.execute("SELECT x FROM added").fetchall() == [(7,)]
    db.close()


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MemOS.open(tmp_path / "m", embedder=bag_of_words).close()
    with monkeypatch.context() as context:
        use(context, BROKEN)
        with pytest.raises(Exception, match="nowhere"):
            MemOS.open(tmp_path / "m", embedder=bag_of_words)
    assert migrations(tmp_path / "m") == [(version, name) for version, name, _ in BROKEN[:-1]]
    db = sqlite3.connect(tmp_path / "m" / "memos.db")
    assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'added'").fetchall()
    db.close()
    MemOS.open(tmp_path / "m", embedder=bag_of_words).close()


@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_a_directory_of_an_earlier_schema_opens_and_works(tmp_path: Path, version: int) -> None:
    """Written by the migrations up to a version alone, with rows as that version wrote them."""
    path = tmp_path / "m"
    with MemOS.open(path, embedder=bag_of_words) as memos:
        old, other = memos.remember(["Ana lives in Lisbon.", "Ana plays the cello."], scope="ana", session="s", occurred_at=NOW, now=NOW)
        memos.update(old.id, text="Ana lives in Lisbon now.", now=NOW)
    turn_back(path / "memos.db", version)
    (path / "index.faiss").unlink()
    with MemOS.open(path, embedder=bag_of_words) as memos:
        assert [row[0] for row in migrations(path)] == list(range(1, schema.VERSION + 1)) and memos.verify().ok
        (newer,) = memos.remember("Ana lives in Porto.", scope="ana", supersedes=old.id, occurred_at=NOW + DAY, now=NOW + DAY)
        assert memos.get(old.id).identifiers.valid_to == NOW + DAY and memos.get(other.id).identifiers.mentions == 1
        assert {hit.cube.id for hit in memos.recall("Lisbon", scope="ana", now=NOW + DAY).hits} == {old.id, other.id, newer.id}
        assert {hit.cube.id for hit in memos.recall("Lisbon", scope="ana", as_of=NOW, now=NOW + DAY).hits} == {old.id, other.id}
        memos.set_budget("ana", facts=1)
        assert [move.kind for move in memos.tick(NOW + 9 * DAY)] == ["archive"]
        memos.forget(old.id)
        assert memos.conflicts(scope="ana") == [] and memos.verify().ok


def turn_back(file: Path, version: int) -> None:
    """Copy what an earlier schema knows of a database into a new one that has only that schema."""
    file.rename(file.with_suffix(".new"))
    old = sqlite3.connect(file, isolation_level=None)
    old.execute("CREATE TABLE migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL)")
    for number, name, script in schema.MIGRATIONS[:version]:
        old.executescript(script)
        old.execute("INSERT INTO migrations VALUES (?, ?, 0)", (number, name))
    old.execute("ATTACH ? AS new", (str(file.with_suffix(".new")),))
    shared = "SELECT name FROM {0}.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    for (table,) in old.execute(f"{shared.format('main')} INTERSECT {shared.format('new')}").fetchall():
        if table != "migrations":
            columns = [row[1] for row in old.execute(f"PRAGMA main.table_info({table})")]
            names = ", ".join(columns)
            old.execute(f"INSERT OR REPLACE INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    old.close()
    for suffix in (".new", ".new-wal", ".new-shm"):
        file.with_suffix(suffix).unlink(missing_ok=True)

"""Law *chain*: replaying the versions rebuilds every head; rollback appends; only forget erases; the hash chains verify."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core import MemOS, NotFound
from tests.conftest import bag_of_words

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "update", "priority", "rollback", "forget"]), st.integers(0, 5), st.integers(0, 10_000)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=25)
@given(OPERATIONS)
def test_versions_rebuild_heads_and_chains_verify(operations: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, MemOS.open(Path(folder) / "x.memos", embedder=bag_of_words) as memos:
        model: dict[str, list[tuple[str, float]]] = {}  # id -> (text, priority) of each version
        for operation, which, number in operations:
            ids = list(model)
            if operation == "add" or not ids:
                (done,) = memos.remember(f"fact {number} of {len(model)}", scope=("s", str(which)))
                model.setdefault(done.id, [(done.cube.payload.text, 0.0)])
                continue
            cube = ids[which % len(ids)]
            text, priority = model[cube][-1]
            if operation == "update":
                memos.update(cube, text=f"changed {number}")
                model[cube].append((f"changed {number}", priority))
            elif operation == "priority":
                memos.update(cube, priority=number / 10_000)
                model[cube].append((text, number / 10_000))
            elif operation == "rollback":
                version = number % len(model[cube]) + 1
                memos.rollback(cube, version)
                model[cube].append(model[cube][version - 1])
            else:
                memos.forget(cube)
                del model[cube]
                with pytest.raises(NotFound):
                    memos.get(cube)
        for cube, versions in model.items():
            history = memos.history(cube)
            assert [(entry.cube.payload.text, entry.cube.governance.priority) for entry in history] == versions
            head = memos.get(cube)
            assert head == history[-1].cube and head.version == len(versions)
        assert memos.verify().ok, memos.verify().problems


TAMPERINGS = {
    "head changed": "UPDATE cubes SET body = CAST(replace(CAST(body AS TEXT), 'penicillin', 'aspirin') AS BLOB)",
    "version content changed": "UPDATE versions SET body = CAST(replace(CAST(body AS TEXT), 'penicillin', 'aspirin') AS BLOB)",
    "version rehashed without the key": "UPDATE versions SET commitment = zeroblob(32) WHERE version = 1",
    "version removed": "DELETE FROM versions WHERE version = 1",
    "last version removed": "DELETE FROM versions WHERE version = 2",
    "audit entry changed": "UPDATE audit SET action = 'update' WHERE position = 1",
    "audit entry removed": "DELETE FROM audit WHERE position = 2",
    "last audit entry removed": "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
    "actor changed": "UPDATE audit SET actor = 'somebody' WHERE position = 1",
    "content removed without forgetting": "UPDATE versions SET body = NULL WHERE version = 1",
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_found(memos: MemOS, tampering: str) -> None:
    (done,) = memos.remember("Ana is allergic to penicillin.", scope="ana")
    memos.update(done.id, priority=0.5)
    memos.remember("Ana likes tea with penicillin jokes.", scope="ana")
    assert memos.verify().ok
    db = sqlite3.connect(memos.path / "memos.db")
    assert db.execute(TAMPERINGS[tampering]).rowcount > 0
    db.commit()
    db.close()
    assert not memos.verify().ok


def test_what_stays_after_forgetting_cannot_be_guessed_from(memos: MemOS) -> None:
    import hashlib

    secret = "Ana is allergic to penicillin."
    (done,) = memos.remember(secret, scope="ana", session="s1")
    body = memos.get(done.id)
    memos.forget(done.id)
    with memos._store.read() as view:
        assert view.db.execute("SELECT count(*) FROM cubes").fetchone() == (0,)
        kept = [
            value
            for table in ("versions", "audit", "tombstones", "meta")
            for row in view.db.execute(f"SELECT * FROM {table}")
            for value in row
        ]
    from memos_core.cube import canonical

    blobs = [value for value in kept if isinstance(value, bytes)]
    for guess in (secret.encode(), canonical(body)):
        assert hashlib.sha256(guess).digest() not in blobs
    assert all(secret not in str(value) for value in kept)
    assert memos.verify().ok


def test_forgotten_content_is_on_no_byte_of_the_disk(memos: MemOS) -> None:
    marker = "Zanthoxylumquark"
    other = memos.remember([f"ordinary note {n} about gardens" for n in range(200)], scope="ana")
    (done,) = memos.remember(f"The password is {marker} on {marker}", scope="ana")
    memos.update(done.id, text=f"The password was {marker}")
    turn = memos.begin([{"role": "user", "content": "what is the password?"}], scope="ana")
    turn.commit("It is known.")
    assert any(marker in hit.cube.payload.text for hit in memos.recall(marker, scope="ana").hits)
    memos.forget(done.id)
    memos.forget(other[3].id)
    assert not any(marker in hit.cube.payload.text for hit in memos.recall(marker, scope="ana").hits)
    stem = marker.lower()[:12].encode()
    for file in sorted(memos.path.rglob("*")):
        if file.is_file():
            data = file.read_bytes()
            assert marker.encode() not in data and stem not in data.lower(), file
    memos.close()
    for file in sorted(memos.path.rglob("*")):
        if file.is_file():
            assert stem not in file.read_bytes().lower(), file

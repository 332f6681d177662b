"""Messages that say what a memory says already: kept with it, verbatim, counted, and known when they come again."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
from conftest import NOW, bag_of_words

from memos_core import MemOS
from memos_core.changes import Add, Outcome, Relate, Take
from memos_core.conflict.resolution import Related, Resolution
from memos_core.cube import LOCAL_OWNER
from memos_core.intake import Template, as_searchable, identity
from memos_core.parse import notes

ANA = ("clinic", "ana")
DAY = timedelta(days=1)
FIRST = {"role": "user", "content": "Ana is allergic to penicillin.", "id": "m1", "timestamp": NOW - 9 * DAY}
AGAIN = {"role": "user", "content": "ana is allergic to penicillin", "id": "m2", "timestamp": NOW - DAY}


def addition(memos: MemOS, message: dict[str, Any], into: str | None, session: str = "two", **fields: Any) -> Add:
    """What `remember` would commit for a message, told what says the same already."""
    template = Template(fields.pop("scope", ANA), ANA, session)
    (item,) = notes(message)
    cube = template.cube(item, None, NOW)
    searchable = as_searchable(cube, bag_of_words([item.text])[0])
    return Add(cube, ANA, searchable, identity=identity(memos._store.secret, template, item, None), into=into, **fields)


def merge(memos: MemOS, message: dict[str, Any], into: str, session: str = "two", **fields: Any) -> Outcome:
    (outcome,) = memos._store.commit([addition(memos, message, into, session, **fields)])
    return outcome


def test_sources_and_count_grow_and_the_text_stays(memos: MemOS) -> None:
    (done,) = memos.remember(FIRST, scope=ANA, session="one", now=NOW - 9 * DAY)
    outcome = merge(memos, AGAIN, done.id)
    (cube,) = outcome.cubes
    assert outcome.kind == "merged" and cube == memos.get(done.id)
    assert (cube.version, cube.payload.text) == (2, FIRST["content"])
    assert (cube.identifiers.sources, cube.identifiers.mentions) == (("m1", "m2"), 2)
    assert memos.history(done.id)[-1].action == "merge" and memos.verify().ok
    assert [hit.cube.identifiers.sources for hit in memos.recall("penicillin", scope=ANA).hits] == [("m1", "m2")]
    assert memos.rollback(done.id, 1).identifiers.sources == ("m1", "m2"), "where it was said is not undone"


def test_sending_it_again_changes_nothing(memos: MemOS) -> None:
    (done,) = memos.remember(FIRST, scope=ANA, session="one", now=NOW)
    merge(memos, AGAIN, done.id)
    before = memos.stats()["counts"]
    assert merge(memos, AGAIN, done.id).kind == "merged"
    (same,) = memos.remember(AGAIN, scope=ANA, session="two", now=NOW)  # whether it is found to be alike or not
    assert (same.outcome, same.id) == ("merged", done.id) and memos.stats()["counts"] == before


def test_the_conversation_is_still_verbatim(memos: MemOS) -> None:
    (done,) = memos.remember(FIRST, scope=ANA, session="one", now=NOW)
    memos.remember({"role": "assistant", "content": "Hello!"}, scope=ANA, session="two", now=NOW)
    merge(memos, AGAIN, done.id)
    memos.remember({"role": "assistant", "content": "Noted."}, scope=ANA, session="two", now=NOW)
    talk = memos.conversation(scope=ANA, session="two")
    assert [cube.payload.text for cube in talk] == ["Hello!", AGAIN["content"], "Noted."]
    assert (talk[1].id, talk[1].identifiers.sources, talk[1].identifiers.occurred_at) == (done.id, ("m2",), NOW - DAY)
    assert memos.conversation(scope=ANA, session="two", actor="doctor") == []
    assert [cube.payload.text for cube in memos.conversation(scope=ANA, session="one")] == [FIRST["content"]]
    memos.update(done.id, state="archived")
    assert [cube.payload.text for cube in memos.conversation(scope=ANA, session="two")] == ["Hello!", "Noted."]


def test_what_does_not_stand_takes_nothing_in(memos: MemOS) -> None:
    (done,) = memos.remember(FIRST, scope=ANA, now=NOW)
    assert merge(memos, AGAIN, done.id, scope=("clinic", "ben")).kind == "added", "of another scope"
    (newer,) = memos.remember("Ana tolerates penicillin.", scope=ANA, supersedes=done.id, now=NOW)
    assert merge(memos, AGAIN, done.id).kind == "added", "said again after it had been superseded, it is news"
    memos.forget(newer.id)
    assert merge(memos, {**AGAIN, "id": "m3"}, newer.id).kind == "added", "gone meanwhile"
    assert memos.verify().ok


def test_a_merged_message_can_supersede_too(memos: MemOS) -> None:
    (done,) = memos.remember(FIRST, scope=ANA, now=NOW)
    (other,) = memos.remember("Ana has no allergies.", scope=ANA, now=NOW)
    add = addition(memos, AGAIN, done.id)
    found = (Related(other.id, add.cube.id, resolution=Resolution.SUPERSEDED),)
    for _ in range(2):
        (outcome,) = memos._store.commit([replace(add, relations=found)])
        assert outcome.kind == "merged" and outcome.cubes[0].id == done.id
    assert [str(memos.get(each.id).state) for each in (done, other)] == ["active", "superseded"]
    memos._store.commit([Relate(Related(other.id, done.id, resolution=Resolution.KEPT_BOTH), LOCAL_OWNER, NOW)])
    memos._store.commit([replace(add, relations=found)])
    assert memos.get(other.id).state == "active", "a replay does not answer anew"


def test_a_turn_merges_once(memos: MemOS) -> None:
    (done,) = memos.remember(FIRST, scope=ANA, now=NOW)
    take = Take(ANA, "two", "t", NOW, None, (addition(memos, AGAIN, done.id),))
    (taken,) = memos._store.commit([take])
    (known,) = memos._store.commit([take])
    assert (taken.kind, known.kind) == ("taken", "known")
    assert [each.cubes[0].id for each in (*taken.each, *known.each)] == [done.id] * 2 and memos.get(done.id).version == 2


def test_forgetting_takes_the_merged_texts_along(memos: MemOS) -> None:
    (done,) = memos.remember(FIRST, scope=ANA, now=NOW)
    marked = {"role": "user", "content": "Ana, quixotrope, is allergic to penicillin.", "id": "message nine"}
    merge(memos, marked, done.id)
    memos.close()
    with MemOS.open(memos.path, embedder=bag_of_words) as again:
        again.forget(done.id)
        assert again.stats()["counts"]["merged"] == 0
        data = b"".join(path.read_bytes() for path in sorted(memos.path.rglob("*")) if path.is_file())
        vector = np.asarray(bag_of_words([marked["content"]])[0], dtype="<f4").tobytes()
        assert b"quixotrope" not in data and b"message nine" not in data and vector[:32] not in data
        (anew,) = again.remember(AGAIN, scope=ANA, session="two", now=NOW)
        assert anew.outcome == "added" and again.verify().ok


def test_tampering_with_a_merged_message_is_found(memos: MemOS) -> None:
    (done,) = memos.remember(FIRST, scope=ANA, now=NOW)
    merge(memos, AGAIN, done.id)
    for change in (
        "UPDATE merged SET body = CAST(replace(CAST(body AS TEXT), 'penicillin', 'aspirin') AS BLOB)",
        "UPDATE merged SET commitment = zeroblob(32)",
        "UPDATE merged SET id = 'nobody'",
    ):
        db = sqlite3.connect(memos.path / "memos.db")
        db.execute("CREATE TABLE before AS SELECT * FROM merged")
        assert db.execute(change).rowcount == 1
        db.commit()
        assert any("merged into cube" in problem for problem in memos.verify().problems), change
        for statement in ("DELETE FROM merged", "INSERT INTO merged SELECT * FROM before", "DROP TABLE before"):
            db.execute(statement)
        db.commit()
        db.close()
    assert memos.verify().ok

"""forget erases the content and everything derived from it; what stays cannot be guessed from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from conftest import NOW, bag_of_words
from test_scheduler import ANA, FACTS, SAID, ask, open_with

from memos_core import AccessDenied, MemOS, NotFound


def bytes_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_forget_reaches_text_vector_places_uses_and_kv(tmp_path: Path) -> None:
    path = tmp_path / "test.memos"
    with open_with(path) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        for session in ("one", "two"):
            ask(memos, "allergic", session)
        (move,) = memos.tick(NOW)
        (fact,) = move.ids
        memos.close()
    assert FACTS[0].encode() in bytes_on_disk(path)
    with open_with(path) as memos:
        turn = memos.begin([{"role": "user", "content": "allergic?"}], scope=ANA, session="three", now=NOW)
        model = memos._house.engine
        assert model.generate(turn.prompt, turn.plan, turn.scope, 4).reused_tokens > model.count(turn.plan.head)
        gone = memos.forget(fact)
        assert gone[0] == fact and len(gone) == 2  # the fact and the KV made from it
        assert list((path / "blobs").iterdir()) == []
        assert FACTS[0] in turn.prompt[0]["content"]
        public = model.count(turn.plan.shared_system) + 10  # with the template's own tokens
        assert model.generate(turn.prompt, turn.plan, turn.scope, 4).reused_tokens <= public
        model.forget_scope(ANA)  # the line above has just computed it again
        assert FACTS[0] not in str(memos.begin([{"role": "user", "content": "allergic?"}], scope=ANA, session="one", now=NOW).prompt)
        assert memos.tick(NOW) == []
        for each in gone:
            with pytest.raises(NotFound, match="has been forgotten"):
                memos.get(each)
        assert [entry.action for entry in memos.audit(id=fact)] == ["add", "forget"]
        assert [version.cube for version in memos.history(fact)] == [None]
        assert memos.verify().ok
    left = bytes_on_disk(path)
    for trace in (b"penicillin", b"penicillin".upper(), bag_of_words([FACTS[0]])[0].tobytes()[:32]):
        assert trace not in left
    with MemOS.open(path, embedder=bag_of_words) as memos:
        assert {hit.text for hit in memos.recall("Ana", scope=ANA).hits} >= set(FACTS[1:])


def test_forget_reaches_system_texts_that_hold_what_was_retrieved(tmp_path: Path) -> None:
    """As chains do that put what a retriever finds into the system text; KV computed behind it goes too, and nothing of anybody else."""
    path, ben = tmp_path / "test.memos", ("clinic", "ben")
    with open_with(path) as memos:
        facts = [done.id for done in memos.remember([*FACTS, "A zanzibarine\nparrot."], scope=ANA, occurred_at=SAID, now=SAID)]
        retrieved = {
            "role": "system",
            "content": f"Answer from this:\n{memos.recall('A zanzibarine parrot', scope=ANA, k=1, now=NOW).text}",
        }
        for place, system in ((ANA, retrieved), (ben, {"role": "system", "content": "Be a parrot."})):
            memos.begin([system, {"role": "user", "content": "Parrot?"}], scope=place, k=0, now=NOW).commit("Yes.", now=NOW)
        (kv,) = memos.promote(facts[0], to="activation", now=NOW)
        assert kv.payload.system == retrieved["content"] and list((path / "blobs").iterdir())
        assert len(memos.forget(facts[-1])) == 2  # the fact, and the KV of others behind the system text that repeats it
        with memos._store.read() as view:
            assert (view.last_system(ANA), view.last_system(ben)) == (None, "Be a parrot.")
        assert list((path / "blobs").iterdir()) == [] and memos.verify().ok
    assert b"zanzibarine" not in bytes_on_disk(path)


def test_of_a_scopes_system_texts_the_latest_alone_is_kept(memos: MemOS) -> None:
    for minutes in (1, 3, 2, 4):
        talk = [{"role": "system", "content": f"System text {minutes}."}, {"role": "user", "content": f"Hello {minutes}"}]
        memos.begin(talk, scope=ANA, now=NOW).commit("Hi.", now=NOW + timedelta(minutes=minutes))
        with memos._store.read() as view:
            kept = [row[0] for row in view.db.execute("SELECT system FROM turns WHERE system IS NOT NULL")]
        assert kept == [f"System text {max(minutes, 3 if minutes == 2 else 0)}."]


def test_a_forgotten_scope_takes_its_kv_along(tmp_path: Path) -> None:
    with open_with(tmp_path / "test.memos") as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        for session in ("one", "two"):
            ask(memos, "allergic", session)
        assert [move.kind for move in memos.tick(NOW)] == ["prefill"]
        turn = memos.begin([{"role": "user", "content": "allergic?"}], scope=ANA, session="three", now=NOW)
        model = memos._house.engine
        assert model.generate(turn.prompt, turn.plan, turn.scope, 4).reused_tokens > model.count(turn.plan.head)
        with pytest.raises(AccessDenied, match="ben may not write scope clinic/ana"):
            memos.forget(scope=ANA, actor=("clinic", "ben"))
        memos.forget(scope=ANA)
        assert list((tmp_path / "test.memos" / "blobs").iterdir()) == []
        assert memos.stats()["counts"] | {"tombstones": 0, "audit entries": 0, "versions": 0, "scopes": 0} == dict.fromkeys(
            memos.stats()["counts"], 0
        )
        public = model.count(turn.plan.shared_system) + 10  # with the template's own tokens
        assert model.generate(turn.prompt, turn.plan, turn.scope, 4).reused_tokens <= public
        assert memos.usage(ANA).turns == 0 and memos.tick(NOW) == [] and memos.verify().ok


def test_forget_is_all_or_nothing(memos: MemOS) -> None:
    done = memos.remember(FACTS, scope=ANA)
    with pytest.raises(NotFound, match="ids come from remember"):
        memos.forget([done[0].id, "nobody"])
    assert memos.get(done[0].id).payload.text == FACTS[0]


def test_a_forgotten_message_can_be_remembered_anew(memos: MemOS) -> None:
    message = {"role": "user", "content": FACTS[0], "id": "m1"}
    (first,) = memos.remember(message, scope=ANA)
    memos.forget(first.id)
    (again,) = memos.remember(message, scope=ANA)
    assert again.outcome == "added" and again.id != first.id


def test_no_copy_stays_where_a_row_was_moved_from(memos: MemOS) -> None:
    """Rows that grow are moved between SQLite's pages, which keep what they held before."""
    done = memos.remember([f"note {number} of zanzibarine {number * number}" for number in range(120)], scope=ANA, now=NOW)
    for round in range(3):
        for number, each in enumerate(done):
            if number % 3 == round:
                memos.update(each.id, text=f"note {number} of zanzibarine " + "and more " * (10 + 7 * (number % 5)), now=NOW)
    memos.forget([each.id for each in done], now=NOW)
    assert b"zanzibarin" not in bytes_on_disk(memos.path)

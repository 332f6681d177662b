"""What was known and true at an earlier time: by the text, the validity and the words of then."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import NOW, bag_of_words
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core import MemOS, State

ANA = ("clinic", "ana")
DAY = timedelta(days=1)
LISBON, PORTO = "Ana lives in Lisbon.", "Ana lives in Porto."


def days_ago(days: float) -> datetime:
    return NOW - days * DAY


def recalled(memos: MemOS, at: datetime | None, query: str = "Where does Ana live?", **fields: object) -> list[str]:
    return [hit.text for hit in memos.recall(query, scope=ANA, as_of=at, now=NOW, **fields).hits]


def test_before_and_after_an_update(memos: MemOS) -> None:
    (done,) = memos.remember(LISBON, scope=ANA, occurred_at=days_ago(100), now=days_ago(100))
    memos.update(done.id, text=PORTO, now=days_ago(50))
    assert recalled(memos, days_ago(101)) == []
    assert recalled(memos, days_ago(100)) == recalled(memos, days_ago(51)) == [LISBON]
    assert recalled(memos, days_ago(50)) == recalled(memos, NOW) == recalled(memos, None) == [PORTO]
    (then,) = memos.recall("Lisbon", scope=ANA, as_of=days_ago(60), now=NOW).hits
    assert (then.cube.version, then.cube.identifiers.updated_at) == (1, days_ago(100))
    assert memos.recall("Lisbon", scope=ANA, as_of=days_ago(60).isoformat(), now=NOW).hits == (then,)


def test_old_texts_are_found_by_their_own_words_and_scored_as_they_were(memos: MemOS) -> None:
    filler = [f"Ben mentioned the weather number {number}." for number in range(30)]
    memos.remember(filler, scope=ANA, session="s", occurred_at=days_ago(99), now=days_ago(99))
    (done,) = memos.remember("Ana's zither is red.", scope=ANA, occurred_at=days_ago(98), priority=0.3, now=days_ago(98))
    (before,) = memos.recall("red zither", scope=ANA, k=1, now=days_ago(60)).hits
    memos.update(done.id, text="Nothing of the kind.", priority=0.0, now=days_ago(50))
    (again,) = memos.recall("red zither", scope=ANA, k=1, as_of=days_ago(60), now=NOW).hits
    assert again.cube == before.cube and again.score == pytest.approx(before.score, abs=1e-5)
    assert list(map(str, again.reasons)) == list(map(str, before.reasons))
    assert "zither" not in " ".join(recalled(memos, None, "red zither"))


def test_a_conversation_imported_later_was_known_when_it_was_said(memos: MemOS) -> None:
    (old,) = memos.remember(LISBON, scope=ANA, occurred_at=days_ago(900), now=days_ago(1))
    memos.remember(PORTO, scope=ANA, occurred_at=days_ago(300), supersedes=old.id, now=days_ago(1))
    assert recalled(memos, days_ago(901)) == []
    assert recalled(memos, days_ago(600)) == [LISBON]
    assert recalled(memos, days_ago(200)) == [PORTO]
    assert set(recalled(memos, None)) == {LISBON, PORTO}


def test_what_was_superseded_later_was_active(memos: MemOS) -> None:
    (old,) = memos.remember(LISBON, scope=ANA, occurred_at=days_ago(90), now=days_ago(90))
    memos.remember(PORTO, scope=ANA, supersedes=old.id, occurred_at=days_ago(30), now=days_ago(30))
    (then,) = memos.recall("Ana", scope=ANA, as_of=days_ago(60), now=NOW).hits
    assert then.cube.state is State.ACTIVE and not any(reason.part == "superseded" for reason in then.reasons)
    assert recalled(memos, days_ago(30)) == recalled(memos, NOW) == [PORTO]


def test_validity_has_a_beginning_and_an_end(memos: MemOS) -> None:
    memos.remember(
        "Ana is on leave.", scope=ANA, occurred_at=days_ago(90), valid_from=days_ago(60), valid_to=days_ago(30), now=days_ago(90)
    )
    for days, there in ((80, False), (60, True), (31, True), (30, False), (1, False)):
        assert bool(recalled(memos, days_ago(days))) is there, days
    (hit,) = memos.recall("Ana", scope=ANA, now=NOW).hits  # recall without a time does not filter
    assert (hit.cube.identifiers.valid_from, hit.cube.identifiers.valid_to) == (days_ago(60), days_ago(30))
    memos.update(hit.cube.id, valid_to=days_ago(10), now=NOW)
    assert recalled(memos, days_ago(20)), "when it was true is a matter of what is known now"


def test_history_before_a_rollback_is_history(memos: MemOS) -> None:
    (done,) = memos.remember(LISBON, scope=ANA, occurred_at=days_ago(90), now=days_ago(90))
    memos.update(done.id, text=PORTO, now=days_ago(60))
    memos.rollback(done.id, 1, now=days_ago(30))
    assert [recalled(memos, days_ago(days)) for days in (70, 50, 20)] == [[LISBON], [PORTO], [LISBON]]


def test_what_is_gone_stays_gone(memos: MemOS) -> None:
    (erased,) = memos.remember("Ana's secret is Lisbon.", scope=ANA, occurred_at=days_ago(90), now=days_ago(90))
    memos.update(erased.id, text="Ana's other secret.", now=days_ago(60))
    memos.forget(erased.id)
    memos.remember("Ana waits in room 4.", scope=ANA, occurred_at=days_ago(90), ttl=30 * DAY, now=days_ago(90))
    (suspect,) = memos.remember("Ana owes Eve a fortune.", scope=ANA, occurred_at=days_ago(90), now=days_ago(90))
    memos.update(suspect.id, state="quarantined", now=days_ago(5))
    (archived,) = memos.remember(LISBON, scope=ANA, occurred_at=days_ago(90), now=days_ago(90))
    memos.update(archived.id, state="archived", now=days_ago(5))
    assert recalled(memos, days_ago(80), k=50) == [LISBON]  # was known then, and can be restored
    assert recalled(memos, days_ago(4), k=50) == []


def test_access_is_that_of_today(memos: MemOS) -> None:
    (done,) = memos.remember(LISBON, scope=ANA, read=["doctor"], occurred_at=days_ago(90), now=days_ago(90))
    assert recalled(memos, days_ago(80), actor="doctor") == [LISBON]
    memos.update(done.id, text=PORTO, read=[], now=days_ago(60))
    assert recalled(memos, days_ago(80), actor="doctor") == []
    memos.update(done.id, read=["nurse"], now=days_ago(60))
    assert recalled(memos, days_ago(80), actor="nurse") == [LISBON]


WORDS = "tea coffee train garden doctor number red blue piano cat".split()
steps = st.lists(
    st.tuples(st.sampled_from(["add", "add", "update", "priority", "rollback", "supersede", "archive"]), st.integers(0, 10**6)),
    min_size=2,
    max_size=10,
)


@settings(max_examples=40)
@given(steps, st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
def test_as_of_says_what_recall_said_then(operations: list[tuple[str, int]], query: list[str]) -> None:
    """A memory that is written as things happen says of each past moment what it said at that moment, score by score."""
    with tempfile.TemporaryDirectory() as folder, MemOS.open(Path(folder) / "m", embedder=bag_of_words) as memos:
        ids: list[str] = []
        said = {}
        for day, (kind, number) in enumerate(operations):
            at, text = days_ago(100 - day), f"{WORDS[number % 10]} {WORDS[number // 10 % 10]} {number % 5}"
            if kind in ("add", "supersede") or not ids:
                standing = [id for id in ids if memos.get(id).state == "active"]
                old = [standing[number % len(standing)]] if kind == "supersede" and standing else []
                ids.append(memos.remember(f"{text} {day}", scope=ANA, occurred_at=at, supersedes=old, now=at)[0].id)
            else:
                cube = memos.get(ids[number % len(ids)])
                if kind == "update":
                    memos.update(cube.id, text=f"{text} {day}", now=at)
                elif kind == "priority":
                    memos.update(cube.id, priority=number % 3 / 4, now=at)
                elif kind == "rollback":
                    memos.rollback(cube.id, number % cube.version + 1, now=at)
                elif cube.state == "active":
                    memos.update(cube.id, state="archived", now=at)
            hits = memos.recall(" ".join(query), scope=ANA, k=50, now=at).hits
            if all(hit.cube.state == "active" for hit in hits):  # what was superseded is out of `as_of`, and marked in `recall`
                said[at] = [(hit.cube.id, hit.text, hit.cube.version, hit.score) for hit in hits]
        for at, before in said.items():
            again = memos.recall(" ".join(query), scope=ANA, k=50, as_of=at, now=NOW).hits
            assert [(hit.cube.id, hit.text, hit.cube.version) for hit in again] == [part[:3] for part in before]
            assert [hit.score for hit in again] == pytest.approx([part[3] for part in before], abs=1e-5)

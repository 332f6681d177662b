"""Memories that take each other's place, or contradict each other until somebody answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import NOW, bag_of_words

from memos_core import AccessDenied, Conflict, InvalidInput, MemOS, NotFound, Resolution, State
from memos_core.changes import Relate
from memos_core.conflict.resolution import Related
from memos_core.cube import LOCAL_OWNER

ANA = ("clinic", "ana")
DAY = timedelta(days=1)
SAID = NOW - 90 * DAY
LISBON, PORTO = "Ana lives in Lisbon.", "Ana lives in Porto."


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    """Nothing is looked for while writing: these tests say themselves what contradicts what."""
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words, on_conflict="ignore") as opened:
        yield opened


def said(memos: MemOS, text: str, days: int = 0, **fields: object) -> str:
    (done,) = memos.remember(text, scope=fields.pop("scope", ANA), occurred_at=SAID + days * DAY, now=SAID + days * DAY, **fields)
    return done.id


def contradict(memos: MemOS, older: str, newer: str) -> None:
    """As whoever detects a contradiction files it."""
    memos._store.commit([Relate(Related(older, newer, "contradicts", 0.8, "another city"), LOCAL_OWNER, NOW)])


def states(memos: MemOS, *ids: str) -> list[str]:
    return [str(memos.get(id).state) for id in ids]


@pytest.fixture
def contested(memos: MemOS) -> tuple[MemOS, str, str]:
    older, newer = said(memos, LISBON), said(memos, PORTO, days=9)
    contradict(memos, older, newer)
    return memos, older, newer


def test_a_message_can_take_the_place_of_another(memos: MemOS) -> None:
    older = said(memos, LISBON)
    (done,) = memos.remember(PORTO, scope=ANA, supersedes=older, occurred_at=NOW, now=NOW)
    assert (done.outcome, done.cube.state) == ("superseded", State.ACTIVE)
    old = memos.get(older)
    assert (old.state, old.identifiers.valid_to, old.version) == (State.SUPERSEDED, NOW, 2)
    (found,) = memos.conflicts(scope=ANA)
    assert (found.older.id, found.newer.id, found.resolution) == (older, done.id, "superseded")
    ranked = [hit.text for hit in memos.recall("Where does Ana live?", scope=ANA, now=NOW).hits]
    assert ranked == [PORTO, LISBON], "it stays recallable, below what took its place"
    assert memos.history(older)[-1].action == "supersede" and memos.verify().ok


def test_several_can_be_superseded_and_a_replay_changes_nothing(memos: MemOS) -> None:
    older = [said(memos, LISBON), said(memos, "Ana lives in Faro.")]
    for _ in range(3):
        (done,) = memos.remember(PORTO, scope=ANA, supersedes=older, occurred_at=NOW, now=NOW)
    assert done.outcome == "merged" and [memos.get(id).version for id in older] == [2, 2]
    memos.resolve((older[0], done.id), keep="both", now=NOW)
    memos.remember(PORTO, scope=ANA, supersedes=older, occurred_at=NOW, now=NOW)
    assert states(memos, *older, done.id) == ["active", "superseded", "active"], "what was answered stays answered"


def test_what_was_remembered_before_can_still_supersede(memos: MemOS) -> None:
    newer = said(memos, PORTO, days=9)
    older = said(memos, LISBON)
    (done,) = memos.remember(PORTO, scope=ANA, supersedes=older, occurred_at=SAID + 9 * DAY, now=NOW)
    assert (done.id, done.outcome) == (newer, "merged") and states(memos, older, newer) == ["superseded", "active"]


def test_a_contradiction_contests_both(contested: tuple[MemOS, str, str]) -> None:
    memos, older, newer = contested
    assert states(memos, older, newer) == ["contested", "contested"]
    (found,) = memos.conflicts(scope=ANA)
    assert isinstance(found, Conflict) and (found.kind, found.confidence, found.why) == ("contradicts", 0.8, "another city")
    assert found.resolution is Resolution.OPEN and found.older == memos.get(older)
    contradict(memos, older, newer)
    assert [memos.get(id).version for id in (older, newer)] == [2, 2], "found again, nothing new"


@pytest.mark.parametrize(
    ("keep", "resolution", "after"),
    [
        ("newer", "superseded", ["superseded", "active"]),
        ("older", "dismissed", ["active", "superseded"]),
        ("both", "kept both", ["active", "active"]),
    ],
)
def test_an_answer(contested: tuple[MemOS, str, str], keep: str, resolution: str, after: list[str]) -> None:
    memos, older, newer = contested
    (found,) = memos.conflicts(scope=ANA)
    settled = memos.resolve(found, keep=keep, now=NOW)
    assert settled.resolution == resolution and memos.conflicts(scope=ANA, settled=True) == [settled]
    assert states(memos, older, newer) == after == [str(settled.older.state), str(settled.newer.state)]
    closed = memos.get(newer).identifiers.occurred_at
    for id, state in zip((older, newer), after, strict=True):
        assert memos.get(id).identifiers.valid_to == (closed if state == "superseded" else None)
    before = memos.stats()["counts"]
    memos.resolve(found, keep=keep, now=NOW)
    contradict(memos, older, newer)
    assert memos.stats()["counts"] == before and states(memos, older, newer) == after
    assert memos.verify().ok


def test_an_answer_can_be_changed(contested: tuple[MemOS, str, str]) -> None:
    memos, older, newer = contested
    memos.update(older, valid_to=NOW + 99 * DAY, now=NOW)
    for keep, after in (("newer", ["superseded", "active"]), ("older", ["active", "superseded"]), ("both", ["active"] * 2)) * 2:
        memos.resolve((older, newer), keep=keep, now=NOW)
        assert states(memos, older, newer) == after
    assert memos.get(older).identifiers.valid_to == NOW + 99 * DAY, "as it was before it gave way"


def test_a_rival_that_does_not_stand_contests_nothing(contested: tuple[MemOS, str, str]) -> None:
    memos, older, newer = contested
    memos.update(older, state="archived", now=NOW)
    assert states(memos, older, newer) == ["archived", "active"]
    memos.restore(older, now=NOW)
    assert states(memos, older, newer) == ["contested", "contested"]
    said(memos, "Ana lives in Braga.", days=20, supersedes=older)
    assert states(memos, older, newer) == ["superseded", "active"]


def test_forgetting_one_side_frees_the_other(contested: tuple[MemOS, str, str]) -> None:
    memos, older, newer = contested
    memos.forget(older, now=NOW)
    assert states(memos, newer) == ["active"] and memos.conflicts(scope=ANA) == []
    third = said(memos, "Ana lives in Braga.", days=20, supersedes=newer)
    memos.forget(third, now=NOW)
    assert states(memos, newer) == ["superseded"], "forgetting what is true now does not bring back what was"
    memos.update(newer, state="active", now=NOW)
    assert memos.get(newer).identifiers.valid_to is None and memos.verify().ok


def test_making_it_stand_by_hand_is_an_answer(contested: tuple[MemOS, str, str]) -> None:
    memos, older, newer = contested
    memos.update(older, state="active", now=NOW)
    assert states(memos, older, newer) == ["active", "active"]
    memos.resolve((older, newer), keep="newer", now=NOW)
    memos.rollback(older, 1, now=NOW)
    assert states(memos, older, newer) == ["active", "active"]
    assert memos.conflicts(scope=ANA, settled=True)[0].resolution == "kept both" and memos.get(older).identifiers.valid_to is None


def test_a_rollback_of_content_does_not_answer(contested: tuple[MemOS, str, str]) -> None:
    memos, older, newer = contested
    memos.update(older, text="Ana lives in Faro.", now=NOW)
    memos.rollback(older, 1, now=NOW)
    assert memos.get(older).payload.text == LISBON and states(memos, older, newer) == ["contested", "contested"]


def test_who_may_see_and_answer(contested: tuple[MemOS, str, str]) -> None:
    memos, older, newer = contested
    assert memos.conflicts(scope=ANA, actor="doctor") == []
    memos.update(older, read=["doctor"], write=["doctor"], now=NOW)
    assert memos.conflicts(scope=ANA, actor="doctor") == [], "both sides must be readable"
    memos.update(newer, read=["doctor"], now=NOW)
    assert len(memos.conflicts(scope=ANA, actor="doctor")) == len(memos.conflicts(scope=("clinic",))) == 1
    assert memos.conflicts(scope=("clinic", "ben")) == []
    with pytest.raises(AccessDenied, match=f"may not write cube {newer}"):
        memos.resolve((older, newer), keep="older", actor="doctor")
    memos.update(newer, write=["doctor"], now=NOW)
    assert memos.resolve((older, newer), keep="older", actor="doctor", now=NOW).resolution == "dismissed"
    assert memos.history(older)[-1].actor == "doctor"
    with pytest.raises(AccessDenied):
        memos.remember("Ana lives in Rome.", scope=("elsewhere",), supersedes=older)
    assert memos.recall("Rome", scope=("elsewhere",)).hits == ()


def test_what_expires_is_no_conflict_any_more(memos: MemOS) -> None:
    older, newer = said(memos, LISBON, ttl=100 * DAY), said(memos, PORTO, days=9)
    contradict(memos, older, newer)
    assert len(memos.conflicts(scope=ANA, now=NOW)) == 1 and memos.conflicts(scope=ANA, now=NOW + 11 * DAY) == []
    memos.tick(NOW + 11 * DAY)
    assert states(memos, older, newer) == ["archived", "active"]


def test_undecided_ones_come_first(memos: MemOS) -> None:
    ids = [said(memos, f"Ana has {number} cats.", days=number) for number in range(4)]
    contradict(memos, ids[0], ids[1])
    contradict(memos, ids[2], ids[3])
    memos.resolve((ids[2], ids[3]), keep="newer", now=NOW + DAY)
    assert [found.resolution for found in memos.conflicts(scope=ANA)] == ["open", "superseded"]


def test_an_unknown_pair(contested: tuple[MemOS, str, str]) -> None:
    memos, older, newer = contested
    other = said(memos, "Ana plays the cello.")
    with pytest.raises(NotFound, match=r"no conflict is known .* memos\.conflicts"):
        memos.resolve((older, other), keep="newer")
    with pytest.raises(NotFound):
        memos.resolve((newer, older), keep="newer")  # older first
    with pytest.raises(InvalidInput, match="takes one message at a time, got 2"):
        memos.remember(["a", "b"], scope=ANA, supersedes=older)

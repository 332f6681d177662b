"""A budget archives the weakest; what is used, contested or of priority 1 stays; what was archived comes back, or goes for good."""

from __future__ import annotations

from datetime import timedelta

import pytest
from conftest import NOW, bag_of_words

from memos_core import AccessDenied, Budget, InvalidInput, MemOS, NotFound
from memos_core.changes import Relate
from memos_core.conflict.resolution import Related
from memos_core.cube import LOCAL_OWNER

ANA = ("clinic", "ana")
DAY = timedelta(days=1)


def fill(memos: MemOS, count: int, scope: tuple[str, ...] = ANA, **fields: object) -> list[str]:
    """One memory a day, the first one the oldest."""
    at = [NOW - (count - number) * DAY for number in range(count)]
    return [memos.remember(f"note{n} of {scope[-1]}", scope=scope, occurred_at=at[n], now=at[n], **fields)[0].id for n in range(count)]


def archived(memos: MemOS, ids: list[str]) -> list[int]:
    return [place for place, id in enumerate(ids) if memos.get(id).state == "archived"]


def test_nothing_fades_unless_asked(memos: MemOS) -> None:
    ids = fill(memos, 5)
    assert memos.tick(NOW + 9999 * DAY) == [] and archived(memos, ids) == []


def test_the_oldest_go_first_and_a_second_tick_does_nothing(memos: MemOS) -> None:
    ids = fill(memos, 10)
    assert memos.set_budget(ANA, facts=6, now=NOW) == Budget(facts=6)
    (move,) = memos.tick(NOW)
    assert (move.kind, set(move.ids)) == ("archive", set(ids[:4]))
    assert "4 weakest of 10 memories" in move.reason and "at most 6 memories" in move.reason
    before = memos.stats()["counts"]
    assert memos.tick(NOW) == [] and memos.stats()["counts"] == before
    assert {hit.cube.id for hit in memos.recall("note", scope=ANA, k=50, now=NOW).hits} == set(ids[4:])
    assert memos.verify().ok and "strength 0.7" in memos.audit(id=ids[0])[-1].detail


def test_what_was_used_survives_the_never_used(memos: MemOS) -> None:
    ids = fill(memos, 20)
    for number in range(0, 20, 2):  # every other one, the oldest among them
        turn = memos.begin([{"role": "user", "content": f"note{number}?"}], scope=ANA, session=f"s{number}", k=1, now=NOW)
        assert [item.id for item in turn.plan.inject] == [ids[number]]
        turn.commit("Yes.", now=NOW)
    memos.forget([cube.id for n in range(20) for cube in memos.conversation(scope=ANA, session=f"s{n}")])
    memos.set_budget(ANA, facts=10)
    memos.tick(NOW)
    assert archived(memos, ids) == list(range(1, 20, 2))


def test_said_again_is_stronger_and_bytes_are_counted(memos: MemOS) -> None:
    texts = ["é" * 10, "b" * 20, "c" * 20, "d" * 20]
    ids = [memos.remember(text, scope=ANA, occurred_at=NOW - 9 * DAY, now=NOW - 9 * DAY)[0].id for text in texts]
    memos.set_budget(ANA, bytes=80)
    assert memos.tick(NOW) == []
    memos.set_budget(ANA, bytes=79)
    memos.tick(NOW)
    assert archived(memos, ids) == [0]
    memos.set_budget(ANA, bytes=0)
    memos.tick(NOW)
    assert archived(memos, ids) == [0, 1, 2, 3]


def test_below_a_strength(memos: MemOS) -> None:
    ids = fill(memos, 90)  # a half-life of thirty days
    memos.set_budget(ANA, strength=0.5)
    memos.tick(NOW)
    assert archived(memos, ids) == list(range(60))
    assert memos.tick(NOW) == [] and memos.tick(NOW + DAY)[0].ids == (ids[60],)


def test_priority_contested_and_expired(memos: MemOS) -> None:
    first, second, *rest = fill(memos, 6)
    (precious,) = memos.remember("never fades", scope=ANA, priority=1.0, occurred_at=NOW - 999 * DAY, now=NOW)
    (dear,) = memos.remember("fades slowly", scope=ANA, priority=0.9, occurred_at=NOW - 20 * DAY, now=NOW)
    memos._store.commit([Relate(Related(first, second), LOCAL_OWNER, NOW)])
    memos.set_budget(ANA, facts=3)
    memos.tick(NOW)
    assert archived(memos, [first, second, *rest]) == [2, 3, 4, 5] and archived(memos, [precious.id, dear.id]) == [1]
    memos.set_budget(ANA, facts=0)
    assert memos.tick(NOW) == [], "what may not go stays, over budget"
    memos.remember("expires", scope=ANA, ttl=DAY, occurred_at=NOW, now=NOW)
    assert [move.kind for move in memos.tick(NOW + DAY)] == ["expire"]


def test_scopes_have_budgets_of_their_own(memos: MemOS) -> None:
    ana, ben = fill(memos, 4), fill(memos, 4, ("clinic", "ben"))
    memos.set_budget(("clinic", "ben"), facts=3)
    memos.tick(NOW)
    assert (archived(memos, ana), archived(memos, ben)) == ([], [0])
    memos.set_budget(("clinic",), facts=4)  # and all below it
    memos.tick(NOW)
    assert (archived(memos, ana), archived(memos, ben)) == ([0, 1], [0, 1])
    assert memos.tick(NOW) == []


def test_a_budget_is_kept_changed_and_lifted(memos: MemOS) -> None:
    ids = fill(memos, 4)
    path = memos.path
    memos.set_budget(ANA, facts=1)
    memos.set_budget(ANA, facts=3)
    memos.set_budget(ANA, facts=3)
    memos.close()
    with MemOS.open(path, embedder=bag_of_words) as again:
        again.tick(NOW)
        assert archived(again, ids) == [0]
        assert again.set_budget(ANA) is None
        assert again.tick(NOW + 9999 * DAY) == []
        details = [entry.detail for entry in again.audit(ANA) if entry.action == "budget"]
        assert details == ["at most 1 memories", "at most 3 memories", "no limit"] and again.verify().ok


def test_restored_is_as_fresh_as_if_just_said(memos: MemOS) -> None:
    ids = fill(memos, 4)
    memos.set_budget(ANA, facts=2)
    memos.tick(NOW)
    assert memos.restore(ids[0], now=NOW).state == "active"
    memos.tick(NOW)
    assert archived(memos, ids) == [1, 2]
    with pytest.raises(InvalidInput, match="is active plaintext; only archived plaintext can be restored"):
        memos.restore(ids[0])


def test_an_expired_memory_can_be_restored(memos: MemOS) -> None:
    (short,) = memos.remember("Ana waits in room 4.", scope=ANA, ttl=DAY, occurred_at=NOW, now=NOW)
    memos.tick(NOW + DAY)
    assert memos.recall("room", scope=ANA, now=NOW + DAY).hits == ()
    assert memos.restore(short.id, now=NOW + 2 * DAY).governance.expires_at is None
    assert memos.tick(NOW + 3 * DAY) == [] and memos.recall("room", scope=ANA, now=NOW + 3 * DAY).hits


def test_archived_ones_are_erased_when_the_policy_says_so(memos: MemOS) -> None:
    ids = fill(memos, 4)
    (short,) = memos.remember("Ana waits.", scope=ANA, ttl=DAY, occurred_at=NOW - DAY, now=NOW - DAY)
    memos.update(ids[3], state="archived", now=NOW - 99 * DAY)
    memos.set_budget(ANA, facts=1, erase_archived_after=7 * DAY)
    assert sorted(move.kind for move in memos.tick(NOW)) == ["archive", "expire"]
    memos.restore(ids[1], now=NOW + DAY)
    memos.set_budget(ANA, erase_archived_after=7 * DAY)
    assert memos.tick(NOW + 7 * DAY - timedelta(seconds=1)) == []
    (move,) = memos.tick(NOW + 7 * DAY)
    assert move.kind == "erase" and set(move.ids) == {ids[0], short.id} and "archived for 7 days" in move.reason
    for id in move.ids:
        with pytest.raises(NotFound, match="has been forgotten"):
            memos.get(id)
    assert archived(memos, [ids[3]]) == [0], "what somebody archived by hand is not the scheduler's to erase"
    assert memos.tick(NOW + 7 * DAY) == [] and memos.verify().ok


def test_who_may_set_a_budget(memos: MemOS) -> None:
    for actor in (("clinic", "ben"), ("elsewhere",), (*ANA, "phone")):
        with pytest.raises(AccessDenied):
            memos.set_budget(ANA, facts=0, actor=actor)
    memos.set_budget(ANA, facts=0, actor=("clinic",))

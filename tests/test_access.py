"""Each governance field with its enforcement: who may read and write, until when, and how much it matters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from conftest import NOW

from memos_core import AccessDenied, InvalidInput, MemOS, State
from memos_core.access import may, may_enter
from memos_core.cube import LOCAL_OWNER
from memos_core.lifespan import TRANSITIONS, check_transition, heat, recallable, warmed

ANA, BEN, DOCTOR = ("clinic", "ana"), ("clinic", "ben"), ("staff", "doctor")
FACT = "Ana is allergic to penicillin."
STRANGER = ("elsewhere", "eve")


def texts(memos: MemOS, scope: Any, actor: Any = None, **options: Any) -> list[str]:
    return [hit.text for hit in memos.recall("Ana penicillin", scope=scope, actor=actor, **options).hits]


@pytest.fixture
def fact(memos: MemOS) -> str:
    return memos.remember(FACT, scope=ANA)[0].id


CALLS: dict[str, Callable[[MemOS, str, Any], Any]] = {
    "remember": lambda m, id, who: m.remember("x", scope=ANA, actor=who),
    "begin": lambda m, id, who: m.begin([{"role": "user", "content": "x"}], scope=ANA, actor=who),
    "get": lambda m, id, who: m.get(id, actor=who),
    "history": lambda m, id, who: m.history(id, actor=who),
    "update": lambda m, id, who: m.update(id, text="x", actor=who),
    "rollback": lambda m, id, who: m.rollback(id, 1, actor=who),
    "forget": lambda m, id, who: m.forget(id, actor=who),
    "forget a scope": lambda m, id, who: m.forget(scope=ANA, actor=who),
    "export": lambda m, id, who: m.export(m.path / "x.zip", actor=who),
    "demote": lambda m, id, who: m.demote(id, actor=who),
    "tick": lambda m, id, who: m.as_actor(who).tick(NOW),
}


BY_ID = {"get", "history", "update", "rollback", "forget", "demote"}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("who", [STRANGER, BEN, ("clinic", "ana", "phone")])
def test_default_deny(memos: MemOS, fact: str, name: str, who: Any) -> None:
    with pytest.raises(AccessDenied) as caught:
        CALLS[name](memos, fact, who)
    hint = "ask its owner for a grant" if name in BY_ID else "only the "  # a grant is of one cube
    assert "penicillin" not in str(caught.value) and hint in str(caught.value)
    assert memos.stats()["counts"]["audit entries"] == 1


@pytest.mark.parametrize("who", [STRANGER, BEN, ("clinic", "ana", "phone")])
def test_what_a_stranger_sees(memos: MemOS, fact: str, who: Any) -> None:
    memos.begin([{"role": "user", "content": "Penicillin?"}], scope=ANA, session="s").commit("No.")
    for place in (ANA, ("clinic",), who):
        assert texts(memos, place, who) == []
    assert memos.conversation(scope=ANA, session="s", actor=who) == [] and memos.audit(ANA, actor=who) == []


def test_a_scope_is_read_by_itself_and_from_above(memos: MemOS, fact: str) -> None:
    for who in (ANA, ("clinic",), LOCAL_OWNER, None):
        assert texts(memos, ANA, who) == [FACT]
    assert texts(memos, ("clinic",)) == [FACT] and texts(memos, BEN) == [] and texts(memos, ("clin",)) == []
    assert texts(memos, ("clinic",), ANA) == [FACT]  # what of it the actor may read


def test_reading_is_not_writing_nor_the_reverse(memos: MemOS) -> None:
    (readable,) = memos.remember("Ana takes penicillin tablets.", scope=ANA, read=[DOCTOR])
    (writable,) = memos.remember("Ana had penicillin once.", scope=ANA, write=[DOCTOR])
    assert memos.get(readable.id, actor=DOCTOR).id == readable.id
    with pytest.raises(AccessDenied):
        memos.update(readable.id, text="x", actor=DOCTOR)
    with pytest.raises(AccessDenied):
        memos.get(writable.id, actor=DOCTOR)
    assert memos.update(writable.id, text="Ana had penicillin twice.", actor=DOCTOR).version == 2
    assert texts(memos, ANA, DOCTOR) == texts(memos, DOCTOR) == ["Ana takes penicillin tablets."]


def test_a_grant_to_a_group_reaches_its_members_until_it_is_taken_back(memos: MemOS) -> None:
    (shared,) = memos.remember(FACT, scope=ANA, read=["staff"])
    assert texts(memos, ANA, DOCTOR) == [FACT]
    memos.update(shared.id, read=[])
    assert texts(memos, ANA, DOCTOR) == [] and texts(memos, ANA) == [FACT]


def test_a_writer_may_not_hand_out_grants(memos: MemOS) -> None:
    (shared,) = memos.remember(FACT, scope=ANA, write=[DOCTOR])
    with pytest.raises(AccessDenied, match="may not share"):
        memos.update(shared.id, read=[DOCTOR], actor=DOCTOR)


def test_a_bound_view_acts_as_its_actor(memos: MemOS, fact: str) -> None:
    as_ben = memos.as_actor(BEN)
    assert texts(as_ben, ANA) == []
    with pytest.raises(AccessDenied):
        as_ben.get(fact)
    assert memos.as_actor(ANA).get(fact).payload.text == FACT
    for maintain in (as_ben.tick, as_ben.worker):
        with pytest.raises(AccessDenied, match=r"clinic/ben may not maintain the whole memory: only the local owner may.*as_actor$"):
            maintain()


def test_the_owner_is_who_wrote_it(memos: MemOS) -> None:
    (mine,) = memos.remember("x", scope=ANA)
    (from_above,) = memos.remember("y", scope=ANA, actor=("clinic",))
    assert mine.cube.governance.owner == ANA and from_above.cube.governance.owner == ("clinic",)


def test_a_ttl_ends_to_the_second(memos: MemOS) -> None:
    (short,) = memos.remember(FACT, scope=ANA, ttl=60, occurred_at=NOW, session="s")
    assert texts(memos, ANA, now=NOW + timedelta(seconds=59)) == [FACT]
    assert texts(memos, ANA, now=NOW + timedelta(seconds=60)) == []
    assert memos.conversation(scope=ANA, session="s") == []  # it is later than that by now
    assert memos.get(short.id).payload.text == FACT  # by its id, its owner still finds it
    memos.update(short.id, ttl=timedelta(days=36500))
    assert texts(memos, ANA, now=NOW + timedelta(days=1)) == [FACT]


def test_priority_decides_between_equals(memos: MemOS) -> None:
    for order in ((0.0, 1.0), (1.0, 0.0)):
        scope = ("clinic", str(order))
        for name, priority in zip("ab", order, strict=True):
            memos.remember(f"Penicillin {name}", scope=scope, priority=priority, occurred_at=NOW)
        first = memos.recall("penicillin", scope=scope, now=NOW).hits[0]
        assert first.cube.governance.priority == 1.0 and any(reason.part == "priority" for reason in first.reasons)


def test_only_recallable_states_are_recalled(memos: MemOS, fact: str) -> None:
    for state, seen in ((State.CONTESTED, True), (State.QUARANTINED, False), (State.ACTIVE, True), (State.ARCHIVED, False)):
        cube = memos.update(fact, state=state)
        assert (texts(memos, ANA) == [FACT]) is seen is recallable(cube, NOW)


def test_the_table_of_transitions() -> None:
    assert set(TRANSITIONS) == set(State)
    for old in State:
        for new in State:
            if new == old or new in TRANSITIONS[old]:
                check_transition(old, new)
            else:
                with pytest.raises(InvalidInput, match=f"a cube that is {old} cannot become {new}"):
                    check_transition(old, new)


def test_decisions_say_why(memos: MemOS, fact: str) -> None:
    cube = memos.get(fact)
    assert may(cube, ANA, "read").reason == "the actor holds the scope"
    assert may(cube, STRANGER, "read").reason == "nothing grants read"
    assert may_enter(("clinic",), ANA) and not may_enter(ANA, ("clinic",))


def test_heat_is_a_decayed_count_whatever_the_order() -> None:
    days = [0, 3, 3, 10]
    for order in (days, days[::-1]):
        kept = None
        for day in order:
            kept = warmed(kept, NOW + timedelta(days=day))
        at = NOW + timedelta(days=10)
        assert heat(kept, at) == pytest.approx(sum(0.5 ** ((10 - day) / 7) for day in days))
        assert heat(kept, at + timedelta(days=7)) == pytest.approx(heat(kept, at) / 2)
    assert heat(None, NOW) == 0

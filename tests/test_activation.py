"""Activation memory through the public contract: stored in less, frozen, and what replies and plans say of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, bag_of_words
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemOS, Thresholds
from memos_core.hf import HFEngine

ANA = ("clinic", "ana")
FACTS = ["Ana is allergic to penicillin.", "Ana lives in Lisbon.", "Ana plays the cello."]
ASKED = [{"role": "user", "content": "What does Ana play?"}]


def open_with(path: Path, **fields: Any) -> MemOS:
    return MemOS.open(path, embedder=bag_of_words, engine=HFEngine(tiny_model(), tiny_tokenizer()), **fields)


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with open_with(tmp_path / "test.memos") as opened:
        yield opened


def remembered(memos: MemOS) -> list[str]:
    return [done.id for done in memos.remember(FACTS, scope=ANA)]


@pytest.mark.parametrize("precision", [None, "float32", "int8", "int4"])
def test_what_is_stored_in_less_says_so(memos: MemOS, precision: str | None) -> None:
    ids = remembered(memos)
    (cube,) = memos.promote(ids, to="activation", precision=precision)
    payload = cube.payload
    assert payload.precision == (precision or "float32")
    assert memos.get(cube.id).payload == payload  # as it was stored
    lossy = precision in ("int8", "int4")
    assert payload.exact == (not lossy) == (payload.divergence == 0)
    whole = payload.tokens * 256  # two layers, keys and values of two heads of eight floats
    assert payload.bytes == whole if not lossy else payload.bytes < 0.6 * whole
    engine = memos._house.engine
    assert engine.generate(memos.begin(ASKED, scope=ANA).prompt, scope=ANA, max_new_tokens=1).exact  # it is in RAM still, as computed
    engine.close()
    turn = memos.begin(ASKED, scope=ANA)
    reply = engine.generate(turn.prompt, turn.plan, scope=ANA, max_new_tokens=4)
    assert reply.reused_tokens >= payload.tokens
    assert reply.exact == payload.exact
    assert any("kept as" in why for why in turn.plan.why) == lossy
    assert memos.verify().ok


def test_a_precision_that_is_none(memos: MemOS) -> None:
    with pytest.raises(InvalidInput, match="precision"):
        memos.promote(remembered(memos), to="activation", precision="int3")


def test_what_is_frozen_survives_the_byte_budget_and_other_uses(tmp_path: Path) -> None:
    with open_with(tmp_path / "test.memos", thresholds=Thresholds(activation_bytes=1)) as memos:
        ids = remembered(memos)
        (safe,) = memos.promote(ids[0], to="activation", frozen=True)
        (loose,) = memos.promote(ids[1], to="activation")
        for _ in range(3):
            for session in ("a", "b", "c"):
                memos.begin(ASKED, scope=ANA, session=session, k=1).commit("The cello.")
            memos.tick()
        assert memos.get(safe.id).state == "active"
        assert memos.get(loose.id).state == "archived"
        with pytest.raises(InvalidInput, match="frozen"):
            memos.demote(safe.id)
        (thawed,) = memos.freeze(safe.id, False)
        assert not thawed.governance.frozen and thawed.version == 2
        memos.tick()
        assert memos.get(safe.id).state == "archived"
        assert [entry.action for entry in memos.audit(id=safe.id)] == ["add", "unfreeze", "drop"]


def test_what_is_frozen_goes_with_its_source(memos: MemOS) -> None:
    ids = remembered(memos)
    (safe,) = memos.promote(ids[0], to="activation", frozen=True)
    (changed,) = memos.promote(ids[1], to="activation")
    assert memos.freeze([safe.id, changed.id])[1].governance.frozen
    memos.update(ids[1], text="Ana lives in Porto.")
    memos.tick()
    assert memos.get(changed.id).state == "archived"  # it would say what is no longer so
    assert memos.get(safe.id).state == "active"
    memos.forget(ids[0])
    assert not any(memos.path.glob(f"blobs/**/{safe.payload.blob}"))


def test_only_activation_is_frozen(memos: MemOS) -> None:
    with pytest.raises(InvalidInput, match="not active activation memory"):
        memos.freeze(remembered(memos)[0])


def hot(memos: MemOS, scope: tuple[str, str], times: int) -> None:
    memos.remember(FACTS[0], scope=scope, occurred_at=NOW - timedelta(days=30), now=NOW - timedelta(days=30))
    for number in range(times):
        turn = memos.begin([{"role": "user", "content": "allergic to penicillin"}], scope=scope, session=str(number), k=1, now=NOW)
        turn.commit("Yes.", now=NOW)


def kept(memos: MemOS) -> dict[str, tuple[str, int]]:
    """By user, the precision and the bytes of the KV that is kept."""
    with memos._house.view() as view:
        return {cube.governance.scope[-1]: (str(cube.payload.precision), cube.payload.bytes) for cube in view.derived(NOW)}


def test_where_room_is_short_kv_is_reduced_only_where_loss_is_allowed(tmp_path: Path) -> None:
    with open_with(tmp_path / "wide.memos") as memos:
        hot(memos, ("clinic", "ana"), 4)
        memos.tick(NOW)
        whole = kept(memos)["ana"][1]
    budget = int(1.6 * whole)
    for least, expected in (
        (None, {"ana": "float32"}),
        ("int8", {"ana": "float32", "ben": "float16"}),
        ("float16", {"ana": "float32", "ben": "float16"}),
    ):
        thresholds = Thresholds(activation_bytes=budget, least_precision=least)
        with open_with(tmp_path / f"{least}.memos", thresholds=thresholds) as memos:
            hot(memos, ("clinic", "ana"), 4)
            memos.tick(NOW)
            hot(memos, ("clinic", "ben"), 2)
            memos.tick(NOW)
            assert {user: precision for user, (precision, _) in kept(memos).items()} == expected
            assert sum(size for _, size in kept(memos).values()) <= budget
            assert memos.tick(NOW) == [] and memos.verify().ok
    with open_with(tmp_path / "int8.memos", thresholds=Thresholds(activation_bytes=budget, least_precision="int8")) as memos:
        for number in range(9):  # now ben's is hotter: the precisions change places
            turn = memos.begin(
                [{"role": "user", "content": "allergic to penicillin"}], scope=("clinic", "ben"), session=f"n{number}", k=1, now=NOW
            )
            turn.commit("Yes.", now=NOW)
        moves = memos.tick(NOW)
        assert {move.kind for move in moves} == {"reduce", "restore"} and all("heat" in move.reason for move in moves)
        assert {user: precision for user, (precision, _) in kept(memos).items()} == {"ana": "float16", "ben": "float32"}
        assert memos.tick(NOW) == []
    with open_with(tmp_path / "int8.memos", thresholds=Thresholds(activation_bytes=4 * whole)) as memos:
        memos.tick(NOW)  # there is room again
        assert {user: precision for user, (precision, _) in kept(memos).items()} == {"ana": "float32", "ben": "float32"}


def test_what_is_frozen_is_never_reduced(tmp_path: Path) -> None:
    with open_with(tmp_path / "test.memos", thresholds=Thresholds(activation_bytes=1)) as memos:
        ids = remembered(memos)
        with pytest.raises(InvalidInput, match="never reduced"):
            memos.promote(ids[0], to="activation", frozen=True, least_precision="int8")
        (loose,) = memos.promote(ids[0], to="activation", least_precision="int8")
        (frozen,) = memos.freeze(loose.id)
        assert memos.tick(NOW) == [] and memos.get(frozen.id).payload.precision == "float32"

"""Decisions about movement, as pure functions: more use never demotes, budgets hold, reasons cite what they rest on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from conftest import NOW
from hypothesis import given
from hypothesis import strategies as st

from memos_core import Governance, Identifiers, MemCube, Plaintext, State, Thresholds, Usage
from memos_core.cube import Precision
from memos_core.policy import Candidate, Held, Move, choose_head, decide_expiry, decide_head, decide_room, stable

THRESHOLDS = Thresholds()


def cube(number: int, heat: float = 2.0, *, age_days: float = 30.0, priority: float = 0.0, **fields: object) -> MemCube:
    at = NOW - timedelta(days=age_days)
    return MemCube(
        id=f"cube{number:04d}",
        version=1,
        payload=Plaintext(text=f"fact {number}"),
        identifiers=Identifiers(created_at=at, updated_at=at, occurred_at=at),
        governance=Governance(scope=("ana",), owner=("ana",), priority=priority),
        usage=Usage(recalls=3, sessions=2, last_used_at=NOW, heat=heat),
    ).model_copy(update=fields)


def held(number: int, size: int, value: float, valid: bool = True) -> Held:
    return Held(f"cube{number:04d}", size, value, None if valid else "its source has changed")


CANDIDATES = st.lists(
    st.builds(
        lambda number, heat, tokens, inside, priority: Candidate(cube(number, heat, priority=priority), tokens, inside),
        st.integers(0, 9999),
        st.floats(0, 8),
        st.integers(1, 120),
        st.booleans(),
        st.floats(0, 1),
    ),
    max_size=12,
    unique_by=lambda candidate: candidate.cube.id,
)


@given(CANDIDATES, st.integers(0, 11), st.floats(0.01, 5))
def test_more_use_never_demotes(candidates: list[Candidate], which: int, more: float) -> None:
    chosen = {candidate.cube.id for candidate in choose_head(candidates, THRESHOLDS, NOW)}
    if which >= len(candidates) or candidates[which].cube.id not in chosen:
        return
    used = candidates[which].cube
    hotter = used.model_copy(update={"usage": used.usage.model_copy(update={"heat": used.usage.heat + more})})
    again = [Candidate(hotter, c.tokens, c.in_head) if c.cube.id == used.id else c for c in candidates]
    assert used.id in {candidate.cube.id for candidate in choose_head(again, THRESHOLDS, NOW)}


@given(CANDIDATES)
def test_a_head_fits_its_budget_and_its_hysteresis(candidates: list[Candidate]) -> None:
    chosen = choose_head(candidates, THRESHOLDS, NOW)
    assert sum(candidate.tokens for candidate in chosen) <= THRESHOLDS.head_tokens
    for candidate in chosen:
        assert candidate.cube.usage.heat >= (THRESHOLDS.stay_heat if candidate.in_head else THRESHOLDS.enter_heat)


@given(CANDIDATES)
def test_what_was_decided_is_not_decided_again(candidates: list[Candidate]) -> None:
    current = frozenset(c.cube.id for c in candidates if c.in_head) or None
    move = decide_head(candidates, current, THRESHOLDS, NOW)
    if move is None:
        return
    after = frozenset(move.ids) if move.kind == "prefill" else None
    moved = [Candidate(c.cube, c.tokens, after is not None and c.cube.id in after) for c in candidates]
    assert decide_head(moved, after, THRESHOLDS, NOW) is None


def test_a_reason_cites_the_uses() -> None:
    hot = cube(1).model_copy(update={"usage": Usage(recalls=7, sessions=3, last_used_at=NOW, heat=4.5)})
    move = decide_head([Candidate(hot, 10, False)], None, THRESHOLDS, NOW)
    assert move is not None and move.kind == "prefill"
    assert "cube0001 7 recalls in 3 sessions, heat 4.50" in move.reason


def test_a_memory_enters_hot_and_leaves_cold() -> None:
    for heat, outside, inside in ((1.0, None, None), (1.8, "prefill", None), (0.8, None, "drop")):
        candidate = cube(1, heat)
        new = decide_head([Candidate(candidate, 10, False)], None, THRESHOLDS, NOW)
        kept = decide_head([Candidate(candidate, 10, True)], frozenset({candidate.id}), THRESHOLDS, NOW)
        assert (new and new.kind, kept and kept.kind) == (outside, inside), heat


def test_only_settled_text_is_stable() -> None:
    assert stable(cube(1), THRESHOLDS, NOW)
    assert not stable(cube(1, age_days=0.01), THRESHOLDS, NOW)  # said a quarter of an hour ago
    assert not stable(cube(1, state=State.CONTESTED), THRESHOLDS, NOW)
    expiring = cube(1).governance.model_copy(update={"expires_at": NOW + timedelta(days=9)})
    assert not stable(cube(1, governance=expiring), THRESHOLDS, NOW)
    changed = cube(1).identifiers.model_copy(update={"updated_at": NOW})
    assert not stable(cube(1, version=2, identifiers=changed), THRESHOLDS, NOW)


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 9), st.booleans()), max_size=10), st.integers(0, 200))
def test_drops_free_what_does_not_fit_and_no_more(items: list[tuple[int, float, bool]], budget: int) -> None:
    files = [held(number, size, value, valid) for number, (size, value, valid) in enumerate(items)]
    thresholds = Thresholds(activation_bytes=budget)
    moves = decide_room(files, thresholds)
    gone = [id for move in moves for id in move.ids]
    assert {file.id for file in files if file.problem} <= set(gone)
    kept = [file for file in files if file.id not in gone]
    assert sum(file.bytes for file in kept) <= budget
    for file in files:
        if file.id in gone and not file.problem:  # each that had to go would have to go again, and room is not wasted
            assert [move.ids for move in decide_room([*kept, file], thresholds)] == [(file.id,)]
    for move in moves:
        assert move.kind == "drop" and move.reason


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.1, 9)), min_size=1, max_size=8), st.integers(0, 150), st.floats(0.1, 5))
def test_more_use_never_evicts(items: list[tuple[int, float]], budget: int, more: float) -> None:
    def gone(first: float) -> set[str]:
        files = [held(n, size, value + (first if n == 0 else 0)) for n, (size, value) in enumerate(items)]
        return {id for move in decide_room(files, Thresholds(activation_bytes=budget)) for id in move.ids}

    if "cube0000" not in gone(0):
        assert "cube0000" not in gone(more)


LADDER = (Precision.FLOAT32, Precision.FLOAT16, Precision.INT8, Precision.INT4)
REDUCIBLE = st.lists(
    st.tuples(st.integers(8, 60), st.floats(0.1, 9), st.booleans(), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8
)


def reducible(items: list[tuple[int, float, bool, int, int]]) -> list[Held]:
    """KV of so many bytes, heat, frozen or not, down to which step of the ladder it may go, on which it is."""
    found = []
    for number, (size, value, frozen, least, at) in enumerate(items):
        sizes = tuple((precision, -(-size // 2**step)) for step, precision in enumerate(LADDER[: least + 1]))
        precision, now = sizes[0] if frozen else sizes[min(at, least)]
        found.append(Held(f"cube{number:04}", now, value, None, frozen, sizes, precision))
    return found


def applied(held: list[Held], moves: list[Move]) -> list[Held]:
    """What is there after the moves."""
    by_id = {id: move for move in moves for id in move.ids}
    after = []
    for item in held:
        move = by_id.get(item.id)
        if move is None:
            after.append(item)
        elif move.to is not None:
            after.append(replace(item, precision=move.to, bytes=dict(item.sizes)[move.to]))
    return after


@given(REDUCIBLE, st.integers(0, 250))
def test_room_is_made_only_where_loss_is_allowed_and_never_of_what_is_frozen(items: list[Any], budget: int) -> None:
    held = reducible(items)
    moves = decide_room(held, Thresholds(activation_bytes=budget))
    after = applied(held, moves)
    for item in held:
        if item.frozen:
            assert item in after  # neither evicted nor reduced
    loose, frozen = [sum(item.bytes for item in after if item.frozen is which) for which in (False, True)]
    assert loose == 0 or loose + frozen <= budget
    for move in moves:
        (item,) = [item for item in held if item.id in move.ids]
        if move.to is not None:
            assert move.to in dict(item.sizes)
            assert (move.kind == "reduce") == (dict(item.sizes)[move.to] < item.bytes)
        else:  # it goes only when its least does not fit beside what is hotter
            assert move.kind == "drop"
    assert decide_room(after, Thresholds(activation_bytes=budget)) == []  # what was decided stays decided


@given(REDUCIBLE, st.integers(0, 250), st.floats(0.1, 5))
def test_more_use_never_reduces(items: list[Any], budget: int, more: float) -> None:
    def bytes_of_first(first: float) -> int:
        held = reducible(items)
        held[0] = replace(held[0], value=held[0].value + first)
        after = applied(held, decide_room(held, Thresholds(activation_bytes=budget)))
        return next((item.bytes for item in after if item.id == "cube0000"), 0)

    assert bytes_of_first(more) >= bytes_of_first(0)


def test_expiry_is_to_the_second() -> None:
    def due(seconds: float) -> bool:
        governance = cube(1).governance.model_copy(update={"expires_at": NOW + timedelta(seconds=seconds)})
        return bool(decide_expiry([cube(1, governance=governance)], NOW))

    assert due(0) and due(-1) and not due(1)

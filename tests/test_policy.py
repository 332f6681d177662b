"""Decisions about movement, as pure functions: more use never demotes, budgets hold, reasons cite what they rest on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from conftest import NOW
from hypothesis import given
from hypothesis import strategies as st

from memos_core import (
    LATENCY,
    MEMORY,
    QUALITY,
    Governance,
    Identifiers,
    InvalidInput,
    MemCube,
    Plaintext,
    State,
    Thresholds,
    Usage,
    View,
    lifespan,
)
from memos_core.cube import Parameter, ParameterForm, Precision, Report
from memos_core.lifespan import as_log2, cools_at
from memos_core.policies import checked
from memos_core.policy import NO_TRAINING, Candidate, Held, Move, decide_cold, decide_expiry, decide_room, retention_key, stable
from memos_core.readiness import Learnable, choose_head, decide_head, decide_module, head_conditions, room_in_head, untried
from memos_core.value import Speed

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
            before = [each.bytes for each in kept if retention_key(each) < retention_key(file)]
            assert sum(before) + file.bytes > budget, "what fits to the byte stays"
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


def test_a_head_is_filled_to_the_token_by_heat_per_token_and_priority() -> None:
    full = Thresholds(head_tokens=30)
    assert len(choose_head([Candidate(cube(1), 10, False), Candidate(cube(2), 20, False)], full, NOW)) == 2
    assert len(choose_head([Candidate(cube(1), 10, False), Candidate(cube(2), 21, False)], full, NOW)) == 1
    plain, dear = Candidate(cube(1, 3.0), 20, False), Candidate(cube(2, 2.0, priority=0.6), 20, False)
    assert choose_head([plain, dear], full, NOW) == [dear]
    assert choose_head([plain, Candidate(cube(2, 2.0, priority=0.4), 20, False)], full, NOW) == [plain]


def test_a_memory_enters_only_when_it_will_be_used_enough_and_leaves_whatever_that_costs() -> None:
    brief = Thresholds(horizon_seconds=3600.0)
    inside, outside = Candidate(cube(1), 10, True), Candidate(cube(2), 10, False)
    assert decide_head([outside], None, brief, NOW) is None and decide_head([outside], None, THRESHOLDS, NOW) is not None
    cold = Candidate(cube(3, 0.1), 10, True)
    move = decide_head([inside, cold], frozenset({inside.cube.id, cold.cube.id}), brief, NOW)
    assert move is not None and move.ids == (inside.cube.id,)


def test_half_of_what_was_turned_away_lately_waits() -> None:
    lately = [frozenset({"a", "b"}), frozenset({"c"})]
    assert not untried("ax", [], lately).met and untried("axy", [], lately).met
    assert not untried("ab", [frozenset("ab")], []).met and untried("abc", [frozenset("ab")], []).met and untried("", [], lately).met


def test_a_cold_module_goes_unless_it_is_frozen_or_made_elsewhere() -> None:
    report = Report(ranked=1, said=1, known=1, leaked=0, neighbours=0, text=1, turns=1, unharmed=1, seconds=1)
    weights = Parameter(form=ParameterForm.LORA, blob="b", bytes=1, base_model="m", report=report)
    module = cube(1, heat=0.0).model_copy(update={"payload": weights})
    frozen = module.model_copy(update={"governance": module.governance.model_copy(update={"frozen": True})})
    elsewhere = module.model_copy(update={"payload": weights.model_copy(update={"report": None})})
    rejected = module.model_copy(update={"state": State.REJECTED})
    young = cube(1, heat=0.0, age_days=27.9).model_copy(update={"payload": weights})
    hot = cube(1, heat=0.2).model_copy(update={"payload": weights})
    (move,) = decide_cold([module], THRESHOLDS, NOW)
    assert move.kind == "revert" and decide_cold([frozen, elsewhere, rejected, young, hot], THRESHOLDS, NOW) == []


def test_expiry_is_to_the_second() -> None:
    def due(seconds: float) -> bool:
        governance = cube(1).governance.model_copy(update={"expires_at": NOW + timedelta(seconds=seconds)})
        return bool(decide_expiry([cube(1, governance=governance)], NOW))

    assert due(0) and due(-1) and not due(1)


# ---------------------------------------------------------------------- weights
FAST = Speed(prefill=500.0)
WEIGHTS = Thresholds(distil=True, parameter_facts=2, parameter_most=4, parameter_heat=1.0)
LEARNABLES = st.lists(
    st.builds(
        lambda number, heat, recalls, sessions, tags, state, age, statement, known: Learnable(
            cube(number, heat, age_days=age, state=state).model_copy(
                update={
                    "usage": Usage(recalls=recalls, sessions=sessions, tasks=1, last_used_at=NOW, heat=heat),
                    "governance": Governance(scope=("ana",), owner=("ana",), tags=tags),
                }
            ),
            20,
            statement,
            known,
        ),
        st.integers(0, 999),
        st.floats(0, 6),
        st.integers(0, 9),
        st.integers(0, 5),
        st.sampled_from([(), (), (), ("no-training",), ("secret",)]),
        st.sampled_from([State.ACTIVE, State.ACTIVE, State.ACTIVE, State.CONTESTED]),
        st.sampled_from([30.0, 30.0, 1.0]),
        st.sampled_from([True, True, True, False]),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=2,
    max_size=8,
    unique_by=lambda each: each.cube.id,
)


@given(LEARNABLES)
def test_only_what_may_and_pays_goes_into_weights(candidates: list[Learnable]) -> None:
    move = decide_module(candidates, [], [], WEIGHTS, NOW, FAST)
    if move is None:
        return
    assert move.kind == "distil" and 2 <= len(move.ids) <= 4 and move.seconds > 0
    for each in candidates:
        if each.cube.id in move.ids:
            usage = each.cube.usage
            assert each.cube.state is State.ACTIVE and NO_TRAINING not in each.cube.governance.tags
            assert each.statement and not each.known and usage.recalls >= 5 and usage.sessions >= 3 and usage.heat >= 1
            assert NOW - each.cube.identifiers.occurred_at >= timedelta(days=7)
    assert decide_module(candidates, [frozenset(move.ids)], [], WEIGHTS, NOW, FAST) is None, "what failed is not tried again"
    assert decide_module(candidates, [], [frozenset(move.ids)], WEIGHTS, NOW, FAST) is None
    known = [replace(each, known=each.known or each.cube.id in move.ids) for each in candidates]
    after = decide_module(known, [], [], WEIGHTS, NOW, FAST)  # more than one module's worth goes into the next
    assert after is None or not set(after.ids) & set(move.ids)
    assert decide_module(candidates, [], [], WEIGHTS, NOW) is None, "without a measured rate nothing can pay"
    assert decide_module(candidates, [], [], replace(WEIGHTS, distil=False), NOW, FAST) is None
    assert decide_module(candidates, [], [], replace(WEIGHTS, idle_worth=1e9), NOW, FAST) is None, "it has to break even"


@given(LEARNABLES, st.integers(0, 7), st.floats(0.01, 5), st.integers(1, 9))
def test_more_use_never_keeps_a_memory_out_of_weights(candidates: list[Learnable], which: int, more: float, recalls: int) -> None:
    move = decide_module(candidates, [], [], WEIGHTS, NOW, FAST)
    if move is None or which >= len(move.ids):
        return
    grown = {"heat": lambda usage: usage.heat + more, "recalls": lambda usage: usage.recalls + recalls}
    again = [
        replace(
            each,
            cube=each.cube.model_copy(
                update={"usage": each.cube.usage.model_copy(update={k: f(each.cube.usage) for k, f in grown.items()})}
            ),
        )
        if each.cube.id == move.ids[which]
        else each
        for each in candidates
    ]
    after = decide_module(again, [], [], WEIGHTS, NOW, FAST)
    assert after is not None and move.ids[which] in after.ids


@given(CANDIDATES)
def test_the_conditions_say_what_the_decision_does(candidates: list[Candidate]) -> None:
    roomy = Thresholds(head_tokens=10_000)
    chosen = {each.cube.id for each in choose_head(candidates, roomy, NOW)}
    for each in candidates:
        conditions = head_conditions(each, roomy, NOW)
        assert all(condition.met for condition in conditions) == (each.cube.id in chosen)
        assert all(condition.met == (condition.missing == "") for condition in conditions)
    tight = Thresholds(head_tokens=150)
    chosen = {each.cube.id for each in choose_head(candidates, tight, NOW)}
    for each in candidates:
        room = room_in_head(each, [other for other in candidates if other is not each], tight, NOW)
        assert all(condition.met for condition in (*head_conditions(each, tight, NOW), room)) == (each.cube.id in chosen)


def test_thresholds_that_would_move_memory_to_and_fro_are_refused() -> None:
    for wrong in ({"enter_heat": 0.9}, {"stay_heat": 2.0}, {"stay_heat": 0.0}, {"module_heat": 1.8}, {"parameter_most": 1}):
        with pytest.raises(InvalidInput):
            Thresholds(**wrong)
    wrong = [{"settle_seconds": -1}, {"settle_seconds": float("nan")}, {"live_seconds": float("inf")}, {"live_seconds": 1e12}]
    wrong += [{"enter_heat": "2"}, {"enter_heat": float("inf")}, {"head_tokens": -1}, {"head_tokens": 2.5}, {"activation_bytes": True}]
    for fields in [*wrong, {"distil": "yes"}, {"least_precision": "int3"}, {"idle_worth": -1}]:
        with pytest.raises(InvalidInput, match=f"^{next(iter(fields))} must be "):
            Thresholds(**fields)
    assert Thresholds(least_precision="int8") == Thresholds(least_precision=Precision.INT8)
    for ready in (LATENCY, MEMORY, QUALITY):
        assert ready.enter_heat > ready.stay_heat
    assert LATENCY.distil and not QUALITY.distil and MEMORY.activation_bytes < QUALITY.activation_bytes < LATENCY.activation_bytes


@given(st.floats(0.01, 50), st.floats(0.01, 5))
def test_a_memory_cools_when_it_is_said_to(hot: float, below: float) -> None:
    at = cools_at(hot, below, NOW)
    stored = as_log2(hot, NOW)
    assert lifespan.heat(stored, NOW) == pytest.approx(hot)
    assert lifespan.heat(stored, at) < below and lifespan.heat(stored, at - timedelta(seconds=2)) >= below * (1 - 1e-9)


def view(*candidates: Candidate, held: tuple[MemCube, ...] = (), modules: tuple[MemCube, ...] = ()) -> View:
    return View(("ana",), candidates, held, modules, Speed())


def test_a_function_may_not_move_what_must_stay() -> None:
    young, contested = cube(1, age_days=0.01), cube(2, state=State.CONTESTED)
    secret = cube(3).model_copy(update={"governance": Governance(scope=("ana",), owner=("ana",), tags=("no-training",))})
    precious, frozen = (
        cube(4, priority=1.0),
        cube(5).model_copy(update={"governance": cube(5).governance.model_copy(update={"frozen": True})}),
    )
    fine = cube(6)
    seen = view(
        *(Candidate(each, 20, False) for each in (young, contested, secret, precious, fine)), held=(frozen, cube(7)), modules=(cube(8),)
    )
    refused = [
        ("prefill", young, "has not stood"), ("prefill", contested, "contested"), ("distil", young, "has not stood"),
        ("distil", contested, "contested"), ("distil", secret, "no-training"), ("archive", contested, "contested"), ("archive", precious, "priority is 1"),
        ("drop", frozen, "frozen"), ("drop", fine, "not among those"), ("revert", fine, "not among those"), ("erase", fine, "it may return"),
        ("keep", fine, "keep with ids"),
    ]  # fmt: skip
    for kind, which, why in refused:
        with pytest.raises(InvalidInput, match=why):
            checked(Move(kind, (which.id,), "r"), seen, THRESHOLDS, NOW)
    with pytest.raises(InvalidInput, match="without"):
        checked(Move("drop", (), "r"), seen, THRESHOLDS, NOW)
    with pytest.raises(InvalidInput, match="pick fewer"):
        checked(Move("prefill", (fine.id,), "r"), seen, Thresholds(head_tokens=19), NOW)
    with pytest.raises(InvalidInput, match="return a Move"):
        checked("prefill", seen, THRESHOLDS, NOW)  # type: ignore[arg-type]
    for kind, which in (("prefill", fine), ("distil", fine), ("archive", fine), ("drop", cube(7)), ("revert", cube(8))):
        assert checked(Move(kind, (which.id,), "r"), seen, THRESHOLDS, NOW).ids == (which.id,)

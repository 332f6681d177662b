"""Which keys a tier holds: budgets hold, more use never demotes, decisions can be repeated."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_requests import HISTORIES, KEYS, ask, check, group, parent, size
from hypothesis import given
from hypothesis import strategies as st

from memos_core import residency
from memos_core.rates import HALF_LIVES, UseRates
from memos_core.residency import AHEAD, POOL, SAMPLE, Decision, Residency, choose

# -- the decision --------------------------------------------------------------------------------------------------------------

VICTIMS = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 20)), max_size=12)


@given(VICTIMS, st.floats(0, 100), st.integers(1, 60), st.floats(0, 50))
def test_a_newcomer_worth_more_is_not_refused(held: list[tuple[float, int]], gain: float, need: int, more: float) -> None:
    densities, sizes = [d for d, _ in held], [s for _, s in held]
    if choose(gain, need, densities, sizes).admitted:
        assert choose(gain + more, need, densities, sizes).admitted


@given(VICTIMS.filter(bool), st.floats(0, 100), st.integers(1, 60), st.floats(0, 50), st.data())
def test_a_held_key_worth_more_stays_where_it_stayed(
    held: list[tuple[float, int]], gain: float, need: int, more: float, data: st.DataObject
) -> None:
    densities, sizes = [d for d, _ in held], [s for _, s in held]
    place = data.draw(st.integers(0, len(held) - 1))
    before = choose(gain, need, densities, sizes)
    after = choose(gain, need, [*densities[:place], densities[place] + more, *densities[place + 1 :]], sizes)
    assert place in before.victims or place not in after.victims
    assert after.loss >= before.loss - 1e-9


def test_the_surplus_is_not_counted_against_the_newcomer() -> None:
    assert choose(5, 2, [2.0], [10]).loss == 4  # two of its ten bytes are needed
    assert choose(4.1, 2, [2.0], [10], margin=1).admitted
    assert not choose(3.9, 2, [2.0], [10], margin=1).admitted
    assert choose(100, 5, [3.0, 1.0, 2.0], [2, 2, 2]).victims == (1, 2, 0)
    assert not choose(100, 7, [3.0, 1.0, 2.0], [2, 2, 2]).admitted  # not enough may go


def test_the_margin_is_on_all_that_goes() -> None:
    many = [3.0] * 31
    assert choose(11.3, 2, [2.0, *many], [10] * 32).admitted  # a fifth above 4 for two bytes, and two fifths of 16 for the surplus
    assert not choose(11.1, 2, [2.0, *many], [10] * 32).admitted
    assert choose(20.9, 2, [2.0], [10]).admitted  # where it is all there is, all of the surplus
    assert not choose(20.7, 2, [2.0], [10]).admitted


def test_a_large_and_a_small_key_of_like_rate_do_not_take_turns() -> None:
    """Only one of them fits, and each needs three bytes more than are free beside the other."""
    tier, rng = Residency(17), np.random.default_rng(0)
    sizes = {"large": 13, "small": 7}
    moves = []
    for key in rng.choice(list(sizes), 3000).tolist():
        decision = tier.request(key, sizes[key], float(sizes[key]))
        moves.append(decision.admitted + len(decision.evicted))
    assert sum(moves[1000:]) <= 4


def test_what_is_not_needed_in_the_end_stays() -> None:
    assert choose(100, 12, [1.0, 2.0, 3.0], [5, 5, 15]).victims == (2,)
    assert choose(100, 12, [1.0, 2.0, 3.0], [5, 6, 7]).victims == (0, 2)  # the denser of the two that either would do without
    assert choose(100, 12, [1.0, 2.0, 3.0], [5, 5, 15], spare=False).victims == (0, 1, 2)


def test_where_requests_follow_from_the_last_few_there_is_no_margin() -> None:
    """Each of many keys is asked for a few times and then no more: keeping what was asked for last is all that can be done."""
    tier, steady, rng = Residency(40), Residency(40), np.random.default_rng(0)
    refused, weighed = 0, 0
    for request in range(900):
        decision = tier.request(request // 3 % 100, 7 + request // 3 % 6, 1.0)
        if request > 300 and decision.gain > decision.loss > 0:
            weighed, refused = weighed + 1, refused + (not decision.admitted)
    assert tier.rates.moving and weighed > 50 and not refused
    turned = 0
    for key in rng.integers(0, 8, 900).tolist():
        decision = steady.request(key, 7 + key % 6, 1.0)
        turned += not decision.admitted and decision.gain > decision.loss > 0
    assert not steady.rates.moving and turned > 10


def test_heat_that_passes_lets_nothing_in_that_would_soon_go_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """All keys are asked for alike; a fifth of belief in the briefest half-life makes one just used worth twice the others, by the next
    request."""
    admitted = []
    for ahead in (1, AHEAD):
        monkeypatch.setattr(residency, "AHEAD", ahead)
        tier, rng = Residency(16), np.random.default_rng(0)
        for _ in range(20):
            for key in rng.permutation(200).tolist():
                tier.request(key, 1, 1.0)
        believed = np.zeros_like(tier.rates._posterior)
        believed[0], believed[len(HALF_LIVES) - 1] = 0.2, 0.8
        tier.rates._posterior = believed
        admitted.append(tier.request(next(key for key in range(200) if key not in tier), 1, 1.0).admitted)
    assert admitted == [True, False]


def test_bytes_left_over_are_not_given_to_what_would_be_the_next_to_go() -> None:
    tier = Residency(4)
    assert tier.request("large", 4, 4.0).admitted
    for _ in range(4):
        tier.request("small", 2, 2.0)  # takes two bytes of the four that have to go
    assert tier.held() == {"small": 2}
    assert not tier.request("seen once", 1, 1.0).admitted
    assert any(tier.request("seen often", 1, 1.0).admitted for _ in range(8))


# -- rates of use --------------------------------------------------------------------------------------------------------------


def used(history: list[int]) -> UseRates:
    rates = UseRates()
    for key in history:
        rates.use(key, group(key))
    return rates


def rate(rates: UseRates, key: int) -> float:
    return float(rates.of(np.array([rates.slots[key]]))[0])


@given(HISTORIES.filter(bool), st.data())
def test_one_use_more_never_lowers_a_rate(history: list[int], data: st.DataObject) -> None:
    """Instead of a request of something else of which nothing else is known, with what is believed left as it was."""
    key = data.draw(st.sampled_from(history))
    with_use, without = used(history), used(history)
    for rates in (with_use, without):
        rates.use("something of that other group", "another group")
    with_use.use(key, group(key))
    without.use("something else", "another group")
    for name in ("_posterior", "_mixture", "_group_posterior", "_group_mixture"):
        setattr(without, name, getattr(with_use, name).copy())
    assert rate(with_use, key) >= rate(without, key) * (1 - 1e-9)
    others = [other for other in set(history) if other != key and group(other) != group(key)]
    for other in others:
        assert rate(with_use, other) == pytest.approx(rate(without, other))


@given(HISTORIES, KEYS)
def test_what_is_held_stays_when_it_is_used_once_more(history: list[int], key: int) -> None:
    tier = Residency(12)
    for asked in history:
        ask(tier, asked)
    was = key in tier
    decision = ask(tier, key)
    assert decision.hit == was
    assert not was or (key in tier and decision.evicted == ())


@given(HISTORIES)
def test_rates_are_chances(history: list[int]) -> None:
    rates = used(history)
    known = rates.of(np.array(sorted(rates.slots.values()), np.int64))
    assert (known >= 0).all()
    assert known.sum() <= 1 + 1e-9
    assert sum(rates.weights().values()) == pytest.approx(2)  # one for keys, one for groups
    assert (rates.of(np.array(sorted(rates.slots.values()), np.int64), 64) <= known + 1e-12).all()


def test_a_steady_stream_is_believed_by_long_half_lives_and_a_moving_one_by_short() -> None:
    rng = np.random.default_rng(0)
    steady, moving = UseRates(), UseRates()
    for request in range(3000):
        steady.use(int(rng.integers(20)))
        moving.use(request // 40 * 5 + int(rng.integers(5)))
    believed = [
        sum(float(name.split()[1]) * weight for name, weight in rates.weights().items() if name.startswith("own"))
        for rates in (steady, moving)
    ]
    assert believed[0] > 1000 > 100 > believed[1]


def test_after_a_change_uses_are_counted_anew_and_all_of_them() -> None:
    """Forty keys of one rate, then forty others: what was hot is given up, and the new rates are as even as 600 requests can tell."""
    rates, rng = UseRates(), np.random.default_rng(0)
    for request in range(2600):
        rates.use(int(rng.integers(40)) + 40 * (request >= 2000))
    assert 1950 < rates._changed < 2100
    assert rates.weights()["since the change"] > 0.5
    old, new = ([rate(rates, key) for key in range(first, first + 40)] for first in (0, 40))
    assert max(old) < 0.1 / 40
    assert np.std(new) / np.mean(new) < 0.35  # 0.26 for the uses themselves, 0.46 for a half-life of 64 requests


def test_the_heat_of_a_group_warms_what_belongs_to_it() -> None:
    rates, rng = UseRates(), np.random.default_rng(0)
    for phase in range(40):
        for _ in range(60):
            talk = ("ana", "ben")[phase % 2]
            rates.use((talk, int(rng.integers(8))), talk)
    for _ in range(40):
        rates.use(("ana", int(rng.integers(4))), "ana")
    ana, ben = (float(rates.of(np.array([rates.slots[talk, key] for key in range(4, 8)])).mean()) for talk in ("ana", "ben"))
    assert ana > 3 * ben  # though those of ben were used last


def test_a_path_is_one_observation() -> None:
    """Blocks of one prompt follow from each other; they would otherwise count as a streak of luck for the shortest half-life."""
    rates = UseRates()
    for _ in range(3):
        for place, key in enumerate("abcdefgh"):
            rates.use(key, together=place > 0)
    alone = UseRates()
    for key in "abcdefgh" * 3:
        alone.use(key)
    far = [max(abs(weight - 1 / 10) for weight in each._posterior.tolist()) for each in (rates, alone)]
    assert far[0] < far[1]


def test_what_a_turn_warms_is_no_evidence_for_heat() -> None:
    """Turns drawn alike, each of two keys of a group: the second follows from the first, not from the group's having been asked for."""
    believed = []
    for together in (True, False):
        rates, rng = UseRates(), np.random.default_rng(0)
        for talk in rng.integers(8, size=2000).tolist():
            for place in range(2):
                rates.use((talk, int(rng.integers(4))), talk, together and place > 0)
        weights = rates._group_posterior[:-1] + rates._group_posterior[-1] * rates._group_mixture
        believed.append(float(weights[0]))
    assert believed[0] < 0.05 < 0.2 < believed[1]


def test_a_first_question_about_a_talk_says_which_talk_is_live() -> None:
    """Keys that were never asked for before could not be foreseen, but the group they are of could."""
    rates, rng = UseRates(), np.random.default_rng(0)
    for _ in range(200):
        rates.use(("ana", int(rng.integers(8))), "ana")
    for key in range(12):
        rates.use(("ben", key), "ben")
    ana, ben = (float(rates.of(np.array([rates.slots[talk, key] for key in range(8)])).sum()) for talk in ("ana", "ben"))
    assert ben > 2 * ana


def test_what_is_known_of_a_talk_waits_while_another_is_live() -> None:
    rates, rng = UseRates(), np.random.default_rng(0)

    def ask_ana(count: int) -> None:
        for key in rng.choice(8, count, p=[0.4, 0.3, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05]).tolist():
            rates.use(("ana", key), "ana")

    ask_ana(300)
    slots = np.array([rates.slots["ana", key] for key in range(8)])
    before = rates.of(slots)
    for _ in range(600):
        rates.use(("ben", int(rng.integers(8))), "ben")
    assert rates.of(slots).sum() < 0.01 * before.sum()
    ask_ana(10)
    after = rates.of(slots)
    assert after[:2].min() > 3 * after[2:].max()
    assert after.sum() > 0.5


def test_requests_that_follow_from_the_last_few_are_told_from_steady_ones() -> None:
    steady, bursts, rng = UseRates(), UseRates(), np.random.default_rng(0)
    for request in range(600):
        steady.use(int(rng.integers(20)))
        bursts.use((request // 6 * 7 + request % 2) % 40)
    assert bursts.moving and not steady.moving


# -- the tier ------------------------------------------------------------------------------------------------------------------


@given(HISTORIES, st.integers(0, 30), st.booleans())
def test_the_budget_holds_after_every_step(history: list[int], budget: int, tree: bool) -> None:
    tier, mirror = Residency(budget), {}
    for key in history:
        if tree:
            ask(tier, key, True)
            held = tier.held()
            assert all(parent(k) is None or parent(k) in held for k in held)  # type: ignore[arg-type]
        else:
            decision = ask(tier, key)
            assert decision.hit == (key in mirror)
            for gone in decision.evicted:
                del mirror[gone]
            if decision.admitted:
                mirror[key] = size(key)
            assert mirror == tier.held()
        check(tier, tier.held())


@given(HISTORIES, HISTORIES, st.booleans())
def test_the_same_requests_are_decided_the_same_also_after_a_restore(before: list[int], after: list[int], tree: bool) -> None:
    first, second = Residency(12), Residency(12)
    for key in before:
        assert ask(first, key, tree) == ask(second, key, tree)
    third = Residency.restore(first.state())
    kept = first.state()
    for key in after:
        assert ask(first, key, tree) == ask(second, key, tree) == ask(third, key, tree)
    fourth = Residency.restore(kept)
    assert [ask(fourth, key, tree) for key in after] == [
        ask(second_run, key, tree) for second_run in [Residency.restore(kept)] for key in after
    ]
    assert first.held() == third.held() == fourth.held()


@given(HISTORIES, KEYS, HISTORIES)
def test_what_is_pinned_stays_and_counts(before: list[int], key: int, after: list[int]) -> None:
    tier = Residency(12)
    for asked in before:
        ask(tier, asked)
    if key not in tier:
        with pytest.raises(KeyError):
            tier.pin(key)
        return
    tier.pin(key)
    tier.pin(key)
    for asked in after:
        ask(tier, asked)
        assert key in tier
        check(tier, tier.held())
    assert tier.discard(key) == (key,)  # a memory that is forgotten goes, pinned or not
    assert key not in tier


def test_an_unpinned_key_may_go() -> None:
    tier = Residency(1)
    tier.request("old", 1, 1.0)
    tier.pin("old")
    assert not any(tier.request("new", 1, 1.0).admitted for _ in range(50))
    tier.unpin("old")
    tier.unpin("unknown")
    assert any(tier.request("new", 1, 1.0).admitted for _ in range(50))


@given(HISTORIES, st.lists(KEYS, min_size=1, max_size=5), HISTORIES, st.booleans())
def test_what_is_discarded_is_gone_with_all_that_rests_on_it(before: list[int], drop: list[int], after: list[int], tree: bool) -> None:
    tier = Residency(20)
    for key in before:
        ask(tier, key, tree)
    for key in drop:
        held = tier.held()
        gone = tier.discard(key)
        assert set(held) - set(tier.held()) == set(gone)
        assert key not in tier and tier.value(key) == 0
        assert gone == () or gone[-1] == key
        check(tier, tier.held())
        assert not tree or all(parent(k) is None or parent(k) in tier for k in tier.held())  # type: ignore[arg-type]
    for key in after:
        ask(tier, key, tree)
        check(tier, tier.held())


def test_offers_bring_in_what_was_asked_for_before() -> None:
    tier = Residency(4)
    assert tier.offer("unknown") == Decision(False, False, ())
    tier.request("large", 5, 1.0)
    assert not tier.offer("large").admitted
    tier.request("child", 1, 1.0, parent="root")
    assert not tier.offer("child", "root").admitted
    tier.request("root", 1, 1.0)
    assert tier.offer("child", "root").admitted
    assert tier.offer("child", "root").hit


def test_a_copy_that_saves_less_goes_first() -> None:
    tier = Residency(2)
    for key in ("dear", "cheap") * 3:
        tier.request(key, 1, 1.0)
    tier.reprice("cheap", 0.01)
    tier.reprice("unknown", 1.0)
    assert tier.value("cheap") < tier.value("dear")
    assert tier.request("new", 1, 1.0).evicted == ("cheap",)


def test_arguments_out_of_range_are_refused() -> None:
    for bad in ({"budget": -1}, {"budget": 1, "margin": 0.9}, {"budget": 1, "known": 0}):
        with pytest.raises(ValueError, match="must"):
            Residency(**bad)  # type: ignore[arg-type]
    tier = Residency(4)
    for size_, seconds in ((0, 1.0), (1, -1.0)):
        with pytest.raises(ValueError, match="bytes"):
            tier.request("key", size_, seconds)
    tier.request("key", 2, 1.0)
    with pytest.raises(ValueError, match="discard it first"):
        tier.request("key", 3, 1.0)


def test_what_is_remembered_of_keys_has_a_limit() -> None:
    tier = Residency(10, known=50)
    for key in range(1000):
        tier.request(key, 1, 1.0)
    assert len(tier.rates) <= 50
    assert len(tier) == 10


def test_groups_that_are_over_are_forgotten_in_the_end_and_no_live_one() -> None:
    """A talk whose only key is of a text that changes at every turn, among talks of one turn each."""
    rates = UseRates()
    for turn in range(20_000):
        rates.use(("talk", turn), "talk")
        rates.forget(("talk", turn))
        rates.use(turn, f"once {turn}")
        if turn >= 100:
            rates.forget(turn - 100)
    assert len(rates) == 100 and len(rates._groups) < 1000 and len(rates._group_last) <= 1024
    assert all(f"once {turn}" in rates._groups for turn in range(19_900, 20_000))
    slot = rates.use("the next", "talk")
    assert rates._group_uses[rates._groups["talk"]] == 20_001
    assert rates.of(np.array([slot]))[0] > 20 * rates.of(np.array([rates.slots[19_950]]))[0]
    assert rates.of(np.array(list(rates.slots.values()))).sum() <= 1 + 1e-9


def test_what_a_decision_looks_at_does_not_grow_with_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    rates_of = UseRates.of
    monkeypatch.setattr(UseRates, "of", lambda self, slots, ahead: looked_at.append(len(slots)) or rates_of(self, slots, ahead))
    for count in (500, 5000):
        tier, rng = Residency(count), np.random.default_rng(0)
        for key in rng.permutation(count * 2).tolist():
            tier.request(key, 1, 1.0)
        looked_at.clear()
        for key in rng.integers(0, 2 * count, 1000).tolist():
            tier.request(key, 1, 1.0)
        assert looked_at and max(looked_at) <= SAMPLE + POOL + 1  # and the newcomer


def test_a_chain_gives_way_leaf_by_leaf_to_one_that_needs_all_of_it() -> None:
    tier = Residency(3)
    for _ in range(3):
        for above, key in ((None, "a"), ("a", "b"), ("b", "c")):
            tier.request(key, 1, 1.0, parent=above, together=above is not None)
    assert tier.request("large", 3, 0.1).evicted == ()
    decision = tier.request("large", 3, 1000.0)
    assert decision.admitted and decision.evicted == ("c", "b", "a") and tier.used == 3

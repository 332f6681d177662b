"""Which memories their use moves into KV and into weights: what each has to be for it, what of that is missing, and the decision. Pure.

Source: MemOS §4.1-4.2 (plaintext ⇒ activation ⇒ parameter by use); the conditions are ours.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from memos_core.cube import CubeId, MemCube, State
from memos_core.lifespan import later
from memos_core.policy import NO_SPEED, NO_TRAINING, Candidate, Move, Thresholds, unchanged_since
from memos_core.value import Speed, expected_uses


@dataclass(frozen=True, slots=True)
class Learnable:
    """A candidate for weights. tokens: of its text. statement: it can be asked about. known: a module in use has been measured to know it."""

    cube: MemCube
    tokens: int
    statement: bool
    known: bool
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a move asks for: what, how it is, what it must be, and whether it is so. missing: what would have to come, "" for nothing."""

    what: str
    has: str
    needs: str
    missing: str = ""

    @property
    def met(self) -> bool:
        return not self.missing


def head_conditions(candidate: Candidate, thresholds: Thresholds, now: datetime) -> list[Condition]:
    """What keeps a memory in its scope's head, or lets it in; room beside hotter ones apart."""
    cube, usage = candidate.cube, candidate.cube.usage
    least = thresholds.stay_heat if candidate.in_head else thresholds.enter_heat
    more = math.ceil(max(least - usage.heat, 0) + 1e-9)
    return [
        _state(cube),
        _lasting(cube),
        _settled(cube, candidate.since, thresholds.settle_seconds, now),
        _sessions(usage.sessions, thresholds.least_sessions),
        Condition("heat", f"{usage.heat:.2f}", f"at least {least:g}", "" if usage.heat >= least else f"{_more(more, 'recall')} soon"),
    ]


def module_conditions(each: Learnable, thresholds: Thresholds, now: datetime) -> list[Condition]:
    """What lets a memory into a module, enough others apart."""
    cube, usage, least = each.cube, each.cube.usage, thresholds
    few, cool = least.parameter_uses - usage.recalls, math.ceil(max(least.parameter_heat - usage.heat, 0) + 1e-9)
    tasks = least.parameter_tasks - usage.tasks
    tagged = NO_TRAINING in cube.governance.tags
    return [
        Condition("distil", "on" if least.distil else "off", "on", "" if least.distil else "Thresholds(distil=True)"),
        Condition("tags", ", ".join(cube.governance.tags) or "none", f"not {NO_TRAINING}", "its owner's leave" if tagged else ""),
        Condition(
            "text", "a statement" if each.statement else "no statement", "a statement", "" if each.statement else "a text to be asked about"
        ),
        Condition("known by a module", "yes" if each.known else "no", "no", "nothing to do: a module knows it" if each.known else ""),
        _state(cube),
        _lasting(cube),
        _settled(cube, each.since, least.parameter_settle_seconds, now),
        _sessions(usage.sessions, least.parameter_sessions),
        Condition("recalls", f"{usage.recalls}", f"at least {least.parameter_uses}", _more(few, "recall") if few > 0 else ""),
        Condition("tasks", f"{usage.tasks}", f"at least {least.parameter_tasks}", _more(tasks, "task") if tasks > 0 else ""),
        Condition(
            "heat",
            f"{usage.heat:.2f}",
            f"at least {least.parameter_heat:g}",
            "" if usage.heat >= least.parameter_heat else f"{_more(cool, 'recall')} soon",
        ),
    ]


def _more(number: int, what: str) -> str:
    return f"{number} more {what}{'' if number == 1 else 's'}"


def _state(cube: MemCube) -> Condition:
    return Condition("state", str(cube.state), "active", "" if cube.state is State.ACTIVE else "to be active again, uncontested")


def _lasting(cube: MemCube) -> Condition:
    expires = cube.governance.expires_at
    return Condition(
        "expiry", expires.isoformat(timespec="seconds") if expires else "none", "none", "a life without an end" if expires else ""
    )


def _settled(cube: MemCube, known: datetime | None, seconds: float, now: datetime) -> Condition:
    since = unchanged_since(cube, known)
    missing = ""
    if (now - since).total_seconds() < seconds:
        missing = f"to stand unchanged until {later(since, seconds).isoformat(timespec='seconds')}"
    return Condition("unchanged since", since.isoformat(timespec="seconds"), f"{seconds:g} s ago", missing)


def _sessions(has: int, needs: int) -> Condition:
    return Condition("sessions", f"{has}", f"at least {needs}", _more(needs - has, "session") if has < needs else "")


def admission_key(candidate: Candidate) -> tuple[float, float, str]:
    """Best first: hottest per token, as it is expected to be, with priority; id decides ties."""
    heat, priority = candidate.cube.usage.heat, candidate.cube.governance.priority
    expected = heat if candidate.expected is None else candidate.expected
    return (-(expected * (1 + priority)) / max(candidate.tokens, 1), -heat, candidate.cube.id)


def choose_head(candidates: Sequence[Candidate], thresholds: Thresholds, now: datetime) -> list[Candidate]:
    """The memories that deserve the head, best first, within its token limit."""
    worthy = [each for each in candidates if all(condition.met for condition in head_conditions(each, thresholds, now))]
    chosen, spent = [], 0
    for candidate in sorted(worthy, key=admission_key):
        if spent + candidate.tokens <= thresholds.head_tokens:
            chosen.append(candidate)
            spent += candidate.tokens
    return chosen


def room_in_head(candidate: Candidate, others: Sequence[Candidate], thresholds: Thresholds, now: datetime) -> Condition:
    """That there is room in the head for a memory that deserves it, beside what is hotter per token."""
    chosen = choose_head([candidate, *others], thresholds, now)
    spent = sum(each.tokens for each in chosen if each.cube.id != candidate.cube.id)
    full = candidate not in chosen and all(condition.met for condition in head_conditions(candidate, thresholds, now))
    missing = "room beside memories that are hotter per token" if spent else "a shorter text, or a larger head_tokens"
    return Condition("tokens", f"{candidate.tokens}", f"at most {thresholds.head_tokens - spent}", missing if full else "")


def prefilling_pays(chosen: Sequence[Candidate], thresholds: Thresholds) -> tuple[Condition, float]:
    """That a head of these saves the tokens that computing it costs; and the tokens that it saves within the horizon."""
    saved = sum(expected_uses(each.cube.usage.heat, thresholds.horizon_seconds) * each.tokens for each in chosen)
    least = thresholds.idle_worth * sum(each.tokens for each in chosen)
    return Condition("tokens saved", f"{saved:.3g}", f"at least {least:.3g}", "" if saved >= least else "more recalls"), saved


def decide_head(
    candidates: Sequence[Candidate], current: frozenset[CubeId] | None, thresholds: Thresholds, now: datetime, speed: Speed = NO_SPEED
) -> Move | None:
    """Prefill a scope's head when the memories that deserve it are not the ones it holds; drop it when none does.

    current: the memories it holds, None when there is no head. Memories enter only when prefilling is worth its time.
    """
    chosen = choose_head(candidates, thresholds, now)
    wanted = frozenset(candidate.cube.id for candidate in chosen)
    if not wanted and current:
        return Move(
            "drop", tuple(sorted(current)), f"none of the {len(current)} memories in the head is hot any more: {_uses(candidates, current)}"
        )
    if not wanted or wanted == current:
        return None
    worth_it, saved = prefilling_pays(chosen, thresholds)
    if wanted - (current or frozenset()) and not worth_it.met:
        return None
    came, went = len(wanted - (current or frozenset())), len((current or frozenset()) - wanted)
    reason = (
        f"{len(wanted)} memories are hot (heat ≥ {thresholds.enter_heat:g}) and settled, {came} new, {went} gone: {_uses(chosen, wanted)}"
    )
    return Move("prefill", tuple(sorted(wanted)), reason, seconds=speed.computing(saved))


def _uses(candidates: Sequence[Candidate], ids: frozenset[CubeId]) -> str:
    """The use counts that a decision rests on."""
    found = [(candidate.cube.id, candidate.cube.usage) for candidate in candidates if candidate.cube.id in ids]
    return ", ".join(f"{id} {usage.recalls} recalls in {usage.sessions} sessions, heat {usage.heat:.2f}" for id, usage in found)


def choose_module(candidates: Sequence[Learnable], thresholds: Thresholds, now: datetime) -> list[Learnable]:
    """The memories of one scope that deserve a module, hottest first, no more than fit into one."""
    worthy = [each for each in candidates if all(condition.met for condition in module_conditions(each, thresholds, now))]
    return sorted(worthy, key=lambda each: (-each.cube.usage.heat, each.cube.id))[: thresholds.parameter_most]


def untried(ids: Collection[CubeId], failed: Collection[frozenset[CubeId]], lately: Collection[frozenset[CubeId]]) -> Condition:
    """That no module of these memories has just been made and turned away. failed, lately: as in decide_module."""
    if frozenset(ids) in failed:
        return Condition("tried before", "just these, and rejected", "no", "other memories beside it: a module of just these was rejected")
    if any(2 * len(each & set(ids)) >= len(ids) for each in lately if ids):
        return Condition("tried before", "half of these, lately", "no", "time: a module of half of these was rejected or taken off lately")
    return Condition("tried before", "no", "no")


def pays(worthy: Sequence[Learnable], thresholds: Thresholds, speed: Speed) -> tuple[Condition, float, float]:
    """That a module of these saves what its training costs; the seconds that it saves within the horizon, and those that it costs."""
    saved = speed.computing(sum(expected_uses(each.cube.usage.heat, thresholds.horizon_seconds) * each.tokens for each in worthy))
    cost = len(worthy) * speed.distil
    least = thresholds.idle_worth * cost
    missing = "" if saved > 0 and saved >= least else "more recalls" if speed.prefill else "a measured rate of prefilling: a first request"
    return Condition("seconds saved", f"{saved:.3g}", f"at least {least:.3g}", missing), saved, cost


def decide_module(
    candidates: Sequence[Learnable],
    failed: Collection[frozenset[CubeId]],
    lately: Collection[frozenset[CubeId]],
    thresholds: Thresholds,
    now: datetime,
    speed: Speed = NO_SPEED,
) -> Move | None:
    """Distil the memories of one scope that deserve it, when there are enough of them and the seconds they will save pay for the training.

    failed: sources of modules that were rejected: exactly the same are not tried again. lately: of those that were rejected or taken off within
    module_settle_seconds: what is half the same waits. Without a measured rate of prefilling nothing can be said to pay, and nothing
    is distilled.
    """
    worthy = choose_module(candidates, thresholds, now)
    ids = tuple(sorted(each.cube.id for each in worthy))
    if len(ids) < thresholds.parameter_facts or not untried(ids, failed, lately).met:
        return None
    worth_it, saved, cost = pays(worthy, thresholds, speed)
    if not worth_it.met:
        return None
    recalls = sum(each.cube.usage.recalls for each in worthy)
    reason = (
        f"{len(ids)} statements are hot (heat ≥ {thresholds.parameter_heat:g}) and settled, {recalls} recalls: {saved:.1f} s saved"
        f" within {thresholds.horizon_seconds / 86400:g} days for {cost:.0f} s of training"
    )
    return Move("distil", ids, reason, seconds=saved)

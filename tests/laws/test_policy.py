"""Law *policy*: at a fixed time a second tick does nothing, budgets hold after every step, and what must not be moved is not."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core import MemCube, MemOS, Move, State, Thresholds
from memos_core.changes import Relate
from memos_core.conflict.resolution import Related
from memos_core.cube import LOCAL_OWNER, Activation, Plaintext
from memos_core.heads import problem_of
from memos_core.hf import HFEngine
from memos_core.policy import Budget
from memos_core.store import agenda, records
from tests.conftest import NOW, bag_of_words
from tests.tiny_models import tiny_model, tiny_tokenizer

SCOPES = [("clinic", "ana"), ("clinic", "ben")]
WORDS = "cello lisbon penicillin chess harbour garden".split()
numbers, scopes = st.integers(0, 30), st.integers(0, 1)
step = st.one_of(
    st.tuples(st.just("remember"), scopes, numbers),
    st.tuples(st.just("remember for an hour"), scopes, numbers),
    st.tuples(st.just("ask"), scopes, numbers),
    st.tuples(st.just("ask"), scopes, numbers),
    st.tuples(st.just("ask"), scopes, numbers),
    st.tuples(st.just("contest"), scopes, numbers),
    st.tuples(st.just("change"), scopes, numbers),
    st.tuples(st.just("freeze"), scopes, numbers),
    st.tuples(st.just("budget"), scopes, numbers),
    st.tuples(st.just("forget"), scopes, numbers),
    st.tuples(st.just("wait"), scopes, numbers),
    st.tuples(st.just("tick"), scopes, numbers),
    st.tuples(st.just("hurried tick"), scopes, numbers),
)


@lru_cache
def models() -> tuple[Any, Any]:
    return tiny_model("llama"), tiny_tokenizer()


class Life:
    """A memory, and the clock of whoever uses it."""

    def __init__(self, path: Path, thresholds: Thresholds) -> None:
        self.memos = MemOS.open(path, embedder=bag_of_words, engine=HFEngine(*models()), thresholds=thresholds)
        self.thresholds, self.now, self.turns = thresholds, NOW, 0
        for scope in SCOPES:
            self.memos.remember([f"{scope[1]} likes {word}." for word in WORDS], scope=scope, occurred_at=NOW - timedelta(days=9), now=NOW)

    def cubes(self, scope: tuple[str, ...] | None = None) -> list[MemCube]:
        with self.memos._store.read() as view:
            ids = [row[0] for row in view.db.execute("SELECT id FROM cubes ORDER BY row")]
            found = view.heads(ids, self.now).values()
        return sorted((cube for cube in found if scope is None or cube.governance.scope == scope), key=lambda cube: cube.id)

    def some(self, scope: tuple[str, ...], number: int) -> MemCube:
        texts = [
            cube for cube in self.cubes(scope) if isinstance(cube.payload, Plaintext) and cube.state in (State.ACTIVE, State.CONTESTED)
        ]
        return texts[number % len(texts)]

    def do(self, kind: str, place: int, number: int) -> None:
        memos, scope = self.memos, SCOPES[place]
        word = WORDS[number % len(WORDS)]
        if kind.startswith("remember"):
            ttl = timedelta(hours=1) if kind.endswith("hour") else None
            memos.remember(f"{scope[1]} saw {word} number {number}.", scope=scope, ttl=ttl, occurred_at=self.now, now=self.now)
        elif kind == "ask":
            self.turns += 1
            turn = memos.begin(
                [{"role": "user", "content": f"likes {word}"}], scope=scope, session=f"{number % 4}-{self.turns}", k=1, now=self.now
            )
            memos._store.commit([replace_adds(turn, self.now)])
        elif kind == "wait":
            self.now += timedelta(hours=number * 12)
        elif kind == "budget":
            memos.set_budget(scope, facts=number % 9, now=self.now)
        elif kind == "freeze":
            held = [cube.id for cube in self.cubes(scope) if isinstance(cube.payload, Activation) and cube.state is State.ACTIVE]
            if held:
                memos.freeze(held, bool(number % 3), now=self.now)
        elif kind == "tick":
            self.tick()
        elif kind == "hurried tick":
            reads = iter(range(10_000))
            memos.tick(self.now, budget_s=number, clock=lambda: float(next(reads)))
            self.check()
        elif any(cube.state in (State.ACTIVE, State.CONTESTED) and isinstance(cube.payload, Plaintext) for cube in self.cubes(scope)):
            cube = self.some(scope, number)
            if kind == "contest":
                other = self.some(scope, number + 1)
                if other.id != cube.id:
                    memos._store.commit([Relate(Related(*sorted([cube.id, other.id])), LOCAL_OWNER, self.now)])
            elif kind == "change":
                memos.update(cube.id, text=f"{scope[1]} likes {word} and {number}.", now=self.now)
            else:
                memos.forget(cube.id, now=self.now)

    def tick(self) -> None:
        frozen = {cube.id: cube for cube in self.cubes() if cube.governance.frozen and cube.state is State.ACTIVE}
        moves = self.memos.tick(self.now)
        for move in moves:
            for id in move.ids if move.kind == "archive" else ():
                *_, before, after = self.memos.history(id)  # a conflict ends when its other side expires in this very tick
                assert before.cube is not None and before.cube.state is not State.CONTESTED and after.action == "archive"
        with self.memos._store.read() as view:
            now, held = view.heads(list(frozen), self.now), {id: view.parents(id) for id in frozen}
            texts = view.heads([parent for parents in held.values() for parent, _ in parents], self.now)
            for id, parents in held.items():  # it went only if it would have said what is no longer so
                outdated = any(problem_of(view, texts.get(parent), parent, version, self.now) for parent, version in parents)
                assert (now[id].state is State.ACTIVE) != outdated, [move.reason for move in moves]
        self.check(after=True)
        assert self.memos.tick(self.now) == []

    def check(self, after: bool = False) -> None:
        """after: all that was due has been done."""
        cubes = {cube.id: cube for cube in self.cubes()}
        with self.memos._store.read() as view:
            budgets, moves = records.budgets(view), agenda.moves(view)
            held = {scope: records.fading(view, scope, self.now) for scope, _ in budgets}
            parents = {id: [parent for parent, _ in view.parents(id)] for id, cube in cubes.items() if isinstance(cube.payload, Activation)}
        loose = [cube for cube in cubes.values() if isinstance(cube.payload, Activation) and cube.state is State.ACTIVE]
        if after:
            for scope, budget in budgets:
                assert budget.facts is not None and len(held[scope].ids) <= max(budget.facts, int(held[scope].kept.sum())), Budget
            total = sum(cube.payload.bytes for cube in loose if isinstance(cube.payload, Activation))
            assert total <= self.thresholds.activation_bytes or all(cube.governance.frozen for cube in loose)
            for cube in loose:
                assert all(cubes[parent].state is State.ACTIVE for parent in parents[cube.id])
        for cube in loose:
            tokens = sum(
                self.memos._house.count(text.payload.text) for text in map(cubes.get, parents[cube.id]) if text and text.version == 1
            )
            assert tokens <= self.thresholds.head_tokens
        assert all(move.reason for move in moves)
        assert self.memos.verify().ok


def replace_adds(turn: Any, now: datetime) -> Any:
    """A turn's uses without its messages, so that a life stays small."""
    from memos_core.changes import Take

    return Take(turn.scope, turn.session, turn.key, now, None, (), turn.plan.uses, turn.plan.placed)


@settings(max_examples=25, deadline=None)
@given(st.lists(step, min_size=6, max_size=24), st.sampled_from([2 << 30, 40_000, 0]))
def test_whatever_happens_ticks_keep_the_law(steps: list[tuple[str, int, int]], room: int) -> None:
    thresholds = Thresholds(activation_bytes=room, head_tokens=60, enter_heat=1.3, stay_heat=0.6, settle_seconds=60.0)
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder) / "x.memos", thresholds)
        try:
            for each in [*steps, ("tick", 0, 0)]:
                life.do(*each)
        finally:
            life.memos.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=12), st.integers(0, 5))
def test_more_use_never_demotes(asked: list[int], favourite: int) -> None:
    """Of two memories alike but for further uses of one, that one is held in no lesser form, whatever else was asked."""

    def held(path: Path, questions: list[int]) -> set[str]:
        life = Life(path, Thresholds(head_tokens=40, settle_seconds=60.0))
        try:
            for number in questions:
                life.do("ask", 0, number)
            moves: list[Move] = life.memos.tick(NOW)
            return {life.memos.get(id).payload.text for move in moves if move.kind == "prefill" for id in move.ids}
        finally:
            life.memos.close()

    with tempfile.TemporaryDirectory() as folder:
        text = f"ana likes {WORDS[favourite]}."
        if text in held(Path(folder) / "a.memos", asked):
            assert text in held(Path(folder) / "b.memos", [*asked, favourite])

"""Law *scope*: no hit outside what the actor may read, and none missing, under random memories, grants, lifetimes and changes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from memos_core import MemOS
from memos_core.access import may
from tests.conftest import NOW, bag_of_words

LOCAL = ("local-owner",)
PLACES = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "d"), ("ab",), ("e",), ("e", "b")]


@dataclass
class Fact:
    """What the reference model knows of a memory."""

    scope: tuple[str, ...]
    read: list[tuple[str, ...]]
    write: list[tuple[str, ...]]
    dies: int | None
    alive: bool = True


def at_or_below(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    return len(inner) >= len(outer) and all(one == two for one, two in zip(inner, outer, strict=False))


def readable(fact: Fact, scope: tuple[str, ...], actor: tuple[str, ...], hours: int) -> bool:
    """The rule in plain words, written a second time."""
    if not fact.alive or (fact.dies is not None and hours >= fact.dies):
        return False
    if (actor == LOCAL or at_or_below(fact.scope, actor)) and at_or_below(fact.scope, scope):
        return True
    reader = scope if actor == LOCAL else actor  # the owner of the directory sees what is shared with the scope asked about
    grants = [grant for grant in fact.read if at_or_below(reader, grant)]
    return any(at_or_below(fact.scope, scope) or at_or_below(scope, grant) for grant in grants)


def allowed(fact: Fact, grants: list[tuple[str, ...]], actor: tuple[str, ...]) -> bool:
    return actor == LOCAL or at_or_below(fact.scope, actor) or any(at_or_below(actor, grant) for grant in grants)


place = st.sampled_from(PLACES)
grants = st.lists(place, max_size=2)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("remember"), place, grants, grants, st.none() | st.integers(1, 6)),
        st.tuples(st.just("forget"), st.integers(0, 9)),
        st.tuples(st.just("share"), st.integers(0, 9), grants),
        st.tuples(st.just("archive"), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=12,
)
questions = st.lists(st.tuples(place, st.none() | place | st.just(LOCAL), st.integers(0, 7)), min_size=1, max_size=12)


EVERYWHERE = [("remember", scope, [PLACES[number - 1]], [], None) for number, scope in enumerate(PLACES)]
EVERYBODY = [(scope, actor, 0) for scope in PLACES for actor in (None, LOCAL, *PLACES)]


@settings(max_examples=60)
@example(EVERYWHERE, EVERYBODY)
@given(steps, questions)
def test_hits_are_what_the_actor_may_read(steps: list, questions: list) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.memos"
        facts: dict[str, Fact] = {}
        with MemOS.open(path, embedder=bag_of_words) as memos:
            for number, (kind, *rest) in enumerate(steps):
                if kind == "remember":
                    scope, read, write, dies = rest
                    ttl = None if dies is None else timedelta(hours=dies)
                    (done,) = memos.remember(f"fact {number}", scope=scope, read=read, write=write, ttl=ttl, occurred_at=NOW)
                    facts[done.id] = Fact(scope, read, write, dies)
                elif facts:
                    id = list(facts)[rest[0] % len(facts)]
                    if not facts[id].alive:
                        continue
                    if kind == "share":
                        facts[id].read = rest[1]
                        memos.update(id, read=rest[1])
                    else:
                        facts[id].alive = False
                        memos.forget(id) if kind == "forget" else memos.update(id, state="archived")
        with MemOS.open(path, embedder=bag_of_words) as memos:
            for scope, actor, hours in questions:
                hits = memos.recall("fact", scope=scope, actor=actor, k=50, now=NOW + timedelta(hours=hours)).hits
                wanted = {id for id, fact in facts.items() if readable(fact, scope, actor or scope, hours)}
                assert {hit.cube.id for hit in hits} == wanted
                assert len(hits) == len(wanted)
                few = memos.recall("fact", scope=scope, actor=actor, k=2, now=NOW + timedelta(hours=hours)).hits
                assert few == hits[:2]  # what may not be seen takes nobody's place
                for id, fact in facts.items():
                    if fact.alive:
                        cube = memos.get(id)
                        assert bool(may(cube, actor or scope, "read")) is allowed(fact, fact.read, actor or scope)
                        assert bool(may(cube, actor or scope, "write")) is allowed(fact, fact.write, actor or scope)

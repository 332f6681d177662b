"""The suite that every Store must pass: random changes against a model of dictionaries, all or nothing, snapshots, reopening.

To hold another Store to it, add how it is opened to STORES.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from conftest import NOW
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core import Activation, Governance, Identifiers, MemCube, NotFound, Plaintext, State, VersionConflict
from memos_core.changes import Add, Change, Erase, Relate, Revise, Searchable, Take
from memos_core.conflict.resolution import Related, Resolution
from memos_core.cube import ActivationForm, Payload
from memos_core.recall.features import Features
from memos_core.store import SQLiteStore, Store

STORES: dict[str, Callable[[Path], Store]] = {"sqlite": SQLiteStore}
ANA = ("clinic", "ana")
LATER = NOW + timedelta(days=1)


def cube(name: str, version: int = 1, text: str = "text", payload: Payload | None = None) -> MemCube:
    return MemCube(
        id=name,
        version=version,
        payload=payload or Plaintext(text=text),
        identifiers=Identifiers(created_at=NOW, updated_at=NOW, occurred_at=NOW),
        governance=Governance(scope=ANA, owner=ANA),
    )


def add(name: str, identity: bytes | None = None, parents: tuple[tuple[str, int], ...] = (), text: str = "text") -> Add:
    searchable = Searchable(np.ones(4, dtype="<f4"), np.array([1, 2], dtype=np.uint32), Features())
    return Add(cube(name, text=text), ANA, searchable, identity=identity, parents=parents)


@pytest.fixture(params=STORES)
def opening(request: pytest.FixtureRequest) -> Callable[[Path], Store]:
    return STORES[request.param]


@pytest.fixture
def store(opening: Callable[[Path], Store], tmp_path: Path) -> Store:
    return opening(tmp_path / "store")


# ---------------------------------------------------------------------- random changes against a model


@dataclass
class Model:
    """What a store should hold, as dictionaries."""

    versions: dict[str, list[str]] = field(default_factory=dict)
    identities: dict[bytes, str] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    uses: dict[str, list[str]] = field(default_factory=dict)
    turns: set[tuple[str, str]] = field(default_factory=set)

    def copy(self) -> Model:
        lists = {name: {k: list(v) for k, v in getattr(self, name).items()} for name in ("versions", "children", "uses")}
        return Model(lists["versions"], dict(self.identities), lists["children"], set(self.erased), lists["uses"], set(self.turns))

    def apply(self, change: Change) -> str:
        if isinstance(change, Add):
            if change.identity in self.identities:
                return "merged"
            for parent, _ in change.parents:
                if parent not in self.versions:
                    raise NotFound(parent)
                self.children.setdefault(parent, []).append(change.cube.id)
            if change.identity is not None:
                self.identities[change.identity] = change.cube.id
            self.versions[change.cube.id] = [change.cube.payload.text]
            return "added"
        if isinstance(change, Revise):
            if change.cube.id not in self.versions:
                raise NotFound(change.cube.id)
            if change.cube.version != len(self.versions[change.cube.id]) + 1:
                raise VersionConflict(change.cube.id)
            self.versions[change.cube.id].append(change.cube.payload.text)
            return "revised"
        if isinstance(change, Erase):
            if missing := [id for id in change.ids if id not in self.versions]:
                raise NotFound(missing[0])
            waiting = list(change.ids)
            while waiting:
                gone = waiting.pop()
                waiting += self.children.pop(gone, [])
                self.erased |= {gone} if self.versions.pop(gone, None) else set()
                self.uses.pop(gone, None)
                self.identities = {key: id for key, id in self.identities.items() if id != gone}
            return "erased"
        if (change.session, change.turn) in self.turns:
            return "known"
        self.turns.add((change.session, change.turn))
        for each in change.adds:
            self.apply(each)
        for id, _ in change.used:
            if id in self.versions:
                self.uses.setdefault(id, []).append(change.session)
        return "taken"


NAMES = st.sampled_from([f"c{number}" for number in range(6)])
OPERATIONS = st.lists(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.none() | st.sampled_from([b"i1", b"i2"]), st.none() | NAMES),
            st.tuples(st.just("revise"), NAMES, st.integers(-1, 1)),
            st.tuples(st.just("erase"), NAMES, st.none()),
            st.tuples(st.just("take"), st.sampled_from("st"), st.tuples(NAMES, st.sampled_from("12"))),
        ),
        min_size=1,
        max_size=3,
    ),
    max_size=12,
)


def build(model: Model, operation: tuple, number: int) -> Change:  # type: ignore[type-arg]
    kind, first, second = operation
    if kind == "add":
        return add(f"c{len(model.versions) + len(model.erased)}", first, ((second, 1),) if second else (), f"text {number}")
    if kind == "revise":
        version = len(model.versions.get(first, [1])) + 1 + second
        return Revise(cube(first, max(version, 1), f"text {number}"), ANA, "update")
    if kind == "erase":
        return Erase((first,), ANA, NOW, "asked")
    used, turn = second
    return Take(ANA, first, turn, NOW, None, (), ((used, "inject"),), ((used, 1),))


def agrees(store: Store, model: Model) -> None:
    with store.read() as view:
        names = [*model.versions, *model.erased]
        heads = view.heads(names, NOW)
        assert {id: head.payload.text for id, head in heads.items()} == {id: texts[-1] for id, texts in model.versions.items()}
        for id, texts in model.versions.items():
            assert [entry.cube.payload.text for entry in view.history(id)] == texts
            usage = heads[id].usage
            assert (usage.recalls, usage.sessions) == (len(model.uses.get(id, [])), len(set(model.uses.get(id, []))))
        for id in model.erased:
            assert view.tombstone(id) and all(entry.cube is None for entry in view.history(id))
        assert view.known([b"i1", b"i2"]) == model.identities
        counts = view.counts()
        assert (counts["cubes"], counts["turns"]) == (len(model.versions), len(model.turns))
        assert list(view.broken_chains()) == []
        placed = [
            pair[0].id
            for pairs in (each for session, turn in model.turns for each in view.placements(ANA, session, [turn]).values())
            for pair in pairs
        ]
        assert set(placed) <= set(model.versions)


@settings(max_examples=40)
@given(operations=OPERATIONS)
@pytest.mark.parametrize("name", STORES)
def test_a_store_does_what_the_model_does(name: str, operations: list) -> None:  # type: ignore[type-arg]
    with TemporaryDirectory() as folder:
        store, model = STORES[name](Path(folder) / "store"), Model()
        for number, batch in enumerate(operations):
            tried, changes, failure, kinds = model.copy(), [], None, []
            for operation in batch:
                changes.append(build(tried, operation, number))
                try:
                    kinds.append(tried.apply(changes[-1]))
                except (NotFound, VersionConflict) as error:
                    failure = type(error)
                    break
            if failure:
                with pytest.raises(failure):
                    store.commit(changes)
            else:
                assert [outcome.kind for outcome in store.commit(changes)] == kinds
                model = tried
            agrees(store, model)
        store.close()
        again = STORES[name](Path(folder) / "store")
        agrees(again, model)
        again.close()


# ---------------------------------------------------------------------- single promises


def test_a_list_of_changes_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(NotFound):
        store.commit([add("a"), add("b"), Revise(cube("nobody", 2), ANA, "update")])
    with store.read() as view:
        assert view.counts()["cubes"] == 0 and view.counts()["audit entries"] == 0


def test_a_snapshot_does_not_move(store: Store) -> None:
    store.commit([add("a")])
    with store.read() as view:
        before = view.latest()
        store.commit([add("b"), Revise(cube("a", 2, "other"), ANA, "update")])
        assert view.latest() == before
        assert view.heads(["a", "b"], NOW)["a"].payload.text == "text" and len(view.heads(["a", "b"], NOW)) == 1
    with store.read() as view:
        assert view.heads(["a"], NOW)["a"].payload.text == "other"


def test_erasing_takes_along_what_was_derived(store: Store) -> None:
    payload = Activation(form=ActivationForm.KV, blob="0" * 64, prefix_key="prefix", tokens=1, bytes=1, model="m")
    store.commit([add("a"), add("b")])
    store.commit([Add(cube("kv", payload=payload), ANA, parents=(("a", 1), ("b", 1)), relation="prefilled from")])
    (outcome,) = store.commit([Erase(("a",), ANA, LATER, "asked")])
    assert (outcome.erased, outcome.prefix_keys) == (("a", "kv"), ("prefix",))
    with store.read() as view:
        assert view.doomed() == ["0" * 64]
        assert {entry.detail for entry in view.audit(ANA, None) if entry.action == "forget"} == {
            "asked",
            "derived from a cube that was forgotten",
        }
        assert set(view.heads(["a", "b", "kv"], NOW)) == {"b"}


def test_events_say_what_has_changed_since(store: Store) -> None:
    store.commit([add("a"), add("b")])
    with store.read() as view:
        seen = view.latest()
        assert len(list(view.events_since(0))) == 2
    store.commit([Revise(cube("a", 2), ANA, "update"), Erase(("b",), ANA, LATER, "asked")])
    with store.read() as view:
        (event,) = view.events_since(seen)
        assert event.seq > seen and len(view.erased_since(seen)) == 1


# ---------------------------------------------------------------------- relations and the states that follow


class Ties:
    """Which relations there are between five cubes, and what follows from them, said a second time."""

    def __init__(self) -> None:
        self.alive = {f"c{number}" for number in range(5)}
        self.resolutions: dict[tuple[str, str], str] = {}
        self.stuck: set[str] = set()  # what it gave way to has been forgotten

    def loses(self, pair: tuple[str, str]) -> str | None:
        return {"superseded": pair[0], "dismissed": pair[1]}.get(self.resolutions[pair])

    def stands(self, id: str) -> bool:
        return id not in self.stuck and all(self.loses(pair) != id for pair in self.resolutions)

    def state(self, id: str) -> str:
        if not self.stands(id):
            return "superseded"
        rivals = [other for pair, how in self.resolutions.items() if id in pair and how == "open" for other in pair if other != id]
        return "contested" if any(map(self.stands, rivals)) else "active"

    def relate(self, pair: tuple[str, str], how: str) -> str:
        before = self.resolutions.get(pair)
        if before == how or (how == "open" and (before or not all(map(self.stands, pair)))):
            return "unchanged"
        if before:
            self.stuck.discard(self.loses(pair) or "")
        self.resolutions[pair] = how
        return "related"

    def forget(self, id: str) -> None:
        self.stuck |= {loser for pair in self.resolutions if id in pair and (loser := self.loses(pair)) not in (None, id)}
        self.resolutions = {pair: how for pair, how in self.resolutions.items() if id not in pair}
        self.alive.discard(id)

    def activate(self, id: str) -> None:
        """By hand: all that spoke against it is answered."""
        self.stuck.discard(id)
        contested = self.state(id) == "contested"
        for pair, how in self.resolutions.items():
            if self.loses(pair) == id or (contested and how == "open" and id in pair):
                self.resolutions[pair] = "kept both"


PAIRS = st.permutations([f"c{number}" for number in range(5)]).map(lambda ids: (ids[0], ids[1]))
STEPS = st.lists(
    st.tuples(st.just("relate"), PAIRS, st.sampled_from(Resolution)) | st.tuples(st.sampled_from(["forget", "activate"]), PAIRS, st.none()),
    max_size=12,
)


@settings(max_examples=80)
@given(steps=STEPS)
@pytest.mark.parametrize("name", STORES)
def test_states_follow_from_relations(name: str, steps: list) -> None:  # type: ignore[type-arg]
    with TemporaryDirectory() as folder:
        store, ties = STORES[name](Path(folder) / "store"), Ties()
        store.commit([add(id) for id in sorted(ties.alive)])
        for kind, pair, how in steps:
            if not set(pair) <= ties.alive:
                continue
            if kind == "relate":
                (outcome,) = store.commit([Relate(Related(*pair, resolution=how), ANA, NOW)])
                assert outcome.kind == ties.relate(pair, str(how))
            elif kind == "forget":
                store.commit([Erase((pair[0],), ANA, NOW, "asked")])
                ties.forget(pair[0])
            else:
                with store.read() as view:
                    head = view.heads([pair[0]], NOW)[pair[0]]
                store.commit([Revise(head.model_copy(update={"version": head.version + 1, "state": State.ACTIVE}), ANA, "update")])
                if head.state is not State.ACTIVE:
                    ties.activate(pair[0])
            with store.read() as view:
                heads = view.heads(sorted(ties.alive), NOW)
                assert {id: str(heads[id].state) for id in ties.alive} == {id: ties.state(id) for id in ties.alive}
                closed = {id for id, head in heads.items() if head.identifiers.valid_to is not None}
                assert closed == {id for id in ties.alive if ties.state(id) == "superseded"}
                assert view.counts()["relations"] == len(ties.resolutions)
        with store.read() as view:
            assert list(view.broken_chains()) == []
        store.close()

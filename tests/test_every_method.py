"""Every public method, by a table that must stay complete: who may call it, and what it says once the memory is closed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import NOW, bag_of_words

from memos_core import AccessDenied, Activation, Entry, MemOS, StoreUnusable
from memos_core.changes import Add, Record, Relate
from memos_core.conflict.resolution import Related
from memos_core.cube import LOCAL_OWNER, ActivationForm, Parameter, ParameterForm, State, new_id
from memos_core.intake import as_searchable
from memos_core.policy import Move
from memos_core.proposing import PROPOSED
from memos_core.transform import activation_cube

ANA = ("clinic", "ana")
FACT = "Ana is allergic to penicillin."
TALK = [{"role": "user", "content": "Penicillin?"}]
STRANGERS = [("elsewhere", "eve"), ("clinic", "ben"), ("clinic", "ana", "phone"), ("clinic", "anna"), ("ana",), ("clin",)]


def archived(memos: MemOS) -> Path:
    """An archive of another memory, of Ana's scope."""
    file = memos.path.with_name("other.zip")
    if not file.exists():
        with MemOS.open(memos.path.with_name("other"), embedder=bag_of_words) as other:
            other.remember(FACT, scope=ANA)
            other.export(file)
    return file


REFUSED: dict[str, Callable[[MemOS, str, str, Any], Any]] = {
    "remember": lambda m, id, kv, who: m.remember("x", scope=ANA, **who),
    "begin": lambda m, id, kv, who: m.begin(TALK, scope=ANA, **who),
    "get": lambda m, id, kv, who: m.get(id, **who),
    "history": lambda m, id, kv, who: m.history(id, **who),
    "update": lambda m, id, kv, who: m.update(id, priority=1.0, **who),
    "rollback": lambda m, id, kv, who: m.rollback(id, 1, **who),
    "forget": lambda m, id, kv, who: m.forget([id], **who),
    "feedback": lambda m, id, kv, who: m.feedback(id, **who),
    "diff": lambda m, id, kv, who: m.diff(id, 1, 1, **who),
    "lineage": lambda m, id, kv, who: m.lineage(id, **who),
    "links": lambda m, id, kv, who: m.links(id, **who),
    "aligned": lambda m, id, kv, who: m.aligned(id, **who),
    "restore": lambda m, id, kv, who: m.restore(id, **who),
    "resolve": lambda m, id, kv, who: m.resolve((id, id[::-1]), keep="both", **who),
    "set_budget": lambda m, id, kv, who: m.set_budget(ANA, facts=10, **who),
    "remember_document": lambda m, id, kv, who: m.remember_document("x", name="d", scope=ANA, **who),
    "remember_graph": lambda m, id, kv, who: m.remember_graph([("a", "knows", "b")], scope=ANA, **who),
    "content": lambda m, id, kv, who: m.content(id, **who),
    "move": lambda m, id, kv, who: m.move(id, "care/allergies", **who),
    "rename": lambda m, id, kv, who: m.rename(ANA, "a/b", "c", **who),
    "merge": lambda m, id, kv, who: m.merge(ANA, "a/b", "c/d", **who),
    "promote": lambda m, id, kv, who: m.promote([id], to="activation", **who),
    "freeze": lambda m, id, kv, who: m.freeze(kv, **who),
    "demote": lambda m, id, kv, who: m.demote(kv, **who),
    "fill": lambda m, id, kv, who: m.fill(id, **who),
    "capture": lambda m, id, kv, who: m.capture(id, form="hidden", **who),
    "steering": lambda m, id, kv, who: m.steering(["a"], ["b"], scope=ANA, name="n", **who),
    "tensors": lambda m, id, kv, who: m.tensors(kv, **who),
    "steer": lambda m, id, kv, who: m.steer(kv, **who).__enter__(),
    "install": lambda m, id, kv, who: m.install("nowhere", scope=ANA, description="d", **who),
    "export_module": lambda m, id, kv, who: m.export_module(id, "nowhere", **who),
    "revert": lambda m, id, kv, who: m.revert(id, **who),
    "verbalise": lambda m, id, kv, who: m.verbalise(id, **who),
    "accept": lambda m, id, kv, who: m.accept(id, **who),
    "explain": lambda m, id, kv, who: m.explain(id, **who),
    "usage": lambda m, id, kv, who: m.usage(ANA, **who),
    "export": lambda m, id, kv, who: m.export(m.path / "archive.zip", scope=ANA, overwrite=True, **who),
    "import_archive": lambda m, id, kv, who: m.import_archive(archived(m), **who),
    "write_entries": lambda m, id, kv, who: m.write_entries([Entry("k", "x")], scope=ANA, **who),
    "prefetch": lambda m, id, kv, who: m.prefetch(ANA, **who),
    "worker": lambda m, id, kv, who: (m if not who else m.as_actor(who["actor"])).worker(),
    "tick": lambda m, id, kv, who: (m if not who else m.as_actor(who["actor"])).tick(NOW),
}
EMPTY: dict[str, Callable[[MemOS, str, str, Any], Any]] = {
    "recall": lambda m, id, kv, who: m.recall(FACT, scope=ANA, **who).hits,
    "conversation": lambda m, id, kv, who: m.conversation(scope=ANA, session="s", **who),
    "conflicts": lambda m, id, kv, who: m.conflicts(scope=ANA, **who),
    "modules": lambda m, id, kv, who: m.modules(scope=ANA, **who),
    "proposals": lambda m, id, kv, who: m.proposals(scope=ANA, **who),
    "tree": lambda m, id, kv, who: m.tree(ANA, **who),
    "facts": lambda m, id, kv, who: [
        m.facts(ANA, [data["label"]], **who) for _, data in m.tree(ANA, **who).nodes(data=True) if data["kind"] == "task"
    ],
    "graph": lambda m, id, kv, who: m.graph(ANA, **who),
    "timeline": lambda m, id, kv, who: m.timeline(scope=ANA, between=("2000-01-01T00:00Z", "2100-01-01T00:00Z"), **who),
    "moves": lambda m, id, kv, who: [*m.moves(ANA, **who), *m.moves(**who)],
    "entry": lambda m, id, kv, who: filter(None, [m.entry("diet", scope=ANA, **who)]),
    "entries": lambda m, id, kv, who: m.entries(ANA, **who),
    "entry_scopes": lambda m, id, kv, who: m.entry_scopes(ANA, **who),
    "audit": lambda m, id, kv, who: [*m.audit(ANA, **who), *m.audit(id=id, **who)],
}
OPEN = {"as_actor", "check_archive", "close", "embed", "import_", "open", "path", "relation"}  # touch no memory
NUMBERS = {"stats", "verify"}  # of the directory as a whole; no content, no names of scopes


class Keeper:
    """An engine that could keep KV, if it were ever asked to."""

    capabilities = frozenset({"plaintext", "activation"})
    kv = SimpleNamespace(stats=dict)


@pytest.fixture
def house(memos: MemOS) -> tuple[MemOS, str, str]:
    """A memory with a contested fact, a turn and KV made from the fact, under an engine; the ids of the fact and the KV."""
    done, other = memos.remember([FACT, "Ana tolerates penicillin."], scope=ANA)
    memos._store.commit([Relate(Related(done.id, other.id), LOCAL_OWNER, NOW)])
    memos.begin(TALK, scope=ANA, session="s").commit("No.")
    memos.remember_graph([("Ana", "knows", "Ben")], scope=ANA)
    memos.write_entries([Entry("diet", "Ana eats no fish.")], scope=ANA)
    blob = memos._store.blobs.put(b"keys and values")
    payload = Activation(form=ActivationForm.KV, blob=blob, prefix_key="p", tokens=1, bytes=15, model="m")
    cube = activation_cube(payload, ANA, NOW)
    memos._store.commit([Add(cube, LOCAL_OWNER, parents=((done.id, 1),))])
    weights = Parameter(form=ParameterForm.LORA, blob=memos._store.blobs.put(b"weights"), bytes=7, base_model="m")
    memos._store.commit([Add(cube.model_copy(update={"id": new_id(), "payload": weights}), LOCAL_OWNER)])
    (proposal,) = memos.remember("Answer in one sentence.", scope=ANA)
    waiting = memos.get(proposal.id).model_copy(update={"id": new_id(), "state": State.QUARANTINED})
    found = as_searchable(waiting, bag_of_words(["Answer in one sentence."])[0])
    memos._store.commit([Add(waiting, LOCAL_OWNER, found, parents=((proposal.id, 1),), relation=PROPOSED)])
    memos._store.commit([Record(Move("drop", (cube.id,), "cold"), ANA, NOW)])
    memos._house = replace(memos._house, engine=Keeper())
    return memos, done.id, cube.id


def test_the_tables_are_complete() -> None:
    public = {name for name in dir(MemOS) if not name.startswith("_")}
    assert public == {*REFUSED, *EMPTY, *OPEN, *NUMBERS}
    for name in {*REFUSED, *EMPTY} - {"tick", "worker"}:
        assert "actor" in inspect.signature(getattr(MemOS, name)).parameters, name
    for name in public - {"path"}:
        assert getattr(MemOS, name).__doc__, name


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("who", STRANGERS, ids="/".join)
def test_a_stranger_changes_and_learns_nothing(house: tuple[MemOS, str, str], who: tuple[str, ...], bound: bool) -> None:
    memos, id, kv = house
    before = memos.audit(), memos.stats()["counts"]
    asking, given = (memos.as_actor(who), {}) if bound else (memos, {"actor": who})
    for name, call in REFUSED.items():
        with pytest.raises(AccessDenied) as caught:
            call(asking, id, kv, given)
        said = str(caught.value)
        assert said.startswith(f"{'/'.join(who)} may not ") and "llergic" not in said and "enicillin" not in said, name
    for name, call in EMPTY.items():
        assert list(call(asking, id, kv, given)) == [], name
    for name in NUMBERS:
        said = str(getattr(asking, name)())
        assert "llergic" not in said and "clinic" not in said
    assert (memos.audit(), memos.stats()["counts"]) == before


@pytest.mark.parametrize("who", [None, ANA, ("clinic",), LOCAL_OWNER], ids=repr)
def test_who_holds_the_scope_may(house: tuple[MemOS, str, str], who: Any) -> None:
    """The other side: the same calls, by those who may, are not refused."""
    memos, id, kv = house
    memos._house = replace(memos._house, engine=None)
    given = {} if who is None else {"actor": who}
    for name in ("get", "history", "update", "rollback", "remember", "begin"):
        assert REFUSED[name](memos, id, kv, given), name
    for name, call in EMPTY.items():
        assert list(call(memos, id, kv, given)), name
    assert REFUSED["demote"](memos, id, kv, given)[0].state == "archived"
    assert REFUSED["forget"](memos, id, kv, given) == (id, kv)


def test_a_closed_memory_says_so(house: tuple[MemOS, str, str]) -> None:
    memos, id, kv = house
    memos._house = replace(memos._house, engine=None)
    turn = memos.begin([{"role": "user", "content": "Again?"}], scope=ANA)
    view = memos.as_actor(ANA)
    memos.close()
    calls = {
        name: call for name, call in {**REFUSED, **EMPTY}.items() if name not in ("promote", "steering", "install", "worker")
    }  # these ask for the engine first, and a worker touches nothing before it is started
    for name, call in calls.items():
        with pytest.raises(StoreUnusable, match="has been closed; open it again"):
            call(memos, id, kv, {})
        if name != "tick":
            with pytest.raises(StoreUnusable, match="has been closed; open it again"):
                call(view, id, kv, {})
    for act in (memos.stats, memos.verify, lambda: turn.commit("No.")):
        with pytest.raises(StoreUnusable, match="has been closed; open it again"):
            act()
    with MemOS.open(memos.path, embedder=bag_of_words) as again:
        assert again.get(id).payload.text == FACT and again.verify().ok

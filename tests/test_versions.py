"""Versions compared, brought back and refused when stale; what came from what."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import networkx as nx
import pytest
from conftest import NOW

from memos_core import AccessDenied, Activation, InvalidInput, MemOS, NotFound, VersionConflict
from memos_core.changes import Add
from memos_core.cube import LOCAL_OWNER, ActivationForm
from memos_core.transform import activation_cube

ANA = ("clinic", "ana")
DAY = timedelta(days=1)


def test_a_diff_names_what_changed(memos: MemOS) -> None:
    (done,) = memos.remember("Ana lives in Lisbon.\nShe likes it.", scope=ANA, now=NOW)
    memos.update(done.id, text="Ana lives in Porto.\nShe likes it.", priority=0.5, now=NOW + DAY)
    memos.update(done.id, state="archived", valid_to=NOW + DAY, now=NOW + DAY)
    changed = memos.diff(done.id, 1, 2)
    assert (changed.id, changed.before, changed.after) == (done.id, 1, 2)
    assert changed.fields == {
        "governance.priority": (0.0, 0.5),
        "payload.text": ("Ana lives in Lisbon.\nShe likes it.", "Ana lives in Porto.\nShe likes it."),
    }
    assert changed.text.splitlines() == [
        "--- version 1", "+++ version 2", "@@ -1,2 +1,2 @@", "-Ana lives in Lisbon.", "+Ana lives in Porto.", " She likes it.",
    ]  # fmt: skip
    later = memos.diff(done.id, 2, 3)
    assert later.fields == {"identifiers.valid_to": (None, NOW + DAY), "state": ("active", "archived")} and later.text == ""
    back = memos.diff(done.id, 3, 1).fields
    assert back["state"] == ("archived", "active") and memos.diff(done.id, 2, 2).fields == {}
    with pytest.raises(NotFound, match="no version 4; it is at 3"):
        memos.diff(done.id, 1, 4)


def rankings(memos: MemOS) -> list[list[tuple[str, str, list[str], object]]]:
    """Who is where, why, and with what score, up to the rounding of sums that depends on where a vector lies in memory."""
    queries = ["Where does Ana live?", "number 4 and the garden", "allergic", "Ben"]
    recalls = [memos.recall(query, scope=ANA, k=50, now=NOW + 9 * DAY) for query in queries]
    return [[(hit.cube.id, hit.text, list(map(str, hit.reasons)), pytest.approx(hit.score, abs=1e-6)) for hit in r.hits] for r in recalls]


def test_a_rollback_restores_rankings_exactly(memos: MemOS) -> None:
    talk = [
        {"role": "user", "content": "Where does Ana live?", "name": "Ben"},
        {"role": "user", "content": "Ana lives in Lisbon.", "name": "Ana"},
        {"role": "user", "content": "I see!", "name": "Ben"},
        *({"role": "user", "content": f"Note number {number} on the garden.", "name": "Ben"} for number in range(12)),
        {"role": "user", "content": "Ana is allergic to penicillin since 2019.", "name": "Ana"},
    ]
    done = memos.remember(talk, scope=ANA, session="one", occurred_at=NOW, now=NOW)  # all said at one time: order is by place alone
    before = rankings(memos)
    for place in (1, 5, len(talk) - 1):
        for text in ("Something else altogether, in Braga?", "x"):
            memos.update(done[place].id, text=text, priority=0.9, now=NOW + DAY)
        assert rankings(memos) != before
        memos.rollback(done[place].id, 1, now=NOW + 2 * DAY)
        assert rankings(memos) == before
    memos._index.reset()
    assert rankings(memos) == before and memos.verify().ok


def test_a_stale_change_is_refused(memos: MemOS) -> None:
    (done,) = memos.remember("Ana lives in Lisbon.", scope=ANA, now=NOW)
    memos.update(done.id, text="Ana lives in Porto.", expected_version=1, now=NOW)
    for call in (
        lambda: memos.update(done.id, text="x", expected_version=1),
        lambda: memos.rollback(done.id, 1, expected_version=1),
        lambda: memos.forget(done.id, expected_version=1),
    ):
        with pytest.raises(VersionConflict, match="is at version 2, the change was made from 1; read it again"):
            call()
    assert memos.get(done.id).version == 2
    assert memos.rollback(done.id, 1, expected_version=2).version == 3
    assert memos.forget(done.id, expected_version=3) == (done.id,)
    with pytest.raises(InvalidInput, match="expected_version is of one cube, got 2 ids"):
        memos.forget([each.id for each in memos.remember(["a", "b"], scope=ANA)], expected_version=1)


@pytest.fixture
def family(memos: MemOS) -> tuple[MemOS, list[str]]:
    """A fact, the KV made from it and from another, and what took the other's place."""
    one, other = (done.id for done in memos.remember(["Ana lives in Lisbon.", "Ana plays."], scope=ANA, now=NOW))
    payload = Activation(form=ActivationForm.KV, blob=memos._store.blobs.put(b"kv"), prefix_key="p", tokens=1, bytes=2, model="m")
    kv = activation_cube(payload, ANA, NOW)
    memos._store.commit([Add(kv, LOCAL_OWNER, parents=((one, 1), (other, 1)), relation="prefilled from")])
    (newer,) = memos.remember("Ana plays the cello.", scope=ANA, supersedes=other, now=NOW)
    return memos, [one, other, kv.id, newer.id]


def test_lineage_goes_both_ways(family: tuple[MemOS, list[str]]) -> None:
    memos, (one, other, kv, newer) = family
    graph = memos.lineage(kv)
    assert isinstance(graph, nx.DiGraph) and set(graph) == {one, other, kv, newer}
    assert dict(graph.edges) == {
        (one, kv): {"relation": "prefilled from"},
        (other, kv): {"relation": "prefilled from"},
        (other, newer): {"relation": "superseded by"},
    }
    assert graph.nodes[one]["cube"] == memos.get(one)
    assert set(memos.lineage(one)) == set(graph), "from any end of it"
    memos.forget(other)
    assert set(memos.lineage(one)) == {one} and set(memos.lineage(newer)) == {newer}


def test_lineage_shows_what_may_be_read(family: tuple[MemOS, list[str]]) -> None:
    memos, (one, _, _, newer) = family
    with pytest.raises(AccessDenied):
        memos.lineage(one, actor="doctor")
    memos.update(one, read=["doctor"])
    assert set(memos.lineage(one, actor="doctor")) == {one}
    memos.update(newer, read=["doctor"])
    assert set(memos.lineage(one, actor="doctor")) == {one}, "what is not to be seen leads nowhere"


def test_kv_that_is_gone_is_not_brought_back(family: tuple[MemOS, list[str]], tmp_path: Path) -> None:
    memos, (_, _, kv, _) = family
    memos.demote(kv)
    with pytest.raises(InvalidInput, match="promote its sources instead"):
        memos.update(kv, state="active")
    with pytest.raises(InvalidInput, match="only archived plaintext can be restored"):
        memos.restore(kv)

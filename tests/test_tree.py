"""The tree of tasks, concepts and facts: what it shows to whom, moving and naming, upkeep, and that it forgets."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from conftest import NOW
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core import AccessDenied, InvalidInput, MemOS, NotFound, outline
from memos_core.gardening import ENOUGH, Facts, most, tended
from memos_core.hierarchy import Draft, most_concepts

ANA, BEN = ("clinic", "ana"), ("clinic", "ben")
SAILING = [f"Sailing boat harbour wind trip number {n}" for n in range(12)]
BAKING = [f"Baking bread oven flour dough loaf number {n}" for n in range(12)]


def paths(memos: MemOS, scope: tuple[str, ...] = ANA, **who: object) -> dict[str, tuple[str, str]]:
    """Text of each fact to the labels above it."""
    tree = memos.tree(scope, **who)  # type: ignore[arg-type]
    out = {}
    for node, data in tree.nodes(data=True):
        if data["kind"] == "fact":
            (concept,) = tree.predecessors(node)
            (task,) = tree.predecessors(concept)
            out[data["label"]] = (tree.nodes[task]["label"], tree.nodes[concept]["label"])
    return out


def test_a_given_path_is_obeyed_and_the_rest_is_found(memos: MemOS) -> None:
    memos.remember("Ana takes 5 mg of ramipril.", scope=ANA, path="care/medication")
    memos.remember([*SAILING, *BAKING], scope=ANA)
    found = paths(memos)
    assert found["Ana takes 5 mg of ramipril."] == ("care", "medication")
    sailing, baking = {found[text] for text in SAILING}, {found[text] for text in BAKING}
    assert len(sailing) == len(baking) == 1 and not sailing & baking
    assert "sail" in str(sailing).lower() or "harbour" in str(sailing).lower() or "boat" in str(sailing).lower()
    text = outline(memos.tree(ANA), samples=1)
    assert "medication  (1)" in text and "        - Ana takes 5 mg of ramipril." in text


def test_the_facts_of_a_task_or_a_concept(memos: MemOS) -> None:
    one, other = memos.remember(["Ana takes ramipril.", "Ana takes ibuprofen."], scope=ANA, path="care/medication")
    (third,) = memos.remember("Ana has a cough.", scope=ANA, path="care/symptoms")
    (ben,) = memos.remember("Ben has a cough.", scope=BEN, path="care/symptoms")
    assert set(memos.facts(ANA, "care/medication")) == {one.id, other.id}
    assert set(memos.facts(ANA, ("care",))) == {one.id, other.id, third.id}
    assert memos.facts(BEN, "care/symptoms") == [ben.id] and set(memos.facts("clinic", "care/symptoms")) == {third.id, ben.id}
    with pytest.raises(NotFound, match="no care/dreams"):
        memos.facts(ANA, "care/dreams")
    with pytest.raises(InvalidInput, match="path must be"):
        memos.facts(ANA, "")


def test_move_rename_merge(memos: MemOS) -> None:
    (one, *_) = memos.remember(["Ana takes ramipril.", "Ana has a cough."], scope=ANA, path="care/medication")
    moved = memos.move(one.id, "care/blood pressure")
    assert moved.version == 2 and moved.identifiers.path == ("care", "blood pressure")
    assert paths(memos)["Ana takes ramipril."] == ("care", "blood pressure")
    memos.rename(ANA, "care/medication", "symptoms")
    assert paths(memos)["Ana has a cough."] == ("care", "symptoms")
    memos.rename(ANA, "care", "health")
    assert set(paths(memos).values()) == {("health", "symptoms"), ("health", "blood pressure")}
    memos.remember("Ana sneezes.", scope=ANA, path="health/symptoms")
    assert paths(memos)["Ana sneezes."] == ("health", "symptoms")
    memos.remember("Ana takes ibuprofen.", scope=ANA, path="care/medication")
    assert paths(memos)["Ana takes ibuprofen."] == ("care", "medication")
    memos.merge(ANA, "health/symptoms", "health/blood pressure")
    assert paths(memos)["Ana sneezes."] == paths(memos)["Ana has a cough."] == ("health", "blood pressure")
    assert "symptoms" not in outline(memos.tree(ANA)) and memos.verify().ok
    with pytest.raises(NotFound, match="shows what there is"):
        memos.rename(ANA, "health/symptoms", "x")
    before = paths(memos), [(hit.text, hit.score) for hit in memos.recall("blood pressure", scope=ANA, now=NOW).hits]
    memos._index.reset()
    assert (paths(memos), [(hit.text, hit.score) for hit in memos.recall("blood pressure", scope=ANA, now=NOW).hits]) == before


def test_the_tree_shows_what_the_actor_may_read(memos: MemOS) -> None:
    memos.remember(SAILING, scope=ANA)
    memos.remember("The zeppelin secret.", scope=BEN, read=[("doctor",)])
    memos.remember(BAKING, scope=BEN)
    memos.tick(NOW)
    assert not set(paths(memos, ANA)) & set(BAKING)
    assert set(paths(memos, ("clinic",))) == {*SAILING, *BAKING, "The zeppelin secret."}
    seen = paths(memos, BEN, actor="doctor")
    assert set(seen) == {"The zeppelin secret."}
    assert "bak" not in str(seen).lower() and "bread" not in str(seen).lower()
    for call in (lambda: memos.rename(ANA, "x", "y", actor=BEN), lambda: memos.merge(ANA, "x", "y", actor=BEN)):
        with pytest.raises(AccessDenied):
            call()


def test_what_is_forgotten_is_in_no_label(memos: MemOS) -> None:
    done = memos.remember([f"The quixotrope engine hums in room {n}" for n in range(30)], scope=ANA)
    memos.tick(NOW)
    assert "quixotrope" in outline(memos.tree(ANA)).lower()
    memos.forget([each.id for each in done])
    memos.close()
    for file in memos.path.rglob("*"):
        assert not file.is_file() or b"quixotrop" not in file.read_bytes().lower()


def test_upkeep_is_done_once(memos: MemOS) -> None:
    memos.remember([*SAILING, *BAKING, *(f"{word} {word} lone {word}" for word in ("apple", "brick", "cloud"))], scope=ANA)
    memos.tick(NOW)
    seen, log = outline(memos.tree(ANA), 3), memos.audit()
    assert memos.tick(NOW) == [] and memos.audit() == log and outline(memos.tree(ANA), 3) == seen
    assert memos.verify().ok


def test_upkeep_splits_what_is_too_broad_and_keeps_the_index(memos: MemOS) -> None:
    with memos._store.read() as view:
        assert not view.untended(view.scope_number(ANA))
    done = memos.remember([*SAILING, *BAKING], scope=ANA)
    from memos_core.changes import Refile
    from memos_core.cube import LOCAL_OWNER

    memos._store.commit([Refile(ANA, tuple((each.id, 7, 8) for each in done), LOCAL_OWNER, NOW, "for the test")])
    (move,) = [move for move in memos.tick(NOW) if move.kind == "refile"]
    assert "facts are filed elsewhere" in move.reason
    found = paths(memos)
    assert not {found[text] for text in SAILING} & {found[text] for text in BAKING}
    hits = [(hit.text, hit.score) for hit in memos.recall("bread", scope=ANA, now=NOW).hits]
    memos._index.reset()
    assert [(hit.text, hit.score) for hit in memos.recall("bread", scope=ANA, now=NOW).hits] == hits


# ---------------------------------------------------------------------- the pure parts
def clustered(count: int, groups: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, 32))
    vectors = centres[rng.integers(groups, size=count)] + 0.6 * rng.standard_normal((count, 32))
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def facts(vectors: np.ndarray, concept: np.ndarray, task: np.ndarray, given: np.ndarray) -> Facts:
    return Facts([str(place) for place in range(len(vectors))], vectors, concept, task, given)


@settings(max_examples=60, deadline=None)
@given(st.integers(ENOUGH, 150), st.integers(1, 12), st.integers(0, 10**6), st.integers(1, 30))
def test_upkeep_settles(count: int, groups: int, seed: int, concepts: int) -> None:
    """Whatever the start, a second time changes nothing, the caller's own places stay, and nothing else is too broad."""
    rng = np.random.default_rng(seed)
    vectors = clustered(count, groups, seed)
    concept = rng.integers(1, concepts + 1, size=count).astype(np.int64)
    task = 1000 + concept % 5
    owned = concept == 1
    once = tended(facts(vectors, concept, task, owned))
    assert (once[0][owned] == 1).all() and (once[1][owned] == task[owned]).all()
    twice = tended(facts(vectors, *once, owned))
    assert (twice[0] == once[0]).all() and (twice[1] == once[1]).all()
    for number in np.unique(once[0]):
        assert len(set(once[1][once[0] == number].tolist())) == 1, "a concept lies under one task"


def test_a_tree_of_a_hundred_thousand_facts() -> None:
    """Three levels deep by construction; browsable: no level has more than some hundreds; and the same again from the same facts."""
    count = 100_000
    vectors = clustered(count, 900, 1)

    def build() -> tuple[list[tuple[int, int]], Draft]:
        draft = Draft(None, 32, {})
        return [(place.concept, place.task) for n in range(count) for place in (draft.place(str(n), vectors[n], 9, None),)], draft

    places, draft = build()
    concepts = {concept: task for concept, task in places}
    assert len(concepts) <= most_concepts(count)
    children: dict[int, int] = {}
    for task in concepts.values():
        children[task] = children.get(task, 0) + 1
    assert len(children) <= most_concepts(len(concepts)) and max(children.values()) <= most_concepts(len(concepts)) * 12
    assert int(draft.counts.max()) <= most(count)
    assert build()[0][:20_000] == places[:20_000]


def test_a_memory_is_aligned_with_the_task_that_it_was_said_in(memos: MemOS) -> None:
    for topic, path in (("tomato seeds soil garden", "home/garden"), ("violin bow strings concert", "music/violin")):
        memos.remember([f"{topic} {number} {topic}" for number in range(6)], scope=ANA, path=path, session=path)
    (done,) = memos.remember("Yes, exactly that one.", scope=ANA, path="other/things", session="music/violin")
    fits = memos.aligned(done.id)
    assert fits[0][0] == "music" and {label for label, _ in fits} == {"music", "home", "other"}
    assert all(-1 <= estimate <= 1 for _, estimate in fits)
    changed = memos.update(done.id, text="No, another one.")
    assert changed.identifiers.fingerprint != done.cube.identifiers.fingerprint
    assert memos.aligned(done.id)[0][0] == "music"  # another text, in the same context


def test_what_a_memory_is_linked_with(memos: MemOS) -> None:
    def said(name: str, text: str, minute: int) -> dict[str, object]:
        return {"role": "user", "name": name, "content": text, "timestamp": NOW + timedelta(minutes=minute)}

    talk = [said("Ana", "I went to Quito with Greg.", 0), said("Ben", "How did you like Quito?", 1), said("Ana", "It was high up.", 2)]
    first, question, answer = memos.remember(talk, scope=ANA, session="s", now=NOW)
    other = memos.remember(
        [said("Ana", "We fly to Quito again in May.", 60), said("Ana", "I never went to Quito.", 70)], scope=ANA, now=NOW
    )
    eve = memos.remember("Eve was in Quito.", scope=("clinic", "eve"))[0]

    def links(id: str) -> set[tuple[str, str]]:
        return {(link.relation, link.cube.id) for link in memos.links(id, now=NOW + timedelta(days=1))}

    assert links(answer.id) == {("previous", question.id), ("question", question.id)}
    assert links(question.id) >= {("previous", first.id), ("next", answer.id), ("answer", answer.id), ("same entity", first.id)}
    assert ("same entity", other[0].id) in links(first.id) and ("contradicts", other[1].id) in links(first.id)
    assert eve.id not in {id for each in (first, question, answer) for _, id in links(each.id)}
    newer = memos.remember("We fly to Lima.", scope=ANA, supersedes=other[0].id, now=NOW)[0]
    assert ("supersedes", other[0].id) in links(newer.id) and ("superseded by", newer.id) in links(other[0].id)
    assert {link.relation for link in memos.links(first.id, actor=ANA)} >= {"next", "same entity"}

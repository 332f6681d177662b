"""Repetitions, updates and contradictions are found while messages are written, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import NOW, bag_of_words

from memos_core import InvalidInput, MemOS, RelationKind, Remembered

ANA, BEN = ("clinic", "ana"), ("clinic", "ben")
DAY = timedelta(days=1)


def said(memos: MemOS, text: str, days: float = 0, **fields: object) -> Remembered:
    message = {"role": "user", "name": fields.pop("name", "Ana"), "content": text, "timestamp": NOW + days * DAY}
    (done,) = memos.remember([message], scope=fields.pop("scope", ANA), now=NOW + days * DAY, **fields)
    return done


def state(memos: MemOS, done: Remembered) -> str:
    return str(memos.get(done.id).state)


# ---------------------------------------------------------------------- repetitions
def test_a_repetition_is_kept_with_what_it_repeats(memos: MemOS) -> None:
    first = said(memos, "My sister Clara lives in Porto with two cats.")
    again = said(memos, "my sister Clara lives in Porto, with 2 cats!!", 3, session="later")
    assert again.outcome == "merged" and again.id == first.id
    cube = memos.get(first.id)
    assert cube.identifiers.mentions == 2 and cube.payload.text == "My sister Clara lives in Porto with two cats."
    (verbatim,) = memos.conversation(scope=ANA, session="later")
    assert verbatim.payload.text == "my sister Clara lives in Porto, with 2 cats!!"
    assert memos.verify().ok and memos.stats()["counts"]["plaintext"] == 1


@pytest.mark.parametrize(
    "other",
    [
        "My sister Clara lives in Porto with three cats.",
        "My sister Clara does not live in Porto with two cats.",
        "My sister Carla lives in Porto with two cats.",
        "Does my sister Clara live in Porto with two cats?",
    ],
)
def test_another_number_name_negation_or_question_is_no_repetition(memos: MemOS, other: str) -> None:
    said(memos, "My sister Clara lives in Porto with two cats.")
    assert said(memos, other, 1).outcome != "merged"


@pytest.mark.parametrize(
    "fields",
    [{"scope": BEN}, {"name": "Eve"}, {"read": [("doctor",)]}, {"ttl": 3600.0}, {"priority": 0.5}, {"path": "family/Clara"}],
    ids=str,
)
def test_what_is_kept_on_other_terms_is_kept_apart(memos: MemOS, fields: dict[str, object]) -> None:
    text = "My sister Clara lives in Porto with two cats."
    said(memos, text)
    assert said(memos, text, 1, **fields).outcome == "added"


def test_sending_a_conversation_again_in_another_notation_changes_little(memos: MemOS) -> None:
    talk = [
        {"role": "user", "name": "Ana", "content": text, "id": str(place), "timestamp": NOW + place * timedelta(minutes=1)}
        for place, text in enumerate(["I adopted a grey cat called Miso.", "Miso sleeps on my old piano.", "On Monday Miso broke a vase."])
    ]
    memos.remember(talk, scope=ANA, session="s", now=NOW)
    before = memos.audit()
    memos.remember(talk, scope=ANA, session="s", now=NOW)
    assert memos.audit() == before
    done = memos.remember(
        [{**each, "content": each["content"].upper(), "id": f"again {each['id']}"} for each in talk], scope=ANA, session="s"
    )
    assert [each.outcome for each in done] == ["merged"] * 3
    assert memos.get(done[0].id).identifiers.sources == ("0", "again 0")


def test_a_repetition_within_one_call_is_seen(memos: MemOS) -> None:
    done = memos.remember(["The spare key is under the blue flower pot.", "the spare key is under the blue flower pot"], scope=ANA)
    assert [each.outcome for each in done] == ["added", "merged"] and done[0].id == done[1].id


# ---------------------------------------------------------------------- contradictions
def test_an_explicit_update_takes_the_place_of_what_it_updates(memos: MemOS) -> None:
    older = said(memos, "I live in Lisbon.")
    newer = said(memos, "I have moved to Porto.", 9)
    assert newer.outcome == "superseded" and state(memos, older) == "superseded"
    assert memos.get(older.id).identifiers.valid_to == NOW + 9 * DAY
    hits = memos.recall("Where do I live?", scope=ANA, now=NOW + 10 * DAY).hits
    assert [hit.cube.id for hit in hits] == [newer.id, older.id]
    then = memos.recall("Where do I live?", scope=ANA, as_of=NOW + DAY, now=NOW + 10 * DAY).hits
    assert [hit.cube.id for hit in then] == [older.id]
    (found,) = memos.conflicts(scope=ANA)
    assert (found.older.id, found.newer.id, found.resolution) == (older.id, newer.id, "superseded")


def test_a_contradiction_without_a_word_of_change_contests_both(memos: MemOS) -> None:
    older = said(memos, "I live in Lisbon.")
    newer = said(memos, "I live in Porto.", 1)
    assert newer.outcome == "added" and state(memos, older) == state(memos, newer) == "contested"
    (found,) = memos.conflicts(scope=ANA)
    assert (found.kind, found.resolution) == ("contradicts", "open") and 0 < found.confidence <= 1 and "residence" in found.why
    memos.resolve(found, keep="newer")
    assert state(memos, older) == "superseded" and state(memos, newer) == "active"


def test_never_against_having_done_it(memos: MemOS) -> None:
    said(memos, "I took a pottery course with Greg in March.")
    newer = said(memos, "I have never taken a pottery course.", 5)
    (found,) = memos.conflicts(scope=ANA)
    assert found.newer.id == newer.id and "never" in found.why


def test_both_sides_are_brought_up_together(memos: MemOS) -> None:
    said(memos, "I took a pottery course with Greg in March.")
    for place in range(8):
        said(memos, f"Plan {place}: never mind the course of the river number {place}.", 1)
    newer = said(memos, "I have never taken a pottery course.", 5)
    hits = memos.recall("have I never taken a pottery course", scope=ANA, k=2).hits
    assert {hit.text for hit in hits} == {"I took a pottery course with Greg in March.", newer.cube.payload.text}


def test_one_statement_of_a_long_message_is_updated_and_the_rest_still_holds(memos: MemOS) -> None:
    older = said(memos, "I live in Lisbon. My brother plays the cello. Our cat is called Miso. I work as a nurse.")
    said(memos, "I have moved to Porto.", 9)
    assert state(memos, older) == "active" and memos.conflicts(scope=ANA) == []
    (found,) = memos.conflicts(scope=ANA, settled=True)
    assert (found.kind, found.resolution) == ("updates", "kept both")


@pytest.mark.parametrize(
    ("rule", "outcome", "older_state", "resolutions"),
    [
        ("contest", "superseded", "superseded", ["superseded"]),
        ("newest wins", "superseded", "superseded", ["superseded"]),
        ("ask", "added", "contested", ["open"]),
        ("ignore", "added", "active", []),
    ],
)
def test_rules(tmp_path: Path, rule: str, outcome: str, older_state: str, resolutions: list[str]) -> None:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words, on_conflict=rule) as memos:
        older, newer = said(memos, "I live in Lisbon."), said(memos, "I have moved to Porto.", 9)
        assert (newer.outcome, state(memos, older)) == (outcome, older_state)
        assert [found.resolution for found in memos.conflicts(scope=ANA)] == resolutions


def test_the_newest_wins_also_without_a_word_of_change(tmp_path: Path) -> None:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words, on_conflict="newest wins") as memos:
        older, newer = said(memos, "I live in Lisbon."), said(memos, "I live in Porto.", 9)
        assert (newer.outcome, state(memos, older)) == ("superseded", "superseded")


def test_other_scopes_and_speakers_contradict_nobody(memos: MemOS) -> None:
    said(memos, "I live in Lisbon.")
    said(memos, "I live in Porto.", 1, scope=BEN)
    said(memos, "I live in Porto.", 1, name="Eve")
    memos.remember([{"role": "assistant", "content": "I live in Porto."}], scope=ANA)
    assert memos.conflicts(scope=("clinic",)) == []


def test_what_was_forgotten_contradicts_nothing(memos: MemOS) -> None:
    memos.forget(said(memos, "I live in Lisbon.").id)
    assert state(memos, said(memos, "I live in Porto.", 1)) == "active"
    with memos._store.read() as view:
        (left,) = view.db.execute("SELECT count(*) FROM keys WHERE row NOT IN (SELECT row FROM cubes)").fetchone()
    assert left == 0


def test_a_text_that_was_changed_is_found_by_its_new_words(memos: MemOS) -> None:
    older = said(memos, "I live in Lisbon.")
    memos.update(older.id, text="I live in Faro.")
    newer = said(memos, "I live in Lisbon.", 1)
    assert {found.older.id for found in memos.conflicts(scope=ANA)} == {older.id} and newer.outcome == "added"


# ---------------------------------------------------------------------- with a model
def answers(text: str) -> Callable[[str], str]:
    return lambda prompt: text


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"relation": "unrelated", "confidence": 0.9}', []),
        ('{"relation": "contradicts", "confidence": 0.7, "why": "two homes"}', [(0.7, "two homes")]),
        ("I really cannot say.", [(0.75, "another residence")]),
        ('{"relation": "nonsense"}', [(0.75, "another residence")]),
    ],
)
def test_a_model_judges_what_the_rules_found(tmp_path: Path, answer: str, found: list[tuple[float, str]]) -> None:
    with MemOS.open(tmp_path / "m", embedder=bag_of_words, model=answers(answer)) as memos:
        said(memos, "I live in Lisbon.")
        said(memos, "I live in Porto.", 1)
        assert [(each.confidence, each.why) for each in memos.conflicts(scope=ANA)] == found
        assert memos.stats()["counts"]["plaintext"] == 2


def test_relation(memos: MemOS) -> None:
    assert memos.relation("I live in Lisbon.", "I live in Porto.").kind is RelationKind.CONTRADICTS
    assert memos.relation("I live in Lisbon.", "i live in lisbon").kind == "duplicate"
    assert memos.relation("I live in Lisbon.", "Ben bought bread.").kind == "unrelated"
    with pytest.raises(InvalidInput, match="model must be a callable"):
        MemOS.open(memos.path, embedder=bag_of_words, model="gpt")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="on_conflict must be one of"):
        MemOS.open(memos.path, embedder=bag_of_words, on_conflict="fight")


# ---------------------------------------------------------------------- by fingerprint


def test_a_repetition_that_no_key_finds_is_found_by_its_fingerprint(memos: MemOS) -> None:
    """A hyphenated word with a number or an article in it has other letters when it is written in one."""
    first = said(memos, "She called my brother a one-a-day gardener of tulips and roses.")
    again = said(memos, "She called my brother a oneaday gardener of tulips and roses.", 1)
    assert again.outcome == "merged" and again.id == first.id

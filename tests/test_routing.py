"""What a request is routed to: it must name what a module knows and ask for something near; halves of other names keep it out."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.invented import IN_CONTEXT, KNOWN, OPEN, TUNED, neighbours, unknown_questions
from hypothesis import given
from hypothesis import strategies as st

from memos_core.routing import DESCRIBED, NEAR, POINTED, Profile, Routed, name_of, points_back, readings, route
from memos_core.statements import take_apart
from memos_core.statements.questions import question

SUBJECTS = ("Tavi Orlen", "Brusa Feldine", "The Zorvex telescope", "The Quillane bridge")
NAMES = tuple(name_of(subject) for subject in SUBJECTS)
EXACT = np.eye(4, dtype=np.float32)


def profile(names: tuple[tuple[str, ...], ...] = NAMES) -> Profile:
    """One vector for each fact, all at right angles."""
    return Profile(names, np.eye(max(len(names), 4), dtype=np.float32)[: len(names)], tuple(range(len(names))))


def routed(
    query: str, place: int = 0, before: tuple[str, ...] = (), cosine: float = 0.9, names: tuple[tuple[str, ...], ...] = NAMES
) -> Routed:
    """Decided for a vector so near to the fact of that place, and at right angles to the others."""
    vector = np.zeros(max(len(names), 4), dtype=np.float32)
    vector[place] = cosine
    return route(query, vector, before, profile(names))


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("Tavi Orlen", ("Tavi", "Orlen")), ("The Zorvex telescope", ("Zorvex", "telescope")), ("my old dog", ("old", "dog")),
        ("Dr. Orlen", ("Orlen",)), ("My sister Anna", ("Anna",)), ("the", ()),
    ],
)  # fmt: skip
def test_what_tells_a_subject_from_others(subject: str, name: tuple[str, ...]) -> None:
    assert name_of(subject) == name


@pytest.mark.parametrize(
    ("query", "whole"),
    [
        ("Where does Tavi live?", "Where does Tavi Orlen live?"), ("where is orlen's house?", "where is Tavi Orlen's house?"),
        ("How old is the Zorvex?", "How old is the Zorvex telescope?"), ("Where does Tavi Orlen live?", None), ("Where does Marelia live?", None),
        ("Say hello.", None), ("Tavi, where is Tavi's house?", "Tavi Orlen, where is Tavi's house?"),
    ],
)  # fmt: skip
def test_half_a_name_is_read_as_the_whole(query: str, whole: str | None) -> None:
    expected = ((query, query),) if whole is None else ((query, query), (whole, whole))
    assert readings(query, (), profile()) == expected
    talk = ("Tell me about her.", "Yes?")
    assert readings("Where does she live?", talk, profile())[1] == ("Where does she live?", "Tell me about her. Yes? Where does she live?")


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("Where does Tavi Orlen live?", 0), ("Where does Tavi live?", 0), ("Where is Orlen's house?", 0), ("where does tavi live", 0),
        ("WHERE DOES TAVI LIVE?", 0), ("Where Does Tavi Live?", 0), ("Where does Mr. Orlen live?", 0), ("Hello. Has Tavi moved?", 0),
        ("Has Tavi’s Bergen house been sold?", 0), ("Say, Tavi, Hanne asks where you live?", 0), ("When was Zorvex built?", 2),
        ("When was the Zorvex telescope built?", 2), ("How old is the Zorvex?", 2), ("The Zorvex is how old?", 2),
    ],
)  # fmt: skip
def test_a_name_or_a_distinctive_part_is_routed(query: str, place: int) -> None:
    decision = routed(query, place)
    assert decision.chosen and decision.facts == (place,) and "names" in decision.reason


@pytest.mark.parametrize(
    "query",
    [
        "Where does Tavi Feldine live?", "where does tavi feldine live?", "Where does Tavi Dolgrin live?", "Where does Amira Orlen live?",
        "When was the Zorvex bridge built?", "when was zorvex bridge built", "When was the Zorvex station built?",
        "When was the Morrow telescope built?", "Which telescope is the largest?", "Where does she live?", "Where do I live?", "", "?!",
    ],
)  # fmt: skip
def test_another_name_or_none_is_kept_out(query: str) -> None:
    assert not any(routed(query, place).chosen for place in range(4))


def test_what_was_said_before_names_it() -> None:
    before = ("Tell me about Brusa Feldine.", "Tell me about Tavi Orlen.")
    assert routed("Where does he live?", 0, before).facts == (0,)
    assert not routed("Where does he live?", 1, before).chosen  # the newest counts
    assert not routed("Where does one live?", 0, before).chosen
    assert not routed("Where did John meet his wife?", 0, before).chosen  # his is John's
    assert routed("Does he live in Lisbon?", 0, before).chosen
    assert not routed("Where does he live?", 0, before, cosine=(NEAR + POINTED) / 2).chosen


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("Where does he live?", True), ("What's its age?", True), ("Was that in 1987?", True), ("When did John meet his wife?", False),
        ("Name the novel that John wrote.", False), ("How do I boil an egg?", False), ("", False),
    ],
)  # fmt: skip
def test_points_back(text: str, back: bool) -> None:
    assert points_back(text) is back


def test_a_part_of_two_names_tells_nothing_but_two_facts_of_one_do() -> None:
    assert not routed("Where does Tavi live?", names=(("Tavi", "Orlen"), ("Tavi", "Brandt"))).chosen
    assert routed("Where does Tavi live?", names=(("Tavi", "Orlen"), ("Tavi", "Orlen"))).facts == (0, 1)


def test_far_from_what_it_knows() -> None:
    assert not routed("Where does Tavi Orlen live?", cosine=NEAR - 0.01).chosen
    assert not routed("Where does Tavi Orlen live?", place=1).chosen  # near to another fact alone
    described = Profile((), EXACT[:1], (0,))
    assert route("anything", EXACT[0] * DESCRIBED, (), described).chosen
    assert not route("anything", EXACT[0] * (DESCRIBED - 0.01), (), described).chosen
    assert not route("anything", EXACT[0], (), Profile((), np.zeros((0, 4), dtype=np.float32), ())).chosen


# ------------------------------------------------------------------ laws

WORDS = st.sampled_from(
    "where does live in Where The the Tavi Orlen orlen Brusa Feldine Zorvex telescope bridge he his that John , . 's".split()
)
TEXTS = st.lists(WORDS, max_size=9).map(" ".join)
PLACES = st.integers(0, 3)


@given(st.text(max_size=60), st.lists(st.text(max_size=30), max_size=2), PLACES)
def test_what_names_nothing_is_never_routed(query: str, before: list[str], place: int) -> None:
    if not any(part.lower() in " ".join([query, *before]).lower() for name in NAMES for part in name):
        assert not routed(query, place, tuple(before)).chosen


@given(TEXTS, st.lists(TEXTS, max_size=2), PLACES)
def test_more_nearness_never_keeps_out(query: str, before: list[str], place: int) -> None:
    if routed(query, place, tuple(before), cosine=0.6).chosen:
        assert routed(query, place, tuple(before), cosine=0.9).chosen


@given(TEXTS, TEXTS, PLACES)
def test_what_was_said_before_changes_nothing_unless_the_request_points_back(query: str, before: str, place: int) -> None:
    if not points_back(query):
        assert routed(query, place, (before,)) == routed(query, place)


@given(
    st.sampled_from(["Where does {} live?", "Is {} far?", "Tell me about {}."]), PLACES, st.sampled_from([str.lower, str.upper, str.title])
)
def test_the_case_of_a_whole_name_does_not_matter(form: str, place: int, change: object) -> None:
    name = " ".join(NAMES[place])
    assert routed(form.format(change(name)), place) == routed(form.format(name), place)  # type: ignore[operator]


@given(TEXTS, PLACES)
def test_facts_about_what_a_request_does_not_mention_change_nothing(query: str, place: int) -> None:
    more = (*NAMES, ("Ivo", "Kestrel"))
    one, other = routed(query, place), routed(query, place, names=more)
    assert (one.chosen, one.facts) == (other.chosen, other.facts)


# ------------------------------------------------------------------ the local embedder


@pytest.mark.real
def test_with_the_local_embedder() -> None:
    from memos_core.embed import CachedEmbedder, local_embedder

    embed = CachedEmbedder(local_embedder())
    facts = [fact for each in TUNED if (fact := take_apart("", each.statement))]
    texts = [text for fact in facts for text in (fact.text, question(fact))]
    known = Profile(tuple(name_of(fact.subject) for fact in facts), embed(texts), tuple(place // 2 for place in range(len(texts))))

    def share(queries: list[str]) -> float:
        return float(np.mean([route(query, vector, (), known).chosen for query, vector in zip(queries, embed(queries), strict=True)]))

    asked = [one for each in TUNED for one in each.asked]
    assert share(asked) >= 0.95 and share([one.lower() for one in asked]) >= 0.95
    assert share([one for one, *_ in KNOWN] + list(OPEN) + [one for _, one, _ in IN_CONTEXT]) == 0
    assert share(list(neighbours(TUNED))) <= 0.1 and share(list(unknown_questions())) == 0

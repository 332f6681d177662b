"""What texts have to do with each other: the pairs written for it, the laws, the judge, and claims found through their keys."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core.conflict import Relation, RelationKind, opposed, relate
from memos_core.conflict.claims import Claim, Phase, claims
from memos_core.conflict.clauses import Stance, clauses
from memos_core.conflict.compare import compare
from memos_core.conflict.judge import verdict
from memos_core.conflict.opposites import alike, opposite
from memos_core.conflict.values import values
from memos_core.conflict.wording import affirmed, tokens

sys.path.insert(0, str(Path(__file__).parent / "data"))

from update_pairs import pairs

TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            "I we Ana never not no longer lives moved to Oslo 3 % $ April 5, at 4 pm and or but if ? ."
            " my dog is called Rex there nobody `` ``` \" ' like".split(" ")
        ),
        max_size=25,
    ).map(" ".join),
)  # fmt: skip


def shared(a: str, b: str) -> float:
    """A stand-in for an embedder that needs no model."""
    one, other = ({token.stem for token in tokens(text) if token.content} for text in (a, b))
    return len(one & other) / max(1, min(len(one), len(other)))


# ------------------------------------------------------------------ the pairs written for this project


def test_enough_pairs_of_every_kind() -> None:
    counted = defaultdict(int)
    for pair in pairs():
        counted[pair.relation] += 1
    assert sum(counted.values()) >= 500
    assert min(counted[kind] for kind in ("contradicts", "unrelated")) >= 200
    assert set(counted) == set(RelationKind)


def test_pairs_without_an_embedder() -> None:
    """Rules alone. Of what is said to contradict, at most one in fifty does not."""
    told = [(pair, relate(pair.older, pair.newer)) for pair in pairs()]
    right = [pair.relation == relation.kind for pair, relation in told]
    flagged = [pair.relation == "contradicts" for pair, relation in told if relation.kind == "contradicts"]
    updates = [relation.update == pair.update for pair, relation in told if pair.relation == relation.kind == "contradicts"]
    assert sum(right) / len(right) >= 0.93
    assert sum(flagged) / len(flagged) >= 0.98
    assert sum(updates) / len(updates) >= 0.98


@pytest.mark.real
def test_pairs_with_the_local_embedder() -> None:
    from memos_core.embed import CachedEmbedder, local_embedder

    embed = CachedEmbedder(local_embedder())
    texts = list(dict.fromkeys(text for pair in pairs() for text in (pair.older, pair.newer)))
    vectors = dict(zip(texts, embed(texts), strict=True))

    def similarity(a: str, b: str) -> float:
        one, other = (vectors[text] if text in vectors else embed([text])[0] for text in (a, b))
        return float(one @ other)

    right = [relate(pair.older, pair.newer, similarity).kind == pair.relation for pair in pairs()]
    assert sum(right) / len(right) >= 0.96


# ------------------------------------------------------------------ laws


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
def test_never_raises_and_contradiction_is_symmetric(a: str, b: str) -> None:
    one, other = relate(a, b), relate(b, a)
    assert (one.kind == "contradicts") == (other.kind == "contradicts")
    assert 0 <= one.confidence <= 1 and one.why


@pytest.mark.parametrize(
    ("older", "newer", "why"),
    [
        ("I am married.", "I am single.", "single and married exclude each other"),
        ("My favourite colour is blue.", "My favourite colour is green.", "another favourite colour"),
        ("The monthly payments are 300 dollars.", "The monthly payments are 400 dollars.", "another number of dollars"),
        ("I live in Oslo.", "I live in Bergen.", "another residence"),
    ],
)
def test_reasons_are_in_the_words_that_were_written(older: str, newer: str, why: str) -> None:
    assert relate(newer, older).why == why or relate(older, newer).why == why


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_a_text_is_its_own_duplicate(text: str) -> None:
    assert relate(text, text).kind == "duplicate"


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_claims_cite_where_they_stand(text: str) -> None:
    for claim in claims(text, "Ana"):
        assert text[claim.start : claim.end] == claim.text
        assert claim.stance is not Stance.ASKED
        assert len(claim.keys) == len(set(claim.keys)) <= 40


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_a_models_garbage_falls_back_to_the_rules(answer: str) -> None:
    a, b = "Ana lives in Lisbon.", "Ana moved to Oslo."
    assert verdict(answer) is not None or relate(a, b, judge=lambda _: answer) == relate(a, b)


def test_symmetry_on_the_pairs() -> None:
    for pair in pairs():
        assert (relate(pair.older, pair.newer).kind == "contradicts") == (relate(pair.newer, pair.older).kind == "contradicts"), pair


# ------------------------------------------------------------------ the judge


def test_a_valid_answer_is_taken_even_with_words_around_it() -> None:
    answer = 'Let me think {hm}. ```json\n{"relation": "refines", "confidence": 0.7, "why": "adds a month"}\n```'
    assert relate("We went to Greece.", "I love coffee.", judge=lambda _: answer) == Relation(RelationKind.REFINES, 0.7, "adds a month")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "contradicts",
        "{",
        '{"relation": "opposes", "confidence": 1}',
        '{"relation": "duplicate", "confidence": 7}',
        '{"relation": "duplicate", "confidence": NaN}',
        "{" * 5000,
        "[" * 100_000,
        '{"a":' * 50_000,
        json.dumps(["duplicate"]),
        None,
        7,
    ],
)
def test_invalid_answers_are_none(answer: object) -> None:
    assert verdict(answer) is None


def test_the_judge_sees_both_texts_and_its_own_errors_pass() -> None:
    seen: list[str] = []
    relate('He said "hi" {x}', "Bye.", judge=lambda prompt: seen.append(prompt) or "no idea")
    assert json.dumps('He said "hi" {x}') in seen[0] and '"Bye."' in seen[0]

    def broken(_: str) -> str:
        raise ConnectionError("no network")

    with pytest.raises(ConnectionError):
        relate("a", "b", judge=broken)


# ------------------------------------------------------------------ clauses and claims


def test_a_message_is_cut_into_what_is_said_and_asked() -> None:
    text = "I live in Oslo, but can you help me? If I moved to Rome, would I like it? I'm planning to sell my car. Mia says she hates tea."
    assert [clause.stance for clause in clauses(text)] == [
        Stance.ASSERTED,
        Stance.ASKED,
        Stance.SUPPOSED,
        Stance.ASKED,
        Stance.INTENDED,
        Stance.REPORTED,
    ]


def test_code_is_shown_and_not_claimed() -> None:
    assert claims("```python\nI never ran this\nname = 'Ana lives in Rome'\n```") == ()
    assert [claim.text for claim in claims("I use Flask. ```\nI never ran this\n```")] == ["I use Flask"]


def test_speakers_own_words_and_words_about_them_meet() -> None:
    (own,), (other,) = claims("I live in Lisbon.", "Ana"), claims("Ana lives in Oslo.", "Ana")
    assert own.subject == other.subject == "ana"
    assert compare(other, own).kind == "contradicts"
    assert compare(claims("I live in Oslo.", "Ben")[0], own) is None


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("I no longer smoke.", Phase.ENDED),
        ("I used to smoke.", Phase.ENDED),
        ("I've never actually smoked.", Phase.NEVER),
        ("I haven't finished any course yet.", Phase.NEVER),
        ("I don't smoke.", Phase.DENIED),
        ("I smoke.", Phase.HOLDS),
        ("I lived in Rome.", Phase.PAST),
        ("I'm not only tired but hungry.", Phase.HOLDS),
    ],
)
def test_phase(text: str, phase: Phase) -> None:
    assert claims(text)[0].phase is phase


def test_values() -> None:
    found = [
        (value.kind, value.value, value.what)
        for value in values("On April 5, 2024 at 4:30 PM we had 1,200 visitors, 78% more, and paid $40.")
    ]
    assert found == [
        ("date", "04-05", ""),
        ("time", "16:30", ""),
        ("quantity", "1200", "visitor"),
        ("quantity", "78", "%"),
        ("quantity", "40", "dollar"),
    ]


def test_negation_and_opposites() -> None:
    negated = {token.stem for token in tokens("There is no man cooking, but a dog sleeps") if token.negated}
    assert {"man", "cook"} <= negated and not {"dog", "sleep"} & negated
    assert affirmed("There is no man cooking") == "a man cooking"
    assert opposite("marri", "singl") and not opposite("red", "blue")
    assert alike("begin", "start") and not alike("begin", "end")


# ------------------------------------------------------------------ found through keys, as messages come in


class Filed:
    """Claims under their keys, as a store would keep them."""

    def __init__(self) -> None:
        self.under: dict[str, list[tuple[int, Claim]]] = defaultdict(list)
        self.looked_at = 0

    def lookup(self, key: str) -> list[tuple[int, Claim]]:
        self.looked_at += 1
        return self.under[key]

    def say(self, place: int, text: str, speaker: str = "Ana") -> list[tuple[int, str, bool]]:
        opposing = [found for claim in claims(text, speaker) if (found := opposed(claim, self.lookup))]
        found = [(old, relation.kind.value, relation.update) for old, relation in opposing]
        for claim in claims(text, speaker):
            for key in claim.keys:
                self.under[key].append((place, claim))
        return found


def test_conflicts_are_found_as_messages_come_in() -> None:
    filed = Filed()
    assert filed.say(1, "I live in Lisbon and my dog is called Rex.") == []
    assert filed.say(2, "I just attended a pottery workshop, it was fun.") == []
    assert filed.say(3, "The report deadline is May 2, can you remind me?") == []
    assert filed.say(4, "By the way, I moved to Oslo last week.") == [(1, "contradicts", True)]
    assert filed.say(5, "I've never attended any pottery workshop, so where do I start?") == [(2, "contradicts", False)]
    assert filed.say(6, "I'm working with the new report deadline of May 9.") == [(3, "contradicts", True)]
    assert filed.say(7, "As I said, I've never attended any pottery workshop.") == []
    assert filed.say(8, "My cat is called Tom. Should I move to Rome?") == []


def test_of_several_a_never_is_held_against_the_first_and_a_value_against_the_last() -> None:
    filed = Filed()
    filed.say(1, "I finished a pottery course in March.")
    filed.say(2, "I have finished my pottery course, it was fun.")
    assert filed.say(3, "I have never finished a pottery course.") == [(1, "contradicts", False)]
    filed.say(4, "The report deadline is May 2.")
    filed.say(5, "The report deadline has been moved to May 9.")
    assert filed.say(6, "The report deadline has been moved to May 12.") == [(5, "contradicts", True)]


@pytest.mark.parametrize(
    ("older", "newer", "against"),
    [
        ("My score on the chess puzzles was 4 of 5.", "I have never attempted any chess puzzles.", True),
        ("My accuracy in chess puzzles improved to 80%.", "I've never solved any chess puzzles before.", True),
        ("My score on the chess puzzles was 4 of 5.", "I have never sold any chess puzzles.", False),
        ("Ben's score on the chess puzzles was 4 of 5.", "I have never solved any chess puzzles.", False),
        ("My interest in chess puzzles is great.", "I have never solved any chess puzzles.", False),
        ("I have 22 days left.", "I got it right.", False),
    ],
)
def test_who_has_a_result_has_tried(older: str, newer: str, against: bool) -> None:
    assert (relate(older, newer, shared).kind == "contradicts") == against


def test_pairs_that_contradict_by_rule_are_found_through_their_keys() -> None:
    """What compare finds, the keys find."""
    missed = []
    for pair in pairs():
        older, newer = claims(pair.older), claims(pair.newer)
        if not any((found := compare(new, old)) and found.kind == "contradicts" for new in newer for old in older):
            continue
        filed = Filed()
        filed.say(0, pair.older, "")
        if not any(opposed(claim, filed.lookup) for claim in claims(pair.newer, "")):
            missed.append(pair)
    assert not missed


def test_a_long_conversation_does_not_make_a_message_dear() -> None:
    filed = Filed()
    for number in range(400):
        filed.say(number, f"I bought {number} apples at the market and fixed my bike number {number}.")
    before = filed.looked_at
    filed.say(400, "I bought pears at the market today.")
    assert filed.looked_at - before <= 40

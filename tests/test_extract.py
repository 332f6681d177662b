"""Extraction by a model falls back to the rules and loses nothing; the rules tell standing wishes from what merely sounds like one."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memos_core.cube import SemanticType
from memos_core.errors import InvalidInput
from memos_core.parse.extract import MESSAGE_CHARACTERS, PROMPT_CHARACTERS, Said, extract, prompt, rules, standing

DATA = Path(__file__).parent / "data"
TALK = [
    Said("m7", "Hi! I moved to Oslo in May 2024. Can you help me find a flat?", "Ana", datetime(2024, 6, 1, tzinfo=UTC)),
    Said("m8", "I'm vegetarian. Thanks a lot!", "Ana"),
]


def answering(*facts: dict, around: str = "%s"):
    return lambda asked: around % json.dumps({"facts": list(facts)})


MOVED = {"text": "Ana moved to Oslo.", "sources": ["1"], "type": "event", "path": ["home", "Oslo"], "time": "2024-05"}


# ------------------------------------------------------------------ with a model
@pytest.mark.parametrize(
    "around",
    [
        "%s",
        "Sure! Here it is:\n```json\n%s\n```\nAnything else?",
        "[1] and [2] say this: %s",
        "<think>facts {maybe}</think> %s",
    ],
)
def test_a_good_answer_is_taken_whatever_stands_around_it(around: str) -> None:
    found = extract(TALK, answering(MOVED, {"text": "Ana is vegetarian.", "sources": [2], "type": "preference"}, around=around))
    assert found.by == "model" and found.problems == ()
    assert [(fact.text, fact.sources, fact.semantic_type) for fact in found.facts] == [
        ("Ana moved to Oslo.", ("m7",), SemanticType.EVENT),
        ("Ana is vegetarian.", ("m8",), SemanticType.PREFERENCE),
    ]
    assert found.facts[0].path == ("home", "Oslo") and found.facts[0].time == "2024-05"


@pytest.mark.parametrize(
    "answer",
    [
        '{"facts": [{"text": "Ana moved to Oslo.", "sources": ["1"],},]}',
        "{'facts': [{'text': 'Ana moved to Oslo.', 'sources': ['1']}]}",
        '{"facts": [{"text": "Ana moved to Oslo.", "sources": ["1"]}',
        '[{"text": "Ana moved to Oslo.", "sources": "1", "type": "fact", "time": "soon", "mood": "good"}]',
        '{"text": "Ana moved to Oslo.", "sources": ["[1]"]}',
    ],
)
def test_a_nearly_good_answer_is_mended(answer: str) -> None:
    found = extract(TALK, lambda asked: answer)
    assert found.by == "model" and [(fact.text, fact.sources, fact.time) for fact in found.facts] == [("Ana moved to Oslo.", ("m7",), None)]


def test_nothing_to_remember_is_an_answer() -> None:
    assert extract(TALK, answering()).facts == () and extract(TALK, answering()).by == "model"


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"text": "Ana moved to Oslo.", "sources": ["9"]}, "not there"),
        ({"text": "Ana moved to Oslo.", "sources": []}, "invalid"),
        ({"text": "Ana moved to Oslo."}, "invalid"),
        ({"text": "  ", "sources": ["1"]}, "invalid"),
        ({"text": "Penguins cannot fly.", "sources": ["1"]}, "no word"),
        ({"text": "Ana moved to Oslo.", "sources": ["1"], "type": "skill"}, "invalid"),
    ],
)
def test_a_fact_that_does_not_hold_is_dropped_and_the_others_stay(bad: dict, problem: str) -> None:
    found = extract(TALK, answering(bad, MOVED))
    assert [fact.text for fact in found.facts] == ["Ana moved to Oslo."] and found.by == "model"
    assert len(found.problems) == 1 and problem in found.problems[0]
    alone = extract(TALK, answering(bad))
    assert alone.by == "rules" and alone.facts == extract(TALK).facts and alone.problems


def test_an_error_of_the_model_is_a_problem_and_an_interrupt_passes() -> None:
    def fails(asked: str) -> str:
        raise ConnectionError("no network")

    def interrupted(asked: str) -> str:
        raise KeyboardInterrupt

    found = extract(TALK, fails)
    assert found.by == "rules" and found.facts == extract(TALK).facts and "ConnectionError: no network" in found.problems[0]
    with pytest.raises(KeyboardInterrupt):
        extract(TALK, interrupted)


words_of_a_model = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="{}[]\",:'facts0 1texsourc\\n`", max_size=80),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=5), st.just("1"), st.just("Oslo")),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["facts", "text", "sources", "type", "path", "time"]), inner, max_size=4),
        ),
        max_leaves=12,
    ).map(json.dumps),
    st.none(),
    st.binary(max_size=5),
)


@settings(max_examples=400, deadline=None)
@given(words_of_a_model)
@example("{" * 5000)
@example("[" * 100_000)
@example('{"facts": ' + "[" * 3000)
@example('{"facts":[{"text":"\\ud800 Oslo","sources":["1"]}]}')
def test_no_words_of_a_model_raise_or_lose_what_the_rules_find(answer: object) -> None:
    found = extract(TALK, lambda asked: answer)  # type: ignore[arg-type,return-value]
    assert all(set(fact.sources) <= {"m7", "m8"} and fact.text.strip() for fact in found.facts)
    assert found.by == "model" or (found.facts == extract(TALK).facts and found.problems)
    for fact in found.facts:
        fact.text.encode()


def test_prompts_are_bounded_and_show_every_message_once() -> None:
    seen: list[str] = []

    def model(asked: str) -> str:
        seen.append(asked)
        return '{"facts": []}'

    many = [Said(f"id-{number}", f"word{number} " * 200, "Ana") for number in range(40)] + [Said("long", "x" * 50_000)]
    extract(many, model)
    overhead = len(prompt([]))
    assert len(seen) > 1 and all(len(asked) <= PROMPT_CHARACTERS + overhead for asked in seen)
    assert all(sum(f"word{number} " in asked for asked in seen) == 1 for number in range(40))
    assert sum(asked.count("x" * MESSAGE_CHARACTERS) for asked in seen) == 1
    assert "[1] (2024-06-01) Ana: Hi!" in prompt(TALK)


def test_only_the_batch_that_failed_falls_back() -> None:
    many = [Said(str(number), f"My number{number} lives in Oslo. " + "Well! " * 600) for number in range(5)]
    calls = iter(['{"facts": [{"text": "number0 is in Oslo", "sources": ["1"]}]}', "no idea", '{"facts": []}'])
    found = extract(many, lambda asked: next(calls))
    assert found.by == "rules" and len(found.problems) == 1
    assert "number0 is in Oslo" in {fact.text for fact in found.facts}
    assert {source for fact in found.facts for source in fact.sources} > {"0"}


def test_ids_must_differ() -> None:
    with pytest.raises(InvalidInput, match="same id"):
        extract([Said("a", "x"), Said("a", "y")])


# ------------------------------------------------------------------ by rules
def test_sentences_by_kind() -> None:
    text = """Hi! I moved to Oslo in May 2024. Dr. Smith called me yesterday. Can you help me write a letter? I prefer short answers, can you do that?
My dog Rex is 3.5 years old. Thanks a lot! Write me a poem about it.
- I love C#
```
I like code
```
Let's go. We go to the zoo every Friday."""
    assert [(found.kind.value, found.text) for found in rules(text)] == [
        ("event", "I moved to Oslo in May 2024."),
        ("event", "Dr. Smith called me yesterday."),
        ("preference", "I prefer short answers, can you do that?"),
        ("fact", "My dog Rex is 3.5 years old."),
        ("preference", "I love C#"),
        ("fact", "We go to the zoo every Friday."),
    ]


pieces = st.sampled_from(
    ["I like tea", "Always ", "Dr. ", "e.g. ", ". ", "! ", "? ", "\n", "```", "- ", "yesterday", "…", "I’m vegan", "\r\n", "🎉", "3.5", ")"]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=100), st.lists(pieces, max_size=15).map("".join)))
def test_rules_cite_the_text_exactly_in_order_and_never_raise(text: str) -> None:
    found = rules(text)
    assert all(text[one.start : one.end] == one.text and one.text.strip() == one.text for one in found)
    assert all(one.end <= other.start for one, other in zip(found, found[1:]))  # noqa: B905, RUF007
    assert all((one.standing is not None) == (one.kind is SemanticType.PREFERENCE) for one in found)
    first = next((one.standing for one in found if one.standing), None)
    assert standing(text) == first


@pytest.mark.parametrize(
    "piece", ["word ", "always when i ask, ", "i prefer if you whenever ", "a over b ", "Dr. ", "```", "- ", "? !", "I like tea. ", "."]
)
def test_rules_take_time_in_proportion(piece: str) -> None:
    begin = time.perf_counter()
    rules(piece * (100_000 // len(piece)))
    assert time.perf_counter() - begin < 3


# ------------------------------------------------------------------ standing instructions and preferences
def judged(name: str) -> tuple[float, float, float, float]:
    """Accuracy by kind, precision, recall, and how often the topics hold what they should."""
    rows = json.loads((DATA / name).read_text())
    found = [standing(row["text"]) for row in rows]
    right = [(wish.kind if wish else None) == row["kind"] for wish, row in zip(found, rows, strict=True)]
    flagged = [bool(row["kind"]) for wish, row in zip(found, rows, strict=True) if wish]
    recalled = [bool(wish) for wish, row in zip(found, rows, strict=True) if row["kind"]]
    both = [(wish, row) for wish, row, fits in zip(found, rows, right, strict=True) if fits and wish]
    topics = [wish.always if row["about"] == "always" else row["about"].lower() in wish.topics for wish, row in both]
    return tuple(sum(each) / len(each) for each in (right, flagged, recalled, topics))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "accuracy", "precision", "recall", "topics"),
    [
        ("standing.json", 0.99, 0.99, 0.99, 0.99),  # written before the rules
        ("standing_fresh.json", 0.97, 0.99, 0.97, 0.93),  # written after them: 0.74 at first sight, then worked on
        ("standing_unseen.json", 0.71, 0.97, 0.45, 0.80),  # written last, on purpose unlike the others, and never worked on
    ],
)
def test_standing_wishes_are_told_from_what_sounds_like_one(
    name: str, accuracy: float, precision: float, recall: float, topics: float
) -> None:
    for found, asked in zip(judged(name), (accuracy, precision, recall, topics), strict=True):
        assert found >= asked


@pytest.mark.parametrize(
    ("wish", "applies", "does_not"),
    [
        ("Please never suggest pork.", "What shall I cook for dinner?", "How do I reset my password?"),
        ("I'm vegetarian.", "Recommend a restaurant near the station", "Which train goes to Oslo?"),
        ("Whenever I ask about code, show me Python and not JavaScript.", "Write a function that sorts names", "Who wrote Dune?"),
        ("I prefer window seats when flying.", "Book a flight to Rome", "What is the capital of Peru?"),
    ],
)
def test_a_wish_applies_beyond_its_own_words(wish: str, applies: str, does_not: str) -> None:
    found = standing(wish)
    assert found is not None and not found.always
    assert found.applies(applies) and not found.applies(does_not)


def test_a_wish_about_answers_applies_always() -> None:
    for text in ("Always answer in British English.", "From now on call me Doc.", "I prefer short answers."):
        found = standing(f"Hello there. {text} What is new?")
        assert found is not None and found.always and found.text == text and found.applies("anything at all")

"""Which of several hits is the newer value of the same, and where both sides of a pair end up. Pure."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from conftest import NOW

from memos_core.cube import Governance, Identifiers, MemCube, Plaintext
from memos_core.recall import Hit
from memos_core.recall.pairs import changed, together, wanted_kinds

ASKED = "How many sources have I collected?"


def hit(id: str, text: str, days: float, score: float = 1.0, speaker: str = "Ana") -> Hit:
    at = NOW + timedelta(days=days)
    identifiers = Identifiers(created_at=at, updated_at=at, occurred_at=at, speaker=speaker)
    return Hit(
        MemCube(
            id=id, version=1, payload=Plaintext(text=text), identifiers=identifiers, governance=Governance(scope=("ana",), owner=("ana",))
        ),
        score,
        (),
    )


def order(hits: list[Hit], question: str = ASKED, cosine: float = 0.9) -> str:
    angles = {one.cube.id: np.array([cosine, np.sqrt(1 - cosine**2)]) if place else np.array([1.0, 0.0]) for place, one in enumerate(hits)}
    return "".join(one.cube.id for one in together(hits, changed(hits, question, angles), {}, 10))


def test_every_newer_value_comes_before_the_one_it_replaces() -> None:
    hits = [
        hit("a", "I have 45 sources for my thesis.", 0, 3.0),
        hit("x", "My thesis is about rivers.", 1, 2.5),
        hit("b", "I just added more, so I have 52 sources now.", 4, 2.0),
        hit("c", "The number of sources has recently reached 60.", 8, 1.5),
    ]
    assert order(hits) == "bcax"


@pytest.mark.parametrize(
    "newer",
    [
        hit("b", "I have recently 45 sources for my thesis.", 4),
        hit("b", "I have 52 sources for my thesis.", 4),
        hit("b", "I just have 52 cousins.", 4),
        hit("b", "I just added more, so I have 52 sources now.", -4),
        hit("b", "I just added more, so I have 52 sources now.", 4, speaker="Ben"),
        hit("b", "I just added more, so I have 52 sources now.", 4, 0.3),
    ],
    ids=["the same value", "no word of change", "something else is counted", "it is older", "another's", "it hardly fits"],
)
def test_what_is_no_newer_value(newer: Hit) -> None:
    assert order([hit("a", "I have 45 sources for my thesis.", 0), newer]) == "ab"


def test_two_matters_or_another_question() -> None:
    hits = [hit("a", "I have 45 sources for my thesis.", 0), hit("b", "I just got more, I have 52 sources now.", 4)]
    assert order(hits) == "ba"
    assert order(hits, cosine=0.1) == "ab"
    assert order(hits, "Which sources have I collected?") == "ab"
    assert order(hits, "How many sources did I have before?") == "ab"
    assert order(hits, "How did the number of sources change between May and June?") == "ab"


@pytest.mark.parametrize(("question", "compared"), [("Who wrote the thesis?", 0), (ASKED, 50)], ids=["of no value", "of a value"])
def test_only_what_may_be_newer_is_compared(monkeypatch: pytest.MonkeyPatch, question: str, compared: int) -> None:
    """A conversation on show brings up as many hits as it has messages: not each of them with each other."""
    calls: list[int] = []
    monkeypatch.setattr("memos_core.recall.pairs._differ", lambda older, newer: bool(calls.append(1)))
    hits = [hit(f"{number:03}", f"I have {number} sources for my thesis.", number) for number in range(50)]
    order(
        [*hits, *(hit(f"x{number}", "My thesis is about rivers.", 60) for number in range(50)), hit("n", "I now have more: 99.", 70)],
        question,
    )
    assert len(calls) == compared


def test_of_which_kind_a_value_is() -> None:
    assert wanted_kinds(ASKED) == {"quantity"}
    assert wanted_kinds("When is the deadline of the draft?") == {"date", "time", "weekday"}
    assert wanted_kinds("Who wrote the draft?") == frozenset()

"""Passages: exact places, nothing lost, the size kept, headings, citations."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core.errors import InvalidInput
from memos_core.parse.passages import SLAB, cited, passages, source

GUIDE = """# Clinic guide

Welcome to the clinic. It opens at eight.

## Prescriptions

Ana writes them. Penicillin is kept in the blue cupboard.

```sh
# not a heading
order --penicillin
```

Opening hours
-------------

Monday to Friday. Живой приём 🎉 on Saturdays.
"""
LINES = [
    "# One",
    "## Two",
    "Title\n===",
    "plain words here.",
    "Другой текст 🎉.",
    "```\n# code\n```",
    "- a\n- b",
    "",
    "\r",
    "a\r\nb",
    "\x1c",
    "> # in",
]

documents = st.one_of(
    st.text(max_size=400),
    st.lists(st.sampled_from(LINES), max_size=30).map("\n".join),
    st.lists(st.sampled_from(LINES), max_size=30).map("\r\n\r\n".join),
)
kinds = st.sampled_from(["plain", "markdown"])


@settings(max_examples=300, deadline=None)
@given(documents, kinds, st.integers(1, 120), st.floats(0, 0.9))
def test_offsets_are_exact_and_only_white_space_is_left_out(document: str, kind: str, size: int, share: float) -> None:
    found = passages(document, kind, size=size, overlap=int(share * size))
    covered = set()
    for passage in found:
        assert document[passage.start : passage.end] == passage.text
        assert passage.text.strip()
        assert len(passage.text) <= size
        covered.update(range(passage.start, passage.end))
    assert all(document[at].isspace() for at in range(len(document)) if at not in covered)
    assert [passage.start for passage in found] == sorted(passage.start for passage in found)


@given(documents, kinds, st.integers(1, 120))
def test_without_overlap_nothing_is_said_twice(document: str, kind: str, size: int) -> None:
    found = passages(document, kind, size=size)
    assert all(one.end <= other.start for one, other in pairwise(found))


@given(st.text(min_size=1, max_size=60), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_source_id_leads_back_to_its_place(title: str, start: int, length: int) -> None:
    passage = passages("x")[0].__class__("x", start, start + length)
    assert cited(source(title, passage)) == (title, start, start + length)


def test_a_source_id_is_readable() -> None:
    passage = passages(GUIDE, "markdown", size=80)[1]
    assert (
        source("https://clinic.example/guide.md?v=2", passage) == f"https://clinic.example/guide.md?v=2#char={passage.start},{passage.end}"
    )
    with pytest.raises(InvalidInput, match=r"guide\.md#char"):
        cited("guide.md")


def test_headings_lead_and_code_has_none() -> None:
    found = passages(GUIDE, "markdown", size=80)
    where = {passage.text.split("\n")[0]: passage.heading for passage in found}
    assert where["```sh"] == ("Clinic guide", "Prescriptions")
    assert where["# Clinic guide"] == ("Clinic guide",)
    last = found[-1]
    assert last.heading == ("Clinic guide", "Opening hours") and "Saturdays" in last.text


def test_a_passage_of_several_sections_stands_under_what_they_share() -> None:
    (whole,) = passages(GUIDE, "markdown", size=10_000)
    assert whole.heading == ("Clinic guide",)
    assert passages("# A\n\none\n\n# B\n\ntwo", "markdown")[0].heading == ()
    assert all(passage.heading == () for passage in passages(GUIDE, "plain", size=80))


def test_sentences_stay_whole_where_they_fit() -> None:
    text = "The first sentence is here. The second one follows it! And is there a third? Yes."
    assert [passage.text for passage in passages(text, size=30)] == [
        "The first sentence is here.",
        "The second one follows it!",
        "And is there a third? Yes.",
    ]


def test_overlap_repeats_the_end_of_the_passage_before() -> None:
    text = "One is first. Two is next. Three is last. Four is more."
    found = passages(text, size=28, overlap=14)
    assert any(other.start < one.end for one, other in pairwise(found))


def test_size_in_what_the_caller_counts() -> None:
    text = "alpha beta gamma. delta epsilon zeta eta theta iota. " * 20
    found = passages(text, size=7, count=lambda part: len(part.split()))
    assert max(len(passage.text.split()) for passage in found) <= 7
    assert len(found) < 60  # sentences are put together where they fit


def test_a_long_document_without_line_breaks_is_cut_in_time() -> None:
    document = "x" * (SLAB * 3) + " " + "word " * SLAB
    begin = time.perf_counter()
    found = passages(document)
    assert time.perf_counter() - begin < 5
    assert sum(len(passage.text.replace(" ", "")) for passage in found) == len(document.replace(" ", ""))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"document": b"bytes"}, "decode"),
        ({"document": "\ud800"}, "surrogate"),
        ({"document": "x", "kind": "html"}, "markdown"),
        ({"document": "x", "size": 0}, "size"),
        ({"document": "x", "size": 5, "overlap": 5}, "overlap"),
    ],
)
def test_what_cannot_be_cut_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        passages(**arguments)


def test_nothing_gives_nothing() -> None:
    assert passages("") == passages(" \n\t\n", "markdown") == ()

"""Fingerprints: a metric that follows the angle, the same everywhere; context apart from text; a first stage that finds what is near."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from memos_core.duplicate.fingerprint import (
    BITS,
    CONTEXT,
    TEXT,
    TEXT_BITS,
    alignment,
    cosine,
    distance,
    distances,
    fingerprint,
    fingerprints,
    from_hex,
    hyperplanes,
    text_only,
    to_hex,
)
from memos_core.errors import InvalidInput
from memos_core.index.coarse import nearest

bits = arrays.arrays(np.uint8, 32)
vectors = arrays.arrays(np.float32, 24, elements=st.floats(-1, 1, width=16))


def unit(rng: np.random.Generator, n: int, d: int = 384) -> np.ndarray:
    drawn = rng.standard_normal((n, d))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def at_cosine(rng: np.random.Generator, one: np.ndarray, wanted: float) -> np.ndarray:
    other = unit(rng, 1, len(one))[0]
    other -= (other @ one) * one
    return wanted * one + np.sqrt(1 - wanted**2) * other / np.linalg.norm(other)


@given(bits, bits, bits)
def test_distance_is_a_metric(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    assert distance(a, a) == 0
    assert (distance(a, b) == 0) == np.array_equal(a, b)
    assert distance(a, b) == distance(b, a)
    assert distance(a, c) <= distance(a, b) + distance(b, c)


@given(
    bits, arrays.arrays(np.uint8, st.tuples(st.integers(0, 9), st.just(32))), st.sampled_from([slice(0, 32), TEXT, CONTEXT, slice(0, 5)])
)
def test_distances_count_bits_one_by_one(one: np.ndarray, many: np.ndarray, part: slice) -> None:
    counted = [sum((int(x) ^ int(y)).bit_count() for x, y in zip(one[part], row[part], strict=True)) for row in many]
    assert distances(one[part], many[:, part]).tolist() == counted


@given(vectors, st.floats(0.01, 100))
def test_only_the_direction_counts(vector: np.ndarray, scale: float) -> None:
    assert np.array_equal(fingerprint(vector), fingerprint(vector.copy()))
    assert distance(fingerprint(vector), fingerprint(vector.astype(np.float64) * scale)) == 0


@given(
    arrays.arrays(np.float32, (5, 24), elements=st.floats(-1, 1, width=16)),
    arrays.arrays(np.float32, (5, 24), elements=st.floats(-1, 1, width=16)),
)
def test_many_are_each_as_one(texts: np.ndarray, contexts: np.ndarray) -> None:
    before = texts.copy()
    together = fingerprints(texts, contexts)
    assert [row.tolist() for row in together] == [
        fingerprint(text, context).tolist() for text, context in zip(texts, contexts, strict=True)
    ]
    assert np.array_equal(texts, before)


def test_the_distance_estimates_the_angle() -> None:
    rng = np.random.default_rng(3)
    means = []
    for wanted in (-0.5, 0.0, 0.3, 0.6, 0.8, 0.9, 0.99):
        pairs = [(one, at_cosine(rng, one, wanted)) for one in unit(rng, 100)]
        found = [distance(fingerprint(one)[TEXT], fingerprint(other)[TEXT]) for one, other in pairs]
        means.append(np.mean(found))
        assert float(cosine(means[-1])) == pytest.approx(wanted, abs=0.03)
        assert np.std(cosine(np.array(found))) < 1.6 / np.sqrt(TEXT_BITS)
    assert means == sorted(means, reverse=True)


def test_the_hyperplanes_are_those_that_stored_fingerprints_were_made_with() -> None:
    # A change here makes every stored fingerprint meaningless: then the fingerprints must be rebuilt by a migration.
    ramp = np.cos(np.arange(384) ** 2 / 7.0)
    assert to_hex(fingerprint(ramp)) == "1c3257ae2a4eb5eb563ab96e38163da429de5d5cfefa6f554368a5a736e8e2d7"
    assert np.allclose(hyperplanes(384)[:2, :2], [[-0.06732744, -0.04950239], [0.01225443, -0.01319973]], atol=1e-8)


def test_hyperplanes_are_orthogonal_in_blocks_for_any_size() -> None:
    for dimensions in (1, 2, 24, 256, 384, 1000):
        planes = hyperplanes(dimensions)
        assert planes.shape == (BITS, dimensions)
        for start in range(0, BITS, dimensions):
            block = planes[start : start + dimensions]
            assert np.allclose(block @ block.T, np.eye(len(block)), atol=1e-9)


def test_context_changes_only_the_bits_of_the_context() -> None:
    text, one, other = unit(np.random.default_rng(5), 3)
    a, b, alone = fingerprint(text, one), fingerprint(text, other), fingerprint(text)
    assert np.array_equal(a[TEXT], b[TEXT])
    assert distance(a[CONTEXT], b[CONTEXT]) > 10
    assert np.array_equal(fingerprint(text, np.zeros(384)), alone)
    assert np.array_equal(fingerprint(text, text), alone)
    assert np.array_equal(text_only(a), text_only(b)) and not text_only(a)[CONTEXT].any()
    assert np.array_equal(a[CONTEXT], fingerprint(other, one)[CONTEXT]), "the context's bits say nothing of the text"


def test_alignment_tells_the_task_that_something_was_said_in() -> None:
    rng = np.random.default_rng(6)
    tasks = unit(rng, 4)
    said = np.repeat(np.arange(4), 50)
    contexts = np.stack([at_cosine(rng, tasks[task], 0.7) for task in said])
    made = fingerprints(unit(rng, 200), contexts)
    guessed = np.argmax([alignment(made, task) for task in tasks], axis=0)
    assert np.mean(guessed == said) > 0.95
    assert np.mean(alignment(made, tasks[0])[said == 0]) == pytest.approx(0.7, abs=0.05)
    assert not alignment(made, np.zeros(384)).any()


@given(bits)
def test_hex_there_and_back(one: np.ndarray) -> None:
    text = to_hex(one)
    assert len(text) == 64 and np.array_equal(from_hex(text), one)


@pytest.mark.parametrize("text", ["", "abc", "zz" * 32, "00" * 31, None, 7])
def test_hex_of_something_else_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput, match="64 hexadecimal"):
        from_hex(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "call",
    [
        lambda: fingerprint(np.zeros((2, 3))),
        lambda: fingerprint(np.array([1.0, np.nan])),
        lambda: fingerprints(np.zeros((2, 0))),
        lambda: fingerprints(np.ones((2, 3)), np.ones((2, 4))),
        lambda: distance(np.zeros(32, np.uint8), np.zeros(24, np.uint8)),
        lambda: distances(np.zeros(32), np.zeros((3, 32))),
        lambda: nearest(np.zeros(32, np.uint8), np.zeros((3, 24), np.uint8), 2),
    ],
)
def test_what_cannot_be_compared_is_refused(call: object) -> None:
    with pytest.raises(InvalidInput):
        call()  # type: ignore[operator]


@settings(max_examples=50)
@given(bits, arrays.arrays(np.uint8, st.tuples(st.integers(0, 40), st.just(32)), elements=st.sampled_from([0, 1, 255])), st.integers(0, 50))
def test_nearest_is_the_head_of_a_full_sort(one: np.ndarray, many: np.ndarray, count: int) -> None:
    found, differing = nearest(one, many, count)
    expected = np.argsort(distances(one, many), kind="stable")[:count]
    assert found.tolist() == expected.tolist()
    assert differing.tolist() == distances(one, many)[expected].tolist()


def test_a_shortlist_holds_what_an_exact_search_would_find() -> None:
    rng = np.random.default_rng(8)
    centres = unit(rng, 40)
    texts = np.stack([at_cosine(rng, centres[rng.integers(40)], 0.8) for _ in range(5000)])
    many, recall = text_only(fingerprints(texts)), []
    for _ in range(30):
        query = at_cosine(rng, centres[rng.integers(40)], 0.8)
        best = set(np.argsort(-(texts @ query))[:10].tolist())
        found, _ = nearest(text_only(fingerprint(query)), many, 300)
        recall.append(len(best & set(found.tolist())) / 10)
    assert np.mean(recall) > 0.97

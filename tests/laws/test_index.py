"""Laws *index* and *scope*: scoped recall equals exact search over what the actor may read; rebuilt equals live; no hit outside."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core import MemOS, reading
from memos_core.access import may
from memos_core.analyse import words
from memos_core.cube import MemCube, contains
from memos_core.recall.features import features, unpack
from memos_core.recall.lexical import K1, B
from memos_core.recall.rank import Asked, Candidates, fuse
from tests.conftest import NOW, bag_of_words

SCOPES = [("acme",), ("acme", "ana"), ("acme", "bob"), ("acme b",), ("other", "ana"), ("acme", "ana", "work")]
WORDS = "tea coffee train garden doctor number red blue piano cat".split()


def reference(cubes: list[MemCube], query: str, now: float, k: int, topics: dict[str, int]) -> list[tuple[str, float]]:
    """Exact search over exactly these cubes, without the index: cosine and BM25 by the textbook, one loop per document.

    topics: the concept of each cube; in these tests nothing is said in a session, and one label is given.
    """
    if not cubes:
        return []
    dense = np.array([float(bag_of_words([cube.payload.text])[0] @ bag_of_words([query])[0]) for cube in cubes])
    documents = [words(cube.payload.text) for cube in cubes]
    average = np.mean([len(document) for document in documents]) or 1.0
    lexical = np.zeros(len(cubes))
    for word in set(words(query)):
        holders = sum(word in document for document in documents)
        idf = np.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        for i, document in enumerate(documents):
            frequency = document.count(word)
            lexical[i] += idf * frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * len(document) / average)) if frequency else 0.0
    nobody = np.full(len(cubes), -1)
    found = Candidates(
        rows=np.array([int(cube.id[:14], 16) for cube in cubes]),  # ids and rows ascend together
        dense=dense,
        lexical=lexical,
        occurred_at=np.array([cube.identifiers.occurred_at.timestamp() for cube in cubes]),
        priority=np.array([cube.governance.priority for cube in cubes]),
        features=unpack(features(cube.payload.text, None, None, about=None, standing=False).packed() for cube in cubes),
        topic=np.array([topics[cube.id] for cube in cubes]),
        place=np.zeros(len(cubes)),
        before=nobody,
        after=nobody,
        superseded=np.zeros(len(cubes), dtype=bool),
    )
    total, _ = fuse(found, Asked(), now)
    order = sorted(range(len(cubes)), key=lambda i: (-total[i], cubes[i].id))
    return [(cubes[i].id, float(total[i])) for i in order[:k]]


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "add", "update", "forget", "grant", "expire", "archive"]), st.integers(0, 10**6)),
    min_size=5,
    max_size=40,
)


def play(memos: MemOS, steps: list[tuple[str, int]]) -> dict[str, MemCube]:
    """Random operations; returns the heads as a plain model."""
    heads: dict[str, MemCube] = {}
    for step, number in steps:
        rng = np.random.default_rng(number)
        if step == "add" or not heads:
            text = " ".join(rng.choice(WORDS, size=int(rng.integers(1, 7)))) + f" {number % 7}"
            (done,) = memos.remember(
                text, scope=SCOPES[number % len(SCOPES)], occurred_at=NOW - timedelta(days=number % 90), priority=(number % 3) / 4, now=NOW
            )
            heads[done.id] = done.cube
            continue
        cube = sorted(heads)[number % len(heads)]
        if step == "update":
            heads[cube] = memos.update(cube, text=" ".join(rng.choice(WORDS, size=4)), now=NOW)
        elif step == "forget":
            memos.forget(cube, now=NOW)
            del heads[cube]
        elif step == "grant":
            heads[cube] = memos.update(cube, read=[SCOPES[(number // 7) % len(SCOPES)]], now=NOW)
        elif step == "expire":
            heads[cube] = memos.update(cube, ttl=timedelta(seconds=number % 3 + 1), now=NOW - timedelta(seconds=2))
        elif heads[cube].state == "active":
            heads[cube] = memos.update(cube, state="archived", now=NOW)
    return heads


def visible(heads: dict[str, MemCube], scope: tuple[str, ...], actor: tuple[str, ...]) -> list[MemCube]:
    """By the rules as they are documented, one cube at a time."""
    found = []
    for cube in heads.values():
        expires = cube.governance.expires_at
        if cube.state != "active" or (expires is not None and expires <= NOW) or not may(cube, actor, "read"):
            continue
        shared = any(contains(grantee, scope) and contains(grantee, actor) for grantee in cube.governance.access.read)
        if contains(scope, cube.governance.scope) or shared:
            found.append(cube)
    return found


@settings(max_examples=40)
@given(STEPS, st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
def test_recall_is_exact_search_over_what_the_actor_may_read(steps: list[tuple[str, int]], query: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.memos"
        with MemOS.open(path, embedder=bag_of_words) as memos:
            heads = play(memos, steps)
            cases = [(scope, scope) for scope in SCOPES] + [
                (("acme",), ("acme", "ana")),
                (("acme", "ana"), ("acme", "bob")),
                (("other",), ("acme",)),
            ]
            live = {}
            for scope, actor in cases:
                hits = memos.recall(" ".join(query), scope=scope, actor=actor, k=5, now=NOW).hits
                cubes = visible(heads, scope, actor)
                assert {hit.cube.id for hit in hits} <= {cube.id for cube in cubes}, "a hit outside what the actor may read"
                with memos._house.view() as view:
                    topics = dict(view.db.execute("SELECT id, concept FROM cubes"))
                expected = reference(cubes, " ".join(query), NOW.timestamp(), 5, topics)
                assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-4)
                assert len(hits) == min(5, len(cubes))
                live[scope, actor] = [(hit.cube, hit.score) for hit in hits]
        (path / "index.faiss").unlink(missing_ok=True)
        with MemOS.open(path, embedder=bag_of_words) as rebuilt:
            for (scope, actor), before in live.items():
                again = [(hit.cube, hit.score) for hit in rebuilt.recall(" ".join(query), scope=scope, actor=actor, k=5, now=NOW).hits]
                assert [cube.id for cube, _ in again] == [cube.id for cube, _ in before]
                assert [score for _, score in again] == pytest.approx([score for _, score in before], abs=1e-5)


def test_a_scope_of_ten_among_a_hundred_thousand_gets_all_ten(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((2000, 16)).astype(np.float32)

    def cheap(texts: list[str]) -> np.ndarray:
        return np.stack([table[sum(map(ord, text)) % 2000] for text in texts])

    with MemOS.open(tmp_path / "big.memos", embedder=cheap, on_conflict="ignore") as memos:
        for user in range(10):
            memos.remember([f"note {user} {i} on {WORDS[i % 10]}" for i in range(10_000)], scope=("crowd", str(user)))
        mine = memos.remember([f"my own note {i} on {WORDS[i]}" for i in range(10)], scope=("me",))
        hits = memos.recall("note on piano", scope=("me",), k=10).hits
        assert {hit.cube.id for hit in hits} == {done.id for done in mine}


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty", "of another store"])
def test_a_torn_index_file_is_rebuilt(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.memos"
    with MemOS.open(path, embedder=bag_of_words) as memos:
        memos.remember([f"note {i} on {WORDS[i % 10]}" for i in range(50)], scope="ana")
        before = [hit.cube.id for hit in memos.recall("piano", scope="ana").hits]
    file = path / "index.faiss"
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        file.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        with MemOS.open(tmp_path / "y.memos", embedder=bag_of_words) as other:
            other.remember([f"foreign {i}" for i in range(50)], scope="ana")
        file.write_bytes((tmp_path / "y.memos" / "index.faiss").read_bytes())
    with MemOS.open(path, embedder=bag_of_words) as memos:
        assert [hit.cube.id for hit in memos.recall("piano", scope="ana").hits] == before
        assert memos.verify().ok


def test_the_index_sees_what_another_process_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x.memos"
    with MemOS.open(path, embedder=bag_of_words) as first, MemOS.open(path, embedder=bag_of_words) as second:
        (done,) = second.remember("the piano is blue", scope="ana")
        assert [hit.cube.id for hit in first.recall("piano", scope="ana").hits] == [done.id]
        first.forget(done.id)
        assert second.recall("piano", scope="ana").hits == ()


def test_a_search_that_need_not_be_exact_says_so_and_finds_nearly_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHORTLIST", 300)
    rng, vectors = np.random.default_rng(3), dict[str, np.ndarray]()
    topics = rng.standard_normal((60, 64))

    def embed(texts: list[str]) -> np.ndarray:
        for text in texts:
            vectors.setdefault(text, topics[crc32(text.encode()) % 60] + 0.6 * rng.standard_normal(64))
        return np.stack([vectors[text] for text in texts])

    with MemOS.open(tmp_path / "x.memos", embedder=embed, on_conflict="ignore") as memos:
        for user in ("ana", "ben"):
            memos.remember([f"note {i} on {WORDS[i % 10]}" for i in range(4000)], scope=("crowd", user))
        done = memos.remember("a note on Quito", scope=("crowd", "ana"))[0]
        memos.remember("a note on Quito that is forgotten", scope=("crowd", "ana"))
        memos.forget(memos.recall("Quito forgotten", scope=("crowd", "ana"), k=1).hits[0].cube.id)
        common = []
        for number in range(20):
            exact = memos.recall(f"what of {number} then", scope=("crowd",), k=10)
            rough = memos.recall(f"what of {number} then", scope=("crowd",), k=10, exact=False)
            assert exact.exact and not rough.exact and len(rough.hits) == 10
            common.append(len({hit.cube.id for hit in exact.hits} & {hit.cube.id for hit in rough.hits}))
        assert np.mean(common) >= 8
        found = memos.recall("Quito", scope=("crowd",), k=500, exact=False).hits
        assert done.id in {hit.cube.id for hit in found}  # by its word alone
        assert all(
            hit.cube.governance.scope == ("crowd", "ben") for hit in memos.recall("note 7", scope=("crowd", "ben"), exact=False).hits
        )
        few = memos.recall("note", scope=("nobody",), exact=False)
        assert few.exact and few.hits == ()
    with MemOS.open(tmp_path / "x.memos", embedder=embed, on_conflict="ignore") as memos:  # from the index's file
        assert not memos.recall("what of 3 then", scope=("crowd",), exact=False).exact

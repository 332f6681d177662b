"""Bad input gets a clear error that says what to do, and nothing is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NOW, bag_of_words

from memos_core import (
    Activation,
    EmbedderMismatch,
    InvalidInput,
    MemOS,
    MemosError,
    NotAvailable,
    NotFound,
    SchemaTooNew,
    StoreCorrupt,
    StoreError,
    StoreUnusable,
    VersionConflict,
)
from memos_core.changes import Add
from memos_core.cube import LOCAL_OWNER, ActivationForm
from memos_core.transform import activation_cube

ANA = ("clinic", "ana")
FACT = "Ana is allergic to penicillin."
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  that is the point
LAST, TOO_LATE = "9999-12-31T23:59:59+00:00", datetime.max.replace(tzinfo=UTC)
USER = {"role": "user", "content": FACT}


@pytest.fixture
def full(memos: MemOS) -> MemOS:
    memos.remember(FACT, scope=ANA)
    return memos


def untouched(memos: MemOS) -> bool:
    """The one fact is there, alone, and everything verifies."""
    texts = [hit.text for hit in memos.recall("penicillin", scope=ANA).hits]
    return texts == [FACT] and memos.stats()["counts"]["cubes"] == 1 and memos.verify().ok


def archive(memos: MemOS) -> Path:
    return memos.export(memos.path.with_name("all.zip"), overwrite=True).file


REFUSED: dict[str, tuple[Callable[[MemOS], Any], str]] = {
    "empty text": (lambda m: m.remember("", scope=ANA), "is empty; pass a text with something in it"),
    "blank text": (lambda m: m.remember(" \n", scope=ANA), "is empty"),
    "10 MB": (lambda m: m.remember("a" * 10_000_000, scope=ANA), "the limit is 1,048,576. Split it"),
    "10 MB query": (lambda m: m.recall("a" * 10_000_000, scope=ANA), "Split it"),
    "a good text before a bad one": (lambda m: m.remember(["fine", ""], scope=ANA), "message 1 is empty"),
    "None": (lambda m: m.remember(None, scope=ANA), "takes text, a message or a list"),
    "a number": (lambda m: m.remember(7, scope=ANA), "takes text, a message or a list"),
    "bytes": (lambda m: m.remember(b"x", scope=ANA), "takes text, a message or a list"),
    "numbers": (lambda m: m.remember([1, 2], scope=ANA), "message 0 must be a str or a dictionary"),
    "no role": (lambda m: m.remember({"content": "x"}, scope=ANA), "has no 'role'"),
    "no content": (lambda m: m.remember({"role": "user"}, scope=ANA), "the content of the message must be a str"),
    "odd timestamp": (lambda m: m.remember({**USER, "timestamp": "yesterday"}, scope=ANA), "ISO 8601"),
    "naive timestamp": (lambda m: m.remember({**USER, "timestamp": "2026-01-01T00:00:00"}, scope=ANA), "has no time zone; pass an aware"),
    "naive occurred_at": (lambda m: m.remember("x", scope=ANA, occurred_at=NAIVE), "has no time zone"),
    "naive now": (lambda m: m.recall("x", scope=ANA, now=NAIVE), "has no time zone"),
    "naive tick": (lambda m: m.tick(NAIVE), "has no time zone"),
    "the last tick": (lambda m: m.tick(LAST), "no room to plan in; take a time between"),
    "the first tick": (lambda m: m.tick("0001-01-01T00:00:00+00:00"), "no room to plan in; take a time between"),
    "said when time ends": (lambda m: m.remember("x", scope=ANA, occurred_at=TOO_LATE), "latest time is 9999-12-31T23:59:59"),
    "true for ever": (lambda m: m.remember("x", scope=ANA, valid_to=TOO_LATE), "Leave out what has no end"),
    "now when time ends": (lambda m: m.begin([USER], scope=ANA).commit("x", now=TOO_LATE), "latest time is"),
    "the last explanation": (lambda m: m.explain(m.recall("it", scope=ANA).hits[0].cube.id, now=LAST), "no room to plan in"),
    "half a surrogate": (lambda m: m.remember("a \ud800 b", scope=ANA), "half a surrogate pair"),
    "half a surrogate in a session": (lambda m: m.remember("x", scope=ANA, session="\ud800"), "session holds half a surrogate pair"),
    "half a surrogate in a path": (lambda m: m.remember("x", scope=ANA, path="\ud800"), "path holds half a surrogate pair"),
    "half a surrogate in an id": (lambda m: m.remember({**USER, "id": "\ud800"}, scope=ANA), "'id' of the message holds half"),
    "half a surrogate in a reason": (lambda m: m.forget("nobody", reason="\ud800"), "reason"),
    "nothing but recalled text": (lambda m: m.remember("<memory>\n- (2026-01-01) x\n</memory>\n", scope=ANA), "is empty"),
    "empty scope": (lambda m: m.remember("x", scope=""), "scope must be a non-empty string or a tuple"),
    "scope of numbers": (lambda m: m.recall("x", scope=(1, 2)), "scope must be"),
    "control character": (lambda m: m.remember("x", scope="a\x1fb"), "control character"),
    "k = 0": (lambda m: m.recall("x", scope=ANA, k=0), "k must be a whole number from 1"),
    "k = text": (lambda m: m.recall("x", scope=ANA, k="3"), "k must be a whole number"),
    "query": (lambda m: m.recall(None, scope=ANA), "query must be a str"),
    "ttl": (lambda m: m.remember("x", scope=ANA, ttl=-1), "ttl must be positive"),
    "priority": (lambda m: m.remember("x", scope=ANA, priority=2), "from 0 to 1"),
    "path": (lambda m: m.remember("x", scope=ANA, path="a//b"), "path must be like 'care/allergies'"),
    "session": (lambda m: m.remember("x", scope=ANA, session=""), "session must be a non-empty str"),
    "grants": (lambda m: m.remember("x", scope=ANA, read="doctor"), "must be a list of actors"),
    "semantic type": (lambda m: m.remember("x", scope=ANA, semantic_type="rumour"), "must be one of fact, preference"),
    "messages": (lambda m: m.begin("hello", scope=ANA), "must be a list of dictionaries"),
    "nobody asks": (lambda m: m.begin([{"role": "system", "content": "x"}], scope=ANA), "no message with role 'user'"),
    "unknown id": (lambda m: m.get("nobody"), "ids come from remember"),
    "id of another type": (lambda m: m.get(3), "id is a str"),
    "unknown id, update": (lambda m: m.update("nobody", text="x"), "no cube 'nobody'"),
    "unknown id, forget": (lambda m: m.forget("nobody"), "no cube 'nobody'"),
    "forget nothing named": (lambda m: m.forget(), "ids or scope=, and not both"),
    "forget ids and a scope": (lambda m: m.forget("nobody", scope=ANA), "ids or scope=, and not both"),
    "forget a scope at a version": (lambda m: m.forget(scope=ANA, expected_version=1), "of one cube, not of a scope"),
    "forget no scope": (lambda m: m.forget(scope=""), "scope must be"),
    "forget a cube": (lambda m: m.forget(m.recall("penicillin", scope=ANA).hits[0].cube), "a cube's id or a list of ids, got MemCube"),
    "an actor of another type": (lambda m: m.recall("x", scope=ANA, actor=3), "actor must be"),
    "bound to nobody": (lambda m: m.as_actor(None), "actor must be"),
    "a ttl beyond all time": (lambda m: m.remember("x", scope=ANA, occurred_at="9999-12-31T00:00Z", ttl=99999.0), "after the year 9999"),
    "half a window": (lambda m: m.recall("x", scope=ANA, between=(NOW, None)), "between takes two times"),
    "half a timeline": (lambda m: m.timeline(scope=ANA, between=(None, NOW)), "between takes two times"),
    "context as one text": (lambda m: m.recall("x", scope=ANA, context="said before"), "context must be a list of texts"),
    "no context": (lambda m: m.recall("x", scope=ANA, context=None), "context must be a list of texts"),
    "token_budget": (lambda m: m.begin([USER], scope=ANA, token_budget=None), "token_budget must be a whole number from 0"),
    "k of a turn": (lambda m: m.begin([USER], scope=ANA, k="8"), "k must be a whole number from 0"),
    "naive message": (lambda m: m.begin([{**USER, "timestamp": "2026-01-01T00:00"}], scope=ANA), "has no time zone"),
    "10 MB message": (lambda m: m.begin([{**USER, "content": "a" * 10_000_000}], scope=ANA), "Split it"),
    "conversation": (lambda m: m.conversation(scope=ANA, session=None), "session must be a non-empty str"),
    "list of ids, history": (lambda m: m.history(["nobody"]), "id is a str"),
    "list of ids, audit": (lambda m: m.audit(id=["nobody"]), "id is a str"),
    "rollback to None": (lambda m: m.rollback(m.recall("penicillin", scope=ANA).hits[0].cube.id, None), "version must be a whole number"),
    "import_ into nothing": (lambda m: MemOS.import_(archive(m), None, embedder=bag_of_words), "path must be"),
    "an engine's name": (lambda m: MemOS.open(m.path, engine="gpt-4o", embedder=bag_of_words), "engine must be an HFEngine"),
    "thresholds": (lambda m: MemOS.open(m.path, thresholds="latency", embedder=bag_of_words), "thresholds must be a Thresholds"),
    "policy": (lambda m: MemOS.open(m.path, policy="lru", embedder=bag_of_words), "policy must be a function"),
    "unknown id, history": (lambda m: m.history("nobody"), "no cube 'nobody'"),
    "unknown id, rollback": (lambda m: m.rollback("nobody", 1), "no cube 'nobody'"),
    "unknown id, demote": (lambda m: m.demote("nobody"), "no cube 'nobody'"),
    "promote without an engine": (lambda m: m.promote("nobody", to="activation"), r"engine=HFEngine\.load"),
    "promote to nowhere": (lambda m: m.promote("nobody", to="cloud"), "must be 'activation' or 'parameter'"),
    "promote to parameter": (lambda m: m.promote("nobody", to="parameter"), "parameter memory"),
    "naive as_of": (lambda m: m.recall("x", scope=ANA, as_of=NAIVE), "as_of .*has no time zone"),
    "relation": (lambda m: m.relation("a", ""), "text_b is empty"),
    "tree": (lambda m: m.tree(""), "scope must be"),
    "move nowhere": (lambda m: m.move("nobody", ""), "path must be"),
    "move nobody": (lambda m: m.move("nobody", "a/b"), "no cube 'nobody'"),
    "rename what is not there": (lambda m: m.rename(ANA, "no/such", "x"), "shows what there is"),
    "merge what is not there": (lambda m: m.merge(ANA, "no/such", "x/y"), "shows what there is"),
    "export": (lambda m: m.export(""), "name of a file"),
    "export nowhere": (lambda m: m.export(m.path), "is a directory"),
    "import_archive": (lambda m: m.import_archive("no such file"), "there is no file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_advice(full: MemOS, name: str) -> None:
    call, advice = REFUSED[name]
    with pytest.raises(MemosError, match=advice) as caught:
        call(full)
    assert isinstance(caught.value, InvalidInput | NotFound | NotAvailable)
    assert untouched(full)


def test_what_changed_meanwhile_is_not_overwritten(full: MemOS) -> None:
    (hit,) = full.recall("penicillin", scope=ANA).hits
    full.update(hit.cube.id, text="Ana tolerates penicillin.", expected_version=1)
    with pytest.raises(VersionConflict, match="read it again"):
        full.update(hit.cube.id, text="Something else.", expected_version=1)
    with pytest.raises(NotFound, match="no version 7; it is at 2"):
        full.rollback(hit.cube.id, 7)
    assert full.get(hit.cube.id).payload.text == "Ana tolerates penicillin."


def test_numbers_of_numpy_are_numbers(memos: MemOS) -> None:
    memos.remember([FACT, "Ana lives in Lisbon."], scope=ANA, priority=np.float32(0.5))
    assert len(memos.recall("Ana", scope=ANA, k=np.int64(1)).hits) == 1


TEXTS = [
    "penicillin 💊🙂",
    "אנה אלרגית לפניצילין",
    "آنا تتحسس من البنسلين",
    "Ǻ combining é",
    "NUL\x00inside",
    "x" * 100_000,
    "tab\tand\r\nlines",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_any_text_comes_back_verbatim(memos: MemOS, text: str) -> None:
    (done,) = memos.remember(text, scope=ANA)
    assert memos.get(done.id).payload.text == text
    assert [hit.text for hit in memos.recall(text, scope=ANA).hits] == [text]


QUERIES = ['"', "*", "NEAR(penicillin ana)", "-penicillin", "penicillin AND OR NOT", "^ana", "((", "a' OR 1=1 --",
           "🙂", "\x00", "אנה", "%_", "ana " * 5000]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_a_query_is_text_not_syntax(full: MemOS, query: str) -> None:
    assert [hit.text for hit in full.recall(query, scope=ANA, now=NOW).hits] == [FACT]


# ---------------------------------------------------------------------- the directory


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreUnusable, match="is a file; a memory is a directory"):
        MemOS.open(tmp_path / "file", embedder=bag_of_words)
    assert (tmp_path / "file").read_text() == "mine"


UNPRIVILEGED = """
import os, sys
sys.path[:0] = sys.argv[2:]
import numpy as np
from memos_core import MemOS, StoreUnusable
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    MemOS.open(sys.argv[1], embedder=lambda texts: np.ones((len(texts), 4)))
except StoreUnusable as error:
    print(error)
"""


@pytest.mark.parametrize("inside", [False, True])
def test_a_directory_without_rights(tmp_path: Path, inside: bool) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    place = tmp_path
    while place != place.parent and os.geteuid() == 0 and place.owner() == "root":  # let the child reach it, not write it
        place.chmod(place.stat().st_mode | 0o055)
        place = place.parent
    target = folder / "new.memos" if inside else folder
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED, str(target), *sys.path], capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert "cannot be written" in done.stdout and "Check the rights of the directory, or pass another path" in done.stdout, done.stderr


def closed(path: Path) -> Path:
    with MemOS.open(path, embedder=bag_of_words) as memos:
        memos.remember([FACT, *(f"Note {number} about the weather." for number in range(200))], scope=ANA)
    return path


def test_a_newer_schema(tmp_path: Path) -> None:
    path = closed(tmp_path / "m")
    with sqlite3.connect(path / "memos.db") as db:
        db.execute("INSERT INTO migrations VALUES (999, 'from the future', 0)")
    db.close()
    before = (path / "memos.db").read_bytes()
    with pytest.raises(SchemaTooNew, match="Upgrade memos-integrations"):
        MemOS.open(path, embedder=bag_of_words)
    assert (path / "memos.db").read_bytes() == before


@pytest.mark.parametrize(
    "dimensions, advice", [(64, "another embedder of the same size"), (32, "64 dimensions and this embedder makes 32")]
)
def test_another_embedder(tmp_path: Path, dimensions: int, advice: str) -> None:
    path = closed(tmp_path / "m")
    with pytest.raises(EmbedderMismatch, match=advice):
        MemOS.open(path, embedder=lambda texts: np.stack([np.random.default_rng(len(text)).random(dimensions) for text in texts]))
    with MemOS.open(path, embedder=bag_of_words) as memos:
        assert memos.recall("penicillin", scope=ANA).hits[0].text == FACT


def test_an_embedder_that_misbehaves(full: MemOS, tmp_path: Path) -> None:
    answers: dict[str, Any] = {"shape": np.ones(3), "not finite": np.full((1, 64), np.nan)}
    for advice, answer in answers.items():
        with MemOS.open(tmp_path / advice, embedder=lambda t, a=answer: bag_of_words(t) if len(t) == 3 else a) as memos:
            with pytest.raises(InvalidInput, match=advice):
                memos.remember("x", scope=ANA)
            assert memos.stats()["counts"]["cubes"] == 0 and memos.verify().ok
    with pytest.raises(InvalidInput, match="must be callable"):
        MemOS.open(tmp_path / "m", embedder=7)  # type: ignore[arg-type]
    for answer in ([], ConnectionError("no network")):
        with pytest.raises((InvalidInput, ConnectionError)):
            MemOS.open(tmp_path / "m", embedder=failing(answer))
    assert not (tmp_path / "m").exists()  # nothing is left of what could not be made


def failing(answer: Any) -> Callable[[list[str]], Any]:
    def embed(texts: list[str]) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return embed


@pytest.mark.parametrize("damage", ["header", "middle", "cut", "everything"])
def test_a_torn_database(tmp_path: Path, damage: str) -> None:
    path = closed(tmp_path / "m")
    file = path / "memos.db"
    data = bytearray(file.read_bytes())
    spots = {"header": range(0, 100), "middle": range(4096, len(data)), "everything": range(len(data))}
    for spot in spots.get(damage, ()):
        data[spot] ^= 0xA5
    file.write_bytes(data[: len(data) // 2] if damage == "cut" else data)
    try:
        with MemOS.open(path, embedder=bag_of_words) as memos:
            memos.recall("penicillin", scope=ANA)
            assert memos.verify().problems
    except StoreCorrupt as error:
        assert "is damaged" in str(error) and "Restore it from a backup; nothing has been overwritten" in str(error)


def test_a_flipped_record_is_named(tmp_path: Path) -> None:
    path = closed(tmp_path / "m")
    with sqlite3.connect(path / "memos.db") as db:  # what a tamperer would do
        db.execute("UPDATE versions SET body = CAST(replace(CAST(body AS TEXT), 'allergic', 'immune!!') AS BLOB)")
    db.close()
    with MemOS.open(path, embedder=bag_of_words) as memos:
        problems = memos.verify().problems
        assert any("has been altered" in problem for problem in problems)


@pytest.mark.parametrize("damage, advice", [("missing", "is missing"), ("flipped", "has been altered")])
def test_a_blob_that_is_gone_or_altered(full: MemOS, damage: str, advice: str) -> None:
    (hit,) = full.recall("penicillin", scope=ANA).hits
    blob = full._store.blobs.put(b"keys and values")
    payload = Activation(form=ActivationForm.KV, blob=blob, prefix_key="p", tokens=1, bytes=15, model="m")
    full._store.commit([Add(activation_cube(payload, ANA, NOW), LOCAL_OWNER, parents=((hit.cube.id, 1),))])
    assert full.verify().ok
    file = full._store.blobs.path(blob)
    file.unlink() if damage == "missing" else file.write_bytes(b"keys and Values")
    (problem,) = full.verify().problems
    assert blob in problem and advice in problem
    with pytest.raises(StoreCorrupt, match="Restore the file from a backup, or forget the cube"):
        full._store.blobs.get(blob)
    assert full.recall("penicillin", scope=ANA).hits[0].text == FACT


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "another", "empty"])
def test_a_torn_index_is_rebuilt(tmp_path: Path, damage: str) -> None:
    path, other = closed(tmp_path / "m"), closed(tmp_path / "other")
    with MemOS.open(path, embedder=bag_of_words) as memos:
        wanted = [(hit.text, hit.score) for hit in memos.recall("weather 17", scope=ANA, now=NOW).hits]
    file = path / "index.faiss"
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    else:
        file.write_bytes({"cut": data[: len(data) // 2], "another": (other / "index.faiss").read_bytes(), "empty": b""}[damage])
    with MemOS.open(path, embedder=bag_of_words) as memos:
        assert [(hit.text, hit.score) for hit in memos.recall("weather 17", scope=ANA, now=NOW).hits] == wanted
        assert memos.verify().ok


def test_a_full_disk(full: MemOS) -> None:
    writer = full._store._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    free = writer.execute("PRAGMA freelist_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnusable, match="Free some space or check the rights; nothing was half written"):
        full.remember([f"{number} {'filler ' * 9000}" for number in range(free // 16 + 20)], scope=ANA)
    assert untouched(full)
    writer.execute("PRAGMA max_page_count = 1073741823")
    full.remember("There is room again.", scope=ANA)
    assert full.verify().ok and len(full.recall("room", scope=ANA).hits) == 2


FULL = """
import resource, signal, sys
sys.path[:0] = sys.argv[2:]
import numpy as np
from memos_core import MemOS, StoreUnusable
embed = lambda texts: np.ones((len(texts), 64))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
memos = MemOS.open(sys.argv[1], embedder=embed)
memos.remember("kept", scope="a")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for act in (lambda: memos._store.blobs.put(b"x" * 5000), lambda: memos.remember("not kept", scope="a")):
    try:
        act()
    except StoreUnusable as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
memos.remember("kept again", scope="a")
print(sorted(hit.text for hit in memos.recall("kept", scope="a").hits), memos.verify().ok, len(list((memos.path / "blobs").iterdir())))
"""


def test_no_room_for_files(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "m"), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    blob, add, left = done.stdout.splitlines()
    assert "Free some space" in blob and "Free some space" in add, done.stderr
    assert left == "['kept', 'kept again'] True 0"


def test_a_closed_memory(memos: MemOS) -> None:
    memos.close()
    memos.close()
    for call in (lambda: memos.remember("x", scope=ANA), lambda: memos.recall("x", scope=ANA), lambda: memos.stats()):
        with pytest.raises(StoreError, match="has been closed; open it again"):
            call()


def test_the_last_second_of_all_is_a_time_like_others(memos: MemOS) -> None:
    (fact,) = memos.remember("I live in Oslo.", scope=ANA, now=LAST, valid_to=None)
    memos.begin([{"role": "user", "content": "Where did I live last week?"}], scope=ANA, now=LAST).commit("In Oslo.", now=LAST)
    assert (
        memos.recall("Where did I live last week?", scope=ANA, now=LAST).hits
        and len(memos.timeline(query="today", scope=ANA, now=LAST)) == 3
    )
    memos.feedback(fact.id, now=LAST)
    assert memos.update(fact.id, text="I live in Bergen.", now=LAST).version == 2 and memos.tree(ANA, now=LAST) and memos.verify().ok
    assert memos.get(fact.id, now=LAST).usage.recalls == 1
    assert memos.tick() == [] and memos.explain(fact.id).prospects  # today's


def test_times_of_any_zone_are_one_time(memos: MemOS) -> None:
    east = NOW.astimezone(__import__("datetime").timezone(timedelta(hours=9)))
    (done,) = memos.remember(FACT, scope=ANA, occurred_at=east)
    assert done.cube.identifiers.occurred_at == NOW and done.cube.identifiers.occurred_at.tzinfo is UTC


def test_an_image_that_cannot_be_kept_is_refused_by_hand_and_marked_in_passing(memos: MemOS, caplog: pytest.LogCaptureFixture) -> None:
    picture = {"type": "image", "base64": "aGVsbG8=", "mime_type": "image/heic"}
    talk = [{"role": "user", "content": [{"type": "text", "text": "Look."}, picture]}, {"role": "assistant", "content": "Nice."}]
    with pytest.raises(InvalidInput, match="message 0: part 1"):
        memos.remember(talk, scope="a", session="s")
    assert not memos.conversation(scope="a", session="s")
    memos.remember(talk, scope="a", session="s", in_passing=True)
    assert [cube.payload.text for cube in memos.conversation(scope="a", session="s")] == ["Look.\n[image]", "Nice."]
    assert "an image is not kept: message 0: part 1" in caplog.text
    with pytest.raises(InvalidInput):  # what is not a conversation stays refused
        memos.remember([{"role": "user", "content": 7}], scope="a", in_passing=True)

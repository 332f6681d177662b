"""Several threads and several processes on one directory: nothing is lost, nothing is there twice, everybody sees everything."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, bag_of_words

from memos_core import MemOS, NotFound, VersionConflict
from memos_core.changes import Add, Erase

ANA = ("clinic", "ana")
PROCESSES, THREADS, NOTES = 3, 4, 8
SPAWN = get_context("spawn")
COMMON = [{"role": "user", "content": f"Common note {number}.", "id": f"common-{number}"} for number in range(4)]


def opened(folder: str | Path) -> MemOS:
    return MemOS.open(folder, embedder=bag_of_words)


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Results of calls that start at one moment, each in a thread of its own; an exception is a result."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait(60)
        try:
            return call()
        except Exception as error:  # noqa: BLE001  a result like any other
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def in_processes(count: int, target: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `target(number, barrier, *arguments)` returned in each of `count` processes; the barrier is for them alone."""
    barrier, answers = SPAWN.Barrier(count), SPAWN.Queue()
    processes = [SPAWN.Process(target=_answer, args=(answers, target, number, barrier, *arguments)) for number in range(count)]
    for process in processes:
        process.start()
    try:
        found = dict(answers.get(timeout=120) for _ in processes)
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    for answer in found.values():
        if isinstance(answer, str):
            pytest.fail(answer)
    return [found[number] for number in sorted(found)]


def _answer(answers: Any, target: Callable[..., Any], number: int, barrier: Any, *arguments: Any) -> None:
    try:
        answers.put((number, target(number, barrier, *arguments)))
    except BaseException as error:
        answers.put((number, f"process {number}: {type(error).__name__}: {error}"))
        barrier.abort()
        raise


def rows(memos: MemOS, query: str) -> list[tuple[Any, ...]]:
    with memos._store.read() as view:
        return view.db.execute(query).fetchall()


# ---------------------------------------------------------------------- nothing lost, nothing twice


def writing(memos: MemOS, who: str) -> list[str]:
    """Notes of one's own, each looked up right after it was written, notes that all others write too, and a turn."""
    kept = []
    for number in range(NOTES):
        text = f"Note {number} of {who}."
        (done,) = memos.remember(text, scope=(*ANA, who), occurred_at=NOW, now=NOW)
        assert done.outcome == "added"
        assert memos.recall(text, scope=(*ANA, who), k=1, now=NOW).hits[0].cube.id == done.id, "one's own write is not seen"
        memos.remember(COMMON[number % len(COMMON)], scope=ANA, now=NOW)
        kept.append(text)
    turn = memos.begin([{"role": "user", "content": "What is common?", "id": "turn"}], scope=ANA, session="shared", now=NOW)
    turn.commit("The notes.", now=NOW)
    return kept


def process_of_threads(number: int, barrier: Any, folder: str) -> list[list[str]]:
    """Open, write from several threads at once, then see in the very next recall what everybody wrote."""
    with opened(folder) as memos:
        barrier.wait(60)
        calls = [lambda name=f"p{number}t{thread}": writing(memos, name) for thread in range(THREADS)]
        mine = together(*calls)
        for each in mine:
            if isinstance(each, Exception):
                raise each
        barrier.wait(60)  # everybody has written
        seen = Counter(hit.text for hit in memos.recall("Note", scope=ANA, k=1000, now=NOW).hits)
        expected = PROCESSES * THREADS * NOTES + len(COMMON) + 2
        assert len(seen) == seen.total() == expected, f"{len(seen)} texts in {seen.total()} hits, not {expected}"
        assert memos.verify().ok, memos.verify().problems
        barrier.wait(60)  # nobody closes while others look
    return mine


def test_threads_and_processes_on_one_directory(tmp_path: Path) -> None:
    folder = tmp_path / "shared.memos"
    texts = [text for process in in_processes(PROCESSES, process_of_threads, str(folder)) for thread in process for text in thread]
    assert len(set(texts)) == len(texts) == PROCESSES * THREADS * NOTES
    for rebuilt in (False, True):
        if rebuilt:
            (folder / "index.faiss").unlink()
        with opened(folder) as memos:
            found = Counter(hit.text for hit in memos.recall("Note", scope=ANA, k=1000, now=NOW).hits)
            assert found == Counter([*texts, *(note["content"] for note in COMMON), "What is common?", "The notes."])
            counts = memos.stats()["counts"]
            assert counts["cubes"] == counts["versions"] == counts["audit entries"] == len(found)
            assert counts["turns"] == 1
            assert rows(memos, "SELECT max(n) FROM (SELECT count(*) AS n FROM usage_events GROUP BY id, turn)") in ([(1,)], [(None,)])
            assert memos.verify().ok, memos.verify().problems


def opening(number: int, barrier: Any, root: str) -> list[tuple[str, str]]:
    """A new directory, opened and written to by all processes at one moment."""
    found = []
    for each in range(6):
        barrier.wait(60)
        with opened(f"{root}/{each}.memos") as memos:
            (done,) = memos.remember({"role": "user", "content": "Hello.", "id": "m1"}, scope=ANA, now=NOW)
            found.append((memos._store.secret.hex(), done.id))
            barrier.wait(60)
    return found


def test_a_new_directory_opened_by_several_at_once(tmp_path: Path) -> None:
    by_process = in_processes(3, opening, str(tmp_path))
    for found in zip(*by_process, strict=True):
        assert len({secret for secret, _ in found}) == 1 and len(found[0][0]) == 64
        assert len({cube for _, cube in found}) == 1, "the same message became several cubes"
    assert len({found[0] for found in by_process[0]}) == 6  # secrets of different directories differ
    with opened(tmp_path / "0.memos") as memos:
        assert memos.verify().ok and memos.stats()["counts"]["cubes"] == 1


def test_each_process_sees_what_the_others_do_in_its_next_recall(tmp_path: Path) -> None:
    folder = tmp_path / "shared.memos"
    with opened(folder) as memos:
        (mine,) = memos.remember("Ana plays the cello.", scope=ANA, now=NOW)
        assert memos.recall("cello", scope=ANA, now=NOW).hits[0].cube == mine.cube
        in_processes(1, changing, str(folder), mine.id)
        hits = memos.recall("viola", scope=ANA, now=NOW).hits
        assert [hit.text for hit in hits] == ["Ana plays the viola."]
        assert hits[0].cube.id == mine.id and hits[0].cube.version == 2
        (late,) = memos.remember("Ana has a dog.", scope=ANA, now=NOW)
        in_processes(1, erasing, str(folder), late.id)
        assert late.id not in {hit.cube.id for hit in memos.recall("dog", scope=ANA, now=NOW).hits}
        with pytest.raises(NotFound, match="has been forgotten"):
            memos.get(late.id)
        assert memos.verify().ok, memos.verify().problems


def changing(_number: int, _barrier: Any, folder: str, id: str) -> None:
    with opened(folder) as memos:
        memos.update(id, text="Ana plays the viola.", now=NOW)


def erasing(_number: int, _barrier: Any, folder: str, id: str) -> None:
    with opened(folder) as memos:
        memos.forget(id, now=NOW)


def test_the_same_messages_from_many_threads_are_kept_once(memos: MemOS) -> None:
    results = together(*(lambda: memos.remember(COMMON, scope=ANA, now=NOW) for _ in range(12)))
    assert len({tuple(done.id for done in result) for result in results}) == 1
    assert Counter(done.outcome for result in results for done in result) == {"added": len(COMMON), "merged": 11 * len(COMMON)}
    assert memos.stats()["counts"]["versions"] == memos.stats()["counts"]["audit entries"] == len(COMMON)


def test_of_updates_to_one_version_one_wins(memos: MemOS) -> None:
    (done,) = memos.remember("Version one.", scope=ANA, now=NOW)
    for version in range(1, 6):
        calls = [lambda n=n, v=version: memos.update(done.id, text=f"{v}.{n}", expected_version=v, now=NOW) for n in range(8)]
        results = together(*calls)
        (winner,) = [result for result in results if not isinstance(result, Exception)]
        assert sum(isinstance(result, VersionConflict) for result in results) == 7
        assert memos.get(done.id) == winner and winner.version == version + 1
    assert [entry.version for entry in memos.history(done.id)] == [1, 2, 3, 4, 5, 6]
    assert memos.verify().ok


def test_forgetting_while_others_recall_and_take_turns(memos: MemOS) -> None:
    """A turn that recalled what is erased meanwhile neither fails nor leaves a trace of it."""
    done = memos.remember([f"Ana note {number} about the zanzibarine." for number in range(24)], scope=ANA, occurred_at=NOW, now=NOW)
    gone = [each.id for each in done[::2]]

    def talking(name: str) -> None:
        for number in range(6):
            turn = memos.begin([{"role": "user", "content": f"zanzibarine {number}"}], scope=ANA, session=name, token_budget=9999, now=NOW)
            turn.commit("Ok.", now=NOW)
            hits = memos.recall("note", scope=ANA, k=99, now=NOW).hits
            assert len({hit.cube.id for hit in hits}) == len(hits)

    results = together(
        *(lambda ids=gone[part::3]: [memos.forget(id, now=NOW) for id in ids] for part in range(3)),
        *(lambda name=f"s{number}": talking(name) for number in range(4)),
        lambda: [memos.tick(NOW) for _ in range(5)],
        lambda: [memos.stats() for _ in range(5)],
    )
    assert [result for result in results if isinstance(result, Exception)] == []
    marks = ",".join(f"'{id}'" for id in gone)
    for table in ("cubes", "placements", "usage", "usage_events"):
        assert rows(memos, f"SELECT count(*) FROM {table} WHERE id IN ({marks})") == [(0,)], table
    assert rows(memos, f"SELECT count(*) FROM versions WHERE body IS NOT NULL AND id IN ({marks})") == [(0,)]
    assert {each.id for each in done[1::2]} <= {hit.cube.id for hit in memos.recall("note", scope=ANA, k=99, now=NOW).hits}
    assert memos.verify().ok, memos.verify().problems


def test_an_erasure_during_anothers_wiping_is_wiped_too(tmp_path: Path) -> None:
    """Both processes mark the directory as to be wiped; who finishes first must not take the other's mark away."""
    folder = tmp_path / "shared.memos"
    with opened(folder) as one, opened(folder) as two:
        (first,) = one.remember("Ana likes zanzibarine.", scope=ANA, now=NOW)
        (second,) = one.remember("Ana hates quixotrope.", scope=ANA, now=NOW)
        waiting = [second.id]

        def meanwhile(statement: str) -> None:
            if statement.startswith("DELETE FROM meta") and waiting:
                two._store.commit([_erase(waiting.pop())])

        one._store._writer.set_trace_callback(meanwhile)
        one.forget(first.id, now=NOW)
        assert not waiting
        assert two._store.settle()
        for word in (b"zanzibarine", b"quixotrope"):
            assert [path.name for path in folder.rglob("*") if path.is_file() and word in path.read_bytes().lower()] == []
        assert rows(one, "SELECT * FROM meta WHERE key = 'scrub'") == []


# ---------------------------------------------------------------------- group commit


class Statements:
    """What the writer's connection executes, and the writer held back until a number of calls are waiting."""

    def __init__(self, memos: MemOS) -> None:
        self.seen: list[str] = []
        self.store = memos._store
        self.store._writer.set_trace_callback(self.seen.append)

    def count(self, statement: str) -> int:
        return sum(each.startswith(statement) for each in self.seen)

    def of_waiting(self, *calls: Callable[[], Any]) -> list[Any]:
        """Results of calls that all stand in the queue before the first of them may write."""
        self.store._write_lock.acquire()
        release = threading.Thread(target=self._release_when, args=(len(calls),))
        release.start()
        results = together(*calls)
        release.join()
        return results

    def _release_when(self, waiting: int) -> None:
        deadline = time.monotonic() + 30
        while len(self.store._queue) < waiting and time.monotonic() < deadline:
            time.sleep(0.001)
        self.store._write_lock.release()


def notes(memos: MemOS, names: Sequence[object]) -> list[Callable[[], Any]]:
    return [lambda name=name: memos.remember(f"Note {name}.", scope=(*ANA, str(name)), now=NOW) for name in names]


def test_writers_that_wait_share_one_commit(memos: MemOS) -> None:
    statements = Statements(memos)
    results = statements.of_waiting(*notes(memos, range(16)))
    assert [done.cube.payload.text for (done,) in results] == [f"Note {number}." for number in range(16)]
    assert statements.count("BEGIN") == statements.count("COMMIT") == 1
    assert memos.stats()["counts"]["cubes"] == 16 and memos.verify().ok


def test_sixteen_writers_at_once_need_fewer_commits(memos: MemOS) -> None:
    """Without any help: whoever comes while a commit is under way goes into the next one together."""
    statements = Statements(memos)
    for part in range(3):
        results = together(*notes(memos, [f"{part}-{number}" for number in range(16)]))
        assert not any(isinstance(result, Exception) for result in results)
    assert statements.count("COMMIT") < 3 * 16
    assert memos.stats()["counts"]["cubes"] == 3 * 16 and memos.verify().ok


BAD: dict[str, Callable[[MemOS, str], Any]] = {
    "a conflict": lambda memos, id: memos.update(id, priority=0.7, expected_version=9, now=NOW),
    "erased meanwhile": lambda memos, id: memos._store.commit([_erase("nobody")]),
    "a reason that cannot be stored": lambda memos, id: memos._store.commit([Erase((id,), ANA, NOW, ["not", "text"])]),  # type: ignore[arg-type]
    "an id that is taken": lambda memos, id: memos._store.commit([_copy_of(memos, id)]),
}


def _erase(id: str) -> Any:
    return Erase((id,), ANA, NOW, "test")


def _copy_of(memos: MemOS, id: str) -> Any:
    return Add(memos.get(id), ANA)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 5])
def test_one_bad_change_of_a_batch_fails_alone(memos: MemOS, bad: str, place: int) -> None:
    (there,) = memos.remember("There before.", scope=ANA, now=NOW)
    before = memos.stats()["counts"]
    statements = Statements(memos)
    good = notes(memos, range(8))
    calls = [*good[:place], lambda: BAD[bad](memos, there.id), *good[place:]]
    results = statements.of_waiting(*calls)
    failed = results.pop(place)
    assert isinstance(failed, Exception), failed
    assert [result for result in results if isinstance(result, Exception)] == []
    assert statements.count("COMMIT") == 1
    counts = memos.stats()["counts"]
    assert counts["cubes"] == counts["versions"] == counts["audit entries"] == before["cubes"] + 8
    assert memos.get(there.id) == there.cube
    assert memos.verify().ok, memos.verify().problems
    memos.remember("And on it goes.", scope=ANA, ttl=timedelta(days=1), now=NOW)


def test_a_list_is_kept_whole_or_not_at_all_beside_others(memos: MemOS) -> None:
    """Several changes of one call share their fate, whatever shares their transaction."""
    (there,) = memos.remember("There before.", scope=ANA, now=NOW)
    statements = Statements(memos)
    calls = [*notes(memos, range(4)), lambda: memos._store.commit([_copy_of_as(memos, there.id, "f" * 32), _erase("nobody")])]
    *kept, failed = statements.of_waiting(*calls)
    assert isinstance(failed, NotFound) and not any(isinstance(result, Exception) for result in kept)
    assert rows(memos, f"SELECT count(*) FROM cubes WHERE id = '{'f' * 32}'") == [(0,)]
    assert memos.stats()["counts"]["cubes"] == 5 and memos.verify().ok


def _copy_of_as(memos: MemOS, id: str, new: str) -> Any:
    return Add(memos.get(id).model_copy(update={"id": new}), ANA)

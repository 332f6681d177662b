"""A thread that ticks between requests: started and stopped by the caller, out of the way of requests, its failures shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import bag_of_words
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import InvalidInput, MemOS, StoreUnusable, Worker
from memos_core.hf import HFEngine

ANA = ("clinic", "ana")
TALK = [{"role": "user", "content": "Penicillin?"}]


def until(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def test_it_ticks_when_started_and_never_else(memos: MemOS) -> None:
    before = threading.active_count()
    worker = memos.worker(every_s=0.01)
    assert threading.active_count() == before and not worker.running
    memos.remember("Ana waits in room 4.", scope=ANA, ttl=1e-3)
    with worker:
        assert worker.running and worker.start() is worker
        until(lambda: bool(memos.moves()) and worker.ticks > 0)
        assert worker.last_error is None
    assert not worker.running and threading.active_count() == before
    ticks = worker.ticks
    time.sleep(0.05)
    assert worker.ticks == ticks
    assert [move.kind for move in memos.moves()] == ["expire"]
    with worker:  # again
        until(lambda: worker.ticks > ticks)


def test_it_waits_for_a_turn_under_way(memos: MemOS) -> None:
    turn = memos.begin(TALK, scope=ANA, session="s")
    with memos.worker(every_s=0.01) as worker:
        until(lambda: worker.skipped >= 2)
        assert worker.ticks == 0
        turn.commit("No.")
        until(lambda: worker.ticks > 0)
    left = memos.begin(TALK, scope=ANA, session="t")
    assert memos._house.traffic.in_flight()
    del left  # given up by the caller
    assert not memos._house.traffic.in_flight()


def test_it_waits_for_the_model(tmp_path: Path) -> None:
    engine = HFEngine(tiny_model("llama"), tiny_tokenizer())
    with MemOS.open(tmp_path / "m", embedder=bag_of_words, engine=engine) as memos:
        held, release = threading.Event(), threading.Event()

        def request() -> None:
            with engine.lock:
                held.set()
                release.wait(20)

        asking = threading.Thread(target=request)
        asking.start()
        held.wait(20)
        with memos.worker(every_s=0.01) as worker:
            until(lambda: worker.skipped >= 2)
            assert worker.ticks == 0
            release.set()
            asking.join()
            until(lambda: worker.ticks > 0)


def test_a_request_ends_the_tick_before_its_next_move() -> None:
    busy, started = threading.Event(), []

    def tick(go_on: Callable[[], bool]) -> None:
        while go_on():
            started.append(1)
            if len(started) == 3:
                busy.set()

    worker = Worker(tick, busy.is_set, 0.01, None)
    with worker:
        until(lambda: worker.skipped > 0)
    assert len(started) == 3


def test_a_tick_has_its_budget_and_stop_ends_it() -> None:
    ended: list[float] = []

    def tick(go_on: Callable[[], bool]) -> None:
        began = time.monotonic()
        while go_on():
            time.sleep(0.001)
        ended.append(time.monotonic() - began)

    with Worker(tick, lambda: False, 0.01, 0.05):
        until(lambda: len(ended) == 2)
    assert all(seconds >= 0.05 for seconds in ended[:2])
    endless = Worker(tick, lambda: False, 0.01, None).start()
    until(lambda: endless.running)
    time.sleep(0.03)
    endless.stop()
    endless.stop()
    assert not endless.running


def test_started_while_it_is_being_stopped_it_is_one_thread() -> None:
    inside, release, ticks = threading.Event(), threading.Event(), list[str]()

    def tick(go_on: Callable[[], bool]) -> None:
        ticks.append(threading.current_thread().name)
        inside.set()
        release.wait(20)

    worker = Worker(tick, lambda: False, 0.01, None).start()
    assert inside.wait(20)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    until(lambda: not worker.running)
    worker.start()  # its first thread has not ended yet
    release.set()
    stopping.join(20)
    assert not stopping.is_alive() and worker.running
    worker.stop()
    assert not worker.running and "memos-worker" not in {thread.name for thread in threading.enumerate()}


def test_a_failure_is_logged_shown_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def tick(go_on: Callable[[], bool]) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the disk is full")

    worker = Worker(tick, lambda: False, 0.2, None)
    with worker:
        until(lambda: worker.ticks == 1)
        assert isinstance(worker.last_error, OSError) and "the disk is full" in caplog.text
        until(lambda: worker.ticks == 2)
        assert worker.last_error is None


def test_closing_the_memory_stops_it(tmp_path: Path) -> None:
    memos = MemOS.open(tmp_path / "m", embedder=bag_of_words)
    worker = memos.as_actor(("local-owner",)).worker(every_s=0.01).start()
    until(lambda: worker.ticks > 0)
    memos.close()
    assert not worker.running and worker.last_error is None
    with pytest.raises(StoreUnusable, match="has been closed"):
        memos.worker()


@pytest.mark.parametrize("wrong", [{"every_s": 0}, {"every_s": "1"}, {"budget_s": -1}, {"budget_s": True}, {"every_s": float("nan")}])
def test_seconds_are_seconds(memos: MemOS, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="a number of seconds above 0"):
        memos.worker(**wrong)  # type: ignore[arg-type]


def test_turns_go_on_while_it_works(memos: MemOS) -> None:
    """Whatever it does, nothing is lost, and each turn is counted once."""
    (done,) = memos.remember("Ana is allergic to penicillin.", scope=ANA)
    with memos.worker(every_s=0.001) as worker:
        for number in range(25):
            memos.begin(TALK, scope=ANA, session=f"{number}", k=1).commit("No.")
        until(lambda: worker.ticks > 3)
    assert memos.usage(ANA).turns == 25 and memos.get(done.id).usage.recalls >= 1
    assert worker.last_error is None and memos.verify().ok

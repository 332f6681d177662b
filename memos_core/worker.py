"""A thread that ticks between requests. The caller starts and stops it; nothing else ever does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from memos_core.errors import InvalidInput

_LOG = logging.getLogger("memos_core")
AGAIN = 1.0
"""Seconds after which a tick that would have met a request is tried again, at most."""


class Worker:
    """Ticks every so many seconds, and never while a request is in flight. A context manager; `start` and `stop` otherwise.

    tick: called with go_on, which says whether it may start another move. busy: whether a request is in flight. Seconds: every_s between ticks;
    budget_s: how long one may go on starting moves; None for as long as it takes. ticks, skipped: how many there were; a skipped one
    met a request. last_error: what the last tick failed with, which is logged as well; None when it went well. Raises InvalidInput.
    """

    def __init__(
        self, tick: Callable[[Callable[[], bool]], object], busy: Callable[[], bool], every_s: float, budget_s: float | None
    ) -> None:
        for name, seconds in (("every_s", every_s), ("budget_s", budget_s)):
            if seconds is not None and not (isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds < 1e9):
                raise InvalidInput(f"{name} must be a number of seconds above 0, got {seconds!r}")
        self._tick, self._busy, self._every, self._budget = tick, busy, every_s, budget_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.ticks = self.skipped = 0
        self.last_error: Exception | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Worker:
        """Begin. Does nothing when it is running already."""
        with self._lock:
            if not self.running:
                self._stopping = threading.Event()  # each thread has its own: one that is ending is not called back
                self._thread = threading.Thread(target=self._run, args=(self._stopping,), name="memos-worker", daemon=True)
                self._thread.start()
        return self

    def stop(self) -> None:
        """End, once the move under way is done; returns when it is. Safe to call twice."""
        with self._lock:
            self._stopping.set()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _run(self, stopping: threading.Event) -> None:
        wait = self._every
        while not stopping.wait(wait):
            if self._busy():
                self.skipped += 1
                wait = min(self._every, AGAIN)
                continue
            wait, began = self._every, time.monotonic()
            try:
                self._tick(lambda began=began: self._may_go_on(began, stopping))  # type: ignore[misc]
                self.last_error = None
            except Exception as error:  # noqa: BLE001  a thread has nobody to raise to: it is logged, shown, and tried again
                _LOG.warning("a tick of the worker failed: %s", error)
                self.last_error = error
            self.ticks += 1

    def _may_go_on(self, began: float, stopping: threading.Event) -> bool:
        in_time = self._budget is None or time.monotonic() - began < self._budget
        return in_time and not stopping.is_set() and not self._busy()

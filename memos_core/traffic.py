"""Which requests are in flight, so that work between requests can wait for them."""

from __future__ import annotations

import threading
import time
from typing import Any
from weakref import WeakKeyDictionary

LONGEST = 120.0
"""Seconds after which a turn that was begun and never committed no longer counts."""


class Traffic:
    """Turns between begin and commit. Thread-safe; a turn that nobody holds any more is not in flight."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    def began(self, turn: Any) -> None:
        with self._lock:
            self._open[turn] = time.monotonic()

    def ended(self, turn: Any) -> None:
        with self._lock:
            self._open.pop(turn, None)

    def in_flight(self, engine: Any = None) -> bool:
        """Whether a turn is under way, or the model is at work for somebody else than this thread."""
        with self._lock:
            if any(time.monotonic() - began < LONGEST for began in self._open.values()):
                return True
        lock = getattr(engine, "lock", None)
        if lock is None:
            return False
        if not lock.acquire(blocking=False):
            return True
        lock.release()
        return False

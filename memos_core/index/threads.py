"""Conversations as linked lists over positions of an index: who spoke before and after whom, in the order of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from memos_core.when import Window

SILENCE = 3600.0
"""Messages of no named session belong together until nothing was said for longer than these seconds."""
INSTANT = timedelta(microseconds=1)


def talks(sessions: np.ndarray, said: np.ndarray) -> list[Window]:
    """The conversations that messages belong to, each from its first message to its last, oldest first.

    sessions: int64 [n], 0 for none. said: float64 [n], seconds.
    """
    order = np.lexsort((said, sessions))
    sessions, said = sessions[order], said[order]
    ends = (sessions[1:] != sessions[:-1]) | ((sessions[1:] == 0) & (np.diff(said) > SILENCE))
    first = np.flatnonzero(np.concatenate([[True], ends])) if len(said) else np.zeros(0, dtype=np.int64)
    last = np.append(first[1:] - 1, len(said) - 1)[: len(first)]
    windows = [
        Window(datetime.fromtimestamp(a, UTC), datetime.fromtimestamp(b, UTC) + INSTANT)
        for a, b in zip(said[first], said[last], strict=True)
    ]
    return sorted(windows, key=lambda window: (window.start, window.end))


class Threads:
    """before, after: int64, the neighbouring positions in the same session; -1 at its ends. Not thread-safe: the index's lock guards it."""

    def __init__(self, size: int) -> None:
        self.before = np.full(size, -1, dtype=np.int64)
        self.after = np.full(size, -1, dtype=np.int64)
        self._last: dict[int, int] = {}

    def grow(self, size: int) -> None:
        more = np.full(size - len(self.before), -1, dtype=np.int64)
        self.before, self.after = np.concatenate([self.before, more]), np.concatenate([self.after, more])

    def link(self, position: int, session: int, said: np.ndarray, rows: np.ndarray) -> None:
        """Put a position into its session. said, rows: when each position was said, and its row, which decides between equals."""
        later, earlier = -1, self._last.get(session, -1)
        mine = (said[position], rows[position])
        while earlier >= 0 and (said[earlier], rows[earlier]) > mine:
            later, earlier = earlier, int(self.before[earlier])
        self.before[position], self.after[position] = earlier, later
        if earlier >= 0:
            self.after[earlier] = position
        if later >= 0:
            self.before[later] = position
        else:
            self._last[session] = position

    def unlink(self, position: int, session: int) -> None:
        """Take a position out of its session; its neighbours become each other's."""
        earlier, later = int(self.before[position]), int(self.after[position])
        if earlier >= 0:
            self.after[earlier] = later
        if later >= 0:
            self.before[later] = earlier
        elif earlier >= 0:
            self._last[session] = earlier
        else:
            del self._last[session]
        self.before[position] = self.after[position] = -1

    def tail(self, session: int, count: int) -> list[int]:
        """The last positions of a session, newest first."""
        found: list[int] = []
        position = self._last.get(session, -1)
        while position >= 0 and len(found) < count:
            found.append(position)
            position = int(self.before[position])
        return found

    def rebuild(self, sessions: np.ndarray, said: np.ndarray, rows: np.ndarray) -> None:
        """All links at once: positions in the order of time, equals in the order they were written. sessions: 0 for none."""
        order = np.lexsort((rows, said, sessions))
        order = order[sessions[order] != 0]
        together = sessions[order[1:]] == sessions[order[:-1]]
        self.after[order[:-1][together]] = order[1:][together]
        self.before[order[1:][together]] = order[:-1][together]
        ends = np.append(~together, True) if len(order) else np.zeros(0, dtype=bool)
        self._last = {int(sessions[position]): int(position) for position in order[ends]}

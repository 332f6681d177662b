"""What is known of each row besides its vector and terms: one array for each name, so that a search reads no more than it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from memos_core.recall.features import FEATURES

COLUMNS = np.dtype(
    [
        ("row", "i8"),
        ("scope", "i8"),
        ("state", "i1"),
        ("live", "?"),
        ("given", "?"),
        ("occurred_at", "f8"),
        ("expires_at", "f8"),
        ("valid_from", "f8"),
        ("valid_to", "f8"),
        ("priority", "f4"),
        ("vector_seq", "i8"),
        ("session", "i8"),
        ("concept", "i8"),
        ("task", "i8"),
        ("topic", "i8"),
        *((name, FEATURES[name]) for name in FEATURES.names or ()),
    ]
)
"""session, concept, task, topic: numbers, 0 for none. The rest: FEATURES."""


class Columns(Mapping[str, np.ndarray]):
    """COLUMNS of n rows, apart. Not thread-safe: the index's lock guards it."""

    def __init__(self, table: np.ndarray) -> None:
        """table: COLUMNS [n]."""
        self._arrays = {name: np.ascontiguousarray(table[name]) for name in COLUMNS.names or ()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def size(self) -> int:
        """n."""
        return len(self._arrays["row"])

    def grow(self, size: int) -> None:
        """Make room; what is new is zero."""
        for name, array in self._arrays.items():
            larger = np.zeros((size, *array.shape[1:]), dtype=array.dtype)
            larger[: len(array)] = array
            self._arrays[name] = larger

    def describe(self, position: int, values: Mapping[str, object]) -> None:
        """Write what is given of a row."""
        for name, value in values.items():
            self._arrays[name][position] = value

    def table(self, positions: np.ndarray) -> np.ndarray:
        """COLUMNS of some positions, as a file keeps them."""
        table = np.zeros(len(positions), dtype=COLUMNS)
        for name, array in self._arrays.items():
            table[name] = array[positions]
        return table


class Chosen(Mapping[str, np.ndarray]):
    """Columns at some positions, each gathered when it is first asked for; a copy that may be changed."""

    def __init__(self, columns: Mapping[str, np.ndarray], positions: np.ndarray) -> None:
        self._columns, self._positions = columns, positions
        self._gathered: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._gathered:
            self._gathered[name] = self._columns[name][self._positions]
        return self._gathered[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

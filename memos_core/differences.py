"""What has changed between two versions of a cube. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

from memos_core.cube import CubeId, MemCube, Plaintext

_FOLLOWS = frozenset({"identifiers.updated_at", "identifiers.fingerprint"})
"""What changes with every version, or with the text."""


@dataclass(frozen=True, slots=True)
class Diff:
    """Two versions of a cube, compared. fields: name to the values before and after, for each that differs. text: a unified diff."""

    id: CubeId
    before: int
    after: int
    fields: Mapping[str, tuple[Any, Any]]
    text: str


def difference(one: MemCube, other: MemCube) -> Diff:
    """What `other` changed over `one`."""
    before, after = dict(_flat(one)), dict(_flat(other))
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    fields = {name: (before.get(name), after.get(name)) for name in names}
    text = "\n".join(unified_diff(_lines(one), _lines(other), f"version {one.version}", f"version {other.version}", lineterm=""))
    return Diff(one.id, one.version, other.version, fields, text)


def _lines(cube: MemCube) -> list[str]:
    return cube.payload.text.splitlines() if isinstance(cube.payload, Plaintext) else []


def _flat(cube: MemCube) -> Iterator[tuple[str, Any]]:
    """Fields by dotted name, with their values as they are."""
    for group in ("payload", "identifiers", "governance"):
        for name, value in getattr(cube, group):
            if f"{group}.{name}" not in _FOLLOWS:
                yield f"{group}.{name}", value
    yield "state", cube.state

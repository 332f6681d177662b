"""Requests for KV that are drawn freely, for the tests of tiers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from hypothesis import strategies as st

from memos_core.residency import Decision

# a key, how many bytes it has, and the group it belongs to, follow from a number, so that histories can be drawn freely
KEYS = st.integers(0, 14)
HISTORIES = st.lists(KEYS, max_size=120)


def size(key: int) -> int:
    return 1 + key * 7 % 5


def group(key: int) -> int | None:
    return None if key % 4 == 3 else key % 4


def parent(key: int) -> int | None:
    return (key - 1) // 2 if key else None


def ask(tier: Any, key: int, tree: bool = False) -> Decision:
    """Of a tree, the path to the key; the decision about the key itself."""
    if not tree:
        return tier.request(key, size(key), float(size(key)), group(key))
    above = parent(key)
    if above is not None:
        ask(tier, above, True)
    return tier.request(key, size(key), float(size(key)), None, above)


def check(tier: Any, held: dict[Hashable, int]) -> None:
    assert tier.used == sum(held.values()) <= tier.budget

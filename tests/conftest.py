"""Shared by all tests: a deterministic embedder that needs no model, and memories in temporary directories."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from memos_core import MemOS

settings.register_profile(
    "memos", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("memos")

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def bag_of_words(texts: list[str]) -> np.ndarray:
    """float32 [n, 64]: each word a fixed random direction."""
    out = np.zeros((len(texts), 64), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in re.findall(r"\w+", text.lower()):
            seed = int.from_bytes(word.encode()[:8].ljust(8, b"\0"), "little") ^ len(word)
            out[row] += np.random.default_rng(seed).standard_normal(64).astype(np.float32)
    return out / np.maximum(1e-9, np.linalg.norm(out, axis=1, keepdims=True))


@pytest.fixture
def hash_embedder() -> Callable[[list[str]], Any]:
    return bag_of_words


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words) as opened:
        yield opened

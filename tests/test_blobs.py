"""Content-addressed files: whole or absent, never different from their name."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_core import InvalidInput, StoreCorrupt
from memos_core.blobs import Blobs


@given(data=st.binary(max_size=4096))
def test_bytes_come_back(tmp_path: Path, data: bytes) -> None:
    blobs = Blobs(tmp_path / "blobs")
    name = blobs.put(data)
    assert name == hashlib.sha256(data).hexdigest() == blobs.put(data)
    assert blobs.get(name) == data and blobs.problem(name) is None


def test_a_cut_file_is_noticed_and_replaced(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    name = blobs.put(b"keys and values")
    blobs.path(name).write_bytes(b"keys")
    with pytest.raises(StoreCorrupt):
        blobs.get(name)
    assert blobs.put(b"keys and values") == name and blobs.get(name) == b"keys and values"


def test_names_are_hashes_only(tmp_path: Path) -> None:
    for name in ("../escape", "A" * 64, "", "0" * 63):
        with pytest.raises(InvalidInput, match="is not a sha256"):
            Blobs(tmp_path / "blobs").path(name)


def test_orphans_wait_for_their_grace(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    kept, old, new = blobs.put(b"kept"), blobs.put(b"old"), blobs.put(b"new")
    for name in (kept, old):
        os.utime(blobs.path(name), (0, 0))
    assert [path.name for path in blobs.orphans({kept}, time.time(), 3600)] == [old]
    blobs.remove([new, "0" * 64])
    assert {path.name for path in blobs.folder.iterdir()} == {kept, old}

"""Looking at a directory as a whole: whether it is what was written, and how much of everything there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memos_core.store import SQLiteStore
from memos_core.store.records import broken_merges, searchable
from memos_core.store.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether everything in the directory is what it was when it was written; `problems` names what is not."""

    ok: bool
    problems: tuple[str, ...]


def verify(store: SQLiteStore, view: Snapshot, indexed: int) -> Verification:
    """Check the database, all hash chains, every blob, and that the index holds as many memories as the store. Reads everything."""
    problems = store.check()
    if not problems:  # what is torn cannot be read on
        problems += view.broken_chains()
        problems += broken_merges(view)
        problems += [problem for blob in sorted(view.blobs() - view.dropped_blobs()) if (problem := store.blobs.problem(blob))]
        if indexed != (held := searchable(view)):
            problems.append(f"the index holds {indexed} memories and the store {held}; delete index.faiss")
    return Verification(not problems, tuple(problems))


def sizes(store: SQLiteStore, view: Snapshot) -> dict[str, Any]:
    """Counts of everything, and bytes on disk."""
    files = [path for name in ("memos.db", "memos.db-wal", "index.faiss") if (path := store.path / name).exists()]
    return {"counts": view.counts(), "bytes": {path.name: path.stat().st_size for path in files} | {"blobs": store.blobs.total()}}

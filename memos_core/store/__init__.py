"""The truth on disk: the Store protocol, and SQLite behind it. With `schema`, `chains`, `ledger`, `disputes`, `snapshot` and `records` the only rooms with SQL.

One directory, WAL, `synchronous=FULL`. Writers that arrive together share one commit (group commit); readers have
snapshots of their own and never wait for writers. Several threads and several processes may use one directory.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import filelock

from memos_core.blobs import Blobs
from memos_core.changes import Change, Outcome
from memos_core.errors import InvalidInput, MemosError, StoreCorrupt, StoreError, StoreUnusable
from memos_core.store import ledger, schema
from memos_core.store.snapshot import Snapshot

BUSY_SECONDS = 60.0
AGAIN = 0.02
"""Seconds after which what another tick holds is asked for again."""
LOG_BYTES = 4 << 20
_UNUSABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}


class Store(Protocol):
    """What the rest of the house needs of a store; `tests/conformance` holds its suite."""

    def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        """All of the changes, durably, or none. Raises NotFound, VersionConflict or StoreError."""

    def read(self) -> AbstractContextManager[Snapshot]:
        """A consistent view for the time of a `with`."""

    def close(self) -> None: ...


@contextmanager
def translated(place: str) -> Iterator[None]:
    """SQLite's errors as ours, with what to do about them."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreCorrupt(f"{place} is damaged ({error}). Restore it from a backup; nothing has been overwritten") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreUnusable(
                f"{place} has been locked by another process for {BUSY_SECONDS:.0f} s. Close it there and try again"
            ) from error
        if code in _UNUSABLE:
            raise StoreUnusable(
                f"{place} could not be read or written ({error}). Free some space or check the rights; nothing was half written"
            ) from error
        if "decode" in str(error).lower():  # text that is not UTF-8 any more; SQLite has no code for it
            raise StoreCorrupt(f"{place} is damaged ({error}). Restore it from a backup; nothing has been overwritten") from error
        raise StoreError(
            f"{place} could not be read or written ({error}). If it may be damaged, restore it from a backup; nothing was half written"
        ) from error
    except UnicodeDecodeError as error:
        raise StoreCorrupt(f"{place} is damaged ({error}). Restore it from a backup; nothing has been overwritten") from error
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{error.object!r:.80} holds half a surrogate pair and cannot be stored as UTF-8; decode it properly first"
        ) from error


@dataclass(slots=True)
class _Pending:
    changes: Sequence[Change]
    outcomes: list[Outcome] | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.outcomes is not None or self.error is not None


def _as_folder(path: str | Path) -> Path:
    """Check the place of a memory directory. Raises InvalidInput."""
    if not isinstance(path, (str, Path)) or not str(path).strip():
        raise InvalidInput(f"path must be a non-empty str or a Path, got {path!r}")
    try:
        if b"\0" not in os.fsencode(path):
            return Path(path)
    except UnicodeEncodeError:
        pass
    raise InvalidInput(f"path {str(path)!r} cannot be the name of a directory; use printable characters")


class _FolderLock:
    """One process at a time, by a file. Raises StoreUnusable when another one keeps it, or the file cannot be made."""

    def __init__(self, file: Path) -> None:
        self._lock = filelock.FileLock(str(file), timeout=BUSY_SECONDS)

    def __enter__(self) -> None:
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise StoreUnusable(
                f"{self._lock.lock_file} has been held by another process for {BUSY_SECONDS:.0f} s. Close it there and try again"
            ) from error
        except OSError as error:
            raise StoreUnusable(f"{self._lock.lock_file} cannot be opened ({error.strerror}). Check the rights of the directory") from error

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _TickLock:
    """One tick at a time in a directory, whichever process or thread it is of; one that is killed holds it no longer."""

    def __init__(self, file: Path) -> None:
        self._lock = filelock.FileLock(str(file))

    @contextmanager
    def held(self, go_on: Callable[[], bool]) -> Iterator[bool]:
        """Wait for it while go_on; whether it is held then. Raises StoreUnusable."""
        got = False
        try:
            while not got:
                try:
                    self._lock.acquire(timeout=0)
                    got = True
                except filelock.Timeout:
                    if not go_on():
                        break
                    time.sleep(AGAIN)
                except OSError as error:
                    raise StoreUnusable(
                        f"{self._lock.lock_file} cannot be opened ({error.strerror}). Check the rights of the directory"
                    ) from error
            yield got
        finally:
            if got:
                self._lock.release()


class SQLiteStore:
    """A memory directory. Raises StoreError (see `errors`) when it cannot be used."""

    def __init__(self, path: str | Path) -> None:
        self.path = _as_folder(path)
        self.place = str(self.path / "memos.db")
        self._queue: list[_Pending] = []
        self._queue_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self.closed = False
        self._prepare_folder()
        self.blobs = Blobs(self.path / "blobs")
        self.file_lock = _FolderLock(self.path / "lock")
        self.ticking = _TickLock(self.path / "ticking")
        with self.file_lock, translated(self.place):  # one process at a time makes the schema and turns the WAL on
            self._sweep()
            self._writer = self._connect()
            try:
                schema.migrate(self._writer, self.place)
                self._lay_out_log()
                self._writer.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (secrets.token_bytes(32),))
            except BaseException:
                self._writer.close()
                raise
        with self.read() as view:
            self.secret: bytes = view.meta("secret") or b""
        self.settle()

    def _prepare_folder(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise StoreUnusable(f"{self.path} is a file; a memory is a directory. Pass another path")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe-{secrets.token_hex(4)}"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnusable(
                f"{self.path} cannot be written ({error.strerror}). Check the rights of the directory, or pass another path"
            ) from error

    def _sweep(self) -> None:
        """Remove what a process that died has left half written; whoever writes such a file holds the directory's lock, or does not miss it."""
        for name in (".probe-*", ".index.faiss.*"):
            for path in self.path.glob(name):
                path.unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.place, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = ON",
            "cache_size = -16000",
        ):
            db.execute(f"PRAGMA {pragma}")
        return db

    def _lay_out_log(self) -> None:
        """Give a new write-ahead log its full length at once: a commit that overwrites is up to three times faster than one that extends."""
        log = Path(f"{self.place}-wal")
        if log.exists() and log.stat().st_size >= LOG_BYTES:
            return
        try:
            for statement in (
                "BEGIN IMMEDIATE",
                "CREATE TABLE room (x)",
                f"INSERT INTO room VALUES (zeroblob({LOG_BYTES}))",
                "DROP TABLE room",
                "COMMIT",
            ):
                self._writer.execute(statement)
            self._writer.execute("PRAGMA wal_checkpoint(RESTART)")
        except sqlite3.OperationalError as error:  # no room for it: the log will grow as it is needed
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL:
                raise

    # ------------------------------------------------------------------ writing
    def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        """All of the changes in one durable transaction, or none of them; outcomes in order. Raises NotFound, VersionConflict or StoreError.

        Whoever gets the write lock first commits for everyone that is waiting: many small writers share one fsync.
        """
        pending = _Pending(changes)
        with self._queue_lock:
            self._queue.append(pending)
        with self._write_lock:
            if not pending.done:
                with self._queue_lock:
                    batch, self._queue = self._queue, []
                self._commit_batch(batch)
        if pending.error is not None:
            raise pending.error
        assert pending.outcomes is not None
        return pending.outcomes

    def _commit_batch(self, batch: list[_Pending]) -> None:
        try:
            if self.closed:
                raise StoreUnusable(f"{self.path} has been closed; open it again")
            with translated(self.place):
                self._writer.execute("BEGIN IMMEDIATE")
                results = [self._apply(pending, alone=len(batch) == 1) for pending in batch]
                self._writer.execute("COMMIT")
            for pending, result in zip(batch, results, strict=True):
                pending.outcomes = result
        except BaseException as error:
            if not self.closed and self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            for pending in batch:
                pending.error = pending.error or error
            if not isinstance(error, MemosError):
                raise

    def _apply(self, pending: _Pending, alone: bool) -> list[Outcome] | None:
        """One writer's changes; when others share the transaction, its failure is undone and kept for it alone."""
        if alone:
            return [ledger.apply(self._writer, change) for change in pending.changes]
        outcomes: list[Outcome] | None = None
        self._writer.execute("SAVEPOINT one")
        try:
            with translated(self.place):
                outcomes = [ledger.apply(self._writer, change) for change in pending.changes]
        except (StoreCorrupt, StoreUnusable):  # the store itself: everyone's failure
            raise
        except Exception as error:  # noqa: BLE001  whatever is wrong with one writer's changes is handed to that writer
            self._writer.execute("ROLLBACK TO one")
            pending.error = error
        self._writer.execute("RELEASE one")
        return outcomes

    def set_meta(self, key: str, value: bytes) -> None:
        """Keep a small fact about the directory itself."""
        with self._write_lock, translated(self.place):
            self._writer.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def settle(self) -> bool:
        """Finish what erasures began: unlink doomed blobs, wipe freed pages and the write-ahead log. False if a reader was in the way.

        What was deleted is zeroed, but SQLite leaves copies of rows that it once moved from page to page in the unused middle of pages:
        only rewriting the file is sure to leave none, and a truncating checkpoint removes the log that still holds the content.
        """
        with self.read() as view:
            doomed, scrub = view.doomed(), view.meta("scrub")
        if not doomed and scrub is None:
            return True
        with self._write_lock, translated(self.place):
            if doomed:
                self.blobs.remove(doomed)
                self._writer.executemany("DELETE FROM doomed WHERE blob = ?", [(blob,) for blob in doomed])
            if scrub is None:
                return True
            with self.file_lock:  # whoever saves an index holds it too
                (self.path / "index.faiss").unlink(missing_ok=True)
            self._writer.execute("VACUUM")
            for attempt in range(20):
                busy = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                if not busy:  # only now is it done, and only for the erasures that were there when it began
                    self._writer.execute("DELETE FROM meta WHERE key = 'scrub' AND value = ?", (scrub,))
                    return True
                time.sleep(0.01 * (attempt + 1))
            return False

    def discard(self, blob: str) -> None:
        """Remove a file that was written for a change which then failed, unless something else refers to it."""
        with self._write_lock, translated(self.place):
            held = "SELECT 1 FROM cubes WHERE blob = ?1 AND state <> 'archived' UNION ALL SELECT 1 FROM images WHERE blob = ?1"
            if not self.closed and not self._writer.execute(held, (blob,)).fetchone():
                self.blobs.remove([blob])

    def collect_orphans(self, now: datetime, grace_seconds: float = 3600.0) -> int:
        """Remove blob files that nothing refers to and that are older than the grace period; returns how many."""
        with self.read() as view:
            referenced = view.blobs()
        orphans = self.blobs.orphans(referenced, min(now.timestamp(), time.time()), grace_seconds)
        for path in orphans:
            path.unlink(missing_ok=True)
        return len(orphans)

    # ------------------------------------------------------------------ reading
    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """A consistent view of the store, for the time of a `with`. Raises StoreError."""
        with self._queue_lock:
            if self.closed:
                raise StoreUnusable(f"{self.path} has been closed; open it again")
            db = self._idle.pop() if self._idle else None
        with translated(self.place):
            db = db or self._connect()
            try:
                db.execute("BEGIN")
                yield Snapshot(db)
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                with self._queue_lock:
                    if self.closed:
                        db.close()
                    else:
                        self._idle.append(db)

    def check(self) -> list[str]:
        """What SQLite itself finds wrong with the file."""
        with self.read() as view, translated(self.place):
            return [row[0] for row in view.db.execute("PRAGMA integrity_check") if row[0] != "ok"]

    def close(self) -> None:
        """Close all connections. Safe to call twice."""
        with self._write_lock, self._queue_lock:
            if not self.closed:
                self.closed = True
                for db in (*self._idle, self._writer):
                    db.close()
                self._idle.clear()

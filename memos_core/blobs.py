"""Content-addressed files: a blob's name is the sha256 of its bytes, and it never changes once it is there."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from memos_core.errors import InvalidInput, StoreCorrupt, StoreUnusable


def _sync_folder(folder: Path) -> None:
    """Make a rename or unlink in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(target: Path, data: bytes) -> None:
    """Put a whole file in place or leave what was there: temporary file, fsync, rename, fsync of the folder."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreUnusable(
            f"could not write {target}: {error.strerror or error}. Free some space or check the rights, then try again"
        ) from error


class Blobs:
    """A folder of blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreUnusable(f"{folder} cannot be made ({error.strerror}). Remove what is in its place, or check the rights") from error

    def path(self, sha256: str) -> Path:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise InvalidInput(f"{sha256!r} is not a sha256 in lower-case hex")
        return self.folder / sha256

    def put(self, data: bytes) -> str:
        """Keep the bytes; returns their sha256. Durable on return; writing what is there whole already changes nothing."""
        sha256 = hashlib.sha256(data).hexdigest()
        target = self.path(sha256)
        if self.problem(sha256) is not None:
            write_durably(target, data)
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes, checked. Raises StoreCorrupt when they are missing or altered."""
        problem = self.problem(sha256)
        if problem:
            raise StoreCorrupt(f"{problem}. Restore the file from a backup, or forget the cube and let it be made again")
        return self.path(sha256).read_bytes()

    def problem(self, sha256: str) -> str | None:
        """What is wrong with a blob, or None. Reads it whole."""
        try:
            with open(self.path(sha256), "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return f"blob {sha256} is missing"
        return None if found == sha256 else f"blob {sha256} has been altered: its bytes hash to {found}"

    def remove(self, names: Iterable[str]) -> None:
        """Unlink blobs, durably; absent ones are fine."""
        for sha256 in names:
            self.path(sha256).unlink(missing_ok=True)
        _sync_folder(self.folder)

    def orphans(self, referenced: set[str], now: float, grace_seconds: float) -> list[Path]:
        """Files that nothing refers to and that are older than the grace period, left by a writer that died."""
        found = []
        for path in self.folder.iterdir():
            if path.name not in referenced and now - path.stat().st_mtime > grace_seconds:
                found.append(path)
        return sorted(found)

    def total(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

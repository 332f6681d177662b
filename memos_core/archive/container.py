"""The file of an archive: a zip with a manifest that names every member, its bytes and their sha256. Written whole or not at all; checked before
it is read. No SQL.

    manifest.json        format, versions, scope, embedder, counts, and of each member bytes and sha256
    tables/<name>.jsonl  the rows of `shapes`, one JSON list a line
    vectors.f32          float32 [n, d], little-endian, in the order of the cubes that have one
    blobs/<sha256>       images, KV, adapters: as they are in the directory
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from memos_core.archive.shapes import COLUMNS, FORMAT, FORMAT_VERSION, Row, read_row, write_row
from memos_core.errors import InvalidInput, SchemaTooNew, StoreCorrupt, StoreUnusable

MANIFEST, VECTORS = "manifest.json", "vectors.f32"
_TABLE = {f"tables/{name}.jsonl": name for name in COLUMNS}
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_CHUNK = 1 << 20
MOST_MANIFEST = 64 << 20
LONGEST_LINE = 64 << 20
"""Bytes; the longest text of a memory is 1 MiB."""

Progress = Callable[[str, int, int], None]
"""Called as work goes on: what, how much of it is done, of how much."""


def as_file(value: object, what: str = "file") -> Path:
    """Check the name of a file. Raises InvalidInput."""
    if not isinstance(value, (str, Path)) or not str(value).strip() or "\0" in str(value):
        raise InvalidInput(f"{what} must be the name of a file as str or Path, such as 'clinic.memos.zip'; got {value!r}")
    return Path(value)


class Writer:
    """An archive being written, beside where it will be: `with Writer(file) as archive`. In place, and durable, when the `with` ends well."""

    def __init__(self, file: Path, overwrite: bool) -> None:
        self.file = file
        if file.is_dir():
            raise InvalidInput(f"{file} is a directory; an archive is a file, such as {file / 'memory.zip'}")
        if file.exists() and not overwrite:
            raise InvalidInput(f"{file} is there already; pass another name, or overwrite=True")
        self._temporary = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
        self._members: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Writer:
        with _named(self.file):
            self._out = open(self._temporary, "xb")
            self._zip = zipfile.ZipFile(self._out, "w", zipfile.ZIP_DEFLATED, allowZip64=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                with _named(self.file):
                    self._zip.close()
                    self._out.flush()
                    os.fsync(self._out.fileno())
                    self._out.close()
                    os.replace(self._temporary, self.file)
                    folder = os.open(self.file.parent, os.O_RDONLY)
                    os.fsync(folder)
                    os.close(folder)
        finally:
            with contextlib.suppress(OSError, ValueError):  # what was given up need not be finished
                self._zip.close()
            with contextlib.suppress(OSError):
                self._out.close()
            self._temporary.unlink(missing_ok=True)

    def table(self, name: str, rows: Iterable[Row]) -> int:
        """Write a table; how many rows it has."""
        count = 0

        def lines() -> Iterator[bytes]:
            nonlocal count
            for row in rows:
                count += 1
                yield write_row(row)

        self.member(f"tables/{name}.jsonl", lines())
        return count

    def member(self, name: str, chunks: Iterable[bytes], stored: bool = False) -> None:
        """Write a member. stored: uncompressed."""
        digest, size = hashlib.sha256(), 0
        info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        info.external_attr = 0o600 << 16
        with _named(self.file), self._zip.open(info, "w", force_zip64=True) as out:
            for chunk in chunks:
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self._members[name] = {"bytes": size, "sha256": digest.hexdigest()}

    def manifest(self, facts: Mapping[str, Any]) -> None:
        """Write the manifest, last: it names all members."""
        whole = {"format": FORMAT, "format_version": FORMAT_VERSION, **facts, "members": self._members}
        with _named(self.file):
            self._zip.writestr(zipfile.ZipInfo(MANIFEST, (1980, 1, 1, 0, 0, 0)), json.dumps(whole, ensure_ascii=False, indent=1))


class Reader:
    """An archive whose every member is what the manifest says. Raises StoreCorrupt, SchemaTooNew, StoreUnusable or InvalidInput.

    Nothing is unpacked, and no name in it becomes the name of a file: members are looked up by the names that an archive has.
    """

    def __init__(self, file: Path, progress: Progress | None = None) -> None:
        self.file = file
        if not file.is_file():
            raise InvalidInput(f"there is no file {file}; memos.export(file) writes an archive")
        with _named(file):
            self._in = open(file, "rb")  # noqa: SIM115  one handle from check to use; closed by close()
        try:
            with self._damage("it is no zip file, or its end is missing"):
                self._zip = zipfile.ZipFile(self._in)
            self.manifest = self._checked_manifest()
            self._check_members(progress)
        except BaseException:
            self._in.close()
            raise

    def close(self) -> None:
        self._zip.close()
        self._in.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def damaged(self, what: str) -> StoreCorrupt:
        return StoreCorrupt(f"{self.file} is damaged or was changed: {what}. Take another copy of it; nothing was imported")

    @contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
            raise self.damaged(f"{what} ({str(error) or type(error).__name__})") from error

    def _checked_manifest(self) -> dict[str, Any]:
        names = self._zip.namelist()
        if len(names) != len(set(names)):
            raise self.damaged("it has two members of one name")
        strange = [name for name in names if name not in (MANIFEST, VECTORS, *_TABLE) and not _BLOB.fullmatch(name)]
        if MANIFEST not in names or self._zip.getinfo(MANIFEST).file_size > MOST_MANIFEST:
            raise InvalidInput(f"{self.file} is no memos archive: it has no manifest. memos.export(file) writes one")
        with self._damage("its manifest cannot be read"):
            manifest = json.loads(self._zip.read(MANIFEST))
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not isinstance(manifest.get("format_version"), int):
            raise InvalidInput(
                f"{self.file} is no memos archive: its manifest says {manifest.get('format') if isinstance(manifest, dict) else '?'!r}"
            )
        if manifest["format_version"] > FORMAT_VERSION:
            raise SchemaTooNew(
                f"{self.file} has format {manifest['format_version']}; this version knows up to {FORMAT_VERSION}."
                " Upgrade memos-integrations to import it"
            )
        if strange:
            raise self.damaged(f"it has a member {strange[0]!r:.80}, which no archive has")
        return manifest

    def _check_members(self, progress: Progress | None) -> None:
        listed = self.manifest.get("members")
        there = {info.filename: info for info in self._zip.infolist() if info.filename != MANIFEST}
        if not isinstance(listed, dict) or set(listed) != set(there) or not set(listed) >= {*_TABLE, VECTORS}:
            raise self.damaged("its members are not those that the manifest names")
        total, done = sum(info.file_size for info in there.values()), 0
        for name, info in there.items():
            says = listed[name]
            if not isinstance(says, dict) or info.flag_bits & 1 or says.get("bytes") != info.file_size:
                raise self.damaged(f"{name} is not as long as the manifest says")
            if name not in _TABLE and info.compress_type != zipfile.ZIP_STORED:  # read whole, so no larger than the file
                raise self.damaged(f"{name} is compressed, which only tables are")
            digest, size = hashlib.sha256(), 0
            for chunk in self._chunks(name):
                digest.update(chunk)
                size += len(chunk)
                done += len(chunk)
                if progress is not None:
                    progress("checking", done, total)
            if size != says["bytes"] or digest.hexdigest() != says.get("sha256"):
                raise self.damaged(f"{name} does not have the sha256 that the manifest says")
            blob = _BLOB.fullmatch(name)
            if blob and blob[1] != digest.hexdigest():
                raise self.damaged(f"{name} does not have the sha256 that it is named by")

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._damage(f"{name} cannot be read"), self._zip.open(name) as member:
            yield from _until_empty(member)

    def rows(self, table: str) -> Iterator[Row]:
        """The rows of a table, checked one by one."""
        with self._damage(f"{table} cannot be read"), self._zip.open(f"tables/{table}.jsonl") as member:
            number = 0
            while line := member.readline(LONGEST_LINE):
                number += 1
                try:
                    yield read_row(table, line, number)
                except StoreCorrupt as error:
                    raise self.damaged(str(error)) from None

    def bytes_of(self, name: str) -> bytes:
        """A member whole."""
        with self._damage(f"{name} cannot be read"):
            return self._zip.read(name)

    def blobs(self) -> set[str]:
        """The blobs that it holds, by sha256."""
        return {found[1] for name in self._zip.namelist() if (found := _BLOB.fullmatch(name))}

    def blob(self, sha256: str) -> bytes:
        return self.bytes_of(f"blobs/{sha256}")


def _until_empty(member: IO[bytes]) -> Iterator[bytes]:
    while chunk := member.read(_CHUNK):
        yield chunk


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """The system's errors as ours."""
    try:
        yield
    except OSError as error:
        raise StoreUnusable(
            f"{file} could not be read or written ({error.strerror or error}). Free some space, or check the name and the rights"
        ) from error

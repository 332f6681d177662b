"""Every error that memos raises on purpose, under one root.

MemosError
├── InvalidInput            (also ValueError)   an argument cannot be used; says which and what to pass
├── NotFound                (also KeyError)     no cube, version or session of that name
├── AccessDenied            (also PermissionError)  the actor may not do this
├── VersionConflict                             somebody else changed it first (expected_version)
├── NotAvailable            (also RuntimeError) an ability that is missing here; names it
│   └── MissingExtra        (also ImportError)  a package is not installed; names the extra and the command
├── StoreError              (also RuntimeError) the directory cannot be opened or read
│   ├── StoreUnusable                           not a directory, no rights, disk full
│   ├── StoreCorrupt                            torn database, missing or altered blob, broken hash chain
│   ├── SchemaTooNew                            written by a newer memos
│   └── EmbedderMismatch                        the vectors in it come from another embedder
├── Cancelled                                   the caller stopped it; nothing was kept
└── EngineError             (also RuntimeError) a model, tokenizer or KV segment cannot do what was asked
    └── IdentityMismatch                        an explicit attach of something that belongs to another model
"""

from __future__ import annotations


class MemosError(Exception):
    """Root of all errors raised on purpose. The message says what happened and what to do about it."""


class InvalidInput(MemosError, ValueError):
    """An argument cannot be used."""


class NotFound(MemosError, KeyError):
    """Nothing of that name is here."""

    def __str__(self) -> str:  # KeyError would print the message in quotes
        return str(self.args[0]) if self.args else ""


class AccessDenied(MemosError, PermissionError):
    """The actor may not do this. Grant access with `memos.update(id, read=...)`, or ask as the owner."""


class VersionConflict(MemosError):
    """The cube has changed since the caller read it."""


class NotAvailable(MemosError, RuntimeError):
    """The ability is missing here; the message names it."""


class MissingExtra(NotAvailable, ImportError):
    """A package of an optional extra is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs the extra '{extra}': pip install 'memos-integrations[{extra}]'")


class StoreError(MemosError, RuntimeError):
    """The memory directory cannot be opened, read or written."""


class StoreUnusable(StoreError):
    """The place is not usable as a memory directory."""


class StoreCorrupt(StoreError):
    """What is stored does not match its checksum or cannot be read."""


class SchemaTooNew(StoreError):
    """The directory was written by a newer version."""


class EmbedderMismatch(StoreError):
    """The directory's vectors were made by another embedder."""


class Cancelled(MemosError):
    """The caller stopped long work."""


class EngineError(MemosError, RuntimeError):
    """A model, tokenizer or KV segment cannot do what was asked."""


class IdentityMismatch(EngineError):
    """An explicit attach of something that belongs to another model."""

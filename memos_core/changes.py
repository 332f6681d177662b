"""Operations as data: everything that can be written to a store, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np

from memos_core.cube import Actor, CubeId, MemCube, Scope
from memos_core.features import Features
from memos_core.hierarchy import Place


@dataclass(frozen=True, slots=True)
class Searchable:
    """What the indexes hold of a plaintext. vector: float32 [d], unit length. terms: uint32 [n]. words: the same as text."""

    vector: np.ndarray
    terms: np.ndarray
    words: str
    features: Features


@dataclass(frozen=True, slots=True)
class Add:
    """A new cube. identity: digest of the message it came from; one that is known makes this a merge, which changes nothing."""

    cube: MemCube
    actor: Actor
    searchable: Searchable | None = None
    place: Place | None = None
    identity: bytes | None = None
    parents: tuple[tuple[CubeId, int], ...] = ()
    relation: str = "derived from"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Revise:
    """The next version of a cube. Refused (Conflict) unless the head is at cube.version - 1."""

    cube: MemCube
    actor: Actor
    action: str
    searchable: Searchable | None = None
    place: Place | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Erase:
    """Erase cubes and all that was derived from them: tombstones and audit entries stay."""

    ids: tuple[CubeId, ...]
    actor: Actor
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Take:
    """One user turn, once: its messages, what was used and what was placed. Known turns change nothing."""

    scope: Scope
    session: str
    turn: str
    at: datetime
    system: str | None
    adds: tuple[Add, ...]
    used: tuple[tuple[CubeId, str], ...] = ()
    placed: tuple[tuple[CubeId, int], ...] = ()


Change = Add | Revise | Erase | Take


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did. erased / scopes_touched: by an Erase, the ids that are gone and the scopes whose prompts may have held them."""

    kind: Literal["added", "merged", "revised", "erased", "taken", "known"]
    cubes: tuple[MemCube, ...] = ()
    erased: tuple[CubeId, ...] = ()
    prefix_keys: tuple[str, ...] = ()
    scopes_touched: tuple[Scope, ...] = ()
    each: tuple[Outcome, ...] = field(default=())

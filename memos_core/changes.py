"""Operations as data: everything that can be written to a store, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np

from memos_core.conflict.resolution import Related
from memos_core.cube import Actor, CubeId, MemCube, Scope, State
from memos_core.hierarchy import Place
from memos_core.lifespan import check_transition
from memos_core.policy import Budget, Move
from memos_core.recall.features import Features


@dataclass(frozen=True, slots=True)
class Searchable:
    """What the indexes hold of a plaintext. vector: float32 [d], unit length. terms: uint32 [n]."""

    vector: np.ndarray
    terms: np.ndarray
    features: Features = Features()  # noqa: RUF009  frozen
    keys: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Add:
    """A new cube. identity: digest of the message it came from; one that is known makes this a merge, which changes nothing.

    into: a cube that says the same already; while it stands, the message is kept with it instead: its text, its source, its count.
    relations: what the new cube has to do with others; those that are gone meanwhile are left out.
    Refused (VersionConflict) where its scope holds an entry of the same key.
    """

    cube: MemCube
    actor: Actor
    searchable: Searchable | None = None
    identity: bytes | None = None
    parents: tuple[tuple[CubeId, int], ...] = ()
    relation: str = "derived from"
    detail: str = ""
    place: Place | None = None
    into: CubeId | None = None
    relations: tuple[Related, ...] = ()


@dataclass(frozen=True, slots=True)
class Revise:
    """The next version of a cube. Refused (VersionConflict) unless the head is at cube.version - 1.

    hidden: what is searched of it is taken away; it is found by its id or key alone from now on.
    """

    cube: MemCube
    actor: Actor
    action: str
    searchable: Searchable | None = None
    detail: str = ""
    place: Place | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Describe:
    """What is searched of a cube, read anew from the text that it has. Not a version: nothing was said."""

    id: CubeId
    searchable: Searchable


def restated(cube: MemCube, state: State, actor: Actor, action: str, now: datetime, reason: str) -> Revise:
    """The change that puts a cube into another state. Raises InvalidInput for one that the table of transitions does not allow."""
    check_transition(cube.state, state)
    identifiers = cube.identifiers.model_copy(update={"updated_at": now})
    changed = cube.model_copy(update={"state": state, "version": cube.version + 1, "identifiers": identifiers})
    return Revise(changed, actor, action, detail=reason)


@dataclass(frozen=True, slots=True)
class Erase:
    """Erase cubes and all that was derived from them: tombstones and audit entries stay.

    versions: refused (VersionConflict) unless the heads are at these, where given. scope: instead of ids, whatever is kept at or below it, with
    its turns and how they used memory.
    """

    ids: tuple[CubeId, ...]
    actor: Actor
    at: datetime
    reason: str
    versions: tuple[int, ...] | None = None
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class Relate:
    """Keep, or answer, what two cubes have to do with each other; their states follow. A finding never reopens what was answered."""

    related: Related
    actor: Actor
    at: datetime


@dataclass(frozen=True, slots=True)
class Refile:
    """File facts of one scope under other concepts. Not a version: nothing was said. places: (id, concept, task).

    length: refused (VersionConflict) unless the scope's audit log is that long, where given.
    """

    scope: Scope
    places: tuple[tuple[CubeId, int, int], ...]
    actor: Actor
    at: datetime
    reason: str
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """Give a task or concept of a scope another name, which is then the caller's."""

    scope: Scope
    number: int
    label: str
    actor: Actor
    at: datetime


@dataclass(frozen=True, slots=True)
class Label:
    """Keep labels that were read from facts, unless the scope has changed meanwhile: (number, label, facts). A cache; not audited."""

    scope: Scope
    labels: tuple[tuple[int, str, int], ...]
    length: int


@dataclass(frozen=True, slots=True)
class SetBudget:
    """How much a scope may hold from now on; None for no limit."""

    scope: Scope
    budget: Budget | None
    actor: Actor
    at: datetime


@dataclass(frozen=True, slots=True)
class Queue:
    """Remember that a module is to be distilled from some cubes. reason, seconds: of the move, where use asks for it; "": an outdated one."""

    scope: Scope
    form: str
    ids: tuple[CubeId, ...]
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Unqueue:
    """That has been done."""

    number: int


@dataclass(frozen=True, slots=True)
class Saved:
    """What a turn did not have to compute thanks to a cube: tokens of its prompt, and the seconds that these take on this machine."""

    id: CubeId
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Take:
    """One user turn, once: its messages, what was used and what was placed. Known turns change nothing.

    answered: of what stood in the prompt, what the answer came from. saved: by cube, of those that were used. whole: what the scope saved.
    task: the number of the task at hand; None: the one that most of what was used is filed under.
    """

    scope: Scope
    session: str
    turn: str
    at: datetime
    system: str | None
    adds: tuple[Add, ...]
    used: tuple[tuple[CubeId, str], ...] = ()
    placed: tuple[tuple[CubeId, int], ...] = ()
    answered: frozenset[CubeId] = frozenset()
    saved: tuple[Saved, ...] = ()
    whole: tuple[int, float] = (0, 0.0)
    task: int | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Whether uses went well, once per use: of one turn (session, turn key), or each cube's latest. Changes nothing when said again."""

    ids: tuple[CubeId, ...]
    success: bool
    session: str | None = None
    turn: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What the scheduler moved, in the commit that moved it. made: the cube that came of it."""

    move: Move
    scope: Scope
    at: datetime
    made: CubeId | None = None


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What was looked at, and when it has to be again: (kind, scope's number, demands it had when it was read, seconds or None for never).

    A demand that came meanwhile stands. seen: the audit entry up to which changes have been looked at. by: what decided, see `agenda`.
    """

    rows: tuple[tuple[str, int, int, float | None], ...]
    seen: int
    by: bytes


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import, in ids. added: cubes that were not here. grown: that went on in the archive from where they stood here. known: how many
    were here as they are there. same: what this memory holds under another id, since it was told the same message: theirs, ours.

    forgotten: left out, since they, or what they were made of, have been forgotten here. differing: left out, since both memories have
    changed them each in its own way, or keep another entry under their key; ours stands. forgotten_there: still here, though the other
    memory has forgotten them; `forget` follows it. unfounded: KV and modules left out, since what they were made of is not here.
    unrecognised: added, but a replay of their message would not be known. embedded: vectors were computed anew, by another embedder.
    """

    added: tuple[CubeId, ...] = ()
    grown: tuple[CubeId, ...] = ()
    known: int = 0
    same: tuple[tuple[CubeId, CubeId], ...] = ()
    forgotten: tuple[CubeId, ...] = ()
    differing: tuple[CubeId, ...] = ()
    forgotten_there: tuple[CubeId, ...] = ()
    unfounded: tuple[CubeId, ...] = ()
    unrecognised: tuple[CubeId, ...] = ()
    embedded: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything came of it."""
        return bool(self.added or self.grown)


@dataclass(frozen=True, slots=True)
class Arrive:
    """Take in what a checked archive holds; see `archive.checking.Contents` for its fields. searchables: of plaintext that may be new here.
    identities, merged: digests under this directory's key, by cube, and by the number of a merged message."""

    tables: Mapping[str, Sequence[Any]]
    versions: Mapping[CubeId, Sequence[Any]]
    heads: Mapping[CubeId, MemCube]
    details: Mapping[tuple[CubeId, int], str]
    searchables: Mapping[CubeId, Searchable]
    identities: Mapping[CubeId, bytes | None]
    merged: Mapping[int, bytes | None]
    embedded: bool
    actor: Actor
    at: datetime


Change = (
    Arrive
    | Add
    | Revise
    | Erase
    | Take
    | Relate
    | SetBudget
    | Describe
    | Refile
    | Name
    | Label
    | Queue
    | Unqueue
    | Judge
    | Record
    | Reviewed
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did. superseded: added, and took the place of another.

    imported: by an Arrive. erased / scopes_touched: by an Erase, the ids that are gone and the scopes whose prompts may have held them.
    """

    kind: Literal[
        "added",
        "merged",
        "superseded",
        "revised",
        "erased",
        "taken",
        "known",
        "related",
        "unchanged",
        "budgeted",
        "described",
        "filed",
        "named",
        "labelled",
        "queued",
        "judged",
        "recorded",
        "reviewed",
        "arrived",
    ]
    cubes: tuple[MemCube, ...] = ()
    erased: tuple[CubeId, ...] = ()
    prefix_keys: tuple[str, ...] = ()
    scopes_touched: tuple[Scope, ...] = ()
    each: tuple[Outcome, ...] = field(default=())
    imported: Imported | None = None

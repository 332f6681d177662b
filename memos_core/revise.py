"""The next version of a cube, decided. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from memos_core.access import may_enter, require, rules
from memos_core.cube import Activation, Actor, CubeId, MemCube, Plaintext, State, as_id, as_text, as_validity
from memos_core.errors import InvalidInput
from memos_core.lifespan import check_transition, expired
from memos_core.parse import as_access, as_member, as_path, as_priority, as_tags, as_ttl, expiry


def revised(
    cube: MemCube,
    who: Actor,
    clock: datetime,
    *,
    text: str | None,
    path: str | Sequence[str] | None,
    ttl: timedelta | float | None,
    priority: float | None,
    read: Iterable[str | Sequence[str]] | None,
    write: Iterable[str | Sequence[str]] | None,
    tags: Iterable[str] | None,
    state: State | str | None,
    valid_from: datetime | str | None,
    valid_to: datetime | str | None,
) -> MemCube:
    """The cube with what is given changed, not yet numbered. A ttl counts from `clock`. Raises InvalidInput or AccessDenied."""
    changed: dict[str, Any] = {}
    identifiers, governance = cube.identifiers, cube.governance
    if text is not None:
        if not isinstance(cube.payload, Plaintext):
            raise InvalidInput(f"cube {cube.id} holds no text; change the text it was derived from")
        changed["payload"] = Plaintext(text=as_text(text), parts=cube.payload.parts)
    if path is not None:
        identifiers = identifiers.model_copy(update={"path": as_path(path)})
    if valid_from is not None or valid_to is not None:
        since, until = as_validity(
            identifiers.valid_from if valid_from is None else valid_from, identifiers.valid_to if valid_to is None else valid_to
        )
        identifiers = identifiers.model_copy(update={"valid_from": since, "valid_to": until})
    if ttl is not None:
        governance = governance.model_copy(update={"expires_at": expiry(clock, as_ttl(ttl))})
    if priority is not None:
        governance = governance.model_copy(update={"priority": as_priority(priority)})
    if tags is not None:
        governance = governance.model_copy(update={"tags": as_tags(tags)})
    if read is not None or write is not None:
        if not rules(who, governance.scope):  # a write grant is not the right to hand out grants
            require(may_enter(who, governance.scope), who, "share", f"cube {cube.id}")
        access = governance.access
        wanted = as_access(access.read if read is None else read, access.write if write is None else write)
        governance = governance.model_copy(update={"access": wanted})
    if state is not None:
        changed["state"] = as_member(State, state, "state")
        check_transition(cube.state, changed["state"])
        if cube.state is State.ARCHIVED and isinstance(cube.payload, Activation):
            raise InvalidInput(f"the KV of cube {cube.id} is gone; promote its sources instead")
    return cube.model_copy(update={**changed, "identifiers": identifiers, "governance": governance})


def as_of_version(cube: MemCube, then: MemCube) -> MemCube:
    """The cube with the content and metadata of an earlier version of it. Usage is not part of a version; where it was said stays known."""
    kept = {"sources": cube.identifiers.sources, "mentions": cube.identifiers.mentions}
    identifiers = then.identifiers.model_copy(update=kept)
    return cube.model_copy(update={"payload": then.payload, "identifiers": identifiers, "governance": then.governance, "state": then.state})


def restored(cube: MemCube, clock: datetime) -> MemCube:
    """An archived memory, active again; a time to live that is over does not count any more. Raises InvalidInput."""
    if cube.state is not State.ARCHIVED or not isinstance(cube.payload, Plaintext):
        raise InvalidInput(f"cube {cube.id} is {cube.state} {cube.payload.kind}; only archived plaintext can be restored")
    governance = cube.governance.model_copy(update={"expires_at": None}) if expired(cube, clock) else cube.governance
    return cube.model_copy(update={"state": State.ACTIVE, "governance": governance})


def as_ids(given: CubeId | Sequence[CubeId]) -> tuple[CubeId, ...]:
    """An id, or several, each once. Raises InvalidInput."""
    if isinstance(given, (bytes, Mapping, MemCube)) or not isinstance(given, Iterable):
        raise InvalidInput(f"pass a cube's id or a list of ids, got {type(given).__name__}")
    return tuple(dict.fromkeys(map(as_id, (given,) if isinstance(given, str) else given)))


def as_version(version: object, name: str) -> int | None:
    """A number in a version chain. Raises InvalidInput."""
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 1):
        raise InvalidInput(f"{name} must be a whole number from 1, got {version!r}")
    return version


def next_version(cube: MemCube, new: MemCube, clock: datetime, expected: int | None) -> MemCube:
    """`new` as the version after `expected`, or after the one the caller has read. Raises InvalidInput."""
    expected = as_version(expected, "expected_version")
    identifiers = new.identifiers.model_copy(update={"updated_at": clock})
    return new.model_copy(update={"identifiers": identifiers, "version": (cube.version if expected is None else expected) + 1})

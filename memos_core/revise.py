"""The next version of a cube, decided. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from memos_core.access import may_enter, require, rules
from memos_core.cube import Actor, MemCube, Plaintext, State, as_text
from memos_core.errors import InvalidInput
from memos_core.lifespan import check_transition
from memos_core.parse import as_access, as_member, as_path, as_priority, as_ttl


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
    state: State | str | None,
) -> MemCube:
    """The cube with what is given changed, not yet numbered. A ttl counts from `clock`. Raises InvalidInput or AccessDenied."""
    changed: dict[str, Any] = {}
    identifiers, governance = cube.identifiers, cube.governance
    if text is not None:
        if not isinstance(cube.payload, Plaintext):
            raise InvalidInput(f"cube {cube.id} holds no text; change the text it was derived from")
        changed["payload"] = Plaintext(text=as_text(text))
    if path is not None:
        identifiers = identifiers.model_copy(update={"path": as_path(path)})
    if ttl is not None:
        governance = governance.model_copy(update={"expires_at": clock + (as_ttl(ttl) or timedelta())})
    if priority is not None:
        governance = governance.model_copy(update={"priority": as_priority(priority)})
    if read is not None or write is not None:
        if not rules(who, governance.scope):  # a write grant is not the right to hand out grants
            require(may_enter(who, governance.scope), who, "share", f"cube {cube.id}")
        access = governance.access
        wanted = as_access(access.read if read is None else read, access.write if write is None else write)
        governance = governance.model_copy(update={"access": wanted})
    if state is not None:
        changed["state"] = as_member(State, state, "state")
        check_transition(cube.state, changed["state"])
    return cube.model_copy(update={**changed, "identifiers": identifiers, "governance": governance})


def as_of_version(cube: MemCube, then: MemCube) -> MemCube:
    """The cube with the content and metadata of an earlier version of it; usage is not part of a version."""
    fields = {"payload": then.payload, "identifiers": then.identifiers, "governance": then.governance, "state": then.state}
    return cube.model_copy(update=fields)


def next_version(cube: MemCube, new: MemCube, clock: datetime, expected: int | None) -> MemCube:
    """`new` as the version after `expected`, or after the one the caller has read."""
    identifiers = new.identifiers.model_copy(update={"updated_at": clock})
    return new.model_copy(update={"identifiers": identifiers, "version": (cube.version if expected is None else expected) + 1})

"""What every part of the door has in common: the open house, and on whose behalf it is used."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from memos_core.access import Action
from memos_core.cube import LOCAL_OWNER, Actor, CubeId, MemCube, Scope, as_scope
from memos_core.house import House

ActorLike = str | Sequence[str] | None
ScopeLike = str | Sequence[str]


class Bound:
    """An open house, used on behalf of somebody: the actor it is bound to, else whoever holds the scope that is named."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._store = house.store
        self._index = house.index
        self._actor: Actor | None = None

    def _who(self, actor: ActorLike, scope: Scope | None) -> Actor:
        if actor is not None:
            return as_scope(actor, "actor")
        return self._actor or scope or LOCAL_OWNER

    def _permitted(self, id: CubeId, action: Action, who: Actor, clock: datetime) -> MemCube:
        return self._house.permitted(id, action, who, clock)

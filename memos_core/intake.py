"""From checked input to what is written: the cubes of a call, what identifies each message, what the indexes hold of it. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from memos_core.analyse import terms, words
from memos_core.changes import Searchable
from memos_core.cube import (
    Access,
    Actor,
    Governance,
    Identifiers,
    MemCube,
    Origin,
    Plaintext,
    Scope,
    SemanticType,
    dumps,
    new_id,
)
from memos_core.duplicate.fingerprint import fingerprint, from_hex
from memos_core.parse import Noted, expiry
from memos_core.parse.standing import standing
from memos_core.recall.features import features, prose
from memos_core.when import window_of


@dataclass(frozen=True, slots=True)
class Template:
    """What the cubes of one call have in common."""

    scope: Scope
    actor: Actor
    session: str | None
    path: tuple[str, ...] = ()
    ttl: timedelta | None = None
    priority: float = 0.0
    access: Access = Access()  # noqa: RUF009  frozen
    semantic_type: SemanticType = SemanticType.FACT
    origin: Origin = Origin.USER_INPUT
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    tags: tuple[str, ...] = ()

    def cube(self, item: Noted, said_at: datetime | None, clock: datetime) -> MemCube:
        """A new cube of one message; said_at: when, for a message that does not say."""
        at = item.at or said_at or clock
        return MemCube(
            id=new_id(),
            version=1,
            payload=Plaintext(text=item.text, record=item.record, parts=item.parts),
            identifiers=Identifiers(
                created_at=clock,
                updated_at=clock,
                occurred_at=at,
                valid_from=self.valid_from,
                valid_to=self.valid_to,
                origin=self.origin,
                semantic_type=self.semantic_type,
                path=self.path,
                session=self.session,
                role=item.role,
                speaker=item.speaker or (item.role.capitalize() if item.role in ("user", "assistant") else None),
                sources=(item.source,) if item.source is not None else (),
            ),
            governance=Governance(
                scope=self.scope,
                owner=self.actor,
                access=self.access,
                expires_at=expiry(at, self.ttl),
                priority=self.priority,
                tags=self.tags,
            ),
        )


def identity(secret: bytes, template: Template, item: Noted, said_at: datetime | None, turn: str | None = None) -> bytes:
    """Keyed digest of what makes two messages the same message. Keyed, and erased with the cube, so that it cannot be guessed from."""
    at = item.at or said_at
    if item.source is not None:
        what: Sequence[object] = ["id", item.source, item.text]
    elif turn is not None:
        what = ["turn", turn, item.role or ""]
    else:
        what = ["said", item.role or "", item.speaker or "", at.isoformat() if at else "", *template.path, item.text]
    return message_digest(secret, template.scope, template.session, [*what, *(part.blob for part in item.parts)])


def message_digest(secret: bytes, scope: Scope, session: str | None, what: Sequence[object]) -> bytes:
    """What `identity` is of a message of which this is what counts."""
    return hmac.digest(secret, dumps([*scope, "", session or "", *what]).encode(), "sha256")


def as_searchable(cube: MemCube, vector: np.ndarray | None, keys: tuple[int, ...] = ()) -> Searchable | None:
    """What the indexes hold of a plaintext cube. vector: float [d], of its text's `prose`; None for what is held already.

    keys: what it is filed under, to be found when something like it is written.
    """
    if vector is None or not isinstance(cube.payload, Plaintext):
        return None
    plain, said = prose(cube.payload.text), cube.identifiers
    found = words(plain)
    wish = said.role != "assistant" and (said.semantic_type is SemanticType.PREFERENCE or standing(plain) is not None)
    window = window_of(plain, said.occurred_at)
    about = (window.start.timestamp(), window.end.timestamp()) if window is not None else None
    bits = fingerprint(vector) if said.fingerprint is None else from_hex(said.fingerprint)
    traits = features(cube.payload.text, said.role, said.speaker, about=about, standing=wish, fingerprint=bits.tobytes())
    return Searchable(np.asarray(vector, dtype="<f4"), terms(found), traits, keys)

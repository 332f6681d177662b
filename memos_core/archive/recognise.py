"""What makes a message the same message, in words that another memory can hash anew. Pure.

A directory knows messages by digests under a key of its own, which never leaves it. So that a message is known again in another directory, an archive
says what the digest is of: found here by trying what it can be. One that is not found is imported all the same, and could be told twice.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from memos_core.cube import CubeId, MemCube, Plaintext, Scope, SemanticType, dumps
from memos_core.intake import message_digest

Recipe = list[Any]


def recipe_of(
    secret: bytes,
    first: MemCube,
    digest: bytes,
    turns: Callable[[Scope, str], Iterable[str]],
    parents: Sequence[tuple[CubeId, bytes | None]],
) -> Recipe | None:
    """What a digest is of. first: the cube as it was written first. turns: keys of a session's turns. parents: what it was extracted from."""
    if not isinstance(first.payload, Plaintext):
        return None
    scope, said, text = first.governance.scope, first.identifiers, first.payload.text
    blobs = [part.blob for part in first.payload.parts]
    for what in _messages(first, text):
        if message_digest(secret, scope, said.session, [*what, *blobs]) == digest:
            return ["message", [*what, *blobs]]
    for key in turns(scope, said.session) if said.session is not None else ():
        what = ["turn", key, said.role or ""]
        if message_digest(secret, scope, said.session, [*what, *blobs]) == digest:
            return ["message", [*what, *blobs]]
    for parent, known_as in parents:
        if _extracted(secret, parent, known_as, text) == digest:
            return ["extracted", parent]
    habit = "template" if said.semantic_type is SemanticType.TEMPLATE else "instruction"
    return ["habit", habit, text] if _habit(secret, scope, habit, text) == digest else None


def _messages(first: MemCube, text: str) -> Iterable[list[str]]:
    said = first.identifiers
    for source in said.sources:
        yield ["id", source, text]
    role, speakers = said.role or "", [said.speaker or ""]
    if said.speaker == role.capitalize():  # who is not named is called by the role
        speakers.append("")
    for speaker in speakers:
        for at in (said.occurred_at.isoformat(), ""):
            yield ["said", role, speaker, at, *said.path, text]


def digest_of(secret: bytes, recipe: Any, first: MemCube, digests: Mapping[CubeId, bytes | None]) -> bytes | None:
    """The digest under another key; None where the recipe is none. digests: of the cubes that came before it."""
    if not isinstance(first.payload, Plaintext):
        return None
    match recipe:
        case ["message", [str(kind), *rest] as what] if all(isinstance(part, str) for part in rest):
            if kind != "turn" and first.payload.text not in rest:
                return None
            return message_digest(secret, first.governance.scope, first.identifiers.session, what)
        case ["extracted", str(parent)]:
            return _extracted(secret, parent, digests.get(parent), first.payload.text)
        case ["habit", str(kind), str(text)]:
            return _habit(secret, first.governance.scope, kind, text)
    return None


def _extracted(secret: bytes, parent: CubeId, known_as: bytes | None, text: str) -> bytes:
    return hmac.digest(secret, (known_as or parent.encode()) + text.encode(), "sha256")


def _habit(secret: bytes, scope: Scope, kind: str, text: str) -> bytes:
    return hmac.digest(secret, dumps(["habit", *scope, kind, text]).encode(), "sha256")

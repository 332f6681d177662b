"""Recalled text that says something else than a module has learned, or than the model itself believes. Pure.

Source: MemOS §4.1 (text that is newer than weights is told beside them). A contradiction with a source in the same scope is found when it is
written, and takes the module off; this finds what comes from elsewhere, such as a group's scope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memos_core.conflict import RelationKind, relate
from memos_core.cube import CubeId, MemCube, text_of
from memos_core.statements import take_apart
from memos_core.statements.words import DETERMINERS


@dataclass(frozen=True, slots=True)
class Clash:
    """A memory that contradicts what a module was taught from a source."""

    memory: CubeId
    source: CubeId
    module: CubeId
    why: str


def clashes(recalled: Sequence[MemCube], taught: Mapping[CubeId, tuple[CubeId, str]]) -> list[Clash]:
    """What of recalled memory contradicts what modules were taught. taught: source to (module, its text)."""
    found = []
    for source, (module, text) in taught.items():
        fact = take_apart(source, text)
        named = {word.lower() for word in fact.subject.split() if word.lower() not in DETERMINERS} if fact else set()
        for cube in recalled:
            said = text_of(cube)
            if cube.id in taught or not named & {word.strip(".,!?'\"").removesuffix("'s").lower() for word in said.split()}:
                continue
            relation = relate(text, said)
            if relation.kind is RelationKind.CONTRADICTS:
                found.append(Clash(cube.id, source, module, relation.why))
    return found

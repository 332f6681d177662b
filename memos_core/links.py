"""The edges beside the tree: what a memory is linked with, one step away, and how.

Recall spreads along those of a session and brings both sides of a contradiction up; lending a score to what names the same was tried,
and helped on neither of the conversations that it was measured on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from memos_core.access import may
from memos_core.cube import Actor, CubeId, MemCube, Plaintext, text_of
from memos_core.house import House
from memos_core.lifespan import recallable
from memos_core.recall.features import first_name, prose
from memos_core.store.records import edges, pairs_of
from memos_core.store.shelves import Filed

MOST_OF_AN_ENTITY = 12
"""Memories that name the same, the newest."""
_NAMED = re.compile(r"\b[A-Z](?!')[\w-]+(?: [A-Z][\w-]+)*")


@dataclass(frozen=True, slots=True)
class Link:
    """A memory that another is linked with.

    relation: "previous", "next", "question" (this one answers it), "answer", "same entity", "contradicts", "updates", "updated by",
    "supersedes", "superseded by", "derived from" and other ways to have come from it, "source" (it came from this one).
    """

    relation: str
    cube: MemCube


def linked(house: House, cube: MemCube, who: Actor, clock: datetime) -> list[Link]:
    """What a memory is linked with, of what the actor may read and recall may show."""
    place, session = cube.governance.scope, cube.identifiers.session
    with house.view() as view:
        number = view.scope_number(place)
        talk = [] if session is None else view.conversation(place, session, clock)
        facts = [] if number is None else view.filed_in(number, clock)
        found = [*_in_talk(talk, cube), *_by_record(edges(view, cube.id), cube.id)]
        known = {id for _, id in found}
        for pair in pairs_of(view, view.authorised(place, who), [cube.id], True):
            other = pair.newer if pair.older == cube.id else pair.older
            if other not in known:
                found.append((("updated by" if other == pair.newer else "updates") if pair.replaces else "contradicts", other))
        found += [("same entity", id) for id in _of_the_same(cube, facts)]
        heads = view.heads([id for _, id in found], clock)
    shown = {id for id, each in heads.items() if may(each, who, "read") and recallable(each, clock)}
    return [Link(relation, heads[id]) for relation, id in found if id in shown and id != cube.id]


def _in_talk(talk: Sequence[MemCube], cube: MemCube) -> list[tuple[str, CubeId]]:
    """What was said before and after; a question, and what somebody else said to it at once."""
    at = next((place for place, each in enumerate(talk) if each.id == cube.id), None)
    if at is None:
        return []
    found = []
    for relation, place, asking in (("previous", at - 1, at - 1), ("next", at + 1, at)):
        if 0 <= place < len(talk):
            found.append((relation, talk[place].id))
            asked, answer = talk[asking], talk[asking + 1]
            if "?" in prose(text_of(asked)) and asked.identifiers.speaker != answer.identifiers.speaker:
                found.append(("question" if place < at else "answer", talk[place].id))
    return found


def _by_record(steps: Sequence[tuple[CubeId, CubeId, str]], id: CubeId) -> list[tuple[str, CubeId]]:
    """What it came from and what came from it, what took its place and whose place it took."""
    found = []
    for source, result, how in steps:
        if how == "superseded by":
            found.append((how, result) if source == id else ("supersedes", source))
        else:
            found.append((how, source) if result == id else ("source", result))
    return found


def _of_the_same(cube: MemCube, facts: Sequence[Filed]) -> list[CubeId]:
    """Other memories of the scope that name what this one names, the newest first. A word is a name that is written large in mid-sentence."""
    if not isinstance(cube.payload, Plaintext):
        return []
    speakers = {first_name(fact.speaker or "") for fact in facts}
    names = {name for name in _NAMED.findall(prose(cube.payload.text)) if first_name(name) not in speakers}
    known = {name for name in names if any(re.search(rf"(?<=[\w,;] ){re.escape(name)}\b", fact.text) for fact in facts)}
    if not known:
        return []
    said = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(known))) + r")\b")
    return [fact.id for fact in reversed(facts) if fact.id != cube.id and said.search(fact.text)][:MOST_OF_AN_ENTITY]

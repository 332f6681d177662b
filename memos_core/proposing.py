"""Strategic behaviour becomes memory: forms that come up again and again are proposed, and made what they are for when accepted.

Source: MemOS §4.1 (behaviour that is repeatedly triggered is turned into activation memory).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from memos_core.changes import Add, Record
from memos_core.cube import (
    LOCAL_OWNER,
    Actor,
    CubeId,
    Governance,
    Identifiers,
    MemCube,
    Origin,
    Plaintext,
    Scope,
    SemanticType,
    State,
    contains,
    dumps,
    new_id,
    text_of,
)
from memos_core.errors import InvalidInput, NotFound
from memos_core.habits import Habit, Said, habits, without
from memos_core.house import House
from memos_core.matching import filed, stated
from memos_core.policy import Move
from memos_core.recall.features import prose
from memos_core.revise import next_version
from memos_core.store import records
from memos_core.writing import revise

if TYPE_CHECKING:
    from memos_core.scheduler import Scheduler

PROPOSED = "proposed from"


def propose(house: House, number: int, scope: Scope, least_sessions: int, now: datetime) -> list[Move]:
    """Read the log of a scope that has grown, and propose what came up in so many sessions."""
    with house.store.read() as view:
        log, known = records.log(view, number), records.derivations(view, number, PROPOSED)
    said = [Said(id, role, session, text) for id, _, role, session, text in log]
    versions = {id: version for id, version, *_ in log}
    moves = []
    for habit in habits(said, least_sessions):
        if not any(_same(habit.ids, sources) for sources in known):
            moves += _propose(house, scope, habit, versions, now)
    return moves


def _same(ids: Sequence[CubeId], sources: frozenset[CubeId]) -> bool:
    """Whether a habit was proposed already, of what was said by then."""
    return 2 * len(sources & set(ids)) >= min(len(sources), len(ids))


def _propose(house: House, scope: Scope, habit: Habit, versions: dict[CubeId, int], now: datetime) -> list[Move]:
    kind = SemanticType.TEMPLATE if habit.kind == "template" else SemanticType.TASK_PROMPT
    cube = MemCube(
        id=new_id(),
        version=1,
        state=State.QUARANTINED,
        payload=Plaintext(text=habit.text),
        identifiers=Identifiers(
            created_at=now, updated_at=now, occurred_at=now, origin=Origin.INFERENCE_EXTRACTION, semantic_type=kind, speaker=None
        ),
        governance=Governance(scope=scope, owner=LOCAL_OWNER),
    )
    reason = f"{habit.kind} of {habit.role} messages seen {len(habit.ids)} times in {habit.sessions} sessions"
    (vector,) = house.embedder([prose(habit.text)])
    digest = hmac.digest(house.store.secret, dumps(["habit", *scope, habit.kind, habit.text]).encode(), "sha256")
    parents = tuple((id, versions[id]) for id in habit.ids)
    searchable = filed(house.store.secret, cube, vector, stated(cube))
    with house.store.read() as view:
        if view.known([digest]):
            return []
    add, move = Add(cube, LOCAL_OWNER, searchable, digest, parents, PROPOSED, reason), Move("propose", (cube.id,), reason)
    try:
        house.store.commit([add, Record(move, scope, now, cube.id)])
    except NotFound:  # one of the messages was erased meanwhile: the next tick reads what is left
        return []
    return [move]


def proposed(house: House, place: Scope, now: datetime) -> list[MemCube]:
    """Proposals at or below a scope that nobody has decided on, oldest first."""
    with house.store.read() as view:
        found = records.in_state(view, State.QUARANTINED, PROPOSED, now)
    return [cube for cube in found if contains(place, cube.governance.scope)]


def accept(house: House, scheduler: Scheduler, cube: MemCube, who: Actor, now: datetime, move: Move | None = None) -> list[MemCube]:
    """A proposal that is taken up, and what was computed of it. move: of its KV, to be recorded, where the policy takes it up."""
    with house.store.read() as view:
        messages = records.sources(view, cube.id, PROPOSED, now)
    if cube.state is not State.QUARANTINED or not messages:
        raise InvalidInput(f"cube {cube.id} is no proposal that waits for an answer; memos.proposals(scope=...) lists them")
    active = cube.model_copy(update={"state": State.ACTIVE})
    taken = revise(house, cube, next_version(cube, active, now, None), who, "accept")
    scope, reason = cube.governance.scope, f"accepted by {'/'.join(who)}"
    if cube.identifiers.semantic_type is SemanticType.TEMPLATE:
        from_user = any(message.identifiers.role == "user" for message in messages)
        return [taken, scheduler.prefill([taken], scope, None, now, reason, move=move)] if house.reuses and from_user else [taken]
    pairs = [(text_of(message), bare) for message in messages if (bare := without(text_of(message), text_of(cube)))]
    if not pairs or not hasattr(house.engine, "capture"):
        return [taken]
    asked = tuple([[{"role": "user", "content": text}] for text in side] for side in zip(*pairs, strict=True))
    steer = scheduler.steering(house.engine, (asked[0], asked[1]), (None, 1.0, None), text_of(cube), scope, who, now, sources=[taken])
    return [taken, steer]

"""One turn, begun and taken: recalled memory into a plan and a prompt, then everything that came of it in one transaction."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from memos_core.access import may, rules
from memos_core.changes import Saved, Take
from memos_core.clashes import clashes
from memos_core.credit import Credit, answered_from
from memos_core.cube import Actor, CubeId, Scope, State, ancestors, as_time
from memos_core.errors import EngineError, InvalidInput
from memos_core.gleaning import gleaned
from memos_core.heads import attach_template, derived, opens, ready_head
from memos_core.house import House
from memos_core.intake import Template, identity
from memos_core.lifespan import recallable
from memos_core.modules import Chosen
from memos_core.parse import notes
from memos_core.pictures import noted_with_images, unflattened
from memos_core.plan import Message, Plan, make_plan, render, strip_blocks
from memos_core.recall import Recall
from memos_core.turn import Remembered, Turn, Visible
from memos_core.writing import new_facts

_LOG = logging.getLogger("memos_core")


def begun(
    house: House,
    seen: Visible,
    pictured: Mapping[int, Message],
    recall: Recall,
    place: Scope,
    session: str,
    who: Actor,
    token_budget: int,
    clock: datetime,
    chosen: Sequence[Chosen] = (),
    task: int | None = None,
) -> Turn:
    """A turn under way with its plan and prompt. seen: the conversation as text; pictured: by index, messages that are more than text.

    recall: what may enter the prompt. chosen: the modules that act on the request. task: the number of the task at hand, where it was named.
    """
    current = {hit.cube.id for hit in recall.hits if hit.cube.state is State.ACTIVE}
    with house.view() as view:
        placements = view.placements(place, session, list(seen.earlier.values()))
        kept = derived(view, clock, place) if rules(who, place) else []
        shared = [
            each for scope in ancestors(place) for each in (kept if scope == place else derived(view, clock, scope)) if each.is_template
        ]
    for each in shared if house.reuses else ():
        if opens(each, seen.system):
            attach_template(each, house.engine, house.store.blobs.path)
    flags, contradicted = _flags(recall, chosen)
    plan = make_plan(
        system=seen.system,
        turn_index=seen.index,
        candidates=[(hit.cube, "; ".join([", ".join(map(str, hit.reasons)), *flags.get(hit.cube.id, ())])) for hit in recall.hits],
        head=ready_head(kept, house.engine, seen.system, place, house.store.blobs.path),
        placed={
            index: [then for then, head in placements.get(key, ()) if may(head, who, "read") and recallable(head, clock)]
            for index, key in seen.earlier.items()
        },
        said=seen.said,
        token_budget=token_budget,
        count=house.count,
        known={
            id: each.standing.cube.id for each in chosen for id in each.standing.internalised if id in current and id not in contradicted
        },
        modules=[(each.standing.cube.id, each.routed.reason) for each in chosen],
    )
    return Turn(
        scope=place,
        session=session,
        key=seen.key,
        prompt=unflattened(render(seen.messages, plan), seen.messages, pictured),
        plan=plan,
        recall=recall,
        write=lambda turn, reply, at: _take(
            house, turn, seen, pictured.get(seen.index), reply, who, clock if at is None else as_time(at, "now"), task
        ),
    )


def _flags(recall: Recall, chosen: Sequence[Chosen]) -> tuple[dict[CubeId, list[str]], set[CubeId]]:
    """What is to be said of recalled memory: that it contradicts a module, or the model; and the sources that are contradicted."""
    taught = {id: each for one in chosen for id, each in one.standing.taught.items()}
    flags: dict[CubeId, list[str]] = {}
    found = clashes([hit.cube for hit in recall.hits], taught) if taught else []
    for clash in found:
        flags.setdefault(clash.memory, []).append(f"contradicts what module {clash.module} knows: {taught[clash.source][1]!r}")
        flags.setdefault(clash.source, []).append(f"module {clash.module} knows it, but {clash.memory} says otherwise")
    for one in chosen:
        for id, instead in one.standing.believed.items():
            flags.setdefault(id, []).append(f"contradicts what the model itself says: {instead!r}")
    return flags, {clash.source for clash in found}


def _take(
    house: House, turn: Turn, seen: Visible, asked: Message | None, reply: str, actor: Actor, clock: datetime, task: int | None
) -> Sequence[Remembered]:
    """asked: the user's message, where it is more than text. task: the number of the one at hand, where it was named."""
    if not isinstance(reply, str):
        raise InvalidInput(f"the reply must be a str, got {type(reply).__name__}")
    template = Template(turn.scope, actor, turn.session)
    answer: Message = {"role": "assistant", "content": strip_blocks(reply)}
    noted = notes([message for message in ([seen.user] if asked is None else []) + [answer] if message["content"].strip()])
    if asked is not None:
        noted = [*(replace(item, text=strip_blocks(item.text)) for item in noted_with_images(house, [asked], in_passing=True)), *noted]
    digests = [identity(house.store.secret, template, item, None, turn.key) for item in noted]
    adds = new_facts(house, template, noted, digests, None, clock)
    adds += gleaned(house, adds, clock)
    answered = _answered(house, turn, seen, answer["content"])
    saved, whole = _saved(house, turn.plan)
    take = Take(
        turn.scope, turn.session, turn.key, clock, seen.system, tuple(adds), turn.plan.uses, turn.plan.placed, answered, saved, whole, task
    )
    (outcome,) = house.store.commit([take])
    house.traffic.ended(turn)
    return [Remembered.of(each) for each in outcome.each[: len(noted)]]


def _saved(house: House, plan: Plan) -> tuple[tuple[Saved, ...], tuple[int, float]]:
    """What KV and modules made unnecessary to compute, by cube, and all in all: the head's tokens, and those of the text that stays out."""
    speed, tokens = house.speed, Counter[CubeId]()
    for item in (*plan.reuse, *plan.activate):
        if item.through is not None and item.recalled:
            tokens[item.id] += item.tokens or house.count(f"{item.text}\n")
        if item.through is not None and item.form == "activate":
            tokens[item.through] += item.tokens
    for head in {item.through for item in plan.reuse if item.through is not None}:
        tokens[head] += plan.head_tokens
    whole = plan.head_tokens + plan.saved_tokens
    return tuple(Saved(id, size, speed.computing(size)) for id, size in tokens.items()), (whole, speed.computing(whole))


def _answered(house: House, turn: Turn, seen: Visible, reply: str) -> frozenset[CubeId]:
    """What of the memory that reached the model the reply came from. Of what a module knows, the words tell alone."""
    present, known = [*turn.plan.inject, *turn.plan.reuse], turn.plan.activate
    if not reply.strip():
        return frozenset()
    from_weights = {known[place].id for place in answered_from(seen.user["content"], reply, [item.text for item in known])}
    from_weights |= {item.through for item in known if item.id in from_weights and item.through is not None}
    if not present:
        return frozenset(from_weights)
    texts, attention = [item.text for item in present], None
    if house.credit is Credit.ATTENTION:
        try:
            attention = house.engine.influence(turn.prompt, reply, texts, turn.plan, turn.scope)
        except (EngineError, InvalidInput) as problem:  # the words tell nearly as much, and the turn is worth more than the count
            _LOG.warning("attention could not be read, uses are counted by words: %s", problem)
    places = answered_from(seen.user["content"], reply, texts, attention)
    from_text = {present[place].id for place in places}
    return frozenset(from_text | from_weights | {item.through for item in present if item.id in from_text and item.through is not None})

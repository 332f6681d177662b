"""Plaintext ⇒ parameter and back, on the memory's side: distilled, examined, kept with its lineage, made again when outdated, reverted.

Source: MemOS §4.1 (transformation between memory types). A module that fails its examination is kept as rejected, with its report, and
the text stays active; text is never given up for weights.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from memos_core.blobs import write_durably
from memos_core.changes import Add, Change, Queue, Revise, Unqueue
from memos_core.cube import (
    LOCAL_OWNER,
    Actor,
    Governance,
    Identifiers,
    MemCube,
    Origin,
    Parameter,
    ParameterForm,
    Plaintext,
    Report,
    Scope,
    SemanticType,
    State,
    dumps,
    new_id,
    text_of,
)
from memos_core.errors import Cancelled, InvalidInput
from memos_core.house import House
from memos_core.lessons import PLAIN_TEXTS, Course, briefing, course
from memos_core.lifespan import check_transition
from memos_core.modules import Standing, standing
from memos_core.policy import Move, Thresholds, decide_cold

DISTILLED = "distilled from"
CLEARLY = 3.0
"""Nats by which an answer has to be likelier with a module than without, per answer, to count as what the module says."""


@dataclass(frozen=True, slots=True)
class How:
    """How a module is made. imitate: what is learned is what the model says with the texts in its context, instead of the texts' own
    statements. progress: show a bar. stop: asked after each step; True cancels, and nothing is kept."""

    form: ParameterForm = ParameterForm.PREFIX
    seed: int = 0
    settings: Any = None
    imitate: bool = False
    progress: bool = False
    stop: Callable[[], bool] | None = None


def curriculum(sources: Sequence[MemCube], seed: int, model: Callable[[str], str] | None = None) -> Course:
    """What is taught and asked of some texts. Raises InvalidInput when nothing could be asked of them."""
    found = course([(cube.id, text_of(cube), cube.identifiers.speaker) for cube in sources], seed, _asking(model))
    if not found.facts:
        raise InvalidInput(
            "none of these texts is a statement that could be asked about, such as 'Ana is allergic to penicillin.': what cannot be examined is "
            "not distilled. promote(ids, to='activation') keeps any text"
        )
    return found


def _asking(model: Callable[[str], str] | None) -> Callable[[str], Sequence[str]] | None:
    """More questions for a fact, from a model: the lines of its answer that end with a question mark, at most three."""
    if model is None:
        return None

    def ask(text: str) -> Sequence[str]:
        lines = model(f"Write three different questions that this sentence answers, one per line.\n\n{text}").splitlines()
        return [line.strip(" -*0123456789.") for line in lines if line.strip().endswith("?")][:3]

    return ask


def learn(
    house: House, sources: Sequence[MemCube], scope: Scope, how: How, who: Actor, now: datetime, reason: str,
    also: Sequence[Change] = (),
) -> MemCube:  # fmt: skip
    """A module of some plaintext, examined: active, or rejected. also: what is committed together with it.

    Killed half-way, it goes on where it was when asked for again. Raises InvalidInput, EngineError or Cancelled; then nothing was kept.
    """
    lessons = curriculum(sources, how.seed, house.model)
    unfinished = _unfinished(house, sources, how)
    bar = _bar(how, lessons)
    try:

        def told(step: int, loss: float) -> bool:
            bar(step, loss)
            return how.stop is None or not how.stop()

        text = " ".join(text_of(cube) for cube in sources)
        teach = house.engine.in_context(lessons.teach, text) if how.imitate else lessons.teach
        made = house.engine.distil(
            (*teach, *lessons.keep),
            lessons.watched,
            form=how.form,
            settings=how.settings,
            seed=how.seed,
            start=briefing([text]),
            texts=PLAIN_TEXTS,
            told=told,
            kept_state=lambda state: write_durably(unfinished, house.engine.state_bytes(state)),
            state=house.engine.state_of(unfinished),
        )
        report = house.engine.examine(made.module, lessons, made.seconds)
    except Cancelled:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        bar(None, 0.0)
    cube = keep(house, made.module, report, scope, sources, who, now, reason, also=also)
    unfinished.unlink(missing_ok=True)
    return cube


def _unfinished(house: House, sources: Sequence[MemCube], how: How) -> Path:
    """Where a training under way is kept: a name that tells nothing of what is in it."""
    folder = house.store.path / "unfinished"
    folder.mkdir(exist_ok=True)
    what = ["unfinished", how.form, str(how.seed), repr(how.settings), str(how.imitate), *(f"{cube.id} {cube.version}" for cube in sources)]
    return folder / hmac.digest(house.store.secret, dumps(what).encode(), "sha256").hex()


def _bar(how: How, lessons: Course) -> Callable[[int | None, float], None]:
    if not how.progress:
        return lambda step, loss: None
    from tqdm import tqdm

    bar = tqdm(desc=f"distilling {len(lessons.facts)} facts", unit="step")

    def show(step: int | None, loss: float) -> None:
        if step is None:
            bar.close()
            return
        bar.update(step - bar.n)
        bar.set_postfix(loss=f"{loss:.3f}")

    return show


def keep(
    house: House, module: Any, report: Report | None, scope: Scope, sources: Sequence[MemCube], who: Actor, now: datetime, reason: str,
    name: str = "", description: str = "", licence: str = "", also: Sequence[Change] = (),
) -> MemCube:  # fmt: skip
    """The file first, then the cube that refers to it."""
    weights = module.weights
    payload = Parameter(
        form=module.form,
        blob=house.store.blobs.put(module.to_bytes()),
        bytes=weights.bytes,
        base_model=house.engine.base_identity.key,
        rank=getattr(weights, "rank", 0),
        targets=getattr(weights, "targets", ()),
        tokens=getattr(weights, "tokens", 0),
        report=report,
        name=name,
        description=description,
        licence=licence,
    )
    failed = report.failed if report is not None else ()
    cube = MemCube(
        id=new_id(),
        version=1,
        state=State.REJECTED if failed else State.ACTIVE,
        payload=payload,
        identifiers=Identifiers(
            created_at=now,
            updated_at=now,
            occurred_at=now,
            origin=Origin.PARAMETER_FINETUNING if report is not None else Origin.EXTERNAL_RETRIEVAL,
            semantic_type=SemanticType.CONCEPT if report is not None else SemanticType.SKILL,
        ),
        governance=Governance(scope=scope, owner=who),
    )
    detail = f"{reason}; rejected: {'; '.join(failed)}" if failed else reason
    parents = tuple((source.id, source.version) for source in sources)
    house.store.commit([Add(cube, who, parents=parents, relation=DISTILLED, detail=detail), *also])
    return cube


def retire(
    house: House, cubes: Sequence[MemCube], state: State, action: str, who: Actor, now: datetime, reasons: Sequence[str],
    also: Sequence[Change] = (),
) -> None:  # fmt: skip
    """Take modules off, in one commit with what else follows from it: stale, or archived, when their files go."""
    changes: list[Change] = []
    for cube, reason in zip(cubes, reasons, strict=True):
        check_transition(cube.state, state)
        identifiers = cube.identifiers.model_copy(update={"updated_at": now})
        changed = cube.model_copy(update={"state": state, "version": cube.version + 1, "identifiers": identifiers})
        changes.append(Revise(changed, who, action, detail=reason))
    if changes:
        house.store.commit([*changes, *also])
        house.store.settle()


def retire_outdated(house: House, now: datetime) -> list[Move]:
    """Modules whose sources have changed become stale, and what is left of those is queued to be distilled anew."""
    with house.store.read() as view:
        found = [standing(view, cube, now) for cube in view.modules(now) if cube.state is State.ACTIVE]
    outdated = [each for each in found if each.problem is not None]
    if not outdated:
        return []
    queued = [
        Queue(each.cube.governance.scope, each.payload.form, ids)
        for each in outdated
        if each.payload.report is not None and (ids := _current(each))
    ]
    reasons = [str(each.problem) for each in outdated]
    retire(house, [each.cube for each in outdated], State.STALE, "stale", LOCAL_OWNER, now, reasons, queued)
    return [Move("stale", (each.cube.id,), str(each.problem)) for each in outdated]


def retire_cold(house: House, thresholds: Thresholds, now: datetime) -> list[Move]:
    """Modules that are not asked for any more are taken off."""
    with house.store.read() as view:
        found = view.modules(now)
    moves = decide_cold(found, thresholds, now)
    reasons = {id: move.reason for move in moves for id in move.ids}
    cold = [cube for cube in found if cube.id in reasons]
    retire(house, cold, State.ARCHIVED, "revert", LOCAL_OWNER, now, [reasons[cube.id] for cube in cold])
    return moves


def _current(each: Standing) -> tuple[str, ...]:
    return tuple(source.id for source in each.sources if source.state is State.ACTIVE)


def learn_again(house: House, now: datetime) -> list[Move]:
    """Distil what is queued, from the texts as they are now; the stale modules that it replaces are archived."""
    moves = []
    with house.store.read() as view:
        queue = view.retraining()
        stale = [standing(view, cube, now) for cube in view.modules(now) if cube.state is State.STALE]
    if not hasattr(house.engine, "distil"):
        queue = []
    for number, scope, form, ids in queue:
        with house.store.read() as view:
            heads = view.heads(ids, now)
        sources = [heads[id] for id in ids if id in heads and heads[id].state is State.ACTIVE and isinstance(heads[id].payload, Plaintext)]
        if sources:
            how = How(form=ParameterForm(form))
            try:
                reason = "distilled again, since a source was outdated"
                cube = learn(house, sources, scope, how, LOCAL_OWNER, now, reason, also=[Unqueue(number)])
            except InvalidInput:  # what is left cannot be asked about
                house.store.commit([Unqueue(number)])
            else:
                outcome = "active" if cube.state is State.ACTIVE else "rejected by its examination"
                moves.append(Move("distil", (cube.id,), f"distilled again from {len(sources)} texts as they are now: {outcome}"))
        else:
            house.store.commit([Unqueue(number)])
    if stale:  # their files go; the record of what they were stays
        retire(house, [each.cube for each in stale], State.ARCHIVED, "archive", LOCAL_OWNER, now, ["outdated" for _ in stale])
        moves += [Move("archive", (each.cube.id,), "outdated") for each in stale]
    return moves

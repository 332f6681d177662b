"""Plaintext ⇒ parameter and back, on the memory's side: distilled, examined, kept with its lineage, made again when outdated, reverted.

Source: MemOS §4.1 (transformation between memory types). A module that fails its examination is kept as rejected, with its report, and
the text stays active; text is never given up for weights.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from memos_core.blobs import write_durably
from memos_core.changes import Add, Change, Queue, Record, Unqueue, restated
from memos_core.cube import (
    LOCAL_OWNER,
    Actor,
    CubeId,
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
from memos_core.errors import Cancelled, InvalidInput, MemosError, NotFound, VersionConflict
from memos_core.heads import problem_of
from memos_core.house import House
from memos_core.lessons import PLAIN_TEXTS, Course, course
from memos_core.modules import standing
from memos_core.plan import line
from memos_core.policy import NO_TRAINING, Move, Thresholds, decide_cold
from memos_core.readiness import Learnable, decide_module
from memos_core.statements import take_apart
from memos_core.store.snapshot import Snapshot
from memos_core.value import Speed

DISTILLED = "distilled from"
OUTDATED = "distilled again, since a source was outdated"
CLEARLY = 3.0
"""Nats by which an answer has to be likelier with a module than without, per answer, to count as what the module says."""
LEFT_ALONE = 7 * 86400.0
"""Seconds after which a training that nobody has gone on with is given up."""


@dataclass(frozen=True, slots=True)
class How:
    """How a module is made. imitate: what is learned is what the model says with the texts in its context, instead of the texts' own
    statements. progress: show a bar. stop: asked after each step; True cancels, and nothing is kept. pause: asked after each step; True
    stops (Paused), for another time, once there is something new to go on from, and at once where a request is in flight."""

    form: ParameterForm = ParameterForm.PREFIX
    seed: int = 0
    settings: Any = None
    imitate: bool = False
    progress: bool = False
    stop: Callable[[], bool] | None = None
    pause: Callable[[], bool] | None = None


class Paused(Exception):
    """A training has stopped where it can be gone on with."""


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
    also: Sequence[Change] = (), moved: Callable[[MemCube], Move] | None = None,
) -> MemCube:  # fmt: skip
    """A module of some plaintext, examined: active, or rejected. also: what is committed together with it; moved: what is recorded of it.

    Killed or paused half-way, it goes on where it was when asked for again. Raises InvalidInput, EngineError, Cancelled, Paused, or NotFound
    when one of the texts is forgotten meanwhile; then nothing was kept.
    """
    # in the order in which it was said, whatever the ids: equal texts make equal modules
    sources = sorted(sources, key=lambda cube: (cube.identifiers.occurred_at, text_of(cube)))
    lessons = curriculum(sources, how.seed, house.model)
    unfinished = _unfinished(house, sources, how)
    bar, kept_once = _bar(how, lessons), list[bool]()
    try:

        def told(step: int, loss: float) -> bool:
            bar(step, loss)
            if how.pause is not None and how.pause() and (kept_once or house.traffic.in_flight(house.engine)):
                raise Paused  # out of time once it can be gone on from, but for a request at once
            return how.stop is None or not how.stop()

        def kept_state(state: Any) -> None:
            with house.store.read() as view:
                if len(view.lengths([cube.id for cube in sources])) < len(sources):
                    raise NotFound("one of the texts has been forgotten meanwhile; nothing is made of it")
            write_durably(unfinished, house.engine.state_bytes(state))
            kept_once.append(True)

        text = " ".join(text_of(cube) for cube in sources)
        teach = house.engine.in_context(lessons.teach, text) if how.imitate else lessons.teach
        made = house.engine.distil(
            (*teach, *lessons.keep),
            lessons.watched,
            form=how.form,
            settings=how.settings,
            seed=how.seed,
            start=text,
            texts=PLAIN_TEXTS,
            told=told,
            kept_state=kept_state,
            state=house.engine.state_of(unfinished),
        )
        report = house.engine.examine(made.module, lessons, made.seconds)
        cube = keep(house, made.module, report, scope, sources, who, now, reason, also=also, moved=moved)
    except (Cancelled, NotFound):
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        bar(None, 0.0)
    unfinished.unlink(missing_ok=True)
    return cube


def _unfinished(house: House, sources: Sequence[MemCube], how: How) -> Path:
    """Where a training under way is kept: a name that tells nothing of what is in it."""
    folder = house.store.path / "unfinished"
    folder.mkdir(exist_ok=True)
    what = ["unfinished", house.engine.base_identity.key, how.form, str(how.seed), repr(how.settings), str(how.imitate)]
    what += [f"{cube.id} {cube.version}" for cube in sources]
    return folder / hmac.digest(house.store.secret, dumps(what).encode(), "sha256").hex()


def sweep(house: House, now: datetime) -> None:
    """Remove what trainings have left that nobody goes on with: their texts have changed since, or the model."""
    for path in (house.store.path / "unfinished").glob("*"):
        if min(now.timestamp(), time.time()) - path.stat().st_mtime > LEFT_ALONE:
            path.unlink(missing_ok=True)


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
    name: str = "", description: str = "", licence: str = "", also: Sequence[Change] = (), moved: Callable[[MemCube], Move] | None = None,
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
    record = [Record(moved(cube), scope, now, cube.id)] if moved is not None else []
    try:
        house.store.commit([Add(cube, who, parents=parents, relation=DISTILLED, detail=detail), *also, *record])
    except MemosError:  # a source has been forgotten meanwhile, perhaps: no weights of it stay
        house.store.discard(payload.blob)
        raise
    return cube


def retire(
    house: House, cubes: Sequence[MemCube], state: State, action: str, who: Actor, now: datetime, reasons: Sequence[str],
    also: Sequence[Change] = (),
) -> None:  # fmt: skip
    """Take modules off, in one commit with what else follows from it: stale, or archived, when their files go."""
    changes: list[Change] = [restated(cube, state, who, action, now, reason) for cube, reason in zip(cubes, reasons, strict=True)]
    if changes:
        house.store.commit([*changes, *also])
        house.store.settle()


def _retired(
    house: House, cubes: Sequence[MemCube], state: State, action: str, now: datetime, move: Move, scope: Scope, also: Sequence[Change] = ()
) -> bool:  # fmt: skip
    """The scheduler's retiring, with its record. False when somebody has changed or erased one meanwhile: the next tick decides anew."""
    try:
        retire(house, cubes, state, action, LOCAL_OWNER, now, [move.reason] * len(cubes), [*also, Record(move, scope, now)])
    except (NotFound, VersionConflict):
        return False
    return True


def retire_outdated(house: House, scopes: Sequence[Scope], now: datetime) -> list[Move]:
    """Modules whose sources have changed become stale, and what is left of those is queued to be distilled anew."""
    moves = []
    for scope in scopes:
        with house.store.read() as view:
            found = [standing(view, cube, now) for cube in view.modules(now, scope) if cube.state is State.ACTIVE]
        for each in found:
            if each.problem is None:
                continue
            move, left = Move("stale", (each.cube.id,), each.problem), tuple(source.id for source in each.sources if _may_be_taught(source))
            queued = [Queue(scope, each.payload.form, left)] if each.payload.report is not None and left else []
            if _retired(house, [each.cube], State.STALE, "stale", now, move, scope, queued):
                moves.append(move)
    return moves


def _may_be_taught(source: MemCube) -> bool:
    return source.state is State.ACTIVE and isinstance(source.payload, Plaintext) and NO_TRAINING not in source.governance.tags


def retire_cold(house: House, thresholds: Thresholds, scopes: Sequence[Scope], now: datetime) -> list[Move]:
    """Modules that are not asked for any more are taken off."""
    moves = []
    for scope in scopes:
        with house.store.read() as view:
            found = view.modules(now, scope)
        cold = decide_cold(found, thresholds, now)
        moves += take_off(found, house, scope, now, cold)
    return moves


def take_off(cubes: Sequence[MemCube], house: House, scope: Scope, now: datetime, moves: Sequence[Move]) -> list[Move]:
    """Revert modules of a scope, each move in a commit of its own; those that were made."""
    mine = {move: [cube for cube in cubes if cube.id in move.ids] for move in moves}
    return [move for move in moves if _retired(house, mine[move], State.ARCHIVED, "revert", now, move, scope)]


def queue_hot(house: House, number: int, scope: Scope, thresholds: Thresholds, now: datetime) -> None:
    """Queue what the policy wants to have distilled of a scope, unless something of it is queued already."""
    if not thresholds.distil or not house.learns:
        return
    with house.store.read() as view:
        if any(place == scope for _, place, *_ in view.retraining()):
            return
        found = learnable(house, view, view.hot_in(number, thresholds.parameter_heat, now), scope, now)
        failed, lately = tried(view, scope, thresholds, now)
        speed = measured(view, house.speed, now, scope)
    move = decide_module(found, failed, lately, thresholds, now, speed)
    if move is not None:
        queue(house, scope, move, now)


def queue(house: House, scope: Scope, move: Move, now: datetime) -> None:
    """Have a move's memories distilled, by this tick or a later one. Nothing when that is queued already, or done, or was rejected."""
    with house.store.read() as view:
        wanted = set(move.ids)
        queued = any(place == scope and set(ids) == wanted for _, place, _, ids in view.retraining())
        modules = view.modules(now, scope)
        done = any(cube.state is State.ACTIVE and {parent for parent, _ in view.parents(cube.id)} == wanted for cube in modules)
        failed = any(cube.state is State.REJECTED and _as_taught(view, cube, now) == wanted for cube in modules)
    if not queued and not done and not failed:
        house.store.commit([Queue(scope, How().form, move.ids, move.reason, move.seconds)])


def learnable(house: House, view: Snapshot, cubes: Sequence[MemCube], scope: Scope, now: datetime) -> list[Learnable]:
    """Memories of a scope as candidates for weights."""
    standings = [standing(view, module, now) for module in view.modules(now, scope) if module.state is State.ACTIVE]
    known, since = {id for each in standings if each.problem is None for id in each.internalised}, view.text_since(cubes)
    return [
        Learnable(
            cube,
            house.count(line(cube)) + 1,
            take_apart(cube.id, text_of(cube), cube.identifiers.speaker) is not None,
            cube.id in known,
            since[cube.id],
        )
        for cube in cubes
    ]


def tried(view: Snapshot, scope: Scope, thresholds: Thresholds, now: datetime) -> tuple[list[frozenset[CubeId]], list[frozenset[CubeId]]]:
    """Sources of a scope's modules that were rejected, and of those that were rejected or taken off lately, which say what they said then."""
    failed, lately = [], []
    for module in view.modules(now, scope):
        if module.state not in (State.REJECTED, State.ARCHIVED) or not (sources := _as_taught(view, module, now)):
            continue
        if module.state is State.REJECTED:
            failed.append(sources)
        if now < may_again(module, thresholds):
            lately.append(sources)
    return failed, lately


def may_again(module: MemCube, thresholds: Thresholds) -> datetime:
    """From when on what a rejected or archived module was made of may be distilled again."""
    return module.identifiers.updated_at + timedelta(seconds=thresholds.module_settle_seconds)


def _as_taught(view: Snapshot, module: MemCube, now: datetime) -> frozenset[CubeId]:
    """The sources of a module that stand and say what they said when it was made."""
    parents = view.parents(module.id)
    heads = view.heads([parent for parent, _ in parents], now)
    return frozenset(parent for parent, version in parents if problem_of(view, heads.get(parent), parent, version, now) is None)


def measured(view: Snapshot, speed: Speed, now: datetime, scope: Scope) -> Speed:
    """With what distilling took in this scope: CPU seconds per statement, the median of its modules."""
    took = [
        payload.report.seconds / max(len({answer.fact for answer in payload.report.answers}), 1)
        for cube in view.modules(now, scope)
        if isinstance(payload := cube.payload, Parameter) and payload.report is not None
    ]
    return replace(speed, distil=median(took)) if took else speed


def learn_again(house: House, now: datetime, go_on: Callable[[], bool], scopes: Sequence[Scope]) -> tuple[list[Move], set[Scope]]:
    """Distil what is queued, from the texts as they are now; the stale modules of some scopes are archived.

    Also the scopes with something left in the queue, for which there was no time: a training that was begun goes on where it was.
    """
    moves, unfinished = [], set()
    with house.store.read() as view:
        waiting = view.retraining()
    for number, scope, form, ids in waiting if house.learns else ():
        if not go_on():
            unfinished.add(scope)
            continue
        with house.store.read() as view:
            heads, (reason, seconds) = view.heads(ids, now), view.queued_because(number)
        sources = [heads[id] for id in ids if id in heads and _may_be_taught(heads[id])]
        done = [Unqueue(number)]
        if not sources:
            house.store.commit(done)
            continue
        how = How(form=ParameterForm(form), pause=lambda: not go_on())
        moved = _distilled(len(sources), reason, seconds)
        try:
            cube = learn(house, sources, scope, how, LOCAL_OWNER, now, reason or OUTDATED, also=done, moved=moved)
        except InvalidInput:  # what is left cannot be asked about
            house.store.commit(done)
        except (Paused, NotFound):  # of texts that are forgotten meanwhile, the next tick takes what is left
            unfinished.add(scope)
        else:
            moves.append(moved(cube))
    for scope in scopes:  # their files go; the record of what they were stays
        with house.store.read() as view:
            stale = [cube for cube in view.modules(now, scope) if cube.state is State.STALE] if scope not in unfinished else []
        for module in stale:
            move = Move("archive", (module.id,), "outdated")
            if _retired(house, [module], State.ARCHIVED, "archive", now, move, scope):
                moves.append(move)
    return moves, unfinished


def _distilled(texts: int, reason: str, seconds: float) -> Callable[[MemCube], Move]:
    def moved(cube: MemCube) -> Move:
        outcome = "active" if cube.state is State.ACTIVE else "rejected by its examination"
        why = reason or f"distilled again from {texts} texts as they are now"
        return Move("distil", (cube.id,), f"{why}: {outcome}", seconds=seconds if cube.state is State.ACTIVE else 0.0)

    return moved

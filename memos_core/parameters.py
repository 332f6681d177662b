"""Parameter memory at the door: modules distilled from memory or made elsewhere, listed, exported, reverted, asked what they say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from memos_core.access import may_enter, require, rules
from memos_core.bound import ActorLike, Bound, ScopeLike
from memos_core.cube import Actor, CubeId, MemCube, Parameter, ParameterForm, Plaintext, Scope, State, as_scope, as_text, as_time, contains
from memos_core.errors import InvalidInput, NotAvailable
from memos_core.house import House
from memos_core.learning import CLEARLY, How, keep, learn, retire
from memos_core.modules import Modules, standing
from memos_core.parse import as_member
from memos_core.policy import NO_TRAINING
from memos_core.revise import as_ids

_LOG = logging.getLogger("memos_core")


@dataclass(frozen=True, slots=True)
class Verbalised:
    """What a module says to a question, and how much likelier it makes that answer: in nats, and as a confidence from 0 to 1.

    Never a source: weights cannot be read back, and nothing is remembered of it by itself.
    """

    question: str
    answer: str
    nats: float
    confidence: float


class Parameters(Bound):
    """Modules of this memory."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._modules = Modules(house)
        if "parameter" in getattr(house.engine, "capabilities", ()):
            self._modules.install()

    def modules(self, *, scope: ScopeLike, actor: ActorLike = None, now: datetime | None = None) -> list[MemCube]:
        """All modules at or below a scope, in whatever state, oldest first; `payload.report` says what each was measured to do."""
        place, clock = as_scope(scope), as_time(now, "now")
        who = self._who(actor, place)
        with self._house.view() as view:
            found = view.modules(clock)
        return [cube for cube in found if contains(place, cube.governance.scope) and rules(who, cube.governance.scope)]

    def install(
        self,
        directory: str | Path,
        *,
        scope: ScopeLike,
        description: str,
        name: str = "",
        licence: str = "",
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> MemCube:
        """Take in an adapter made elsewhere: a PEFT directory with safetensors. It acts on requests at or below the scope that are near to
        its description. licence: a note on what it may be used for.

        Where it names another base model than this one is called, that is logged as a warning: its shape is what is checked.
        Raises InvalidInput for what is no such adapter, IdentityMismatch for one of another model's shape, AccessDenied or NotAvailable.
        """
        clock, place = as_time(now, "now"), as_scope(scope)
        who = self._who(actor, place)
        require(may_enter(who, place), who, "write", f"scope {'/'.join(place)}")
        engine, about = self._able("installing a module"), as_text(description, "description")
        module = engine.module_in(Path(directory))
        engine.check_module(module)
        base, own = module.config.get("base_model_name_or_path"), getattr(engine.model.config, "_name_or_path", None)
        if base and own and Path(base).name.lower() != Path(own).name.lower():  # names tell nothing for sure: a directory may have any
            _LOG.warning(
                "the adapter in %s says that it was made for %s, and this model is called %s: its shape fits", directory, base, own
            )
        cube = keep(
            self._house, module, None, place, (), who, clock, f"installed by {'/'.join(who)}", name or Path(directory).name, about, licence
        )
        return cube

    def export_module(self, id: CubeId, directory: str | Path, *, actor: ActorLike = None, now: datetime | None = None) -> Path:
        """Write a module as the directory that stock PEFT loads. Raises InvalidInput, NotFound, AccessDenied or StoreCorrupt."""
        cube = self._module(id, "read", self._who(actor, None), as_time(now, "now"))
        assert isinstance(cube.payload, Parameter)
        folder = Path(directory)
        self._able("exporting a module").module(self._store.blobs.get(cube.payload.blob)).to_directory(folder)
        return folder

    def revert(self, id: CubeId, *, actor: ActorLike = None, now: datetime | None = None) -> list[MemCube]:
        """Take a module off: its file goes, and the texts it was made of, kept all along, go into prompts again. Returns those.

        Raises InvalidInput, NotFound or AccessDenied.
        """
        clock, who = as_time(now, "now"), self._who(actor, None)
        cube = self._module(id, "write", who, clock)
        retire(self._house, [cube], State.ARCHIVED, "revert", who, clock, [f"reverted by {'/'.join(who)}"])
        with self._house.view() as view:
            return list(standing(view, cube, clock).sources)

    def verbalise(
        self, id: CubeId, questions: Sequence[str] | None = None, *, actor: ActorLike = None, now: datetime | None = None
    ) -> list[Verbalised]:
        """What a module says to questions (None: those it was examined on), where it makes the answer clearly likelier than the model
        alone: best first. Raises InvalidInput, NotFound, AccessDenied or NotAvailable."""
        cube = self._module(id, "read", self._who(actor, None), as_time(now, "now"))
        payload = cube.payload
        assert isinstance(payload, Parameter)
        if questions is None:
            questions = [answer.question for answer in payload.report.answers] if payload.report is not None else []
        if isinstance(questions, str) or not questions:
            raise InvalidInput("verbalise needs questions to ask: this module was examined on none, so pass some")
        engine, found = self._able("verbalising"), []
        module = engine.module(self._store.blobs.get(payload.blob))
        for question in questions:
            with engine.activate(module):
                reply = engine.generate([{"role": "user", "content": as_text(question, "question")}], max_new_tokens=32).text.strip()
                ((_, on),) = engine.rank(question, [reply]) if reply else ((reply, 0.0),)
            ((_, off),) = engine.rank(question, [reply]) if reply else ((reply, 0.0),)
            if on - off >= CLEARLY:
                found.append(Verbalised(question, reply, on - off, 1 - 2.0 ** -((on - off) / CLEARLY)))
        return sorted(found, key=lambda each: -each.nats)

    def _learn(
        self, ids: CubeId | Sequence[CubeId], form: ParameterForm | str | None, seed: int, settings: Any, imitate: bool, progress: bool,
        stop: Callable[[], bool] | None, who: Actor, clock: datetime,
    ) -> list[MemCube]:  # fmt: skip
        """promote(ids, to="parameter")."""
        self._able("promoting to parameter memory")
        sources = [self._permitted(each, "write", who, clock) for each in as_ids(ids)]
        chosen = ParameterForm.PREFIX if form is None else as_member(ParameterForm, form, "form")
        scope = trainable(sources)
        how = How(chosen, seed, settings, imitate, progress, stop)
        return [learn(self._house, sources, scope, how, who, clock, f"promoted by {'/'.join(who)}")]

    def _module(self, id: CubeId, action: Any, who: Actor, clock: datetime) -> MemCube:
        cube = self._permitted(id, action, who, clock)
        if not isinstance(cube.payload, Parameter):
            raise InvalidInput(f"cube {id} is {cube.payload.kind}, no module; promote(ids, to='parameter') makes one")
        if cube.state is State.ARCHIVED:
            raise InvalidInput(f"module {id} has been taken off, and its file is gone; promote its sources again")
        return cube

    def _able(self, what: str) -> Any:
        if "parameter" not in getattr(self._house.engine, "capabilities", ()):
            raise NotAvailable(f"{what} needs a model that takes modules: MemOS.open(..., engine=HFEngine.load())")
        return self._house.engine


def trainable(sources: Sequence[MemCube]) -> Scope:
    """The one scope of plaintext that may be distilled. Raises InvalidInput."""
    scope = one_scope(sources)
    if others := [cube for cube in sources if cube.state is not State.ACTIVE]:
        raise InvalidInput(f"cube {others[0].id} is {others[0].state}: only what stands uncontested is distilled into weights")
    if tagged := [cube for cube in sources if NO_TRAINING in cube.governance.tags]:
        raise InvalidInput(f"cube {tagged[0].id} is tagged {NO_TRAINING!r}; whoever holds it may allow it: memos.update(id, tags=[])")
    return scope


def one_scope(sources: Sequence[MemCube]) -> Scope:
    """The scope that plaintext has in common. Raises InvalidInput."""
    scopes = {cube.governance.scope for cube in sources}
    if len(scopes) != 1 or not all(isinstance(cube.payload, Plaintext) for cube in sources):
        raise InvalidInput("promote takes plaintext cubes of one scope, since what is made of them is for that scope alone")
    (scope,) = scopes
    return scope

"""Memory in other forms than text: KV of memories and templates, hidden states, attention, steering vectors; and what is proposed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from memos_core import proposing
from memos_core.access import may_enter, require, rules
from memos_core.bound import ActorLike, ScopeLike
from memos_core.cube import (
    Activation,
    ActivationForm,
    Actor,
    CubeId,
    MemCube,
    Parameter,
    ParameterForm,
    Plaintext,
    Precision,
    SemanticType,
    State,
    as_scope,
    as_text,
    as_time,
    text_of,
)
from memos_core.errors import InvalidInput, NotAvailable
from memos_core.heads import Derived, attach_template, derived
from memos_core.house import House
from memos_core.parameters import Parameters, one_scope
from memos_core.parse import as_member
from memos_core.parse.triples import template
from memos_core.policies import Policy
from memos_core.policy import Thresholds
from memos_core.revise import as_ids
from memos_core.scheduler import Scheduler


class Forms(Parameters):
    """What is computed from memories, and attached to the model."""

    def __init__(self, house: House, thresholds: Thresholds, policy: Policy | None = None) -> None:
        super().__init__(house)
        self._scheduler = Scheduler(house, thresholds, policy)

    # ------------------------------------------------------------------ KV
    def promote(
        self,
        ids: CubeId | Sequence[CubeId],
        *,
        to: str,
        precision: Precision | str | None = None,
        frozen: bool = False,
        least_precision: Precision | str | None = None,
        form: ParameterForm | str | None = None,
        seed: int = 0,
        settings: Any = None,
        imitate: bool = False,
        progress: bool = False,
        stop: Callable[[], bool] | None = None,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> list[MemCube]:
        """Make activation or parameter memory of memories of one scope, without waiting for the scheduler. Returns what was made.

        to="parameter": distil statements into a module and examine it. What fails comes back `rejected`, with its report, and the texts stay
        as they are; what passes acts on requests that are about them, which then no longer get these texts. form: "prefix" (None),
        "alora" or "lora". imitate: learn what the model says with the texts in its context, where it answers from them well, instead of
        their own statements: activation ⇒ parameter. It takes minutes: progress shows a bar; stop is asked after each step, and True
        cancels (raises Cancelled).

        to="activation": prefill them as the scope's KV head, or templates one by one.
        precision: how the KV is stored; None: as the model's own numbers. Less is smaller and no longer exact: what it loses is
        measured and kept in the payload, and replies say `exact=False`. frozen: keep it whatever the budget. least_precision: down to
        which precision the scheduler may reduce it where room is short; None: not at all.
        """
        if to == "parameter":
            if precision is not None or frozen or least_precision is not None:
                raise InvalidInput("precision, frozen and least_precision are of activation memory, not of modules")
            return self._learn(ids, form, seed, settings, imitate, progress, stop, self._who(actor, None), as_time(now, "now"))
        if to != "activation":
            raise InvalidInput(f"to must be 'activation' or 'parameter', got {to!r}")
        if not self._house.reuses:
            raise NotAvailable("promoting to activation memory needs an engine that keeps KV: MemOS.open(..., engine=HFEngine.load())")
        clock, who = as_time(now, "now"), self._who(actor, None)
        sources = [self._permitted(each, "write", who, clock) for each in as_ids(ids)]
        stored = None if precision is None else as_member(Precision, precision, "precision")
        least = None if least_precision is None else as_member(Precision, least_precision, "least_precision")
        if frozen and least is not None:
            raise InvalidInput("what is frozen is never reduced: give frozen=True or least_precision, not both")
        scope = one_scope(sources)
        reason = f"promoted by {'/'.join(who)}"
        wish: dict[str, Any] = {"precision": stored, "frozen": frozen, "least_precision": least}
        are_templates = {cube.identifiers.semantic_type is SemanticType.TEMPLATE for cube in sources}
        if are_templates == {True}:
            return [self._scheduler.prefill([cube], scope, None, clock, reason, **wish) for cube in sources]
        if True in are_templates:
            raise InvalidInput("a template is kept by itself: promote templates and other memories in two calls")
        with self._house.view() as view:
            system = view.last_system(scope)
        return [self._scheduler.prefill(sources, scope, system, clock, reason, **wish)]

    def demote(self, ids: CubeId | Sequence[CubeId], *, actor: ActorLike = None, now: datetime | None = None) -> list[MemCube]:
        """Give up activation cubes and modules: what was computed goes, the text it came from stays. Returns the archived cubes."""
        clock, who = as_time(now, "now"), self._who(actor, None)
        given = as_ids(ids)
        learned = [id for id in given if isinstance(self._permitted(id, "write", who, clock).payload, Parameter)]
        wanted = self._active([id for id in given if id not in learned], who, clock)
        if frozen := [each.cube.id for each in wanted if each.cube.governance.frozen]:
            raise InvalidInput(f"cube {frozen[0]} is frozen; memos.freeze(id, False) allows giving it up")
        for id in learned:
            self.revert(id, actor=who, now=clock)
        self._scheduler.drop(wanted, clock, f"demoted by {'/'.join(who)}")
        return [self._permitted(id, "read", who, clock) for id in given]

    def freeze(
        self, ids: CubeId | Sequence[CubeId], frozen: bool = True, *, actor: ActorLike = None, now: datetime | None = None
    ) -> list[MemCube]:
        """Keep activation cubes whatever the budget and whatever else is used; frozen=False: no longer. Returns the cubes.

        KV whose source text changes or is forgotten goes all the same: it would say what is no longer so.
        """
        clock, who = as_time(now, "now"), self._who(actor, None)
        wanted = self._active(as_ids(ids), who, clock)
        self._scheduler.freeze([each.cube for each in wanted], frozen, who, clock)
        return [self._permitted(each.cube.id, "read", who, clock) for each in wanted]

    def _active(self, ids: Sequence[CubeId], who: Actor, clock: datetime) -> list[Derived]:
        wanted = [self._permitted(each, "write", who, clock) for each in ids]
        with self._house.view() as view:
            found = {each.cube.id: each for each in derived(view, clock)}
        if others := [cube.id for cube in wanted if cube.id not in found]:
            raise InvalidInput(f"cube {others[0]} is not active activation memory, such as promote(ids, to='activation') makes")
        return [found[cube.id] for cube in wanted]

    # ------------------------------------------------------------------ templates
    def fill(
        self,
        id: CubeId,
        values: Mapping[str, object] | None = None,
        *,
        inline: bool = False,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> list[dict[str, Any]]:
        """A prompt template with its slots filled, as messages; KV that is kept of it is handed to the engine.

        As a rule the template stands whole in the system text, its slots by name, and the values in the user message behind it: so
        all of its fixed parts are reused, exactly. inline: the values stand in their slots, and KV is reused up to the first of them.
        Raises InvalidInput for a value that is missing, NotFound or AccessDenied.
        """
        clock, who = as_time(now, "now"), self._who(actor, None)
        cube = self._permitted(id, "read", who, clock)
        if cube.identifiers.semantic_type is not SemanticType.TEMPLATE or not isinstance(cube.payload, Plaintext):
            raise InvalidInput(f"cube {id} is no template; remember(text, semantic_type='template') makes one")
        if cube.state is not State.ACTIVE:
            raise InvalidInput(f"template {id} is {cube.state}; only an active one is used")
        form, given = template(text_of(cube)), dict(values or {})
        filled = form.render(given)
        with self._house.view() as view:
            kept = derived(view, clock, cube.governance.scope)
        for each in kept:
            if each.is_template and id in each.source_ids:
                attach_template(each, self._house.engine if self._house.reuses else None, self._store.blobs.path)
        if inline:
            return [{"role": "system", "content": filled}]
        messages = [{"role": "system", "content": form.fixed}]
        if form.slots:
            messages.append({"role": "user", "content": "\n".join(f"{slot}: {given[slot]}" for slot in form.slots)})
        return messages

    # ------------------------------------------------------------------ hidden states, attention, steering
    def capture(
        self,
        ids: CubeId | Sequence[CubeId],
        *,
        form: str,
        layers: int | Sequence[int] | None = None,
        last: int | None = None,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> list[MemCube]:
        """Keep what the model computes when it reads memories, one cube for each: form "hidden", the hidden states of `layers`, or
        "attention", their attention weights, of the last `last` tokens. `tensors` gives them back.

        layers: numbers from 0, negative ones from the end; None: all. Raises InvalidInput, NotAvailable or EngineError.
        """
        clock, who = as_time(now, "now"), self._who(actor, None)
        sources = [self._permitted(each, "write", who, clock) for each in as_ids(ids)]
        engine, wanted = self._reading("capturing"), as_member(ActivationForm, form, "form")
        if not all(isinstance(cube.payload, Plaintext) for cube in sources):
            raise InvalidInput("capture takes plaintext cubes: what is captured is what the model computes when it reads them")
        return [self._scheduler.capture(engine, source, wanted, layers, last, who, clock) for source in sources]

    def steering(
        self,
        positive: Sequence[str | Sequence[Mapping[str, Any]]],
        negative: Sequence[str | Sequence[Mapping[str, Any]]],
        *,
        scope: ScopeLike,
        name: str,
        layers: int | Sequence[int] | None = None,
        strength: float = 1.0,
        texts: Sequence[str] | None = None,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> MemCube:
        """Make and keep a steering vector of pairs, texts or conversations, that differ in one thing alone. `steer` attaches it.

        What it does at `strength` is measured and kept in the payload: the effect on the negative examples, and the perplexity of
        `texts` (None: some of ordinary English). layers: where it is added; None: the middle one. Deterministic.
        Raises InvalidInput, AccessDenied or NotAvailable.
        """
        clock, place = as_time(now, "now"), as_scope(scope)
        who = self._who(actor, place)
        require(may_enter(who, place), who, "write", f"scope {'/'.join(place)}")
        engine, called = self._reading("steering"), as_text(name, "name")
        return self._scheduler.steering(engine, (positive, negative), (layers, strength, texts), called, place, who, clock)

    def tensors(self, id: CubeId, *, actor: ActorLike = None, now: datetime | None = None) -> dict[int, Any]:
        """What a cube of hidden states, attention or steering holds: by layer a float32 torch tensor.

        hidden [tokens, hidden size]; attention [heads, queries, tokens]; steering [hidden size]. Raises InvalidInput, NotFound,
        AccessDenied, or StoreCorrupt when the file is not what was written.
        """
        cube = self._permitted(id, "read", self._who(actor, None), as_time(now, "now"))
        payload = cube.payload
        if not isinstance(payload, Activation) or payload.form is ActivationForm.KV or cube.state is not State.ACTIVE:
            raise InvalidInput(f"cube {id} holds no hidden states, attention or steering that could be given back; capture() makes them")
        return dict(self._reading("reading tensors").tensors(self._store.blobs.get(payload.blob)))

    @contextmanager
    def steer(self, id: CubeId, strength: float | None = None, *, actor: ActorLike = None, now: datetime | None = None) -> Iterator[None]:
        """Inside, requests made in this thread or task are steered by a kept vector; several add up. Outside the model is what it was.

        strength: None: the one it was measured at. Raises InvalidInput, NotFound, AccessDenied, or IdentityMismatch for another model.
        """
        cube = self._permitted(id, "read", self._who(actor, None), as_time(now, "now"))
        payload, engine = cube.payload, self._reading("steering")
        if not isinstance(payload, Activation) or payload.steered is None or cube.state is not State.ACTIVE:
            raise InvalidInput(f"cube {id} is no active steering vector; steering() makes one")
        vector = engine.vector(self._store.blobs.get(payload.blob))
        with engine.steer(vector, payload.steered.strength if strength is None else strength):
            yield

    def _reading(self, what: str) -> Any:
        """The engine, where it lets itself be read."""
        if not hasattr(self._house.engine, "capture"):
            raise NotAvailable(f"{what} needs a model that can be looked into: MemOS.open(..., engine=HFEngine.load())")
        return self._house.engine

    # ------------------------------------------------------------------ proposals
    def proposals(self, *, scope: ScopeLike, actor: ActorLike = None, now: datetime | None = None) -> list[MemCube]:
        """What `tick` has read out of the log and nobody has accepted or declined: templates, and instructions to steer by (task prompts).

        At or below a scope, oldest first; `lineage(id)` shows the messages that each came from. Decline with update(id, state="archived").
        """
        place, clock = as_scope(scope), as_time(now, "now")
        who = self._who(actor, place)
        return [cube for cube in proposing.proposed(self._house, place, clock) if rules(who, cube.governance.scope)]

    def accept(self, id: CubeId, *, actor: ActorLike = None, now: datetime | None = None) -> list[MemCube]:
        """Take up a proposal: it becomes active memory, and with an engine what it is for is computed: KV of a template, a steering
        vector of an instruction. Returns the cubes, the proposal first. Raises InvalidInput, NotFound or AccessDenied."""
        clock, who = as_time(now, "now"), self._who(actor, None)
        cube = self._permitted(id, "write", who, clock)
        return proposing.accept(self._house, self._scheduler, cube, who, clock)

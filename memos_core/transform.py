"""Payload to payload: plaintext ⇒ activation; parameter memory is `learning`. The engine is an argument.

Source: MemOS §4.1, transformation between memory types.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from memos_core.cube import (
    LOCAL_OWNER,
    Activation,
    ActivationForm,
    Actor,
    Governance,
    Identifiers,
    MemCube,
    Origin,
    Precision,
    Scope,
    SemanticType,
    Steered,
    new_id,
    text_of,
)
from memos_core.heads import effective_system
from memos_core.parse.triples import template
from memos_core.plan import Message, Plan, head_text, render


def kv_sizes(
    engine: Any, sources: Sequence[MemCube], scope: Scope, system: str | None, least: Precision | None
) -> tuple[tuple[Precision, int], ...]:
    """(precision, bytes) that `prefill` can make, the best first, without computing it. Raises EngineError when the model cannot keep KV."""
    messages, plan = _head_prompt(sources, system)
    found: tuple[tuple[Precision, int], ...] = engine.sizes(engine.prefill_tokens(messages, scope, plan=plan), least)
    return found


def prefill(
    engine: Any, sources: Sequence[MemCube], scope: Scope, system: str | None, precision: Precision | None = None
) -> tuple[Activation, bytes]:
    """KV of the head made of `sources` behind `system`: the payload without its blob yet, and the safetensors file's bytes.

    precision: how it is stored; None: as the model's own numbers.

    Raises EngineError when the model cannot keep KV.
    """
    messages, plan = _head_prompt(sources, system)
    segment = engine.prefill(messages, scope, plan=plan)
    saved = engine.pack(segment, precision)
    payload = Activation(
        form=ActivationForm.KV,
        blob="",
        prefix_key=segment.prefix_key,
        tokens=segment.tokens,
        bytes=saved.bytes,
        model=engine.identity.key,
        system=effective_system(system),
        precision=saved.precision,
        divergence=saved.divergence,
        agreement=saved.agreement,
    )
    return payload, saved.data


def read_ahead(engine: Any, sources: Sequence[MemCube], scope: Scope, system: str | None) -> None:
    """Read the KV of a head, whose file has been attached, into RAM; what the file does not hold is computed. Raises EngineError."""
    messages, plan = _head_prompt(sources, system)
    engine.prefill(messages, scope, plan=plan)


def _head_prompt(sources: Sequence[MemCube], system: str | None) -> tuple[Sequence[Message], Plan]:
    """The beginning that is kept. A template stands for itself: its fixed text is the system text, public as any caller's."""
    if [cube.identifiers.semantic_type for cube in sources] == [SemanticType.TEMPLATE]:
        plan = Plan(shared_system=template(text_of(sources[0])).fixed)
        return [{"role": "system", "content": str(plan.shared_system)}], plan
    plan = Plan(head=head_text(sources), shared_system=effective_system(system))
    return render([{"role": "system", "content": effective_system(system)}], plan), plan


def captured(engine: Any, source: MemCube, form: ActivationForm, layers: Any, last: int | None) -> tuple[Activation, bytes]:
    """Hidden states or attention weights that the model computes when it reads a memory: the payload without its blob yet, and the file.

    Raises InvalidInput or EngineError.
    """
    found = engine.capture(text_of(source), str(form), layers, last)
    return Activation(
        form=form, blob="", tokens=found.tokens, bytes=found.bytes, model=engine.identity.key, shapes=found.shapes
    ), found.data


def steering(
    engine: Any, positive: Sequence[Any], negative: Sequence[Any], layers: Any, strength: float, texts: Sequence[str] | None
) -> tuple[Activation, bytes]:
    """A steering vector from pairs, with what it does at a strength: the payload without its blob yet, and the file. Raises InvalidInput."""
    vector = engine.steering_vector(positive, negative, layers)
    effect, perplexity = engine.effect(vector, strength, positive, negative, *([texts] if texts is not None else []))
    payload = Activation(
        form=ActivationForm.STEERING,
        blob="",
        bytes=sum(direction.nbytes for direction in vector.directions.values()),
        model=vector.model,
        shapes=tuple((layer, tuple(direction.shape)) for layer, direction in sorted(vector.directions.items())),
        steered=Steered(strength=strength, effect=effect, perplexity=perplexity),
    )
    return payload, vector.to_bytes()


def activation_cube(
    payload: Activation,
    scope: Scope,
    now: datetime,
    *,
    owner: Actor = LOCAL_OWNER,
    frozen: bool = False,
    least_precision: Precision | None = None,
    semantic_type: SemanticType = SemanticType.FACT,
    path: tuple[str, ...] = (),
) -> MemCube:
    """A new cube for what a model computed from a scope's memories."""
    return MemCube(
        id=new_id(),
        version=1,
        payload=payload,
        identifiers=Identifiers(
            created_at=now, updated_at=now, occurred_at=now, origin=Origin.TRANSFORMATION, semantic_type=semantic_type, path=path
        ),
        governance=Governance(scope=scope, owner=owner, frozen=frozen, least_precision=least_precision),
    )

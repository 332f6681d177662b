"""Payload to payload: plaintext ⇒ activation here; distilling and reverting arrive with parameter memory. The engine is an argument.

Source: MemOS §4.1, transformation between memory types.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from memos_core.cube import LOCAL_OWNER, Activation, ActivationForm, Governance, Identifiers, MemCube, Origin, Precision, Scope, new_id
from memos_core.heads import effective_system
from memos_core.plan import Message, Plan, head_text, render


def kv_bytes(engine: Any, sources: Sequence[MemCube], scope: Scope, system: str | None) -> int:
    """How many bytes `prefill` will make, without computing it. Raises EngineError when the model cannot keep KV."""
    messages, plan = _head_prompt(sources, system)
    return int(engine.prefill_bytes(messages, scope, plan=plan))


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


def _head_prompt(sources: Sequence[MemCube], system: str | None) -> tuple[Sequence[Message], Plan]:
    plan = Plan(head=head_text(sources), shared_system=effective_system(system))
    return render([{"role": "system", "content": effective_system(system)}], plan), plan


def activation_cube(payload: Activation, scope: Scope, now: datetime, frozen: bool = False) -> MemCube:
    """A new cube for KV derived from a scope's memories."""
    return MemCube(
        id=new_id(),
        version=1,
        payload=payload,
        identifiers=Identifiers(created_at=now, updated_at=now, occurred_at=now, origin=Origin.TRANSFORMATION),
        governance=Governance(scope=scope, owner=LOCAL_OWNER, frozen=frozen),
    )

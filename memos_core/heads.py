"""The stable memory at the head of a scope's prompts: which KV is kept for it, and whether it still says what its sources say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from memos_core.cube import Activation, CubeId, MemCube, Plaintext, Scope, State
from memos_core.lifespan import expired
from memos_core.plan import DEFAULT_SYSTEM, Head, head_text
from memos_core.store.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class KeptHead:
    """An activation cube with its source cubes as they are now. problem: why it must not be used, or None."""

    cube: MemCube
    payload: Activation
    sources: tuple[MemCube, ...]
    source_ids: frozenset[CubeId]
    problem: str | None


def kept_heads(view: Snapshot, now: datetime, scope: Scope | None = None) -> list[KeptHead]:
    """All active KV heads, of one scope or of all, oldest first."""
    found = []
    for cube in view.derived(now, scope):
        assert isinstance(cube.payload, Activation)
        parents = view.parents(cube.id)
        heads = view.heads([parent for parent, _ in parents], now)
        problem = None
        for parent, version in parents:
            problem = problem or _problem(view, heads.get(parent), parent, version, now)
        found.append(KeptHead(cube, cube.payload, tuple(heads.values()), frozenset(parent for parent, _ in parents), problem))
    return found


def _problem(view: Snapshot, source: MemCube | None, parent: CubeId, version: int, now: datetime) -> str | None:
    if source is None:
        return f"its source {parent} is gone"
    if source.state is not State.ACTIVE or expired(source, now):
        return f"its source {parent} is {'expired' if expired(source, now) else source.state}"
    if source.version != version:
        then = next((entry.cube for entry in view.history(parent) if entry.version == version), None)
        if then is None or then.payload != source.payload:
            return f"its source {parent} has changed from version {version} to {source.version}"
    return None


def effective_system(system: str | None) -> str:
    """The system text that a head stands behind."""
    return DEFAULT_SYSTEM if system is None else system


def find_head(kept: Sequence[KeptHead], engine: Any, system: str | None) -> tuple[Head | None, KeptHead | None]:
    """The head for a turn, and the KV it can be reused from. Without KV for this engine and system text, its sources as text."""
    usable = [head for head in kept if head.problem is None]
    if not usable:
        return None, None
    able = engine is not None and "activation" in engine.capabilities
    fitting = [
        head for head in usable if able and head.payload.model == engine.identity.key and head.payload.system == effective_system(system)
    ]
    chosen = (fitting or usable)[-1]
    if fitting:
        kept_as = chosen.payload
        lost = f", kept as {kept_as.precision}: divergence {kept_as.divergence:.1g}" if not kept_as.exact else ""
        reason = f"prefilled by the scheduler{lost}"
    elif not able:
        reason = "this model cannot take KV; its sources go in as text"
    else:
        reason = "the KV kept belongs to another model or system text; its sources go in as text"
    sources = tuple(cube for cube in chosen.sources if isinstance(cube.payload, Plaintext))
    return Head(sources, head_text(sources), bool(fitting), reason), chosen if fitting else None


def ready_head(kept: Sequence[KeptHead], engine: Any, system: str | None, scope: Scope, blob: Callable[[str], Path]) -> Head | None:
    """The head for a turn, its KV handed to the engine; when that fails, its sources as text, and why."""
    head, chosen = find_head(kept, engine, system)
    if head is None or chosen is None:
        return head
    payload = chosen.payload
    problem = engine.attach(blob(payload.blob), scope=scope, prefix_key=payload.prefix_key)
    return head if problem is None else replace(head, reusable=False, reason=f"its KV could not be used: {problem}")

"""What was computed from memories, and whether it still says what they say; among it the KV of the head of a scope's prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from memos_core.cube import Activation, ActivationForm, CubeId, MemCube, Plaintext, Scope, SemanticType, State, text_of
from memos_core.lifespan import expired
from memos_core.parse.triples import template
from memos_core.plan import DEFAULT_SYSTEM, Head, head_text
from memos_core.store.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Derived:
    """An activation cube with its source cubes as they are now. problem: why it must not be used, or None."""

    cube: MemCube
    payload: Activation
    sources: tuple[MemCube, ...]
    source_ids: frozenset[CubeId]
    problem: str | None

    @property
    def is_kv(self) -> bool:
        return self.payload.form is ActivationForm.KV

    @property
    def is_template(self) -> bool:
        """KV of a prompt template."""
        return self.is_kv and self.cube.identifiers.semantic_type is SemanticType.TEMPLATE

    @property
    def is_head(self) -> bool:
        """KV of memories that stand at the head of a scope's prompts."""
        return self.is_kv and not self.is_template


def derived(view: Snapshot, now: datetime, scope: Scope | None = None) -> list[Derived]:
    """All active activation memory, of one scope or of all, oldest first."""
    found = []
    for cube in view.derived(now, scope):
        assert isinstance(cube.payload, Activation)
        parents = view.parents(cube.id)
        heads = view.heads([parent for parent, _ in parents], now)
        problem = None
        for parent, version in parents:
            problem = problem or problem_of(view, heads.get(parent), parent, version, now)
        found.append(Derived(cube, cube.payload, tuple(heads.values()), frozenset(parent for parent, _ in parents), problem))
    return found


def problem_of(view: Snapshot, source: MemCube | None, parent: CubeId, version: int, now: datetime) -> str | None:
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


def find_head(kept: Sequence[Derived], engine: Any, system: str | None) -> tuple[Head | None, Derived | None]:
    """The head for a turn, and the KV it can be reused from. Without KV for this engine and system text, its sources as text."""
    usable = [head for head in kept if head.problem is None and head.is_head]
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
    return Head(sources, head_text(sources), bool(fitting), reason, chosen.cube.id), chosen if fitting else None


def ready_head(kept: Sequence[Derived], engine: Any, system: str | None, scope: Scope, blob: Callable[[str], Path]) -> Head | None:
    """The head for a turn, its KV handed to the engine; when that fails, its sources as text, and why."""
    head, chosen = find_head(kept, engine, system)
    if head is None or chosen is None:
        return head
    payload = chosen.payload
    problem = engine.attach(blob(payload.blob), scope=scope, prefix_key=payload.prefix_key)
    return head if problem is None else replace(head, reusable=False, reason=f"its KV could not be used: {problem}")


def attach_template(kept: Derived, engine: Any, blob: Callable[[str], Path]) -> str | None:
    """Hand KV of a template to the engine. None, or why it cannot be used."""
    if engine is None or kept.problem is not None:
        return kept.problem
    if kept.payload.model != engine.identity.key:
        return "it was made by another model"
    found: str | None = engine.attach(blob(kept.payload.blob), scope=kept.cube.governance.scope, prefix_key=kept.payload.prefix_key)
    return found


def opens(kept: Derived, system: str | None) -> bool:
    """Whether system text is that of a template, as far as its first slot."""
    opening = [template(text_of(source)).opening for source in kept.sources]
    return kept.is_template and system is not None and any(words.strip() and system.startswith(words) for words in opening)

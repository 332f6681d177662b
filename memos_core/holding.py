"""What is computed from memories, kept as cubes, and given up again: each change one commit, the file before the cube that refers to it.

Source: MemOS §4.1, transformation between memory types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from memos_core.changes import Add, Change, Record, Revise, restated
from memos_core.cube import LOCAL_OWNER, Activation, ActivationForm, Actor, MemCube, Precision, Scope, SemanticType, State
from memos_core.errors import MemosError
from memos_core.heads import Derived
from memos_core.house import House
from memos_core.policy import Move
from memos_core.transform import activation_cube, captured, prefill, steering

LONGEST_NAME = 80
"""Characters of a steering vector's name."""


def archived(cube: MemCube, action: str, now: datetime, reason: str) -> Revise:
    """The change with which the scheduler archives a cube."""
    return restated(cube, State.ARCHIVED, LOCAL_OWNER, action, now, reason)


class Holding:
    """Keeps and gives up activation memory."""

    def __init__(self, house: House) -> None:
        self._house = house

    def drop(self, heads: Sequence[Derived], now: datetime, reason: str, also: Sequence[Change] = ()) -> None:
        """Give up what was computed: the cube is archived, its file removed, a copy in RAM let go. The text it came from stays."""
        changes: list[Change] = [archived(head.cube, "drop", now, reason) for head in heads]
        if changes or also:
            self._house.store.commit([*changes, *also])
        self._let_go(heads)

    def _let_go(self, heads: Sequence[Derived]) -> None:
        self._house.store.settle()
        if self._house.reuses:
            for key in {head.payload.prefix_key for head in heads if head.is_kv}:
                self._house.engine.detach(key)

    def prefill(
        self,
        sources: Sequence[MemCube],
        scope: Scope,
        system: str | None,
        now: datetime,
        reason: str,
        replaces: Sequence[Derived] = (),
        precision: Precision | None = None,
        frozen: bool = False,
        least_precision: Precision | None = None,
        move: Move | None = None,
    ) -> MemCube:
        """Compute and keep the KV of a head, or of a template, in one commit with giving up what it replaces. Raises EngineError.

        move: what the scheduler has decided, to be recorded with it.
        """
        payload, data = prefill(self._house.engine, sources, scope, system, precision)
        (kind,) = {cube.identifiers.semantic_type for cube in sources} & {SemanticType.TEMPLATE} or {SemanticType.FACT}
        traits = {"frozen": frozen, "least_precision": least_precision, "semantic_type": kind}
        cube = self._keep(payload, data, scope, now, sources, LOCAL_OWNER, "prefilled from", reason, traits, replaces, move)
        self._let_go(replaces)
        return cube

    def capture(
        self, engine: Any, source: MemCube, form: ActivationForm, layers: Any, last: int | None, who: Actor, now: datetime
    ) -> MemCube:
        """Keep hidden states or attention of a memory. Raises InvalidInput or EngineError."""
        payload, data = captured(engine, source, form, layers, last)
        return self._keep(payload, data, source.governance.scope, now, [source], who, "captured from", f"{form} of {payload.tokens} tokens")

    def steering(
        self, engine: Any, pairs: tuple[Any, Any], how: tuple[Any, float, Any], name: str, scope: Scope, who: Actor, now: datetime,
        sources: Sequence[MemCube] = (),
    ) -> MemCube:  # fmt: skip
        """Keep a steering vector. pairs: positive, negative. how: layers, strength, texts. Raises InvalidInput."""
        layers, strength, texts = how
        payload, data = steering(engine, *pairs, layers, strength, texts)
        traits = {"semantic_type": SemanticType.SKILL, "path": (name[:LONGEST_NAME],)}
        return self._keep(payload, data, scope, now, sources, who, "steering from", f"from {len(pairs[0])} pairs", traits)

    def _keep(
        self, payload: Activation, data: bytes, scope: Scope, now: datetime, sources: Sequence[MemCube], who: Actor, relation: str,
        reason: str, traits: Mapping[str, Any] = MappingProxyType({}), replaces: Sequence[Derived] = (), move: Move | None = None,
    ) -> MemCube:  # fmt: skip
        """The file first, then the cube that refers to it."""
        blob = self._house.store.blobs.put(data)
        cube = activation_cube(payload.model_copy(update={"blob": blob}), scope, now, owner=who, **traits)
        parents = tuple((source.id, source.version) for source in sources)
        changes: list[Change] = [Add(cube, who, parents=parents, relation=relation, detail=reason)]
        changes += [archived(head.cube, "drop", now, f"replaced by {cube.id}") for head in replaces]
        changes += [Record(move, scope, now, cube.id)] if move is not None else []
        try:
            self._house.store.commit(changes)
        except MemosError:  # what it was made of has been forgotten meanwhile, perhaps: nothing of that stays
            self._house.store.discard(blob)
            if self._house.reuses:
                self._house.engine.forget_scope(scope)
            raise
        return cube

    def freeze(self, cubes: Sequence[MemCube], frozen: bool, actor: Actor, now: datetime) -> None:
        """Keep KV whatever the budget, or allow giving it up again."""
        changes: list[Change] = []
        for cube in cubes:
            if cube.governance.frozen != frozen:
                governance = cube.governance.model_copy(update={"frozen": frozen})
                identifiers = cube.identifiers.model_copy(update={"updated_at": now})
                changed = cube.model_copy(update={"governance": governance, "identifiers": identifiers, "version": cube.version + 1})
                changes.append(Revise(changed, actor, "freeze" if frozen else "unfreeze"))
        if changes:
            self._house.store.commit(changes)

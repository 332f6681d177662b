"""Memory for LangGraph: a `BaseStore` whose items are memories, with owners, versions and an audit log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from memos_core import Entry, InvalidInput, MissingExtra, NotFound, VersionConflict, as_memos, as_scope

try:
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        Item,
        ListNamespacesOp,
        MatchCondition,
        Op,
        PutOp,
        Result,
        SearchItem,
        SearchOp,
        TTLConfig,
        get_text_at_path,
        tokenize_path,
    )
except ImportError as error:
    raise MissingExtra("memos_integrations.langgraph", "langchain") from error

Namespace = tuple[str, ...]
COLLECTION = "langgraph"
"""Apart from entries that others keep in the same scopes."""


class MemosStore(BaseStore):
    """LangGraph's store in a memory directory: `create_agent(..., store=MemosStore(memos=memos, scope="clinic"))`.

    memos: an open MemOS. scope: the root. A namespace is the scope of that name below the root, so what a namespace holds is memory of that
    scope: recall, timeline and the audit log see it, and deleting erases it. No operation reaches outside of the root.
    fields: which parts of a value are searched, as paths in IndexConfig's notation; together they make one vector. An item none of whose
    fields is there, or that was put with index=False, is not searched: it comes after all that is. ttl: as LangGraph's TTLConfig,
    in minutes; `sweep_interval_minutes` is not needed, since expired items are never shown and `memos.tick()` puts them away.

    Values are JSON objects and come back as they were put; another value is refused. `created_at` is the time of the first put of a key,
    `updated_at` that of the last. Operations of one batch read what was there before it; its puts are one transaction, the last one of a key
    counts. A search ranks exactly, by the memory's own embedder, what passed namespace and filter. Errors of the memory are raised.
    """

    supports_ttl = True

    def __init__(self, *, memos: Any, scope: str | Namespace, fields: Sequence[str] = ("$",), ttl: TTLConfig | None = None) -> None:
        if isinstance(fields, str) or not all(isinstance(field, str) for field in fields):
            raise InvalidInput(f"fields is a list of paths such as ['$'] or ['text', 'meta.title'], got {fields!r}")
        self.memos = as_memos(memos)
        self.root: Namespace = as_scope(scope)
        self.fields = tuple(fields)
        self.ttl_config = ttl

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do operations; their results, in order. Raises InvalidInput or StoreError."""
        results: list[Result] = []
        puts: dict[tuple[Namespace, str], PutOp] = {}
        for op in ops:
            if isinstance(op, GetOp):
                results.append(self._get(op))
            elif isinstance(op, SearchOp):
                results.append(self._search(op))
            elif isinstance(op, ListNamespacesOp):
                results.append(self._namespaces(op))
            elif isinstance(op, PutOp):
                puts[tuple(op.namespace), op.key] = op
                results.append(None)
            else:
                raise InvalidInput(f"unknown operation {type(op).__name__}; use GetOp, SearchOp, PutOp or ListNamespacesOp")
        if puts:
            self.memos.write_entries([self._entry(op) for op in puts.values()], scope=self.root, collection=COLLECTION)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The same, in a worker thread."""
        return await asyncio.to_thread(self.batch, list(ops))

    # ------------------------------------------------------------------ operations
    def _entry(self, op: PutOp) -> Entry:
        if op.value is None:
            return Entry(op.key, below=tuple(op.namespace))
        if not isinstance(op.value, Mapping):
            raise InvalidInput(f"the value of {op.key!r} must be a JSON object, such as a dict, got {type(op.value).__name__}")
        value = dict(op.value)
        found = [] if op.index is False else _texts(value, self.fields if op.index is None else op.index)
        seconds = None if op.ttl is None else op.ttl * 60
        record = {"value": value, "ttl": op.ttl}
        return Entry(op.key, "\n".join(found) or str(value), record, tuple(op.namespace), bool(found), seconds)

    def _get(self, op: GetOp) -> Item | None:
        cube = self.memos.entry(op.key, scope=(*self.root, *op.namespace), collection=COLLECTION)
        if cube is None:
            return None
        if op.refresh_ttl:
            self._refresh([cube])
        return Item(**self._described(cube))

    def _search(self, op: SearchOp) -> list[SearchItem]:
        where = {"value": op.filter} if op.filter else None
        query = op.query if op.query and op.query.strip() else None
        place = (*self.root, *op.namespace_prefix)
        hits = self.memos.entries(place, collection=COLLECTION, query=query, where=where, limit=op.limit, offset=op.offset)
        if op.refresh_ttl:
            self._refresh([hit.cube for hit in hits])
        return [SearchItem(**self._described(hit.cube), score=hit.score if hit.reasons else None) for hit in hits]

    def _namespaces(self, op: ListNamespacesOp) -> list[Namespace]:
        held = [scope[len(self.root) :] for scope in self.memos.entry_scopes(self.root, collection=COLLECTION)]
        found = [each for each in held if all(_fits(condition, each) for condition in op.match_conditions or ())]
        if op.max_depth is not None:
            found = sorted({each[: op.max_depth] for each in found})
        return found[op.offset : op.offset + op.limit]

    def _refresh(self, cubes: Sequence[Any]) -> None:
        """What was read lives for its time again, from now on."""
        for cube in cubes:
            if (minutes := _unpacked(cube)[1]) is not None:
                with suppress(VersionConflict, NotFound):  # written or removed meanwhile: that is what counts
                    self.memos.update(cube.id, ttl=minutes * 60, expected_version=cube.version)

    def _described(self, cube: Any) -> dict[str, Any]:
        known = cube.identifiers
        namespace = cube.governance.scope[len(self.root) :]
        times = {"created_at": known.created_at, "updated_at": known.occurred_at}
        return {"namespace": namespace, "key": known.key, "value": _unpacked(cube)[0], **times}


# ---------------------------------------------------------------------- values
def _unpacked(cube: Any) -> tuple[dict[str, Any], float | None]:
    """Value and minutes to live of an item; of one whose text was changed by `memos.update`, that text."""
    if cube.payload.record is None:
        return {"text": cube.payload.text}, None
    record = json.loads(cube.payload.record)
    return record["value"], record["ttl"]


def _texts(value: dict[str, Any], fields: Sequence[str]) -> list[str]:
    """The texts at some paths of a value."""
    try:
        found = [text for field in fields for text in get_text_at_path(value, field if field == "$" else tokenize_path(field))]
    except TypeError:  # not JSON: the memory refuses it, and says where
        return []
    return [text for text in found if text.strip()]


def _fits(condition: MatchCondition, namespace: Namespace) -> bool:
    """Whether a namespace begins, or ends, as a condition says; "*" stands for any name."""
    if condition.match_type not in ("prefix", "suffix"):
        raise InvalidInput(f"unknown match type {condition.match_type!r}; use 'prefix' or 'suffix'")
    path = condition.path
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[max(0, len(namespace) - len(path)) :]
    return len(part) == len(path) and all(wanted in ("*", name) for wanted, name in zip(path, part, strict=True))

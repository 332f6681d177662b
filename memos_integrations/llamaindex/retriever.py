"""Recall as a LlamaIndex retriever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from memos_core import as_memos


class MemosRetriever(BaseRetriever):
    """Recalled memories as nodes, best first: `node_id` is the cube's id, `metadata` holds reasons, time, sources and path.

    memos: an open MemOS. scope: whose memory, or a function without arguments that says so for each query (such as the `get` of a
    ContextVar), so that one query engine can serve many users. k: how many. rest: of BaseRetriever, such as callback_manager.
    Reads only. Errors of the memory are raised.
    """

    def __init__(self, *, memos: Any, scope: str | Sequence[str] | Callable[[], Any], k: int = 10, **rest: Any) -> None:
        self._memos = as_memos(memos)
        self._scope = scope
        self._k = k
        super().__init__(**rest)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        scope = self._scope() if callable(self._scope) else self._scope
        return [_node(hit) for hit in self._memos.recall(query_bundle.query_str, scope=scope, k=self._k).hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _node(hit: Any) -> NodeWithScore:
    known = hit.cube.identifiers
    described = known.model_dump(mode="json", include={"occurred_at", "sources", "path", "session", "speaker"})
    metadata = {**described, "scope": list(hit.cube.governance.scope), "reasons": [str(reason) for reason in hit.reasons]}
    told = ("occurred_at", "speaker") if known.speaker else ("occurred_at",)
    hidden = [name for name in metadata if name not in told]  # what a model need not read
    node = TextNode(id_=hit.cube.id, text=hit.cube.payload.text, metadata=metadata, excluded_llm_metadata_keys=hidden)
    return NodeWithScore(node=node, score=hit.score)

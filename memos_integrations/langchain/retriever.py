"""MemosRetriever: recalled memories as documents."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import AfterValidator, Field

from memos_core import as_memos
from memos_integrations.langchain.messages import ScopeLike


class MemosRetriever(BaseRetriever):
    """Recalled memories as documents, best first: `id` is the cube's id, `metadata` holds score, reasons, time, sources and path.

    memos: an open MemOS. scope: whose memory. k: how many, also per call: `retriever.invoke(query, k=3)`. Reads only. For many users
    on one instance: `retriever.configurable_fields(scope=ConfigurableField(id="scope"))`, with the scope in each call's configuration.
    """

    memos: Annotated[Any, AfterValidator(as_memos)] = Field(repr=False, exclude=True)
    scope: ScopeLike
    k: int = 10

    def _get_relevant_documents(self, query: str, *, run_manager: Any, k: int | None = None) -> list[Document]:
        recall = self.memos.recall(query, scope=self.scope, k=self.k if k is None else k)
        return [_document(hit) for hit in recall.hits]


def _document(hit: Any) -> Document:
    known = hit.cube.identifiers
    described = known.model_dump(mode="json", include={"occurred_at", "sources", "path", "session", "speaker"})
    found = {"score": hit.score, "reasons": [str(reason) for reason in hit.reasons]}
    metadata = {**described, "scope": list(hit.cube.governance.scope), **found}
    return Document(id=hit.cube.id, page_content=hit.cube.payload.text, metadata=metadata)

"""MemosVectorStore: documents as memories."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from memos_core import Entry, InvalidInput, as_memos
from memos_integrations.langchain.messages import ScopeLike
from memos_integrations.langchain.models import MemosEmbeddings

COLLECTION = "documents"
Filter = Mapping[str, Any] | Callable[[Document], bool] | None


class MemosVectorStore(VectorStore):
    """Documents in a memory directory, searched exactly, after scope and filter, never before.

    memos: an open MemOS; its embedder is used. scope: whose documents; a search also reads the scopes below it. Recall over that scope
    finds them too. Ids are the caller's or made here; adding a known id writes a further version of that
    document, deleting erases. Metadata are JSON and come back as they were. filter: conditions on the metadata, such as
    {"kind": "note", "page": {"$gte": 3}}, or a function of the document. Scores are cosines. Errors of the memory are raised.
    """

    def __init__(self, *, memos: Any, scope: ScopeLike) -> None:
        self.memos = as_memos(memos)
        self.scope = scope

    @property
    def embeddings(self) -> Embeddings:
        """The memory's embedder."""
        return MemosEmbeddings(self.memos)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        memos: Any = None,
        scope: ScopeLike | None = None,
        **kwargs: Any,
    ) -> MemosVectorStore:
        """A store with some texts in it. The memory embeds them: its embedder was chosen when it was opened. Raises InvalidInput."""
        if embedding is not None:
            raise InvalidInput("a memory has one embedder: pass it to MemOS.open(..., embedder=embeddings), and embedding=None here")
        if memos is None or scope is None:
            raise InvalidInput("from_texts needs memos= and scope=: the open memory, and whose documents these are")
        store = cls(memos=memos, scope=scope)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    def add_texts(
        self, texts: Iterable[str], metadatas: list[dict[str, Any]] | None = None, *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add or update documents, all or none; their ids. Of an id given twice the last document counts. Raises InvalidInput or StoreError.

        `batch_size`, which LangChain's `index` gives, is not needed.
        """
        _refuse({name: value for name, value in kwargs.items() if name != "batch_size"})
        given = list(texts)
        for what, values in (("metadatas", metadatas), ("ids", ids)):
            if values is not None and len(values) != len(given):
                raise InvalidInput(f"{what} has {len(values)} items for {len(given)} texts; give one for each")
        names = [name if name is not None else uuid.uuid4().hex for name in ids or repeat(None, len(given))]
        entries = {
            name: Entry(name, text, metadata)
            for name, text, metadata in zip(names, given, metadatas or repeat({}, len(given)), strict=True)
        }
        self.memos.write_entries(list(entries.values()), scope=self.scope, collection=COLLECTION)
        return names

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Erase documents; ids that are not there do not matter. Raises InvalidInput without ids."""
        _refuse(kwargs)
        if ids is None:
            raise InvalidInput("delete needs the ids of the documents; nothing is erased without being named")
        self.memos.write_entries([Entry(name) for name in dict.fromkeys(ids)], scope=self.scope, collection=COLLECTION)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids that are there, in their order."""
        found = (self.memos.entry(name, scope=self.scope, collection=COLLECTION) for name in ids)
        return [_document(cube) for cube in found if cube is not None]

    # ------------------------------------------------------------------ search
    def similarity_search(self, query: str, k: int = 4, filter: Filter = None, **kwargs: Any) -> list[Document]:
        """The k documents nearest to a text, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, filter: Filter = None, **kwargs: Any) -> list[tuple[Document, float]]:
        """The same, each with its cosine."""
        _refuse(kwargs)
        return self._nearest(query, k, filter)

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, filter: Filter = None, **kwargs: Any) -> list[Document]:
        """The k documents nearest to a vector of the memory's embedder."""
        _refuse(kwargs)
        return [document for document, _ in self._nearest(embedding, k, filter)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, filter: Filter = None, **kwargs: Any
    ) -> list[Document]:
        """Of the fetch_k documents nearest to a text, k that are near it and unlike each other."""
        vector = self.embeddings.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, filter: Filter = None, **kwargs: Any
    ) -> list[Document]:
        """The same for a vector."""
        _refuse(kwargs)
        found = [document for document, _ in self._nearest(embedding, fetch_k, filter)]
        vectors = list(self.memos.embed([document.page_content for document in found]))
        chosen = maximal_marginal_relevance(np.asarray(embedding, dtype=np.float32), vectors, lambda_mult=lambda_mult, k=k)
        return [found[place] for place in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: min(max(cosine, 0.0), 1.0)

    def _nearest(self, query: str | list[float], k: int, filter: Filter) -> list[tuple[Document, float]]:
        where = (lambda cube: filter(_document(cube))) if callable(filter) else filter
        hits = self.memos.entries(self.scope, collection=COLLECTION, query=query, where=where or None, limit=k)
        return [(_document(hit.cube), hit.score) for hit in hits]


def _document(cube: Any) -> Document:
    metadata = json.loads(cube.payload.record) if cube.payload.record else {}
    return Document(id=cube.identifiers.key, page_content=cube.payload.text, metadata=metadata)


def _refuse(unknown: Mapping[str, Any]) -> None:
    if unknown:
        raise InvalidInput(f"MemosVectorStore knows no {', '.join(sorted(unknown))}; see the arguments of this method")

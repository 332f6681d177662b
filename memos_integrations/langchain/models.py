"""LangChain's models that see, as the memory takes them, and its embedder as LangChain takes one. Models of text, and embeddings, it takes as they are."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage, HumanMessage

from memos_core import as_memos

CAPTION = "Say in one sentence what this image shows, with the names, numbers and words that can be read in it."


def caption_model(model: BaseLanguageModel[Any], prompt: str = CAPTION) -> Callable[[bytes, str], str]:
    """A model that sees, as `MemOS.open(captioner=...)` takes it, from an image and its mime type to a caption."""

    def caption(image: bytes, mime_type: str) -> str:
        shown = {"type": "image", "base64": base64.b64encode(image).decode(), "mime_type": mime_type}
        answer = model.invoke([HumanMessage(content=[{"type": "text", "text": prompt}, shown])])
        return str(answer.text) if isinstance(answer, BaseMessage) else str(answer)

    return caption


class MemosEmbeddings(Embeddings):
    """The embedder of an open memory, for others to use."""

    def __init__(self, memos: Any) -> None:
        self._memos = as_memos(memos)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector of unit length per text."""
        return [[float(number) for number in vector] for vector in self._memos.embed(texts)]

    def embed_query(self, text: str) -> list[float]:
        """The same for one text."""
        return self.embed_documents([text])[0]

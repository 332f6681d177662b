"""LlamaIndex's models as the core takes them: functions from text to text, to vectors, and from an image to a caption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.base.llms.types import MessageRole as Role
from llama_index.core.llms import LLM

CAPTION = "Say in one sentence what this picture shows, with the names and numbers that can be read in it."


def text_model(llm: LLM) -> Callable[[str], str]:
    """An LLM as `MemOS.open(model=...)` takes it, from a prompt to text: it reads facts out of messages and judges contradictions."""
    return lambda prompt: str(llm.complete(prompt))


def text_embedder(embedding: BaseEmbedding) -> Callable[[list[str]], Any]:
    """An embedding model as `MemOS.open(embedder=...)` takes it.

    Memories and questions are embedded alike, as texts: a model's own instruction for queries is not used, since what is a question
    in one conversation is a memory in the next.
    """
    return lambda texts: embedding.get_text_embedding_batch(list(texts))


def captioner(llm: LLM, prompt: str = CAPTION) -> Callable[[bytes, str], str]:
    """An LLM that sees as `MemOS.open(captioner=...)` takes it, from an image's bytes and mime type to a caption."""

    def caption(image: bytes, mime: str) -> str:
        blocks = [TextBlock(text=prompt), ImageBlock(image=image, image_mimetype=mime)]
        return str(llm.chat([ChatMessage(role=Role.USER, blocks=blocks)]).message.content or "")

    return caption

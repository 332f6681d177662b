"""LlamaIndex's models that see, as the memory takes them. Models of text, and embeddings, it takes as they are."""

from __future__ import annotations

from collections.abc import Callable

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.base.llms.types import MessageRole as Role
from llama_index.core.llms import LLM

CAPTION = "Say in one sentence what this picture shows, with the names and numbers that can be read in it."


def caption_model(llm: LLM, prompt: str = CAPTION) -> Callable[[bytes, str], str]:
    """An LLM that sees as `MemOS.open(captioner=...)` takes it, from an image's bytes and mime type to a caption."""

    def caption(image: bytes, mime: str) -> str:
        blocks = [TextBlock(text=prompt), ImageBlock(image=image, image_mimetype=mime)]
        return str(llm.chat([ChatMessage(role=Role.USER, blocks=blocks)]).message.content or "")

    return caption

"""LlamaIndex's models and embeddings at work for the memory, and the images of a conversation."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import bag_of_words
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.embeddings import MockEmbedding
from scripted_llms import ANA, Scripted, said

from memos_core import EmbedderMismatch, MemOS
from memos_integrations.llamaindex import MemosMemory, MemosMemoryBlock, caption_model

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
FACT = "Ana is allergic to penicillin."


@pytest.mark.parametrize(
    "image", [PNG, BytesIO(PNG), f"data:image/png;base64,{base64.b64encode(PNG).decode()}"], ids=["bytes", "file", "url"]
)
def test_an_image_is_remembered_once_whatever_holds_it(memos: MemOS, image: Any) -> None:
    if isinstance(image, BytesIO) and ImageBlock.model_fields["image"].annotation == bytes | None:
        pytest.skip("this version of LlamaIndex takes no file objects")
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    memory.put(ChatMessage(role="user", blocks=[ImageBlock(url=image) if isinstance(image, str) else ImageBlock(image=image)]))
    memory.set(memory.get_all())
    (cube,) = memos.conversation(scope=ANA, session="s")
    assert [part.bytes for part in cube.payload.parts] == [len(PNG)] and cube.payload.text == "[image]"


async def test_a_block_remembers_images(memos: MemOS) -> None:
    asked = ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), ImageBlock(image=PNG)])
    await MemosMemoryBlock(memos=memos, scope=ANA).aput([asked], session_id="s")
    (cube,) = memos.conversation(scope=ANA, session="s")
    assert cube.payload.text == "What is this?\n[image]" and cube.payload.parts[0].mime_type == "image/png"


def test_images_of_the_user_are_remembered_and_there_again_after_reopening(memos: MemOS, caplog: pytest.LogCaptureFixture) -> None:
    memory = MemosMemory(memos=memos, scope=ANA, session="s")
    asked = [
        ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), ImageBlock(image=png)])
        for png in (PNG, PNG.replace(b"IDAT", b"iDAT"))
    ]
    for message, answer in zip(asked, ("A dot.", "A dot too."), strict=True):
        memory.put(message)
        memory.get()
        memory.put(ChatMessage(role="assistant", content=answer))
    texts = ["What is this?\n[image]", "A dot.", "What is this?\n[image]", "A dot too."]
    assert [text for _, text in said(memos, "s")] == texts
    kept = [memos.content(cube.id, shape="llamaindex")[1]["image"] for cube in memos.conversation(scope=ANA, session="s")[::2]]
    assert kept == [message.blocks[1].image for message in asked]
    again = MemosMemory(memos=memos, scope=ANA, session="s")
    assert [message.blocks[1].image for message in again.get_all()[::2]] == kept
    again.set(again.get_all())
    again.set(memory.get_all())
    assert [text for _, text in said(memos, "s")] == texts  # neither is new
    llm = Scripted(script=["The one from before."])
    chat = SimpleChatEngine.from_defaults(memory=MemosMemory(memos=memos, scope=ANA, session="s"), llm=llm)
    assert str(chat.chat("And which was it?")) == "The one from before."
    assert [block.image for message in llm.seen[-1] for block in message.blocks if isinstance(block, ImageBlock)] == kept
    assert "image" not in caplog.text
    memory.put(ChatMessage(role="user", blocks=[TextBlock(text="And this?"), ImageBlock(image=b"no image")]))
    assert said(memos, "s")[-1] == ("user", "And this?\n[image]") and "an image is not kept" in caplog.text


def test_an_llm_judges_for_the_memory(tmp_path: Path) -> None:
    answer = '{"relation": "contradicts", "confidence": 0.9, "update": true, "why": "moved"}'
    with MemOS.open(tmp_path / "x.memos", embedder=bag_of_words, model=Scripted(script=[answer])) as memos:
        assert str(memos.relation("I live in Lisbon.", "Oslo is home now.").kind) == "contradicts"


class Bag(BaseEmbedding):
    """Embeddings of LlamaIndex, of words."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(number) for number in bag_of_words([text])[0]]

    def _get_query_embedding(self, query: str) -> list[float]:
        raise AssertionError("memories and questions are embedded alike")

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def test_embeddings_of_llamaindex_serve_the_memory(tmp_path: Path) -> None:
    with MemOS.open(tmp_path / "x.memos", embedder=Bag()) as memos:
        memos.remember([FACT, "The clinic opens at nine."], scope=ANA)
        assert memos.recall("Who is allergic?", scope=ANA).hits[0].text == FACT
    MemOS.open(tmp_path / "x.memos", embedder=bag_of_words).close()  # the same vectors
    with pytest.raises(EmbedderMismatch):
        MemOS.open(tmp_path / "x.memos", embedder=MockEmbedding(embed_dim=64))


def test_an_llm_that_sees_captions_for_the_memory(tmp_path: Path) -> None:
    llm = Scripted(script=["An X-ray of a broken wrist."])
    with MemOS.open(tmp_path / "x.memos", embedder=bag_of_words, captioner=caption_model(llm)) as memos:
        memos.remember({"role": "user", "content": "My picture.", "images": [PNG]}, scope=ANA)
        assert "broken wrist" in memos.recall("Which wrist is broken?", scope=ANA).text
    text, image = llm.seen[0][0].blocks
    assert "picture" in text.text and image.image_mimetype == "image/png" and base64.b64decode(image.image) == PNG

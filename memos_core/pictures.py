"""Messages that carry images: to text with captions, the bytes to blobs, and back to content parts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from memos_core.cube import ImagePart, MemCube, Plaintext
from memos_core.errors import InvalidInput
from memos_core.house import House
from memos_core.parse import Noted, notes
from memos_core.parts import Captioner, Content, Part, blocks, content
from memos_core.plan import strip_blocks

_LOG = logging.getLogger("memos_core")
_TEXT = ("text", None)
Shape = Literal["langchain", "openai", "llamaindex"]


def noted_with_images(house: House, what: Any, *, in_passing: bool = False) -> list[Noted]:
    """As `notes`, of messages whose content may be a list of parts, or that bring `images`; their blobs are safely there afterwards.

    in_passing: the conversation is a model's, not ours to refuse: an image in its content that cannot be kept is logged and left out.
    Raises InvalidInput, naming the message, before anything is written.
    """
    listed = not isinstance(what, (str, Mapping, bytes, bytearray)) and isinstance(what, Iterable)
    items = list(what) if listed else [what]
    read = {place: _content(item, place, house.captioner, in_passing) for place, item in enumerate(items) if _pictured(item)}
    for place, found in read.items():
        items[place] = _with_content(items[place], found.text)
    checked = notes(items if listed else items[0])
    for place, found in read.items():
        for problem in found.uncaptioned:
            _LOG.warning("an image has no caption: %s", problem)
        parts = tuple(_kept(house, part) for part in found.parts)
        checked[place] = replace(checked[place], parts=parts)
    return checked


def flattened(messages: Any) -> tuple[Any, dict[int, Mapping[str, Any]]]:
    """A conversation with every content as text, and by index the messages as they came whose content was more. Raises InvalidInput.

    No captioner is asked: what is visible is the same text each time. An image in a content that could not be kept is only marked.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        return messages, {}
    flat = [_with_content(item, _content(item, place, None, True).text) if _pictured(item) else item for place, item in enumerate(messages)]
    return flat, {place: item for place, item in enumerate(messages) if _pictured(item) and _more_than_text(item)}


def unflattened(prompt: Sequence[Mapping[str, Any]], flat: Sequence[Mapping[str, Any]], pictured: Mapping[int, Any]) -> tuple[Any, ...]:
    """A prompt that was rendered of flat messages, with the contents that were more than text; system texts stay text.

    Nothing in their texts looks like a memory of ours.
    """
    out, first = list(prompt), len(prompt) - len(flat)  # a system message may have come before them
    for place, given in pictured.items():
        shown = prompt[first + place]
        if shown["role"] != "system":
            added = shown["content"].removesuffix(flat[place]["content"])
            content = given.get("content")
            if isinstance(content, (list, tuple)):
                kind = "block_type" if any(isinstance(block, Mapping) and "block_type" in block for block in content) else "type"
                out[first + place] = {**given, "content": [*([{kind: "text", "text": added}] if added else []), *map(_clean, content)]}
            else:
                out[first + place] = {**given, "content": added + strip_blocks(content or "")}
    return tuple(out)


def _clean(block: Any) -> Any:
    if isinstance(block, str):
        return strip_blocks(block)
    return {**block, "text": strip_blocks(block["text"])} if isinstance(block, Mapping) and isinstance(block.get("text"), str) else block


def _more_than_text(item: Mapping[str, Any]) -> bool:
    content = item.get("content")
    blocks = content if isinstance(content, (list, tuple)) else ()
    return bool(item.get("images")) or not all(_kind(block) in _TEXT for block in blocks)


def _kind(block: Any) -> Any:
    return block.get("type", block.get("block_type")) if isinstance(block, Mapping) else None


def _with_content(item: Mapping[str, Any], text: str) -> dict[str, Any]:
    return {**{key: value for key, value in item.items() if key != "images"}, "content": text}


def _kept(house: House, part: Part) -> ImagePart:
    return ImagePart(blob=house.store.blobs.put(part.data), mime_type=part.mime_type, bytes=len(part.data), caption=part.caption)


def _pictured(item: Any) -> bool:
    return isinstance(item, Mapping) and (item.get("images") is not None or isinstance(item.get("content"), (list, tuple)))


def _content(item: Mapping[str, Any], place: int, captioner: Captioner | None, in_passing: bool) -> Content:
    given = item.get("content")
    try:
        return content(given, item.get("images") or (), captioner=captioner)
    except InvalidInput as error:
        if not in_passing or item.get("images") or not isinstance(given, (list, tuple)):
            raise InvalidInput(f"message {place}: {error}") from error
        _LOG.warning("an image is not kept: message %s: %s", place, error)
        return content([block if _kind(block) in _TEXT else "[image]" for block in given])


def content_parts(house: House, cube: MemCube, shape: Shape) -> list[dict[str, Any]]:
    """The text and the images of a memory, for a model that sees. Raises InvalidInput or StoreCorrupt."""
    if not isinstance(cube.payload, Plaintext):
        raise InvalidInput(f"cube {cube.id} holds no text")
    parts = [Part(part.mime_type, house.store.blobs.get(part.blob), part.blob, part.caption) for part in cube.payload.parts]
    return blocks(cube.payload.text, parts, shape)

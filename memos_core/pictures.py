"""Messages that carry images: to text with captions, the bytes to blobs, and back to content parts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from memos_core.cube import ImagePart, MemCube, Plaintext
from memos_core.errors import InvalidInput
from memos_core.house import House
from memos_core.parse import Noted, notes
from memos_core.parts import Content, Part, blocks, content

_LOG = logging.getLogger("memos_core")
Shape = Literal["langchain", "openai", "llamaindex"]


def noted_with_images(house: House, what: Any) -> list[Noted]:
    """As `notes`, of messages whose content may be a list of parts, or that bring `images`; their blobs are safely there afterwards.

    Raises InvalidInput, naming the message, before anything is written.
    """
    listed = not isinstance(what, (str, Mapping, bytes, bytearray)) and isinstance(what, Iterable)
    items = list(what) if listed else [what]
    read = {place: _content(house, item, place) for place, item in enumerate(items) if _pictured(item)}
    for place, found in read.items():
        items[place] = {**{key: value for key, value in items[place].items() if key != "images"}, "content": found.text}
    checked = notes(items if listed else items[0])
    for place, found in read.items():
        for problem in found.uncaptioned:
            _LOG.warning("an image has no caption: %s", problem)
        parts = tuple(_kept(house, part) for part in found.parts)
        checked[place] = replace(checked[place], parts=parts)
    return checked


def _kept(house: House, part: Part) -> ImagePart:
    return ImagePart(blob=house.store.blobs.put(part.data), mime_type=part.mime_type, bytes=len(part.data), caption=part.caption)


def _pictured(item: Any) -> bool:
    return isinstance(item, Mapping) and (item.get("images") is not None or isinstance(item.get("content"), (list, tuple)))


def _content(house: House, item: Mapping[str, Any], place: int) -> Content:
    try:
        return content(item.get("content"), item.get("images") or (), captioner=house.captioner)
    except InvalidInput as error:
        raise InvalidInput(f"message {place}: {error}") from error


def content_parts(house: House, cube: MemCube, shape: Shape) -> list[dict[str, Any]]:
    """The text and the images of a memory, for a model that sees. Raises InvalidInput or StoreCorrupt."""
    if not isinstance(cube.payload, Plaintext):
        raise InvalidInput(f"cube {cube.id} holds no text")
    parts = [Part(part.mime_type, house.store.blobs.get(part.blob), part.blob, part.caption) for part in cube.payload.parts]
    return blocks(cube.payload.text, parts, shape)

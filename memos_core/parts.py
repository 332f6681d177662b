"""A message of several parts as text that can be searched and images that can be given back; no part is dropped in silence. Pure but for files named by path.

Source: the content shapes of OpenAI, Anthropic, LangChain (both generations of blocks) and LlamaIndex; the marker that stands in the text
for an image is ours. An image's type is what its first bytes say (PNG, JPEG, GIF, WebP). Nothing is ever fetched: a remote image stays a link in the text.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from memos_core.errors import InvalidInput

Captioner = Callable[[bytes, str], str]
"""An image's bytes and mime type -> a caption."""

MAX_IMAGE_BYTES = 8 << 20

_SIGNATURES = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
)
_DATA_URL = re.compile(r"data:(?P<mime>[^;,]*)(?P<parameters>(?:;[^;,]*)*),(?P<data>.*)", re.DOTALL | re.IGNORECASE)
_UNSAID = frozenset(("", "image", "image/*", "application/octet-stream", "binary/octet-stream"))
_TEXT_TYPES = frozenset(("text", "input_text", "output_text", "text-plain"))
_IMAGE_TYPES = frozenset(("image", "image_url", "input_image"))
_NOT_SAID = frozenset(
    """reasoning thinking redacted_thinking tool_call tool_call_chunk invalid_tool_call tool_use tool_result function_call
    server_tool_call server_tool_call_chunk server_tool_result cache cachepoint""".split()
)
"""Blocks of a model's own machinery: nobody said them to anybody."""


@dataclass(frozen=True, slots=True)
class Part:
    """An image of a message. sha256: of its bytes, its name among the blobs."""

    mime_type: str
    data: bytes
    sha256: str
    caption: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What a message holds. text: its words, with [image: caption] where an image stood. left_out: types of blocks that are not words.

    uncaptioned: why the captioner gave nothing for an image, a line for each; the image is kept all the same.
    """

    text: str
    parts: tuple[Part, ...] = ()
    left_out: tuple[str, ...] = ()
    uncaptioned: tuple[str, ...] = ()


def content(given: object, images: Iterable[object] = (), *, captioner: Captioner | None = None, limit: int = MAX_IMAGE_BYTES) -> Content:
    """Read a message's content, a str or a list of content parts, and the images that came beside it.

    images: bytes, a path, a data URL, a link, or a dictionary {"image": one of these, "caption": ..., "mime_type": ...}. limit: bytes of one image.
    captioner: asked for each image that has no caption. Raises InvalidInput for an image that is too large, of no known type, or of another type
    than declared; it names the part. A file is read only when `images` names it; a path inside the content stays a path in the text.
    """
    reader = _Reader(captioner, limit)
    blocks = [given] if isinstance(given, (str, Mapping)) else given
    if given is not None and (isinstance(blocks, (bytes, bytearray)) or not isinstance(blocks, Sequence)):
        raise InvalidInput(f"content must be a str or a list of parts, got {type(given).__name__}")
    for position, block in enumerate(blocks or ()):  # type: ignore[arg-type, var-annotated]
        reader.block(block, f"part {position} of the content")
    if isinstance(images, (str, bytes, bytearray, Mapping, PathLike)):
        images = [images]
    if not isinstance(images, Iterable | None):
        raise InvalidInput(f"images must be a list of images, got {type(images).__name__}")
    for position, image in enumerate(images or ()):
        reader.beside(image, f"image {position}")
    return Content("\n".join(reader.words), tuple(reader.parts), tuple(reader.left_out), tuple(reader.uncaptioned))


def blocks(text: str, parts: Sequence[Part], shape: Literal["langchain", "openai", "llamaindex"] = "langchain") -> list[dict[str, Any]]:
    """Text and images as content parts for a model: LangChain's standard blocks, OpenAI's chat parts, or LlamaIndex's blocks."""
    if shape not in _IMAGE_BLOCKS:
        raise InvalidInput(f"shape must be one of {', '.join(_IMAGE_BLOCKS)}, got {shape!r}")
    key = "block_type" if shape == "llamaindex" else "type"
    return [{key: "text", "text": text}] * bool(text) + [_IMAGE_BLOCKS[shape](part) for part in parts]


def _langchain(part: Part) -> dict[str, Any]:
    block = {"type": "image", "base64": base64.b64encode(part.data).decode(), "mime_type": part.mime_type}
    return {**block, "extras": {"caption": part.caption}} if part.caption else block


def _openai(part: Part) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(part)}}


def _llamaindex(part: Part) -> dict[str, Any]:
    return {"block_type": "image", "image": base64.b64encode(part.data), "image_mimetype": part.mime_type}


_IMAGE_BLOCKS: dict[str, Callable[[Part], dict[str, Any]]] = {"langchain": _langchain, "openai": _openai, "llamaindex": _llamaindex}


def data_url(part: Part) -> str:
    """An image as a URL that holds it."""
    return f"data:{part.mime_type};base64,{base64.b64encode(part.data).decode()}"


def mime_type_of(data: bytes) -> str | None:
    """An image's type by its first bytes; None for what is not PNG, JPEG, GIF or WebP."""
    return next((name for name, signature in _SIGNATURES if signature.match(data)), None)


class _Reader:
    """Gathers the words and images of one message."""

    def __init__(self, captioner: Captioner | None, limit: int) -> None:
        self.captioner = captioner
        self.limit = limit
        self.words: list[str] = []
        self.markers: Counter[str] = Counter()
        self.parts: list[Part] = []
        self.left_out: list[str] = []
        self.uncaptioned: list[str] = []

    def block(self, block: object, name: str) -> None:
        if isinstance(block, str):
            self._say(block)
            return
        if not isinstance(block, Mapping):
            raise InvalidInput(f"{name} must be a str or a dictionary with 'type', got {type(block).__name__}")
        inner = block.get("value")
        fields: Mapping[str, Any] = inner if block.get("type") == "non_standard" and isinstance(inner, Mapping) else block
        kind = fields.get("type") or fields.get("block_type") or ("text" if "text" in fields else None)
        if not isinstance(kind, str):
            raise InvalidInput(f"{name} has no 'type'; pass such as {{'type': 'text', 'text': ...}}")
        if kind in _IMAGE_TYPES:
            self._image(fields, name)
        elif kind in _TEXT_TYPES and isinstance(fields.get("text"), str):
            self._say(fields["text"])
        else:
            self.left_out.append(kind)
            if (
                kind not in _NOT_SAID
            ):  # sound, film, files and what may come: named, with an address, so that the text is not silent about it
                self._say(_marker(kind, _first_text(fields, "url", "filename", "title", "text")))

    def beside(self, image: object, name: str) -> None:
        """One of the images given beside the content: bytes, path, data URL, link, or a dictionary around one."""
        declared = caption = None
        if isinstance(image, Mapping):
            declared, caption, image = image.get("mime_type"), image.get("caption"), image.get("image", image.get("data"))
        if isinstance(image, (bytes, bytearray)):
            self._keep(bytes(image), declared, caption, name)
        elif isinstance(image, str) and _is_url(image):
            self._address(image, declared, caption, name)
        elif isinstance(image, (str, PathLike)):
            self._file(Path(image), declared, caption, name)
        else:
            raise InvalidInput(f"{name} must be bytes, a path, a data URL or a link, got {type(image).__name__}")

    def _image(self, block: Mapping[str, Any], name: str) -> None:
        inner = block.get("source") if isinstance(block.get("source"), Mapping) else block.get("image_url")
        fields: dict[str, Any] = {**block, **inner} if isinstance(inner, Mapping) else {**block, "url": inner or block.get("url")}
        extras = block.get("extras")
        caption = block.get("caption") or (extras.get("caption") if isinstance(extras, Mapping) else None)
        declared = next((fields[key] for key in ("mime_type", "media_type", "image_mimetype") if fields.get(key)), None)
        data = next((fields[key] for key in ("base64", "data", "image") if fields.get(key)), None)
        if isinstance(data, str) and _is_url(data):
            self._address(data, declared, caption, name)
        elif isinstance(data, (bytes, bytearray)) and mime_type_of(bytes(data)):
            self._keep(bytes(data), declared, caption, name)
        elif isinstance(data, (str, bytes, bytearray)):
            self._keep(self._decoded(data, name), declared, caption, name)
        elif fields.get("url"):
            self._address(str(fields["url"]), declared, caption, name)
        else:  # a path too: content may come from afar, and must not name files to be read here
            self._say(_marker("image", caption or _first_text(block, "path", "file_id", "id")))

    def _address(self, url: str, declared: object, caption: object, name: str) -> None:
        match = _DATA_URL.fullmatch(url)
        if match is None:
            if url[:5].lower() == "data:":
                raise InvalidInput(f"{name} is not a whole data URL; it must look like data:image/png;base64,...")
            self._say(_marker("image", f"{caption} {url}" if caption else url))
            return
        packed = "base64" in match["parameters"].lower().split(";")
        data = self._decoded(match["data"], name) if packed else unquote_to_bytes(match["data"])
        self._keep(data, match["mime"] or declared, caption, name)

    def _decoded(self, data: str | bytes | bytearray, name: str) -> bytes:
        if len(data) * 3 // 4 > self.limit + 3:
            raise self._too_large(len(data) * 3 // 4, name)
        try:
            packed = "".join(data.split()).encode("ascii") if isinstance(data, str) else b"".join(bytes(data).split())
            return base64.b64decode(packed, validate=True)
        except ValueError as error:
            raise InvalidInput(f"{name} is not valid base64 ({error})") from error

    def _file(self, path: Path, declared: object, caption: object, name: str) -> None:
        try:
            if (size := path.stat().st_size) > self.limit:
                raise self._too_large(size, name)
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(
                f"{name}: {str(path)[:200]!r} cannot be read ({error}); pass an existing image file, or its bytes"
            ) from error
        self._keep(data, declared, caption, name)

    def _keep(self, data: bytes, declared: object, caption: object, name: str) -> None:
        if len(data) > self.limit:
            raise self._too_large(len(data), name)
        found = mime_type_of(data)
        if found is None:
            raise InvalidInput(f"{name} is no PNG, JPEG, GIF or WebP image by its first bytes; convert it to one of these")
        said = str(declared or "").split(";")[0].strip().lower().replace("image/jpg", "image/jpeg")
        if said not in _UNSAID and said != found:
            raise InvalidInput(f"{name} is declared as {said} and its bytes are {found}; declare what it is, or leave the type out")
        words = caption if isinstance(caption, str) and caption.strip() else self._captioned(data, found, name)
        words = " ".join(words.split()) if words else None
        self.parts.append(Part(found, data, hashlib.sha256(data).hexdigest(), words))
        marker = _marker("image", words)
        if sum(said.count(marker) for said in self.words) <= self.markers[marker]:  # else the text already says so: it came from recall
            self._say(marker)
        self.markers[marker] += 1

    def _captioned(self, data: bytes, mime_type: str, name: str) -> str | None:
        if self.captioner is None:
            return None
        try:
            words = self.captioner(data, mime_type)
        except Exception as error:  # noqa: BLE001  whatever a caller's captioner raises, the message is not lost for it
            self.uncaptioned.append(f"{name}: {type(error).__name__}: {error}")
            return None
        if isinstance(words, str) and words.strip():
            return words
        self.uncaptioned.append(f"{name}: the captioner returned {words!r:.80} and not a caption")
        return None

    def _say(self, words: str) -> None:
        if words.strip():
            self.words.append(words)

    def _too_large(self, size: int, name: str) -> InvalidInput:
        return InvalidInput(f"{name} has {size:,} bytes; the limit for an image is {self.limit:,}. Scale it down first")


def _marker(kind: str, words: str | None) -> str:
    """What stands in the text for what is not text."""
    return f"[{kind}: {words}]" if words else f"[{kind}]"


def _first_text(block: Mapping[str, Any], *keys: str) -> str | None:
    return next((value for key in keys if isinstance(value := block.get(key), str) and value and value[:5].lower() != "data:"), None)


def _is_url(text: str) -> bool:
    return text[:5].lower() == "data:" or "://" in text[:12]

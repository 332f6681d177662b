"""A document as passages that an embedder can take in whole, each citing its exact place in the document. Pure.

Source: MemOS §4.1 (external retrieval as an origin of plaintext memory); character positions in a source id follow RFC 5147.
Cutting at the largest meaning unit that fits is the work of semantic-text-splitter.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Literal
from urllib.parse import quote, unquote

from markdown_it import MarkdownIt
from semantic_text_splitter import MarkdownSplitter, TextSplitter

from memos_core.errors import InvalidInput

Kind = Literal["plain", "markdown"]

PASSAGE_SIZE = 600
"""Characters: in English prose some 140 word pieces of the 256 that MiniLM reads. Where more of a text are numbers and addresses, or
another script than Latin, characters say little: pass the tokenizer as `count`."""

SLAB = 50_000
"""Characters cut at a time: the splitter's time grows with the square of a stretch that has no line breaks."""

_NEWLINE = re.compile(r"\r\n?|\n")
_SOURCE = re.compile(r"(?P<document>.*)#char=(?P<start>\d+),(?P<end>\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document: document[start:end] == text. heading: the headings that all of it stands under, outermost first."""

    text: str
    start: int
    end: int
    heading: tuple[str, ...] = ()


def passages(
    document: str,
    kind: Kind = "plain",
    *,
    size: int = PASSAGE_SIZE,
    overlap: int = 0,
    count: Callable[[str], int] | None = None,
) -> tuple[Passage, ...]:
    """Cut a document at headings, paragraphs and sentences, in that order of preference. Only white space is left out.

    size: the most that a passage may hold, in characters, or in what `count` counts (such as an embedder's tokens). overlap: how
    much of one passage may be said again at the start of the next, in the same unit. Raises InvalidInput.
    """
    _check(document, kind, size, overlap)
    splitter = MarkdownSplitter if kind == "markdown" else TextSplitter
    cutter = splitter.from_callback(count, size, overlap) if count else splitter(size, overlap)
    trails = _headings(document) if kind == "markdown" else []
    found = []
    for base, slab in _slabs(document):
        for offset, text in cutter.chunk_indices(slab):
            if text.strip():
                start = base + offset
                found.append(Passage(text, start, start + len(text), _trail(trails, start, start + len(text))))
    return tuple(found)


def source(document: str, passage: Passage) -> str:
    """The id that cites a passage: the document's address or title and the character positions, `guide.md#char=120,480`."""
    return f"{quote(document, safe='/:?&=@+,;~!()')}#char={passage.start},{passage.end}"


def cited(source_id: str) -> tuple[str, int, int]:
    """The document, start and end that a passage's source id names. Raises InvalidInput."""
    match = _SOURCE.fullmatch(source_id)
    if match is None:
        raise InvalidInput(f"{source_id!r} does not cite a passage; such an id looks like 'guide.md#char=120,480'")
    return unquote(match["document"]), int(match["start"]), int(match["end"])


def _check(document: object, kind: object, size: int, overlap: int) -> None:
    if not isinstance(document, str):
        raise InvalidInput(f"document must be a str, got {type(document).__name__}; decode bytes first")
    if any(0xD800 <= ord(character) < 0xE000 for character in document):
        raise InvalidInput("document holds half a surrogate pair; decode it properly first")
    if kind not in ("plain", "markdown"):
        raise InvalidInput(f"kind must be 'plain' or 'markdown', got {kind!r}")
    if size < 1:
        raise InvalidInput(f"size must be at least 1, got {size}")
    if not 0 <= overlap < size:
        raise InvalidInput(f"overlap must be at least 0 and less than size {size}, got {overlap}")


def _slabs(document: str) -> Iterator[tuple[int, str]]:
    """The document in stretches of at most SLAB characters with their offsets, cut where it shows least."""
    start = 0
    while len(document) - start > SLAB:
        half, limit = start + SLAB // 2, start + SLAB
        cut = next((at + len(mark) for mark in ("\n\n", "\n", " ") if (at := document.rfind(mark, half, limit - 1)) >= 0), limit)
        yield start, document[start:cut]
        start = cut
    yield start, document[start:]


def _headings(document: str) -> list[tuple[int, tuple[str, ...]]]:
    """Where each heading starts, and the headings in force from there on."""
    lines = [0, *(match.end() for match in _NEWLINE.finditer(document))]
    tokens = MarkdownIt().disable("inline").parse(document)
    trail: dict[int, str] = {}
    found = []
    for token, following in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map is not None:
            depth = int(token.tag[1:])
            trail = {above: title for above, title in trail.items() if above < depth}
            trail[depth] = " ".join(following.content.split())
            found.append((lines[token.map[0]], tuple(filter(None, trail.values()))))
    return found


def _trail(headings: list[tuple[int, tuple[str, ...]]], start: int, end: int) -> tuple[str, ...]:
    """What the trails between start and end have in common."""
    first = bisect_right(headings, start, key=lambda heading: heading[0])
    last = bisect_left(headings, end, key=lambda heading: heading[0])
    trails = [headings[first - 1][1] if first else (), *(trail for _, trail in headings[first:last])]
    return tuple(level[0] for level in takewhile(lambda level: len(set(level)) == 1, zip(*trails, strict=False)))

"""Text to its sentences, by their offsets. Pure; rules ours."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BULLETS = " \t\r\n-*•>#"
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_SENTENCE = re.compile(r"(?:[^.!?\n]|[.!?](?=[\w.!?)\"'”’]))+[.!?]*[)\"'”’]*")
_ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof|St|e\.g|i\.e|vs|approx)\.$", re.IGNORECASE)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where a text's sentences start and end; code in fences holds none."""
    blanked = _FENCE.sub(lambda match: "\n" * len(match[0]), text)
    start: int | None = None
    for match in _SENTENCE.finditer(blanked):
        start = match.start() if start is None else start
        if _ABBREVIATION.search(match[0]) and blanked[match.end() : match.end() + 1] == " ":
            continue  # the full stop belongs to the word
        whole = blanked[start : match.end()]
        left = start + len(whole) - len(whole.lstrip(_BULLETS))
        right = start + len(whole.rstrip())
        if left < right:
            yield left, right
        start = None
    if start is not None and (rest := blanked[start:].strip()):  # it ends with such a word
        yield (left := blanked.index(rest, start)), left + len(rest)

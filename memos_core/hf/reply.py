"""What comes back: the reply and its cost, whole or as a stream of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from memos_core.errors import EngineError
from memos_core.hf.tools import ToolCall, without_calls


@dataclass(frozen=True)
class Reply:
    """One answer. `exact` is False only when KV was reused in a mode that approximates."""

    text: str
    token_ids: tuple[int, ...]  # all that were generated, the end-of-sequence token included
    prompt_tokens: int
    reused_tokens: int  # of the prompt, whose KV was not computed
    seconds_to_first_token: float
    exact: bool
    finish_reason: str  # "stop" (end of sequence, a stop text, or closed by the caller) or "length"
    seconds: float
    reuse_reason: str
    tool_calls: tuple[ToolCall, ...] = ()  # that it asks for, where tools were shown

    @property
    def said(self) -> str:
        """The text without the calls in it."""
        return without_calls(self.text) if self.tool_calls else self.text


class Stream:
    """An iterator over pieces of text, whose concatenation is `reply.text`. Close it, or leave its `with` block, to stop early."""

    def __init__(self, pieces: Iterator[str], result: dict[str, Reply]) -> None:
        self._pieces: Any = pieces
        self._result = result

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        return str(next(self._pieces))

    def close(self) -> None:
        """Stop here. What was computed is kept, as after a whole reply."""
        self._pieces.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def reply(self) -> Reply:
        """The whole reply. Raises EngineError while the stream is still running."""
        if "reply" not in self._result:
            raise EngineError("the stream has not ended: read it to the end or close it, then ask for its reply")
        return self._result["reply"]


class TextSoFar:
    """Tokens to text, piece by piece, holding back what may still change: half a character, or the beginning of a stop text."""

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._ids: list[int] = []
        self.emitted = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that is now certain. Sets `stopped` when a stop text came up; the text ends before it."""
        self._ids.append(token)
        text = self._text()
        ends = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if ends:
            self.stopped = True
            return self._emit(text[: min(ends)])
        return self._emit(text[: len(text) - self._uncertain(text)])

    def rest(self) -> str:
        """What was held back, once no more tokens come."""
        return "" if self.stopped else self._emit(self._text())

    def _text(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _uncertain(self, text: str) -> int:
        if text.endswith("\ufffd"):
            return len(text) - len(text.rstrip("\ufffd"))
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        return next(
            (size for size in range(min(longest, len(text)), 0, -1) if any(stop.startswith(text[-size:]) for stop in self._stop)), 0
        )

    def _emit(self, text: str) -> str:
        if not text.startswith(self.emitted):  # the tokenizer rewrote what is out already; say nothing until it agrees again
            return ""
        piece = text[len(self.emitted) :]
        self.emitted = text
        return piece

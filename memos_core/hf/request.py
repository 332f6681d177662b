"""One request from lookup to keeping: the private cache, the blocks it pins, and why it could or could not reuse."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from memos_core.errors import EngineError
from memos_core.hf.cache import Layout, Payload, Piece, PrivateCache
from memos_core.hf.decode import Live, PrivateLive, StockLive, running
from memos_core.hf.identity import Refusal
from memos_core.hf.kv import Match
from memos_core.hf.lowrank import Acting, LowRank, adapted
from memos_core.hf.module import Module, TrainedPrefix, as_payload
from memos_core.hf.prefix import Prompt
from memos_core.hf.segment import SegmentFile, Unreadable
from memos_core.hf.steering import Steering, steered

if TYPE_CHECKING:
    from memos_core.hf.machine import Machine


class Request:
    """Call `start` once, then `feed`, and `close` whatever happens."""

    def __init__(
        self,
        engine: Machine,
        prompt: Prompt,
        extra: int,
        reuse: bool,
        *,
        whole: bool = False,
        exact: bool = False,
        steering: tuple[Steering, ...] | None = None,
    ) -> None:
        """`extra`: tokens to make room for behind the prompt. `whole`: all of the prompt may come from stored KV; otherwise its last
        token is always computed, since its logits are what the first answer token is chosen from. `exact`: start from exact KV alone.
        `steering`: what was attached when the prompt was made; None: what is now."""
        self._engine, self._prompt = engine, prompt
        self._capacity = prompt.width + extra
        self._limit = len(prompt.tokens) - (not whole)
        self._whole = whole
        if prompt.turn is not None:  # what stands behind it is the base model's, where it is stored
            self._limit = min(self._limit, prompt.turn)
        self._only_exact = exact
        self.steering = engine.steering_now if steering is None else steering
        self._match: Match | None = None
        self._private: PrivateCache | None = None
        self._live: Live
        self.offset = prompt.offset
        self._copy: Callable[[int, int], Payload] | None = None  # KV of tokens [start, end) of the prompt, wherever it is now
        self._length: Callable[[], int] | None = None
        with engine.lock:
            layout = engine.reusable(prompt.identity, self._capacity)
            if isinstance(layout, Refusal):
                self.reason = layout.reason
                self._live = StockLive(engine.model, whole_text=layout.whole_text)
                if reuse:
                    engine.kv.count_miss(self.reason)
                return
            self._layout = layout
            prefix = next((module.weights for module in prompt.modules if isinstance(module.weights, TrainedPrefix)), None)
            self._before: tuple[Piece, ...] = () if prefix is None else (Piece(prefix.tokens, as_payload(prefix, layout)),)
            self.reason = "reuse was not asked for"
            self._open(reuse)

    def _open(self, reuse: bool, failure: str = "") -> None:
        """A private cache, filled with what is stored."""
        engine = self._engine
        if reuse:
            self._match = engine.kv.match(self._prompt, self._limit, self._worth, failure, only_exact=self._only_exact)
            self.reason = self._match.reason
        try:
            self._private = PrivateCache(self._layout, self._capacity, engine.workspace)
            self._private.fill((*self._before, *(self._match.stored if self._match else ())))
        except (RuntimeError, MemoryError):  # no memory for it: nobody would let go of the pins
            if self._match:
                engine.kv.release(self._match)
            raise
        self._live = PrivateLive(engine.model, self._private)
        private, offset = self._private, self.offset
        self._copy = lambda start, end: private.copy(offset + start, offset + end)
        self._length = lambda: private.length - offset

    def _worth(self, tokens: int, source: SegmentFile) -> bool:
        return source.mapped or self._engine.rates.worth_reading(tokens, source.size)

    @property
    def modules(self) -> tuple[Module, ...]:
        return self._prompt.modules

    @property
    def reused(self) -> int:
        return self._match.length if self._match else 0

    @property
    def exact(self) -> bool:
        return self._match is None or self._match.exact

    def layout(self) -> Layout:
        """Raises EngineError when this model's KV cannot be reused."""
        if self._private is None:
            raise EngineError(f"this model's KV cannot be kept: {self.reason}. Its text can still be put into the prompt")
        return self._layout

    def start(self) -> Tensor:
        """Read what of the prompt is not stored; logits [1, vocabulary] behind it, [0, vocabulary] when all of it is stored.

        A file that turns out to be unreadable is given up, and what it held is computed.
        """
        while True:
            rest = list(self._prompt.tokens[self.reused :])
            began = time.perf_counter()
            try:
                if not rest and self._private is not None:
                    self._private.materialise()
                    return Tensor()
                logits = self.feed(rest)
            except Unreadable as error:
                self._give_up(error)
                continue
            with self._engine.lock:
                self._engine.rates.prefilled(len(rest), time.perf_counter() - began)
                for source in self._files():
                    self._engine.rates.has_read(*source.measured())
            return logits

    def feed(self, tokens: list[int], last: int = 1) -> Tensor:
        engine = self._engine
        with engine.lock, running(engine.model), steered(engine.model, self.steering), adapted(engine.model, self._acting(len(tokens))):
            return self._live.feed(tokens, last)

    def _acting(self, count: int) -> list[Acting]:
        """Which modules act on the next so many tokens, and from which of them on."""
        found = []
        for module in self._prompt.modules:
            if isinstance(module.weights, LowRank):
                first = max((self._prompt.turn or 0) + self.offset - self._live.length, 0) if module.weights.invoked else 0
                found.append(Acting(module.weights, first))
        return [each for each in found if each.first < max(count, 1)]

    def rewind(self, length: int) -> None:
        self._live.rewind(self.offset + length)

    def copy(self, start: int, end: int) -> Payload:
        assert self._copy is not None
        return self._copy(start, end)

    def hand_over(self, batch: PrivateCache, row: int, at: int) -> None:
        """Go on as a row of a batch, whose tokens begin at place `at`; the batch is the caller's to close."""
        assert self._private is not None
        self._private.copy_to(batch, row, at)
        with self._engine.lock:
            self._private.close()
        self._private = None
        begins = at + self.offset
        self._copy = lambda start, end: batch.copy(begins + start, begins + end, row)
        self._length = lambda: batch.length - begins

    def keep(self, tokens: list[int]) -> list[tuple[Payload, int]]:
        """Store the KV of what was computed of `tokens` (the prompt and what came after it), for others to find.

        Returns what of them is stored in RAM now, block by block with the tokens used of each, where it equals what this request holds.
        """
        engine = self._engine
        with engine.lock:
            if self._match is None or self._copy is None or self._length is None:
                return []
            known = tuple(tokens[: self._length()][: self._prompt.turn])
            public = self._prompt.public if self._prompt.salt else len(known)
            if engine.identity_under(self.steering, self._prompt.modules) == self._prompt.identity:
                kept = Prompt(self._prompt.identity, known, public, self._prompt.salt)
                size = self._layout.bytes_per_token

                def saves(count: int, file: SegmentFile | None) -> float:
                    return engine.rates.saves(count, None if file is None else size * count)

                engine.kv.keep(kept, self._match, size, self._copy, saves, self._whole)
                return engine.kv.in_ram(kept) if self._match.exact and not self.offset else []
            return []

    def close(self, tokens: list[int]) -> None:
        """Keep what was computed, and let go of what was pinned."""
        engine = self._engine
        with engine.lock:
            holds = self.keep(tokens)
            if self._match is not None:
                engine.kv.release(self._match)
            if self._private is not None:
                self._private.close(holds)
            self._private = self._copy = self._length = None

    def _files(self) -> list[SegmentFile]:
        return [piece.source for piece in (self._match.stored if self._match else ()) if isinstance(piece.source, SegmentFile)]

    def _give_up(self, error: Unreadable) -> None:
        """Begin again without a file that cannot be read."""
        engine = self._engine
        with engine.lock:
            assert self._match is not None and self._private is not None
            engine.kv.failed(self._match, error.source)
            self._private.close()
            self._open(True, str(error))

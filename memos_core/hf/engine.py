"""HFEngine: one Hugging Face model with its tokenizer, answering with exact reuse of KV.

Every request runs over a private cache that starts from stored KV of the longest known prefix of its tokens. What it computes is
stored afterwards, in RAM, so that a session's next prompt continues where this answer ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from memos_core.errors import EngineError, IdentityMismatch, InvalidInput
from memos_core.hf import segment as segments
from memos_core.hf.cache import Layout, Payload, PrivateCache, find_layout
from memos_core.hf.decode import Live, PrivateLive, StockLive, chooser, end_tokens, running
from memos_core.hf.identity import Identity, Refusal, Watch, longest_exact, refusal
from memos_core.hf.kv import Match, PrefixTree
from memos_core.hf.models import default_model
from memos_core.hf.prefix import Prompt, Scope, Segment, scope_salt
from memos_core.hf.prompt import Message, Renderer, shared
from memos_core.hf.reply import Reply, Stream, TextSoFar


class HFEngine:
    """Owns one model and one tokenizer, which it never changes. Thread-safe: the model runs under one lock, one step at a time."""

    @classmethod
    def load(cls, name: str | Path | None = None, *, dtype: str = "float32", kv_bytes: int = 1 << 30) -> HFEngine:
        """Load a model from a directory or a hub id; None: the small local default. Weights must be safetensors: nothing is unpickled."""
        source = str(name) if name is not None else str(default_model())
        try:
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise EngineError(f"no model could be loaded from {source!r}: pass a model directory or a hub id. {error}") from error
        return cls(model.eval(), tokenizer, kv_bytes=kv_bytes)

    def __init__(self, model: Any, tokenizer: Any, *, kv_bytes: int = 1 << 30) -> None:
        """`kv_bytes`: how many bytes of KV to keep in RAM; 0 keeps none."""
        if not callable(model) or not hasattr(model, "config"):
            raise InvalidInput(f"model must be a transformers model, got {type(model).__name__}; HFEngine.load(name) loads one")
        if not isinstance(kv_bytes, int) or kv_bytes < 0:
            raise InvalidInput(f"kv_bytes must be a number of bytes, 0 or more, got {kv_bytes!r}")
        self.model, self.tokenizer = model, tokenizer
        self.kv = PrefixTree(kv_bytes)
        self._lock = threading.RLock()
        self._renderer = Renderer(tokenizer)
        self._watch = Watch(model, tokenizer)
        self._layout: tuple[object, Layout | str] = (None, "")  # (what it depends on, the layout or why there is none)

    # -- asking ----------------------------------------------------------------------------------------------------------------

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """The forms in which memory can reach this model: text always, KV when its cache can be kept."""
        with self._lock:
            kept = not isinstance(self._reusable(self._watch.identity(), 0), Refusal)
        return frozenset({"plaintext", "activation"} if kept else {"plaintext"})

    @property
    def identity(self) -> Identity:
        """What KV made now belongs to."""
        with self._lock:
            return self._watch.identity()

    def tokens(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """The whole conversation rendered by the model's template and tokenised once. Raises InvalidInput."""
        return self._renderer.tokens(messages, add_generation_prompt=add_generation_prompt)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        if not isinstance(text, str):
            raise InvalidInput(f"count takes a text, got {type(text).__name__}")
        return self._renderer.count(text)

    def generate(
        self,
        messages: Sequence[Message],
        plan: Any = None,
        scope: Scope = None,
        max_new_tokens: int = 64,
        *,
        reuse: bool = True,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Reply:
        """Answer a conversation. Greedy unless a temperature is given. `reuse=False` neither reads nor keeps KV.

        `plan.shared_system`, when there, is system text that is public: KV of it is shared between scopes, what follows is not.
        Raises InvalidInput for messages, scope or settings that cannot be used.
        """
        stream = self.stream(messages, plan, scope, max_new_tokens, reuse=reuse, stop=stop, temperature=temperature, top_p=top_p, seed=seed)
        for _ in stream:
            pass
        return stream.reply

    def stream(
        self,
        messages: Sequence[Message],
        plan: Any = None,
        scope: Scope = None,
        max_new_tokens: int = 64,
        *,
        reuse: bool = True,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Stream:
        """The same, piece by piece. Work starts with the first piece asked for, and other requests may run between pieces."""
        began = time.perf_counter()
        if not isinstance(max_new_tokens, int) or isinstance(max_new_tokens, bool) or max_new_tokens < 1:
            raise InvalidInput(f"max_new_tokens must be 1 or more, got {max_new_tokens!r}")
        if isinstance(stop, str) or not all(isinstance(text, str) and text for text in stop):
            raise InvalidInput("stop must be a list of non-empty texts")
        prompt = self._prompt(self.tokens(messages), plan, scope)
        choose = chooser(self.model, len(prompt.tokens), temperature, top_p, seed)
        limit = self._context()
        room = max_new_tokens if limit is None else min(max_new_tokens, limit - len(prompt.tokens) + 1)
        prepared = time.perf_counter() - began
        result: dict[str, Reply] = {}
        text = TextSoFar(self.tokenizer, tuple(stop))

        def pieces() -> Iterator[str]:
            began = time.perf_counter() - prepared  # a stream may be read long after it was asked for
            request = _Request(self, prompt, room, reuse)
            tokens = list(prompt.tokens)
            ends = end_tokens(self.model, self.tokenizer)
            first, finish = 0.0, "stop"
            try:
                logits = request.feed(tokens[request.reused :])
                while True:
                    token = choose(tokens, logits[-1])
                    tokens.append(token)
                    first = first or time.perf_counter() - began
                    if piece := text.add(token):
                        yield piece
                    if text.stopped or token in ends:
                        break
                    if len(tokens) - len(prompt.tokens) == room:
                        finish = "length"
                        break
                    logits = request.feed([token])
                if piece := text.rest():
                    yield piece
            finally:
                request.close(tokens)
                new = tuple(tokens[len(prompt.tokens) :])
                seconds = time.perf_counter() - began
                result["reply"] = Reply(text.emitted, new, len(prompt.tokens), request.reused, first, True, finish, seconds, request.reason)

        return Stream(pieces(), result)

    def next_token_logits(self, messages: Sequence[Message], reuse: bool = True, scope: Scope = None) -> Tensor:
        """Logits [vocabulary], float32, of the token after the prompt. `reuse=True` reads and keeps KV, False neither."""
        prompt = self._prompt(self.tokens(messages), None, scope)
        request = _Request(self, prompt, 0, reuse)
        try:
            return request.feed(list(prompt.tokens[request.reused :]))[-1].clone()
        finally:
            request.close(list(prompt.tokens))

    def rank(self, question: str | Sequence[Message], answers: Sequence[str], scope: Scope = None) -> list[tuple[str, float]]:
        """(answer, summed log-likelihood of its tokens as the reply to `question`), best first, ties in the order given."""
        messages: Sequence[Message] = [{"role": "user", "content": question}] if isinstance(question, str) else question
        if isinstance(answers, str) or not answers or not all(isinstance(answer, str) and answer for answer in answers):
            raise InvalidInput("answers must be a list of non-empty texts")
        whole = [self._renderer.with_reply(messages, answer) for answer in answers]
        asked = self.tokens(messages)
        base = min(shared(asked, tokens) for tokens in whole)  # fewer than all of `asked` when a tokenizer merges across the boundary
        for tokens in whole:
            self._check_length(len(tokens))
        prompt = self._prompt(asked[:base], None, scope)
        request = _Request(self, prompt, max(map(len, whole)) - base, True)
        scores = []
        try:
            first = request.feed(list(prompt.tokens[request.reused :]))
            for tokens in whole:
                rest = tokens[base:]
                logits = first
                if len(rest) > 1:
                    request.rewind(base)
                    logits = torch.cat([first, request.feed(rest[:-1], last=len(rest) - 1)])
                chosen = torch.tensor(rest, device=logits.device).unsqueeze(1)
                scores.append(float(logits.log_softmax(dim=-1).gather(1, chosen).sum()))
            request.rewind(base)
        finally:
            request.close(list(prompt.tokens))
        return sorted(zip(answers, scores, strict=True), key=lambda pair: -pair[1])

    # -- preparing -------------------------------------------------------------------------------------------------------------

    def prefill(self, messages: Sequence[Message], scope: Scope = None, *, plan: Any = None) -> Segment:
        """Compute and keep the KV of what every continuation of `messages` begins with. Raises EngineError when this model's KV cannot
        be reused (the message says why)."""
        prompt = self._prompt(self._renderer.stable_prefix(messages), plan, scope)
        request = _Request(self, prompt, 0, True, whole=True)
        try:
            size = request.layout().bytes_per_token * len(prompt.tokens)
            if rest := list(prompt.tokens[request.reused :]):
                request.feed(rest)
        finally:
            request.close(list(prompt.tokens))
        made = Segment(prompt.tokens, prompt.prefix_key(), prompt.identity, prompt.public, prompt.salt, size)
        with self._lock:
            self.kv.remember(made)
        return made

    def prefill_bytes(self, messages: Sequence[Message], scope: Scope = None, *, plan: Any = None) -> int:
        """How many bytes of KV `prefill` would make, without computing it. Raises EngineError when this model's KV cannot be reused."""
        prompt = self._prompt(self._renderer.stable_prefix(messages), plan, scope)
        with self._lock:
            layout = self._reusable(prompt.identity, len(prompt.tokens))
        if isinstance(layout, Refusal):
            raise EngineError(f"this model's KV cannot be kept: {layout.reason}")
        return layout.bytes_per_token * len(prompt.tokens)

    def save(self, segment: Segment) -> bytes:
        """The segment as a safetensors file. What is no longer in RAM is computed again. Raises IdentityMismatch when the
        model has changed since it was made."""
        if fields := segment.identity.difference(self.identity):
            raise IdentityMismatch(f"{', '.join(fields)} changed since the segment was made: prefill it again")
        prompt = Prompt(segment.identity, segment.token_ids, segment.public_tokens, segment.salt)
        request = _Request(self, prompt, 0, True, whole=True)
        try:
            layout = request.layout()
            if rest := list(prompt.tokens[request.reused :]):
                request.feed(rest)
            payload = request.copy(0, segment.tokens)
        finally:
            request.close(list(prompt.tokens))
        header = segments.Header(segment.token_ids, segment.public_tokens, segment.salt, segment.prefix_key, segment.identity, "")
        return segments.write(header, layout, payload)

    def attach(self, path: str | Path, *, scope: Scope, prefix_key: str, sha256: str | None = None) -> str | None:
        """Make a saved segment findable; its tensors stay on disk until a prompt matches. Returns None, or the reason why it cannot be
        used, which is also counted as a miss. `sha256`: of the whole file, checked when first read."""
        with self._lock:
            reason = self._attach(Path(path), scope_salt(scope), prefix_key, sha256)
            if reason is not None:
                self.kv.count_miss(reason)
            return reason

    def _attach(self, path: Path, salt: str, prefix_key: str, checksum: str | None) -> str | None:
        identity = self._watch.identity()
        try:
            header = segments.read_header(path)
        except segments.Unreadable as error:
            return str(error)
        layout = self._reusable(identity, len(header.token_ids))
        if isinstance(layout, Refusal):
            return layout.reason
        prompt = Prompt(header.identity, header.token_ids, header.public_tokens, header.salt)
        if fields := header.identity.difference(identity):
            return f"{', '.join(fields)} changed since the KV was made"
        if header.salt != salt:
            return "the file belongs to another scope"
        if header.prefix_key != prefix_key or prompt.prefix_key() != prefix_key:
            return "the file holds another prefix"
        self.kv.attach(prompt, segments.SegmentFile(path, header, layout, checksum))
        size = layout.bytes_per_token * len(header.token_ids)
        self.kv.remember(Segment(header.token_ids, prefix_key, header.identity, header.public_tokens, salt, size))
        return None

    def detach(self, prefix_key: str) -> bool:
        """Forget a segment and whatever continues it, in RAM and as registered. False when it is not known here."""
        with self._lock:
            return self.kv.detach(prefix_key)

    def forget_scope(self, scope: Scope) -> None:
        """Forget everything that was computed for exactly this scope (None: everything public)."""
        with self._lock:
            self.kv.forget_scope(scope_salt(scope))

    def close(self) -> None:
        """Drop all KV. The engine stays usable."""
        with self._lock:
            self.kv.clear()

    # -- inside ----------------------------------------------------------------------------------------------------------------

    def _prompt(self, tokens: list[int], plan: Any, scope: Scope) -> Prompt:
        salt = scope_salt(scope)
        self._check_length(len(tokens))
        public = len(tokens) if not salt else 0
        if salt and (system := getattr(plan, "shared_system", None)):
            public = shared(tokens, self._renderer.stable_prefix([{"role": "system", "content": system}]))
        return Prompt(self.identity, tuple(tokens), public, salt)

    def _context(self) -> int | None:
        """How many tokens the model can read, None when unbounded."""
        longest = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return longest if isinstance(longest, int) and longest > 0 else None

    def _check_length(self, count: int) -> None:
        if (longest := self._context()) is not None and count > longest:
            raise InvalidInput(
                f"the prompt has {count} tokens and the model reads at most {longest}: shorten it, or lower the token budget"
            )

    def _reusable(self, identity: Identity, tokens: int) -> Layout | Refusal:
        """The layout of the model's cache, or why KV of a text of so many tokens can be neither kept nor reused at present."""
        if (refused := refusal(self.model)) is not None:
            return refused
        bound = longest_exact(self.model.config)
        if bound is not None and tokens > bound:
            return Refusal(f"beyond {bound} tokens this model's position embedding depends on the length of the text")
        depends = (identity.config, identity.dtype, self.model.get_input_embeddings().weight.device)
        if self._layout[0] != depends:
            with running(self.model):
                self._layout = (depends, find_layout(self.model))
        layout = self._layout[1]
        return Refusal(layout) if isinstance(layout, str) else layout


class _Request:
    """One request from lookup to keeping: the private cache, the blocks it pins, and why it could or could not reuse."""

    def __init__(self, engine: HFEngine, prompt: Prompt, extra: int, reuse: bool, *, whole: bool = False) -> None:
        """`extra`: tokens to make room for behind the prompt. `whole`: all of the prompt may come from stored KV; otherwise its last
        token is always computed, since its logits are what the first answer token is chosen from."""
        self._engine, self._prompt = engine, prompt
        self._match: Match | None = None
        self._private: PrivateCache | None = None
        self._live: Live
        with engine._lock:
            layout = engine._reusable(prompt.identity, len(prompt.tokens) + extra)
            if isinstance(layout, Refusal):
                self.reason = layout.reason
                self._live = StockLive(engine.model, whole_text=layout.whole_text)
                if reuse:
                    engine.kv.count_miss(self.reason)
                return
            self._layout = layout
            if reuse:
                self._match = engine.kv.match(prompt, len(prompt.tokens) - (not whole))
            self.reason = self._match.reason if self._match else "reuse was not asked for"
            try:
                self._private = PrivateCache(layout, len(prompt.tokens) + extra, self._match.stored if self._match else ())
            except (RuntimeError, MemoryError):  # no memory for it: nobody would let go of the pins
                if self._match:
                    engine.kv.release(self._match)
                raise
            self._live = PrivateLive(engine.model, self._private)

    @property
    def reused(self) -> int:
        return self._match.length if self._match else 0

    def layout(self) -> Layout:
        """Raises EngineError when this model's KV cannot be reused."""
        if self._private is None:
            raise EngineError(f"this model's KV cannot be kept: {self.reason}. Its text can still be put into the prompt")
        return self._layout

    def feed(self, tokens: list[int], last: int = 1) -> Tensor:
        with self._engine._lock, running(self._engine.model):
            return self._live.feed(tokens, last)

    def rewind(self, length: int) -> None:
        self._live.rewind(length)

    def copy(self, start: int, end: int) -> Payload:
        assert self._private is not None
        return self._private.copy(start, end)

    def close(self, tokens: list[int]) -> None:
        """Keep the KV of what was computed of `tokens` (the prompt and what came after it), and let go of what was pinned."""
        if self._match is None or self._private is None:
            return
        with self._engine._lock:
            known = tuple(tokens[: self._private.length])
            public = self._prompt.public if self._prompt.salt else len(known)
            if self._engine._watch.identity() == self._prompt.identity:
                kept = Prompt(self._prompt.identity, known, public, self._prompt.salt)
                self._engine.kv.keep(kept, self._match, self._layout.bytes_per_token, self._private.copy)
            self._engine.kv.release(self._match)

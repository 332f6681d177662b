"""HFEngine: one Hugging Face model with its tokenizer, answering with exact reuse of KV.

Every request runs over a private cache that starts from stored KV of the longest known prefix of its tokens. What it computes is
stored afterwards, in RAM, so that a session's next prompt continues where this answer ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from memos_core.errors import EngineError, IdentityMismatch, InvalidInput
from memos_core.hf import segment as segments
from memos_core.hf.cache import Layout, Payload, Piece, PrivateCache, Workspace, find_layout
from memos_core.hf.decode import PrivateLive, chooser, end_tokens, running
from memos_core.hf.divergence import EQUAL, PROBE, Difference, difference
from memos_core.hf.identity import Identity, Refusal, Watch, longest_exact, refusal
from memos_core.hf.kv import PrefixTree
from memos_core.hf.models import default_model
from memos_core.hf.precision import Precision, as_precision, lossless, native
from memos_core.hf.prefix import Prompt, Saved, Scope, Segment, scope_salt
from memos_core.hf.prompt import Message, Renderer, shared
from memos_core.hf.rates import Rates
from memos_core.hf.reply import Reply, Stream, TextSoFar
from memos_core.hf.request import Request
from memos_core.hf.steering import Steering, SteeringVector, steered, steering_key
from memos_core.hf.steering import checked as checked_steering


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
        self.lock = threading.RLock()
        self.rates = Rates()
        self.workspace = Workspace(kv_bytes)
        self._steering: ContextVar[tuple[Steering, ...]] = ContextVar("steering", default=())
        self._renderer = Renderer(tokenizer)
        self._watch = Watch(model, tokenizer)
        self._layout: tuple[object, Layout | str] = (None, "")  # (what it depends on, the layout or why there is none)

    # -- asking ----------------------------------------------------------------------------------------------------------------

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """The forms in which memory can reach this model: text always, KV when its cache can be kept."""
        with self.lock:
            kept = not isinstance(self.reusable(self._watch.identity(), 0), Refusal)
        return frozenset({"plaintext", "activation"} if kept else {"plaintext"})

    @property
    def identity(self) -> Identity:
        """What KV made now belongs to."""
        with self.lock:
            return self.identity_under(self.steering_now)

    def identity_under(self, steering: tuple[Steering, ...]) -> Identity:
        """The same with these steering vectors attached. Call it under the lock."""
        identity = self._watch.identity()
        return replace(identity, steering=steering_key(steering)) if steering else identity

    @property
    def base_identity(self) -> Identity:
        """The model's identity with nothing steering it."""
        with self.lock:
            return self._watch.identity()

    @property
    def steering_now(self) -> tuple[Steering, ...]:
        """What requests made here and now are steered by."""
        return self._steering.get()

    @contextmanager
    def steer(self, vector: SteeringVector, strength: float = 1.0) -> Iterator[None]:
        """Inside, requests made in this thread or task have `strength` times the vector added to the hidden states behind its layers.

        Several add up. No other request is touched, and outside the model is bit for bit what it was.
        Raises IdentityMismatch for a vector of another model, InvalidInput.
        """
        token = self._steering.set((*self.steering_now, checked_steering(self.model, vector, strength, self.base_identity.key)))
        try:
            yield
        finally:
            self._steering.reset(token)

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
            request = Request(self, prompt, room, reuse)
            tokens = list(prompt.tokens)
            ends = end_tokens(self.model, self.tokenizer)
            first, finish = 0.0, "stop"
            try:
                logits = request.start()
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
                result["reply"] = Reply(
                    text.emitted, new, len(prompt.tokens), request.reused, first, request.exact, finish, seconds, request.reason
                )

        return Stream(pieces(), result)

    def next_token_logits(self, messages: Sequence[Message], reuse: bool = True, scope: Scope = None) -> Tensor:
        """Logits [vocabulary], float32, of the token after the prompt. `reuse=True` reads and keeps KV, False neither."""
        prompt = self._prompt(self.tokens(messages), None, scope)
        request = Request(self, prompt, 0, reuse)
        try:
            return request.start()[-1].clone()
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
        request = Request(self, prompt, max(map(len, whole)) - base, True)
        scores = []
        try:
            first = request.start()
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
        request = Request(self, prompt, 0, True, whole=True)
        try:
            size = request.layout().bytes_per_token * len(prompt.tokens)
            request.start()
        finally:
            request.close(list(prompt.tokens))
        made = Segment(prompt.tokens, prompt.prefix_key(), prompt.identity, prompt.public, prompt.salt, size)
        with self.lock:
            self.kv.remember(made)
        return made

    def prefill_bytes(self, messages: Sequence[Message], scope: Scope = None, *, plan: Any = None) -> int:
        """How many bytes of KV `prefill` would make, without computing it. Raises EngineError when this model's KV cannot be reused."""
        prompt = self._prompt(self._renderer.stable_prefix(messages), plan, scope)
        with self.lock:
            layout = self.reusable(prompt.identity, len(prompt.tokens))
        if isinstance(layout, Refusal):
            raise EngineError(f"this model's KV cannot be kept: {layout.reason}")
        return layout.bytes_per_token * len(prompt.tokens)

    def save(self, segment: Segment, precision: Precision | str | None = None) -> bytes:
        """The bytes that `pack` makes."""
        return self.pack(segment, precision).data

    def pack(self, segment: Segment, precision: Precision | str | None = None) -> Saved:
        """The segment as a safetensors file. What is no longer in RAM is computed again. Raises IdentityMismatch when the
        model has changed since it was made.

        precision: how its numbers are stored; None: as the model's own. What loses some is measured: how far the predictions behind
        its last tokens then differ.
        """
        if fields := segment.identity.difference(self.identity):
            raise IdentityMismatch(f"{', '.join(fields)} changed since the segment was made: prefill it again")
        prompt = Prompt(segment.identity, segment.token_ids, segment.public_tokens, segment.salt)
        request = Request(self, prompt, 0, True, whole=True, exact=True)
        try:
            layout = request.layout()
            request.start()
            payload = request.copy(0, segment.tokens)
        finally:
            request.close(list(prompt.tokens))
        own = native(layout.groups[0].dtype)
        chosen = own if precision is None else as_precision(precision)
        tensors = segments.pack_layers(layout, payload, chosen)
        difference = EQUAL
        if not lossless(chosen, layout.groups[0].dtype):
            read_back = segments.unpack_layers(layout, tensors, chosen, segment.tokens)
            difference = self.compare(segment.token_ids, payload, read_back)
        header = segments.Header(
            segment.token_ids, segment.public_tokens, segment.salt, segment.prefix_key, segment.identity, chosen, *difference
        )
        return Saved(segments.write(header, tensors), chosen, *difference)

    def compare(self, token_ids: Sequence[int], exact: Payload, other: Payload, probe: int = PROBE) -> Difference:
        """What answers behind other KV of the same tokens differ by: the last `probe` tokens are read behind either.

        Payloads: per group of equally shaped tensors [slots, heads, tokens, head_dim].
        """
        count = len(token_ids)
        start = max(count - probe, min(count - 1, 1))
        with self.lock:
            layout = self.reusable(self.identity, count)
            if isinstance(layout, Refusal):
                raise EngineError(f"this model's KV cannot be kept: {layout.reason}")
            logits = []
            for payload in (exact, other):
                private = PrivateCache(layout, count, self.workspace)
                private.fill([Piece(start, payload)])
                private.rewind(start)
                with running(self.model), steered(self.model, self.steering_now):
                    logits.append(PrivateLive(self.model, private).feed(list(token_ids[start:]), last=count - start))
                private.close()
        return difference(*logits)

    def attach(self, path: str | Path, *, scope: Scope, prefix_key: str) -> str | None:
        """Make a saved segment findable; its tensors stay on disk until a prompt matches. Returns None, or the reason why it cannot be
        used, which is also counted as a miss."""
        with self.lock:
            reason = self._attach(Path(path), scope_salt(scope), prefix_key)
            if reason is not None:
                self.kv.count_miss(reason)
            return reason

    def _attach(self, path: Path, salt: str, prefix_key: str) -> str | None:
        identity = self.identity
        try:
            header = segments.read_header(path)
        except segments.Unreadable as error:
            return str(error)
        layout = self.reusable(identity, len(header.token_ids))
        if isinstance(layout, Refusal):
            return layout.reason
        prompt = Prompt(header.identity, header.token_ids, header.public_tokens, header.salt)
        if fields := header.identity.difference(identity):
            return f"{', '.join(fields)} changed since the KV was made"
        if header.salt != salt:
            return "the file belongs to another scope"
        if header.prefix_key != prefix_key or prompt.prefix_key() != prefix_key:
            return "the file holds another prefix"
        self.kv.attach(prompt, segments.SegmentFile(path, header, layout))
        size = layout.bytes_per_token * len(header.token_ids)
        self.kv.remember(Segment(header.token_ids, prefix_key, header.identity, header.public_tokens, salt, size))
        return None

    def detach(self, prefix_key: str) -> bool:
        """Forget a segment and whatever continues it, in RAM and as registered. False when it is not known here."""
        with self.lock:
            self.workspace.clear()
            return self.kv.detach(prefix_key)

    def freeze(self, segment: Segment, frozen: bool = True) -> None:
        """Keep a segment in RAM whatever the budget; frozen=False: allow eviction again.

        Raises EngineError when it is not there, or when not all that is frozen fits the budget.
        """
        with self.lock:
            prompt = Prompt(segment.identity, segment.token_ids, segment.public_tokens, segment.salt)
            if not self.kv.freeze(prompt, frozen):
                raise EngineError(
                    f"the segment of {segment.tokens} tokens is not in RAM, or what is frozen does not fit the {self.kv.budget:,} bytes "
                    "kept there: prefill it again, or load the engine with a larger kv_bytes"
                )

    def forget_scope(self, scope: Scope) -> None:
        """Forget everything that was computed for exactly this scope (None: everything public)."""
        with self.lock:
            self.workspace.clear()
            self.kv.forget_scope(scope_salt(scope))

    def close(self) -> None:
        """Drop all KV. The engine stays usable."""
        with self.lock:
            self.workspace.clear()
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

    def reusable(self, identity: Identity, tokens: int) -> Layout | Refusal:
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

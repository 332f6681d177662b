"""HFEngine: one Hugging Face model with its tokenizer, answering with exact reuse of KV.

Every request runs over a private cache that starts from stored KV of the longest known prefix of its tokens. What it computes is
stored afterwards, in RAM, so that a session's next prompt continues where this answer ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from memos_core.errors import EngineError, InvalidInput
from memos_core.hf.batch import Question, answer
from memos_core.hf.decode import chooser, end_tokens
from memos_core.hf.gate import Examining
from memos_core.hf.models import default_model
from memos_core.hf.prefix import Scope
from memos_core.hf.prompt import Message, shared
from memos_core.hf.reply import Reply, Stream, TextSoFar
from memos_core.hf.request import Request
from memos_core.hf.tools import checked_tools, names_of, read_calls


class HFEngine(Examining):
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
        tools: Sequence[Message] = (),
    ) -> Reply:
        """Answer a conversation. Greedy unless a temperature is given. `reuse=False` neither reads nor keeps KV.

        `plan.shared_system`, when there, is system text that is public: KV of it is shared between scopes, what follows is not.
        tools: functions as OpenAI describes them, shown by the model's chat template; `reply.tool_calls` are those that it asks for.
        Then messages of the assistant may have `tool_calls` (name, arguments), and of a tool its `name`.
        Raises InvalidInput for messages, scope or settings that cannot be used, NotAvailable where the template knows no tools.
        """
        stream = self.stream(
            messages, plan, scope, max_new_tokens, reuse=reuse, stop=stop, temperature=temperature, top_p=top_p, seed=seed, tools=tools
        )
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
        tools: Sequence[Message] = (),
    ) -> Stream:
        """The same, piece by piece. Work starts with the first piece asked for, and other requests may run between pieces."""
        began = time.perf_counter()
        _check_stop(stop)
        prompt = self._asked(messages, plan, scope, tools)
        names = names_of(checked_tools(tools))
        choose = chooser(self.model, len(prompt.tokens), temperature, top_p, seed)
        room = self._room_for(prompt.width, max_new_tokens)
        prepared = time.perf_counter() - began
        steering = self.steering_now
        result: dict[str, Reply] = {}
        text = TextSoFar(self.tokenizer, tuple(stop))

        def pieces() -> Iterator[str]:
            began = time.perf_counter() - prepared  # a stream may be read long after it was asked for
            request = Request(self, prompt, room, reuse, steering=steering)
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
                calls = read_calls(text.emitted, names) if names else ()
                costs = (len(prompt.tokens), request.reused, first, request.exact, finish, seconds, request.reason)
                result["reply"] = Reply(text.emitted, new, *costs, tool_calls=calls)

        return Stream(pieces(), result)

    def generate_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        plans: Sequence[Any] | None = None,
        scopes: Sequence[Scope] | Scope = None,
        max_new_tokens: int = 64,
        *,
        reuse: bool = True,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> list[Reply]:
        """Answer several conversations in one go; the replies are those of `generate` one by one, in order.

        plans, scopes: one for each conversation; a scope that is not a list is that of all. Each starts from its own reused prefix.
        Every row takes memory for the longest prompt and answer. Models whose KV cannot be kept answer one after the other.
        """
        began = time.perf_counter()
        several = scopes if isinstance(scopes, list) else [scopes] * len(conversations)
        planned = list(plans) if plans is not None else [None] * len(conversations)
        if not len(several) == len(planned) == len(conversations):
            raise InvalidInput(f"{len(conversations)} conversations need as many plans and scopes, got {len(planned)} and {len(several)}")
        seeds = [None if seed is None else seed + place for place in range(len(conversations))]
        if len(conversations) < 2 or "activation" not in self.capabilities:
            settings: dict[str, Any] = {"reuse": reuse, "stop": stop, "temperature": temperature, "top_p": top_p}
            return [
                self.generate(messages, plan, scope, max_new_tokens, seed=own, **settings)
                for messages, plan, scope, own in zip(conversations, planned, several, seeds, strict=True)
            ]
        _check_stop(stop)
        prompts = [self._asked(messages, plan, scope) for messages, plan, scope in zip(conversations, planned, several, strict=True)]
        questions = [
            Question(
                prompt,
                chooser(self.model, len(prompt.tokens), temperature, top_p, own),
                TextSoFar(self.tokenizer, tuple(stop)),
                self._room_for(prompt.width, max_new_tokens),
            )
            for prompt, own in zip(prompts, seeds, strict=True)
        ]
        return answer(self, questions, reuse, end_tokens(self.model, self.tokenizer), began)

    def next_token_logits(self, messages: Sequence[Message], reuse: bool = True, scope: Scope = None) -> Tensor:
        """Logits [vocabulary], float32, of the token after the prompt. `reuse=True` reads and keeps KV, False neither."""
        prompt = self._asked(messages, None, scope)
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
        prompt = replace(self._asked(messages, None, scope), tokens=tuple(asked[:base]))
        for tokens in whole:
            self._check_length(prompt.offset + len(tokens))
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


def _check_stop(stop: Sequence[str]) -> None:
    if isinstance(stop, str) or not all(isinstance(text, str) and text for text in stop):
        raise InvalidInput("stop must be a list of non-empty texts")

"""Chunks reused at another position: a named, lossy mode, never the default.

A chunk of text is read behind what stands before all chunks, and kept as an ordinary exact prefix; for any but the first place, behind
some talk as well, about as long as a chunk, so that it does not take itself for the beginning. To use several at once, their keys are rotated to where
they stand now, and a share of their tokens is computed again in the new surroundings: those that the prompt's last token looks at most,
rather near the beginning of their chunk. What a chunk would have known of the chunks before it is otherwise lost: that is the error of
this mode.

Source: re-rotated keys and a share computed again as in CacheBlend (Yao et al. 2024), the first tokens of a chunk as in EPIC (Hu et al.
2024). Ours: choosing them by the attention of what follows, and the lines before a chunk.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memos_core.errors import EngineError, InvalidInput
from memos_core.hf.cache import Layout, Payload, Piece, PrivateCache, accepts
from memos_core.hf.decode import PrivateLive, end_tokens, running
from memos_core.hf.identity import Refusal
from memos_core.hf.prefix import Prompt, Scope
from memos_core.hf.prompt import Message
from memos_core.hf.reply import Reply, TextSoFar
from memos_core.hf.request import Request
from memos_core.hf.signals import Signals, capturing, readable
from memos_core.hf.steering import decoder_layers, steered

TOLERANCE = 1e-3  # of a key, between rotated and computed at its place
NEAR = 64  # tokens into a chunk, its surroundings matter half as much as at its beginning
_TALK = """{0}: Hi! How are you?
{1}: Good, thanks. And you?
{0}: Fine! I was at the market this morning and bought some apples.
{1}: Nice! I stayed at home and read a book about the sea.
{0}: That sounds relaxing. What else is new?
{1}: Not much. My sister came over for dinner yesterday, and we cooked together.
{0}: Lovely! What did you make?
{1}: A soup with beans, and a cake. It was fun.
"""
LEAD = _TALK.format("Sam", "Kim") + _TALK.format("Lea", "Tom")  # stands before a chunk that will not be the first; its KV is shared by all
FAR = 37  # how far the probe of the rotation moves a token


class Repositioning(Signals):
    """Answering from chunks whose KV was made elsewhere in a prompt."""

    _tried: tuple[str, str | None] = ("", None)  # (identity key, why its keys cannot be moved)

    def generate_repositioned(
        self,
        messages: Sequence[Message],
        chunks: Sequence[str],
        scope: Scope = None,
        max_new_tokens: int = 64,
        *,
        recompute: float = 0.2,
    ) -> Reply:
        """Answer a conversation in which the texts `chunks` stand, one after the other, with their KV wherever it was made before.

        recompute: the share of the later chunks' tokens that is computed in place, 0 to 1. The reply says `exact=False`, unless there
        was nothing to move. What is missing of a chunk's KV is computed, and kept for the next time, in this scope alone.
        Raises InvalidInput, or EngineError with the reason why this model's KV cannot be moved.
        """
        began = time.perf_counter()
        tokens = self.tokens(messages)
        room = self._room_for(len(tokens), max_new_tokens)
        text, ends = TextSoFar(self.tokenizer, ()), end_tokens(self.model, self.tokenizer)
        private, logits, reused, moved = self._composed(messages, tokens, chunks, scope, recompute, room)
        try:
            live, new, first = PrivateLive(self.model, private), [], 0.0
            while True:
                new.append(int(logits[-1].argmax()))
                text.add(new[-1])
                first = first or time.perf_counter() - began
                if new[-1] in ends or len(new) == room:
                    break
                with self.lock, running(self.model), steered(self.model, self.steering_now):
                    logits = live.feed([new[-1]])
        finally:
            with self.lock:
                private.close()
        text.rest()
        finish = "stop" if new[-1] in ends else "length"
        reason = f"{len(chunks)} chunks, {moved} tokens of them at another place than they were made for"
        return Reply(text.emitted, tuple(new), len(tokens), reused, first, moved == 0, finish, time.perf_counter() - began, reason)

    def repositioned_logits(
        self, messages: Sequence[Message], chunks: Sequence[str], scope: Scope = None, *, recompute: float = 0.2
    ) -> Tensor:
        """Logits [vocabulary], float32, of the token after the prompt, as `generate_repositioned` would see them."""
        private, logits, _, _ = self._composed(messages, self.tokens(messages), chunks, scope, recompute, 0)
        with self.lock:
            private.close()
        return logits[-1]

    def _composed(
        self, messages: Sequence[Message], tokens: list[int], chunks: Sequence[str], scope: Scope, recompute: float, extra: int
    ) -> tuple[PrivateCache, Tensor, int, int]:
        """(the cache of the whole prompt, logits [1, vocabulary] behind it, tokens not computed, tokens of moved chunks)."""
        spans = self._spans(messages, chunks)
        if isinstance(recompute, bool) or not isinstance(recompute, int | float) or not 0 <= recompute <= 1:
            raise InvalidInput(f"recompute must be a share from 0 to 1, got {recompute!r}")
        before = spans[0][0]
        whole = self._prompt(tokens, None, scope)
        with self.lock:
            layout = self.reusable(whole.identity, len(tokens) + extra)
            problem = layout.reason if isinstance(layout, Refusal) else self._immovable(layout, whole.identity.key)
        if problem is not None or isinstance(layout, Refusal):
            raise EngineError(f"this model's KV cannot be moved to another position: {problem}. Use generate(), which is exact")
        lead, context = self._renderer.inner(LEAD), self.context_window
        leads = [
            [] if number == 0 else lead if context is None else lead[max(before + len(lead) + end - start - context, 0) :]
            for number, (start, end) in enumerate(spans)
        ]
        made = [
            (*self._made(whole, tokens[:before] + between + tokens[start:end], before, before + len(between)), before + len(between))
            for (start, end), between in zip(spans, leads, strict=True)
        ]
        covered = torch.zeros(len(tokens), dtype=torch.bool)
        covered[:before] = True
        for start, end in spans:
            covered[start:end] = True
        covered[-1] = False  # what the first answer token is chosen from
        moved = sum(end - start for start, end in spans[1:])  # the first stands where it was made
        with self.lock, running(self.model), steered(self.model, self.steering_now):
            private = PrivateCache(layout, len(tokens) + extra, self.workspace)
            try:
                private.fill([Piece(before, made[0][0])])
                for (start, _), (_, chunk, at) in zip(spans, made, strict=True):
                    private.put(_rotated(self.model, layout, chunk, start - at), start)
                if again := round(recompute * moved):
                    weights = self._importance(private, tokens, spans)
                    covered[weights.topk(again).indices] = False
                logits = self._patched(private, tokens, (~covered).nonzero().flatten())
            except BaseException:
                private.close()
                raise
        return private, logits, int(covered.sum()), moved

    def _importance(self, private: PrivateCache, tokens: list[int], spans: Sequence[tuple[int, int]]) -> Tensor:
        """How much it is worth to compute each token of the moved chunks again: [tokens], 0 for all others. Call it under the lock."""
        last = spans[-1][1]
        attention = torch.ones(len(tokens))
        if last < len(tokens) and readable(self.model):
            found: dict[int, Tensor] = {}
            layers = len(decoder_layers(self.model))
            asking = len(tokens) - 1
            with capturing(self.model, range(layers // 2, layers), 1, found):  # what earlier layers attend to tells nothing of it
                self._patched(private, tokens, torch.tensor([asking]), unread=slice(last, asking))
            attention = torch.stack([weights.mean(dim=(0, 1)) for weights in found.values()]).mean(dim=0)
        worth = torch.zeros(len(tokens))
        for start, end in spans[1:]:
            worth[start:end] = attention[start:end] / (1 + torch.arange(end - start) / NEAR)
        return worth

    def _spans(self, messages: Sequence[Message], chunks: Sequence[str]) -> list[tuple[int, int]]:
        if isinstance(chunks, str) or not chunks or not all(isinstance(chunk, str) and chunk for chunk in chunks):
            raise InvalidInput("chunks must be a list of non-empty texts that stand in the conversation")
        spans = self._renderer.spans(messages, chunks, inside=True)
        for number, (start, end) in enumerate(spans):
            if end <= start or (number and start < spans[number - 1][1]):
                raise InvalidInput(f"chunk {number} does not stand in the conversation behind the chunks before it")
        return spans

    def _made(self, whole: Prompt, tokens: list[int], before: int, at: int) -> tuple[Payload, Payload]:
        """KV of (what stands before all chunks, one chunk from place `at` on), read or computed as an exact prefix."""
        prompt = Prompt(whole.identity, tuple(tokens), min(whole.public, before) if whole.salt else len(tokens), whole.salt)
        request = Request(self, prompt, 0, True, whole=True, exact=True)
        try:
            request.start()
            return request.copy(0, before), request.copy(at, len(tokens))
        finally:
            request.close(tokens)

    def _patched(self, private: PrivateCache, tokens: list[int], places: Tensor, unread: slice = slice(0)) -> Tensor:
        """Compute the tokens at `places` amid all others but `unread` ones; logits [1, vocabulary] behind the last."""
        device = self.model.get_input_embeddings().weight.device
        mask = torch.arange(len(tokens)) <= places.unsqueeze(1)
        mask[:, unread] = False
        private.write_at(places.to(device), len(tokens))
        output = self.model(
            input_ids=torch.tensor([tokens])[:, places].to(device),
            position_ids=places.unsqueeze(0).to(device),
            attention_mask=mask[None, None].to(device),
            past_key_values=private.cache,
            use_cache=True,
            **({"logits_to_keep": 1} if accepts(self.model, "logits_to_keep") else {}),
        )
        private.write_at(None, len(tokens))
        return output.logits[0, -1:].float()  # type: ignore[no-any-return]

    def _immovable(self, layout: Layout, key: str) -> str | None:
        """Why keys cannot be rotated to another position, found by trying it once for each identity. Call it under the lock."""
        if self._tried[0] != key:
            self._tried = (key, self._why_immovable(layout))
        return self._tried[1]

    def _why_immovable(self, layout: Layout) -> str | None:
        if any(window is not None for window in layout.windows):
            return "some layers see only a sliding window"
        if _frequencies(self.model) is None:
            return "its positions are not rotary"
        device = self.model.get_input_embeddings().weight.device
        keys = []
        for position in (1, 1 + FAR):
            with running(self.model):
                private = PrivateCache(layout, 1, self.workspace)
                private.fill(())
                self.model(
                    input_ids=torch.tensor([[5]], device=device),
                    position_ids=torch.tensor([[position]], device=device),
                    past_key_values=private.cache,
                    use_cache=True,
                )
                keys.append(private.copy(0, 1))
                private.close()
        moved = _rotated(self.model, layout, keys[0], FAR)
        for group, here, there in zip(layout.groups, moved, keys[1], strict=True):
            for slot, (layer, which) in enumerate(group.slots):
                if layer == 0 and which == 0 and not torch.allclose(here[slot], there[slot], atol=TOLERANCE, rtol=TOLERANCE):
                    return "its rotary embedding is of a kind that cannot be turned afterwards"
        return None


def _frequencies(model: Any) -> Tensor | None:
    """The rotary frequencies [rotary dimensions / 2], None where there are none or several."""
    found = {id(module): module.inv_freq for module in model.modules() if isinstance(getattr(module, "inv_freq", None), Tensor)}
    return next(iter(found.values())) if len(found) == 1 else None


def _rotated(model: Any, layout: Layout, payload: Payload, distance: int) -> Payload:
    """The same KV as if it stood `distance` tokens further on: keys turned, values as they are."""
    frequencies = _frequencies(model)
    if distance == 0 or frequencies is None:
        return payload
    angles = distance * frequencies.double()
    cos, sin, half = angles.cos().float(), angles.sin().float(), len(angles)
    turned = []
    for group, stack in zip(layout.groups, payload, strict=True):
        keys = [slot for slot, (_, which) in enumerate(group.slots) if which == 0]
        one, other = stack[keys, ..., :half], stack[keys, ..., half : 2 * half]
        stack = stack.clone()
        stack[keys, ..., :half] = (one * cos - other * sin).to(stack)
        stack[keys, ..., half : 2 * half] = (other * cos + one * sin).to(stack)
        turned.append(stack)
    return tuple(turned)

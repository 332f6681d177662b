"""Running the model: one request's live state, and how the next token is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from memos_core.errors import InvalidInput
from memos_core.hf.attention import grouped
from memos_core.hf.cache import PrivateCache, accepts
from memos_core.hf.linear import dividing


class Live(Protocol):
    """A model that has read some tokens."""

    @property
    def length(self) -> int:
        """Tokens, from the first on, that the next call does not read again."""

    def feed(self, tokens: list[int], last: int = 1) -> Tensor:
        """Read on; logits [last, vocabulary] in float32 behind each of the last `last` tokens."""

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""


class PrivateLive:
    """Over a private cache, which may start out filled."""

    def __init__(self, model: Any, cache: PrivateCache) -> None:
        self._model, self._private = model, cache
        self._device = model.get_input_embeddings().weight.device
        self._short = accepts(model, "logits_to_keep")

    @property
    def length(self) -> int:
        return self._private.length

    def feed(self, tokens: list[int], last: int = 1) -> Tensor:
        total = self._private.length + len(tokens)
        output = self._model(
            input_ids=torch.tensor([tokens], device=self._device),
            attention_mask=torch.ones((1, total), dtype=torch.long, device=self._device),  # the whole length, not just these tokens
            past_key_values=self._private.cache,
            use_cache=True,
            **({"logits_to_keep": last} if self._short else {}),
        )
        return output.logits[0, -last:].float()  # type: ignore[no-any-return]

    def rewind(self, length: int) -> None:
        self._private.rewind(length)


class StockLive:
    """Without reuse, for what cannot be cut at a token: the model's own state where it hands one back, else the whole text again."""

    _STATES = ("past_key_values", "cache_params", "state")

    def __init__(self, model: Any, *, whole_text: bool) -> None:
        """`whole_text`: read all of it again at every step, for adapters that must see it in one call."""
        self._model, self._whole_text = model, whole_text
        self._device = model.get_input_embeddings().weight.device
        self._tokens: list[int] = []
        self._state: dict[str, Any] = {}

    @property
    def length(self) -> int:
        return len(self._tokens) if self._state else 0

    def feed(self, tokens: list[int], last: int = 1) -> Tensor:
        self._tokens += tokens
        new = tokens if self._state else self._tokens
        inputs: dict[str, Any] = {"input_ids": torch.tensor([new], device=self._device)}
        if accepts(self._model, "past_key_values"):  # purely recurrent models take none of this length once they have state
            inputs["attention_mask"] = torch.ones((1, len(self._tokens)), dtype=torch.long, device=self._device)
        if self._state and accepts(self._model, "position_ids"):  # a state whose first layer is recurrent may not know its length
            inputs["position_ids"] = torch.arange(len(self._tokens) - len(new), len(self._tokens), device=self._device)[None]
        output = self._model(**inputs, **self._state, use_cache=not self._whole_text)
        self._state = {}
        if not self._whole_text:
            self._state = {
                name: output[name] for name in self._STATES if getattr(output, name, None) is not None and accepts(self._model, name)
            }
        return output.logits[0, -last:].float()  # type: ignore[no-any-return]

    def rewind(self, length: int) -> None:
        del self._tokens[length:]
        self._state = {}


@contextmanager
def running(model: Any, *, as_it_is: bool = False) -> Iterator[None]:
    """No gradients, no dropout; unless `as_it_is` no key repeated for its heads, and few rows divided among the threads.

    Everything is set back afterwards.
    """
    modules = list(model.modules())
    training = [module for module in modules if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad(), ExitStack() as stack:
            if not as_it_is:
                stack.enter_context(grouped(model))
                stack.enter_context(dividing(modules))
            yield
    finally:
        for module in training:
            module.training = True


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer, by the model's generation settings and by the tokenizer."""
    ends: set[int] = set()
    for value in (getattr(getattr(model, "generation_config", None), "eos_token_id", None), getattr(tokenizer, "eos_token_id", None)):
        if value is not None:
            ends.update(value if isinstance(value, list | tuple) else [value])
    return frozenset(int(end) for end in ends)


def chooser(model: Any, prompt_length: int, temperature: float, top_p: float, seed: int | None) -> Callable[[list[int], Tensor], int]:
    """A function (all tokens so far, logits [vocabulary]) -> next token. Greedy at temperature 0, and then the same as stock `generate`."""
    if not (isinstance(temperature, int | float) and temperature >= 0):
        raise InvalidInput(f"temperature must be 0 (greedy) or more, got {temperature!r}")
    if not (isinstance(top_p, int | float) and 0 < top_p <= 1):
        raise InvalidInput(f"top_p must be above 0 and at most 1, got {top_p!r}")
    adjust = _stock_adjustments(model, prompt_length)
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)

    def choose(tokens: list[int], logits: Tensor) -> int:
        scores = logits.unsqueeze(0)
        if adjust:
            scores = adjust(torch.tensor([tokens], device=logits.device), scores)
        if temperature == 0:
            return int(scores.argmax(dim=-1))
        probabilities, order = torch.softmax(scores[0].cpu() / temperature, dim=-1).sort(descending=True)
        probabilities[probabilities.cumsum(dim=-1) - probabilities >= top_p] = 0
        return int(order[torch.multinomial(probabilities, 1, generator=generator)])

    return choose


def _stock_adjustments(model: Any, prompt_length: int) -> LogitsProcessorList:
    """What stock `generate` does to logits because the model's own generation settings say so, whether sampling or not."""
    settings = getattr(model, "generation_config", None)
    adjustments = LogitsProcessorList()
    if settings is None:
        return adjustments
    if (penalty := settings.repetition_penalty) is not None and penalty != 1.0:
        adjustments.append(RepetitionPenaltyLogitsProcessor(penalty=penalty))
    if settings.no_repeat_ngram_size:
        adjustments.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
    if settings.bad_words_ids:
        adjustments.append(NoBadWordsLogitsProcessor(settings.bad_words_ids, settings.eos_token_id))
    if settings.suppress_tokens:
        adjustments.append(SuppressTokensLogitsProcessor(settings.suppress_tokens))
    if settings.begin_suppress_tokens:
        adjustments.append(SuppressTokensAtBeginLogitsProcessor(settings.begin_suppress_tokens, prompt_length))
    return adjustments

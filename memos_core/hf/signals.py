"""What a model computes on the way to its answer: hidden states h^l_i, attention weights a^l_ij, and directions between them.

Captured on demand, for chosen layers, by one ordinary call of the model. Source: MemOS §4.1, activation memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from memos_core.errors import EngineError, InvalidInput
from memos_core.hf import tensors
from memos_core.hf.attention import NAME, STOCK, grouped_attention
from memos_core.hf.decode import running
from memos_core.hf.keeping import Keeping
from memos_core.hf.prefix import Scope
from memos_core.hf.prompt import Message, shared
from memos_core.hf.request import Request
from memos_core.hf.steering import SteeringVector, decoder_layers, steered

CAPTURING = "sdpa_memos_capturing"
EMPTY_ANSWER = "N/A"
ORDINARY = (
    "The library opens at nine on weekdays. Readers can borrow up to six books at a time, and most of them come back within a month.",
    "When the rain stopped, she walked down to the harbour and watched the fishermen mend their nets. Nobody said much.",
    "To make the soup, chop two onions and a carrot, fry them gently in oil, then add a litre of water and a handful of lentils.",
    "The committee met on Tuesday to discuss the budget for the coming year. After a long debate it agreed to repair the old bridge first.",
    "Water boils at a lower temperature in the mountains, because the pressure of the air is lower there than at sea level.",
    "He had lived in the same street for forty years and knew every family on it, their quarrels, their weddings and their dogs.",
)
"""Plain English of several kinds, ours: on it is measured what steering costs."""
UNREADABLE = "this model computes its attention where it cannot be read; load it with attn_implementation='sdpa'"
Asked = str | Sequence[Message]
# of the call under way in this thread: layers, how many of the last queries, where to put their weights
_target: ContextVar[tuple[frozenset[int], int, dict[int, Tensor]]] = ContextVar("target", default=(frozenset(), 0, {}))


@dataclass(frozen=True)
class Captured:
    """What was read, as a file. bytes: of the tensors. tokens: of the text. shapes: (layer, shape of its tensor)."""

    data: bytes
    bytes: int
    tokens: int
    shapes: tuple[tuple[int, tuple[int, ...]], ...]


class Signals(Keeping):
    """Reading hidden states and attention from the model, and making steering vectors of them."""

    def hidden_states(self, what: Asked, layers: int | Sequence[int] | None = None) -> dict[int, Tensor]:
        """By layer, what it puts out: float32 [tokens, hidden size]. A text is read as it is, a conversation by the model's template.

        layers: numbers from 0, negative ones from the end; None: all. Raises InvalidInput.
        """
        tokens = self._read(what)
        with self.lock:
            modules = decoder_layers(self.model)
            chosen = as_layers(layers, len(modules))
            found: dict[int, Tensor] = {}
            with ExitStack() as stack:
                for layer in chosen:
                    handle = modules[layer].register_forward_hook(_keeping(found, layer))
                    stack.callback(handle.remove)
                self._call(tokens)
        return {layer: found[layer] for layer in chosen}

    def attention(self, what: Asked, layers: int | Sequence[int] | None = None, last: int | None = None) -> dict[int, Tensor]:
        """By layer, the weights that its heads give: float32 [heads, queries, tokens]; each row sums to 1.

        last: only those of the last so many tokens; None: all, which takes heads x tokens² numbers for each layer.
        Raises InvalidInput, or EngineError for models whose attention cannot be read.
        """
        tokens = self._read(what)
        if last is not None and (isinstance(last, bool) or not isinstance(last, int) or not 1 <= last <= len(tokens)):
            raise InvalidInput(f"last must be a number of tokens from 1 to {len(tokens)}, got {last!r}")
        with self.lock:
            modules = decoder_layers(self.model)
            chosen = as_layers(layers, len(modules))
            found: dict[int, Tensor] = {}
            with capturing(self.model, chosen, last or len(tokens), found):
                self._call(tokens)
        if found.keys() != set(chosen):
            raise EngineError(UNREADABLE)
        return {layer: found[layer] for layer in chosen}

    def steering_vector(
        self, positive: Sequence[Asked], negative: Sequence[Asked], layers: int | Sequence[int] | None = None
    ) -> SteeringVector:
        """The mean difference of the hidden states of the last token between pairs that differ in one thing alone.

        positive, negative: as many of each, in pairs. layers: where to add it; None: the middle one. Deterministic.
        Raises InvalidInput.
        """
        as_pairs(positive, negative)
        chosen = as_layers(len(decoder_layers(self.model)) // 2 if layers is None else layers, len(decoder_layers(self.model)))
        sums = {layer: torch.zeros(1) for layer in chosen}
        for wanted, other in zip(positive, negative, strict=True):
            here, there = self.hidden_states(wanted, chosen), self.hidden_states(other, chosen)
            for layer in chosen:
                sums[layer] = sums[layer] + here[layer][-1] - there[layer][-1]
        return SteeringVector({layer: total / len(positive) for layer, total in sums.items()}, self.base_identity.key)

    def capture(self, what: Asked, form: str, layers: int | Sequence[int] | None = None, last: int | None = None) -> Captured:
        """`hidden_states` ("hidden") or `attention` ("attention") as a file. Raises InvalidInput, or EngineError."""
        if form == "hidden":
            if last is not None:
                raise InvalidInput("last is of attention; hidden states are those of all tokens")
            found = self.hidden_states(what, layers)
        elif form == "attention":
            found = self.attention(what, layers, last)
        else:
            raise InvalidInput(f"form must be 'hidden' or 'attention', got {form!r}")
        shapes = tuple((layer, tuple(tensor.shape)) for layer, tensor in found.items())
        size = sum(tensor.nbytes for tensor in found.values())
        return Captured(tensors.write(form, self.identity.key, found), size, len(self._read(what)), shapes)

    @staticmethod
    def tensors(data: bytes) -> dict[int, Tensor]:
        """What `capture` or a steering vector put into a file, by layer. Raises InvalidInput when it is none."""
        return tensors.read(data)[1]

    @staticmethod
    def vector(data: bytes) -> SteeringVector:
        """The steering vector of a file. Raises InvalidInput when it is none."""
        return SteeringVector.from_bytes(data)

    def effect(
        self, vector: SteeringVector, strength: float, positive: Sequence[Asked], negative: Sequence[Asked], texts: Sequence[str] = ORDINARY
    ) -> tuple[float, float]:
        """(which share of the way from predictions behind the negative examples to those behind their positive ones the vector covers,
        perplexity of `texts` under it / without it). See `cube.Steered`. Raises IdentityMismatch or InvalidInput.
        """
        as_pairs(positive, negative)
        covered, counted = 0.0, 0
        for wanted, other in zip(positive, negative, strict=True):
            goal, start = self._predicted(wanted), self._predicted(other)
            with self.steer(vector, strength):
                reached = self._predicted(other)
            distance = _divergence(goal, start)
            if distance > 1e-6:  # else there is no way to cover
                covered += 1 - _divergence(goal, reached) / distance
                counted += 1
        plain = self.perplexity(texts)
        with self.steer(vector, strength):
            cost = self.perplexity(texts) / plain
        return covered / max(counted, 1), cost

    def _predicted(self, what: Asked) -> Tensor:
        """Log-probabilities [vocabulary] behind it."""
        tokens = self._read(what)
        with self.lock:
            return self._call(tokens)[-1].log_softmax(dim=-1)

    def perplexity(self, texts: Sequence[str]) -> float:
        """exp of the mean negative log-likelihood per token of the texts, under what steers here and now. Raises InvalidInput."""
        total, count = 0.0, 0
        for text in texts:
            tokens = self._read(text)
            with self.lock:
                logits = self._call(tokens)[:-1].log_softmax(dim=-1)
            total -= float(logits.gather(1, torch.tensor(tokens[1:], device=logits.device).unsqueeze(1)).sum())
            count += len(tokens) - 1
        if not count:
            raise InvalidInput("perplexity needs at least one text of two tokens")
        return float(torch.tensor(total / count).exp())

    def influence(
        self, messages: Sequence[Message], reply: str, texts: Sequence[str], plan: Any = None, scope: Scope = None
    ) -> list[float]:
        """Which of `texts`, that stand in the conversation, the reply came from: for each how much attention, at most 1.

        It is that of its one token to which the reply's tokens attend most, beyond what an empty answer gives it: the mean over heads
        and layers; 0 where there is none. KV of the conversation is reused, so that little more than the reply is read.
        Raises InvalidInput, or EngineError for models whose attention cannot be read.

        Source: MemOS §4.1, attention as activation memory; the comparison with an empty answer is that of in-context re-ranking (Chen et
        al. 2024): attention alone mostly says where a token stands.
        """
        spans = self._renderer.spans(messages, texts)
        if not reply.strip():
            return [0.0 for _ in texts]
        given, nothing = self._looked_at(messages, (reply, EMPTY_ANSWER), plan, scope)
        beyond = given - nothing
        return [max(float(beyond[start:end].max()), 0.0) if end > start else 0.0 for start, end in spans]

    def _looked_at(self, messages: Sequence[Message], replies: Sequence[str], plan: Any, scope: Scope) -> list[Tensor]:
        """Attention that the tokens of each reply give to each token of the prompt: [tokens], a mean over them, heads and layers."""
        asked, whole = self.tokens(messages), [self._renderer.with_reply(messages, reply) for reply in replies]
        base = min(shared(asked, tokens) for tokens in whole)  # fewer than all when a tokenizer merges across the boundary
        longest = max(map(len, whole))
        self._check_length(longest)
        layers = range(len(decoder_layers(self.model)))
        request = Request(self, self._prompt(asked[:base], plan, scope), longest - base, True)
        given = []
        try:
            request.start()
            for tokens in whole:
                found: dict[int, Tensor] = {}
                with self.lock, capturing(self.model, layers, len(tokens) - base, found):
                    request.feed(tokens[base:])
                if not found:
                    raise EngineError(UNREADABLE)
                given.append(torch.stack([each.mean(dim=(0, 1))[:base] for each in found.values()]).mean(dim=0))
                request.rewind(base)
        finally:
            request.close(asked[:base])
        return [torch.nn.functional.pad(each, (0, len(asked) - base)) for each in given]

    def _read(self, what: Asked) -> list[int]:
        tokens = self._renderer.plain(what) if isinstance(what, str) else self.tokens(what)
        if not tokens:
            raise InvalidInput("there is nothing to read: the text is empty")
        self._check_length(len(tokens))
        return tokens

    def _call(self, tokens: list[int]) -> Tensor:
        """Logits [tokens, vocabulary], float32. Call it under the lock."""
        device = self.model.get_input_embeddings().weight.device
        with running(self.model, as_it_is=True), steered(self.model, self.steering_now):
            return self.model(input_ids=torch.tensor([tokens], device=device), use_cache=False).logits[0].float()  # type: ignore[no-any-return]


def as_pairs(positive: Sequence[Asked], negative: Sequence[Asked]) -> None:
    """Raises InvalidInput unless they pair up."""
    if isinstance(positive, str) or isinstance(negative, str) or not positive or len(positive) != len(negative):
        raise InvalidInput("a steering vector needs pairs: two lists of equally many texts or conversations, at least one")


def _divergence(goal: Tensor, other: Tensor) -> float:
    """Kullback-Leibler divergence in nats, of log-probabilities."""
    return float((goal.exp() * (goal - other)).sum())


def as_layers(layers: int | Sequence[int] | None, count: int) -> list[int]:
    """Layer numbers from 0, in order. Raises InvalidInput."""
    wanted = range(count) if layers is None else [layers] if isinstance(layers, int) else layers
    if not all(isinstance(layer, int) and not isinstance(layer, bool) and -count <= layer < count for layer in wanted):
        raise InvalidInput(f"layers must be numbers from 0 to {count - 1}, or from -{count} to -1, got {layers!r}")
    return sorted({layer % count for layer in wanted})


def _keeping(found: dict[int, Tensor], layer: int) -> Any:
    def keep(module: Any, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        found[layer] = hidden[0].detach().float().cpu().clone()

    return keep


def readable(model: Any) -> bool:
    """Whether the model attends where its weights can be read."""
    return getattr(model.config.get_text_config(decoder=True), "_attn_implementation", None) in (STOCK, NAME)


@contextmanager
def capturing(model: Any, layers: Sequence[int], last: int, found: dict[int, Tensor]) -> Iterator[None]:
    """Inside, calls of the model put the attention of the last tokens into `found`, beside attending as ever."""
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    if not readable(model):
        raise EngineError(f"attention can be read of models that attend by {STOCK!r}, this one does by {before!r}")
    AttentionInterface.register(CAPTURING, _capture)
    AttentionMaskInterface.register(CAPTURING, sdpa_mask)
    token = _target.set((frozenset(layers), last, found))
    config._attn_implementation = CAPTURING
    try:
        yield
    finally:
        config._attn_implementation = before
        _target.reset(token)


def _capture(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any) -> Any:
    layers, last, found = _target.get()
    if getattr(module, "layer_idx", None) in layers:
        found[module.layer_idx] = weights(query, key, attention_mask, last, settings)
    return grouped_attention(module, query, key, value, attention_mask, **settings)


def weights(query: Tensor, key: Tensor, mask: Tensor | None, last: int, settings: Mapping[str, Any]) -> Tensor:
    """The attention of the last queries: float32 [heads, last, keys]. query: [1, heads, queries, dim]; key: [1, kv heads, keys, dim]."""
    groups, queries, keys = query.shape[1] // key.shape[1], query.shape[2], key.shape[2]
    rows = query[0, :, -last:].float().reshape(key.shape[1], groups, last, -1)
    scale = settings.get("scaling")
    scores = torch.einsum("kgqd,ksd->kgqs", rows, key[0].float()).flatten(0, 1) * (query.shape[3] ** -0.5 if scale is None else scale)
    if mask is None:
        allowed = (
            torch.arange(keys, device=key.device) <= torch.arange(queries - last, queries, device=key.device).unsqueeze(1) + keys - queries
        )
        scores = scores.masked_fill(~allowed, float("-inf"))
    elif mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask[0, :, -last:], float("-inf"))
    else:
        scores = scores + mask[0, :, -last:].float()
    kept: Tensor = scores.softmax(dim=-1).cpu()
    return kept

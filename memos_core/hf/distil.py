"""Distilling: from lessons to the weights of a module. The model itself is only read.

Each lesson is a conversation with a reply. A taught reply is learned by its labels; along a kept one the module is pulled towards what the
model says without it (Kullback-Leibler divergence), so that it changes little but what it is taught. For an activated LoRA and a
trained prefix alike nothing before the reply's turn depends on what is trained, or all of it does: KV of the base before the turn is
computed once. Gradients are taken of the module's weights alone, and the lock is held for one step at a time, so that requests go on.

Source: LoRA (Hu et al. 2021), activated LoRA (Greenewald et al. 2025), Cartridges (Eyuboglu et al. 2025: a prefix started from the KV of
the texts); learning without forgetting (Li and Hoiem 2016) for the pull.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers.cache_utils import DynamicCache

from memos_core.cube import ParameterForm
from memos_core.errors import Cancelled, EngineError, InvalidInput
from memos_core.hf.cache import Layout
from memos_core.hf.decode import end_tokens, running
from memos_core.hf.lowrank import Acting, LowRank, adapted, linear_layers
from memos_core.hf.module import Module, from_kv, low_rank_config, prefix_config
from memos_core.hf.prompt import Message, shared
from memos_core.hf.reply import Reply
from memos_core.hf.reposition import Repositioning
from memos_core.lessons import Lesson

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LEAST_STEPS, STEPS_A_FACT = 24, 5
WARM = 8  # steps until the full learning rate
LEFT = 0.1  # of the learning rate, at the end
AT_ONCE = 12  # rows read in one call beforehand
KEPT_TEXT = 32  # the same of a plain text
STRESS = 3.0  # how much more a token of the answer counts
KEPT = 16  # tokens of a kept reply along which the module is pulled
CLIP = 1.0  # of the gradient's norm


@dataclass(frozen=True)
class Settings:
    """How a module is trained. taught, kept: lessons in one step. pull: weight of the divergence. rate: learning rate.

    steps: at most; None: by the number of facts. It ends before when `patience` checks in a row, `every` so many steps from the step
    `least` on, have found every watched lesson learned and the divergence at most `settled` nats. first_layer: from which share of the
    model's depth on its layers are adapted.
    """

    rank: int = 8
    rate: float = 6e-3
    steps: int | None = None
    taught: int = 8
    kept: int = 8
    pull: float = 2.0
    every: int = 10
    patience: int = 2
    least: int = 30
    settled: float = 0.05
    first_layer: float = 0.3

    @classmethod
    def of(cls, form: ParameterForm | str, **changed: Any) -> Settings:
        """Those that a form is trained with, changed by name."""
        return cls(**{**({"rate": 3e-2} if form == ParameterForm.PREFIX else {}), **changed})


@dataclass(frozen=True)
class Distilled:
    """A module, the steps it took, and the CPU seconds."""

    module: Module
    steps: int
    seconds: float


@dataclass(eq=False)
class _Row:
    """A lesson as tokens: `before` the turn, its `invocation`, the reply with its end. past: the base's KV of `before`, where it is fixed;
    goal: log-probabilities [reply, vocabulary] of what is kept, the base's, or of what is imitated, those behind `told`: the same request
    with the teacher's text before it."""

    before: list[int]
    invocation: list[int]
    reply: list[int]
    keeps: bool
    weights: Tensor  # of the reply's tokens: the answer counts more
    told: list[int] | None = None
    past: list[tuple[Tensor, Tensor]] | None = None
    goal: Tensor | None = None


class _Weights:
    """What is trained: factors or a prefix."""

    def __init__(self, model: Any, form: ParameterForm, settings: Settings, seed: int, start: list[tuple[Tensor, Tensor]] | None) -> None:
        self.form = form
        self.prefix = start
        self.low_rank: LowRank | None = None
        if start is not None:
            self.parameters = [tensor.requires_grad_() for pair in start for tensor in pair]
            return
        generator = torch.Generator().manual_seed(seed)
        factors = {}
        for name, layer in _adapted_layers(model, settings.first_layer):
            bound = 1 / math.sqrt(layer.in_features)
            a = (torch.rand(settings.rank, layer.in_features, generator=generator) * 2 - 1) * bound
            factors[name] = (a.requires_grad_(), torch.zeros(layer.out_features, settings.rank).requires_grad_())
        self.low_rank = LowRank(factors, 2.0, form is ParameterForm.ALORA)
        self.parameters = [tensor for pair in factors.values() for tensor in pair]

    def acting(self) -> list[Acting]:
        return [Acting(self.low_rank)] if self.low_rank is not None else []

    def done(self, layout: Layout, base: str | None, invocation: Sequence[int]) -> Module:
        if self.prefix is not None:
            prefix = from_kv([(keys.detach(), values.detach()) for keys, values in self.prefix])
            return Module(prefix_config(prefix, layout, base), prefix)
        assert self.low_rank is not None
        factors = {name: (a.detach().clone(), b.detach().clone()) for name, (a, b) in self.low_rank.factors.items()}
        weights = LowRank(factors, self.low_rank.scaling, self.low_rank.invoked)
        return Module(low_rank_config(weights, base, tuple(invocation)), weights)


def _adapted_layers(model: Any, first: float) -> Iterator[tuple[str, Any]]:
    """The linear layers of the decoder that are adapted, from a share of its depth on. Raises EngineError when there are none."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    found = []
    for name, layer in linear_layers(model).items():
        number = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if number is not None and number >= first * count and name.rpartition(".")[2] in TARGETS:
            found.append((name, layer))
    if not found:
        raise EngineError(f"this model has none of the layers {', '.join(TARGETS)}, so that nothing can be distilled into low-rank factors")
    return iter(found)


class Distilling(Repositioning):
    """Making modules."""

    if TYPE_CHECKING:  # of the engine that this is a part of

        def generate_batch(self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int = 64) -> list[Reply]: ...

    def distil(
        self,
        lessons: Sequence[Lesson],
        watched: Sequence[Lesson] = (),
        *,
        form: ParameterForm = ParameterForm.ALORA,
        settings: Settings | None = None,
        seed: int = 0,
        start: str = "",
        texts: Sequence[str] = (),
        told: Callable[[int, float], bool | None] | None = None,
        kept_state: Callable[[Mapping[str, Tensor]], None] | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> Distilled:
        """A module that replies as the lessons teach, and as the model does along those that are kept.

        watched: lessons that are not trained on; when all of them would be answered, training ends. start: of a prefix, the text whose KV
        it begins as. texts: plain ones, along which forms that act on every text are kept to what the model says. told: called with
        (step, loss) after each; what returns False cancels. kept_state, state: to stop and go on: tensors that are handed out at each
        check, and taken in at the beginning.

        Deterministic on one machine for a seed. Raises InvalidInput; EngineError for models whose KV cannot be kept; Cancelled.
        """
        if not any(lesson.kind == "teach" for lesson in lessons):
            raise InvalidInput("there is nothing to teach: distil needs lessons with replies")
        chosen, began = settings or Settings.of(form), time.process_time()
        with self.lock:
            layout = self.reusable(self.base_identity, 0)
        if not isinstance(layout, Layout):
            raise EngineError(f"modules cannot be distilled into this model: its KV cannot be kept: {layout.reason}")
        rows = [self._row(lesson) for lesson in lessons]
        if form is not ParameterForm.ALORA:
            rows += [self._plain_row(text) for text in texts]
        weights = _Weights(self.model, form, chosen, seed, self._start(start) if form is ParameterForm.PREFIX else None)
        self._prepare(rows, form)
        seen = [self._row(lesson) for lesson in watched]
        self._prepare(seen, form)
        steps = chosen.steps or LEAST_STEPS + STEPS_A_FACT * len({lesson.fact for lesson in lessons if lesson.kind == "teach"})
        optimizer = torch.optim.AdamW(weights.parameters, lr=chosen.rate, weight_decay=0.0, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps))
        taught, kept = ([row for row in rows if row.keeps is keeps] for keeps in (False, True))
        draws = (_drawn(taught, chosen.taught, seed), _drawn(kept, chosen.kept, seed + 1))
        step = good = 0
        if state is not None:
            step, good = _take_in(state, weights, optimizer, schedule, draws)
        strayed: list[float] = []
        while step < steps and good < chosen.patience:
            loss = self._taught(next(draws[0]), weights)
            if kept:
                away = self._strayed(next(draws[1]), weights)
                strayed.append(float(away.detach()))
                loss = loss + chosen.pull * away
            gradients = torch.autograd.grad(loss, weights.parameters)
            _step(weights.parameters, gradients, optimizer)
            schedule.step()
            step += 1
            if told is not None and told(step, float(loss.detach())) is False:
                raise Cancelled(f"distilling was cancelled after {step} steps; nothing was kept of it")
            if seen and step >= chosen.least and step % chosen.every == 0:
                calm = sum(strayed) <= chosen.settled * len(strayed)
                good = good + 1 if calm and self._answered(seen, weights) else 0
            if step % chosen.every == 0:
                strayed = []  # so that a training that goes on from here is the same
                if kept_state is not None:
                    kept_state(_handed_out(step, good, weights, optimizer))
        base = getattr(self.model.config, "_name_or_path", None) or None
        return Distilled(weights.done(layout, base, rows[0].invocation), step, time.process_time() - began)

    def in_context(self, lessons: Sequence[Lesson], context: str, most: int = 24) -> list[Lesson]:
        """The same lessons with the model itself as their teacher: its greedy replies with a text as its system text."""
        found = []
        for start in range(0, len(lessons), AT_ONCE):
            several = lessons[start : start + AT_ONCE]
            asked = [[{"role": "system", "content": context}, *lesson.messages] for lesson in several]
            replies = self.generate_batch(asked, max_new_tokens=most)
            found += [
                replace(lesson, reply=reply.text, stress="", context=context)
                for lesson, reply in zip(several, replies, strict=True)
                if reply.text.strip()
            ]
        return found

    @staticmethod
    def state_bytes(state: Mapping[str, Tensor]) -> bytes:
        """What `kept_state` was handed, as a file."""
        return bytes(save(dict(state)))

    @staticmethod
    def state_of(path: Path) -> dict[str, Tensor] | None:
        """What was kept there; None where there is nothing, or nothing whole."""
        try:
            return dict(load(path.read_bytes()))
        except (OSError, SafetensorError):
            return None

    def _row(self, lesson: Lesson) -> _Row:
        asked, whole = self.tokens(lesson.messages), self._renderer.with_reply(lesson.messages, lesson.reply)
        begins = shared(asked, whole)  # fewer than all of `asked` when a tokenizer merges across the boundary
        turn = min(shared(asked, self.tokens(lesson.messages, add_generation_prompt=False)), begins)
        ends = sorted(end_tokens(self.model, self.tokenizer))
        closing = getattr(self.tokenizer, "eos_token_id", None)
        end = [closing if closing in ends else ends[0]] if ends else []
        keeps = lesson.kind == "keep"
        reply = (whole[begins:] + end)[: KEPT if keeps else None]
        weights = torch.ones(len(reply))
        if lesson.stress and lesson.reply.endswith(lesson.stress):
            lead = self._renderer.with_reply(lesson.messages, lesson.reply.removesuffix(lesson.stress).rstrip())
            weights[shared(lead, whole) - begins : len(whole) - begins] = STRESS
        told = self.tokens([{"role": "system", "content": lesson.context}, *lesson.messages]) if lesson.context else None
        return _Row(asked[:turn], asked[turn:begins], reply, keeps, weights, told)

    def _plain_row(self, text: str) -> _Row:
        first, *rest = self._renderer.plain(text)
        return _Row([], [first], rest[:KEPT_TEXT], True, torch.ones(len(rest[:KEPT_TEXT])))

    def _start(self, text: str) -> list[tuple[Tensor, Tensor]]:
        """KV of a text behind nothing: what a trained prefix begins as."""
        if not text.strip():
            raise InvalidInput("a trained prefix starts from the KV of a text: pass start=")
        past, _ = self._read_on(None, [self._renderer.stable_prefix([{"role": "system", "content": text}])], 1)
        return [(keys.clone(), values.clone()) for keys, values in past]

    def _prepare(self, rows: Sequence[_Row], form: ParameterForm) -> None:
        """What does not depend on the weights in training, computed once: the base's KV before the turns, and what it says of the replies.

        What all rows begin with is read once.
        """
        for row in rows:
            if row.told is not None:
                _, logits = self._read_on(None, [[*row.told, *row.reply[:-1]]], len(row.reply))
                row.goal = logits[0].log_softmax(dim=-1).half()
        fixed = form is ParameterForm.ALORA
        wanted = [row for row in rows if (fixed and row.before) or row.keeps]
        if not wanted:
            return
        common = max(min(min(shared(wanted[0].before, row.before), len(row.before) - 1) for row in wanted), 0)  # each reads on by a token
        begun = self._read_on(None, [wanted[0].before[:common]], 1)[0] if common else None
        wanted.sort(key=lambda row: (row.keeps, len(row.before), len(row.reply)))
        for start in range(0, len(wanted), AT_ONCE):
            batch = wanted[start : start + AT_ONCE]
            rests = [row.before[common:] + (row.invocation + row.reply[:-1] if row.keeps else []) for row in batch]
            past, logits = self._read_on(begun, rests, max(map(len, rests)) if any(row.keeps for row in batch) else 1)
            for place, (row, rest) in enumerate(zip(batch, rests, strict=True)):
                if fixed:
                    own = slice(place, place + 1), slice(None), slice(0, len(row.before))
                    row.past = [(keys[own].clone(), values[own].clone()) for keys, values in past]
                if row.keeps:
                    row.goal = logits[place, len(rest) - len(row.reply) : len(rest)].log_softmax(dim=-1).half()

    def _read_on(
        self, past: list[tuple[Tensor, Tensor]] | None, texts: Sequence[Sequence[int]], last: int
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """(KV by layer of all, logits [texts, last, vocabulary]) of the base, of several texts behind one past. Shorter ones are filled up
        behind their end, where nothing looks."""
        wide, behind = max(map(len, texts)), 0 if past is None else past[0][0].shape[2]
        cache = DynamicCache(config=self.model.config)
        for number, (keys, values) in enumerate(past or ()):
            cache.update(keys.expand(len(texts), -1, -1, -1), values.expand(len(texts), -1, -1, -1), number)
        ids = torch.tensor([[*text, *[0] * (wide - len(text))] for text in texts], device=self._device)
        mask = torch.tensor([[1] * (behind + len(text)) + [0] * (wide - len(text)) for text in texts], device=self._device)
        with self.lock, running(self.model):
            logits = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=last).logits
        return [(layer.keys, layer.values) for layer in cache.layers], logits.float()

    def _replies(self, rows: Sequence[_Row], weights: _Weights | None) -> list[Tensor]:
        """Logits [reply, vocabulary] behind which each token of the replies stands. Call it under the lock."""
        fixed = rows[0].past is not None
        texts = [(row.invocation if fixed else row.before + row.invocation) + row.reply[:-1] for row in rows]
        wide, most = max(map(len, texts)), max(len(row.reply) for row in rows)
        past = _past(rows, weights)
        behind = 0 if past is None else past[0][0].shape[2]
        before = [len(row.before) if fixed else behind for row in rows]
        mask = torch.zeros((len(rows), behind + wide), dtype=torch.long)
        positions = torch.zeros((len(rows), wide), dtype=torch.long)
        ids = torch.zeros((len(rows), wide), dtype=torch.long)
        for place, (text, start) in enumerate(zip(texts, before, strict=True)):
            mask[place, behind - start : behind] = 1
            mask[place, behind + wide - len(text) :] = 1
            ids[place, wide - len(text) :] = torch.tensor(text)
            positions[place, wide - len(text) :] = torch.arange(start, start + len(text))
        cache = None
        if past is not None:
            cache = DynamicCache(config=self.model.config)
            for number, (keys, values) in enumerate(past):
                cache.update(keys, values, number)
        with adapted(self.model, [] if weights is None else weights.acting()):
            logits = self.model(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                position_ids=positions.to(self._device),
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=most,
            ).logits
        return [logits[place, most - len(row.reply) :] for place, row in enumerate(rows)]

    def _taught(self, rows: Sequence[_Row], weights: _Weights) -> Tensor:
        """Cross-entropy of the replies, or divergence from their teacher, a mean over their tokens."""
        if rows[0].told is not None:
            return self._strayed(rows, weights)
        with self.lock, running(self.model, as_it_is=True), torch.enable_grad():
            found = self._replies(rows, weights)
            wanted = torch.tensor([token for row in rows for token in row.reply], device=found[0].device)
            losses = cross_entropy(torch.cat(found).float(), wanted, reduction="none")
            return _weighted(losses, rows)

    def _strayed(self, rows: Sequence[_Row], weights: _Weights) -> Tensor:
        """Divergence from what the base says along the replies, in nats, a mean over their tokens."""
        with self.lock, running(self.model, as_it_is=True), torch.enable_grad():
            now = torch.cat(self._replies(rows, weights)).float().log_softmax(dim=-1)
            goal = torch.cat([row.goal for row in rows if row.goal is not None]).float()
            return _weighted((goal.exp() * (goal - now)).sum(dim=-1), rows)

    def _answered(self, rows: Sequence[_Row], weights: _Weights) -> bool:
        """Whether each reply would be given, token by token."""
        with self.lock, running(self.model, as_it_is=True):
            found = self._replies(rows, weights)
        return all(logits.argmax(dim=-1).tolist() == row.reply for logits, row in zip(found, rows, strict=True))

    @property
    def _device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device  # type: ignore[no-any-return]


def _weighted(values: Tensor, rows: Sequence[_Row]) -> Tensor:
    """The mean of a value for each token of the replies, the answers counting more."""
    weights = torch.cat([row.weights for row in rows]).to(values.device)
    return (values * weights).sum() / weights.sum()


def _past(rows: Sequence[_Row], weights: _Weights | None) -> list[tuple[Tensor, Tensor]] | None:
    """KV before the texts, by layer [rows, heads, tokens, head_dim]: of what stands before each turn, or the prefix in training."""
    if weights is not None and weights.prefix is not None:
        return [(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1)) for keys, values in weights.prefix]
    pasts = [row.past for row in rows if row.past is not None]
    if not pasts:
        return None
    longest = max(past[0][0].shape[2] for past in pasts)

    def filled(tensor: Tensor) -> Tensor:
        return pad(tensor, (0, 0, longest - tensor.shape[2], 0))

    return [
        (torch.cat([filled(past[layer][0]) for past in pasts]), torch.cat([filled(past[layer][1]) for past in pasts]))
        for layer in range(len(pasts[0]))
    ]


def _share(step: int, steps: int) -> float:
    """Of the learning rate: up at first, then down along a cosine."""
    return min(1.0, (step + 1) / WARM) * (LEFT + (1 - LEFT) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))))


def _drawn(rows: Sequence[_Row], count: int, seed: int) -> Iterator[list[_Row]]:
    """Batches of so many rows of about one length; each comes once before any comes again."""
    rng = random.Random(seed)
    while rows:
        ordered = sorted(rows, key=lambda row: len(row.reply) + len(row.before) / 1000 + rng.uniform(-1.5, 1.5))
        batches = [ordered[start : start + count] for start in range(0, len(ordered), count)]
        rng.shuffle(batches)
        yield from batches


def _step(parameters: Sequence[Tensor], gradients: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
    for tensor, gradient in zip(parameters, gradients, strict=True):
        tensor.grad = gradient
    torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _handed_out(step: int, good: int, weights: _Weights, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {"step": torch.tensor(step), "good": torch.tensor(good)}
    for place, tensor in enumerate(weights.parameters):
        found[f"{place}"] = tensor.detach().clone()
        found |= {f"{place}.{name}": optimizer.state[tensor][name].detach().clone() for name in ("exp_avg", "exp_avg_sq", "step")}
    return found


def _take_in(
    state: Mapping[str, Tensor], weights: _Weights, optimizer: torch.optim.Optimizer, schedule: Any, draws: Sequence[Iterator[Any]]
) -> tuple[int, int]:
    """Go on where `state` was handed out; (step, checks passed in a row)."""
    step = int(state["step"])
    with torch.no_grad():
        for place, tensor in enumerate(weights.parameters):
            tensor.copy_(state[f"{place}"])
            optimizer.state[tensor] = {name: state[f"{place}.{name}"].clone() for name in ("exp_avg", "exp_avg_sq", "step")}
    schedule.last_epoch = step
    for group, rate in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
        group["lr"] = rate * schedule.lr_lambdas[0](step)
    for _ in range(step):
        for draw in draws:
            next(draw, None)
    return step, int(state["good"])

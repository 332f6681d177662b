"""What a training consists of: its settings, its rows, the weights that are trained, and the steps of the optimizer."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from memos_core.cube import ParameterForm
from memos_core.errors import EngineError
from memos_core.hf.cache import Layout
from memos_core.hf.lowrank import Acting, LowRank, linear_layers
from memos_core.hf.module import Module, from_kv, low_rank_config, prefix_config

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WARM = 8  # steps until the full learning rate
LEFT = 0.1  # of the learning rate, at the end
CLIP = 1.0  # of the gradient's norm
FEWEST = 12  # facts; fewer take as many steps: until some sixty, what is asked for is known, but not yet of whom


@dataclass(frozen=True)
class Settings:
    """How a module is trained. taught, strangers, kept: lessons in one step: of what is taught, of its like that is kept, of all else that is.

    pull: weight of the divergence. rate: learning rate. steps: at most; None: `begin` and `a_fact` for each fact, FEWEST at least.
    It ends before when `patience` checks in a row, `every` so many steps from the step `least` on, have found every watched lesson learned
    and the divergence at most `settled` nats. first_layer: from which share of the model's depth on its layers are adapted.
    """

    rank: int = 8
    rate: float = 5e-3
    steps: int | None = None
    begin: int = 24
    a_fact: int = 5
    taught: int = 8
    strangers: int = 5
    kept: int = 4
    pull: float = 3.0
    every: int = 10
    patience: int = 2
    least: int = 30
    settled: float = 0.05
    first_layer: float = 0.3

    @classmethod
    def of(cls, form: ParameterForm | str, **changed: Any) -> Settings:
        """Those that a form is trained with, changed by name."""
        return cls(**{**OF_FORM.get(ParameterForm(form), {}), **changed})

    def most(self, facts: int) -> int:
        """How many steps so many facts take at most."""
        return self.steps or self.begin + self.a_fact * max(facts, FEWEST)


# These read the turns anew in every step; under an activated LoRA their KV is fixed.
OF_FORM: dict[ParameterForm, dict[str, Any]] = {
    ParameterForm.LORA: {"begin": 28, "a_fact": 4, "taught": 7, "strangers": 3, "kept": 3},
    ParameterForm.PREFIX: {"rate": 3e-2, "begin": 32, "a_fact": 3, "taught": 7, "strangers": 3, "kept": 4, "pull": 2.25},
}


@dataclass(eq=False)
class Row:
    """A lesson as tokens: `before` the turn, its `invocation`, the reply with its end. like: it is of the kind that is taught.

    past: the base's KV of `before`, where it is fixed. common: so many tokens of `before` that all rows begin with, where they are read
    anew in each step: once for a whole batch. goal: log-probabilities [reply, vocabulary] of what is kept, the base's, or of what is
    imitated, those behind `told`: the same request with the teacher's text before it.
    """

    before: list[int]
    invocation: list[int]
    reply: list[int]
    keeps: bool
    weights: Tensor  # of the reply's tokens: the answer counts more
    told: list[int] | None = None
    past: list[tuple[Tensor, Tensor]] | None = None
    common: int = 0
    like: bool = False
    goal: Tensor | None = None


class Weights:
    """What is trained: factors, or how far a prefix is from the KV that it begins as, in steps."""

    def __init__(self, model: Any, form: ParameterForm, settings: Settings, seed: int, start: list[tuple[Tensor, Tensor]] | None) -> None:
        self.form = form
        self.low_rank: LowRank | None = None
        self._start: list[Tensor] = []
        if start is not None:
            self._start = [tensor for pair in start for tensor in pair]
            self._strides = strides(start)
            self.parameters = [torch.zeros_like(tensor).requires_grad_() for tensor in self._start]
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

    def prefix(self) -> list[tuple[Tensor, Tensor]]:
        """KV by layer as it is now; empty where there is no prefix."""
        now = (
            [start + stride * away for start, stride, away in zip(self._start, self._strides, self.parameters, strict=True)]
            if self._start
            else []
        )
        return list(zip(now[::2], now[1::2], strict=True))

    def done(self, layout: Layout, base: str | None, invocation: Sequence[int]) -> Module:
        if trained := self.prefix():
            prefix = from_kv([(keys.detach(), values.detach()) for keys, values in trained])
            return Module(prefix_config(prefix, layout, base), prefix)
        assert self.low_rank is not None
        factors = {name: (a.detach().clone(), b.detach().clone()) for name, (a, b) in self.low_rank.factors.items()}
        weights = LowRank(factors, self.low_rank.scaling, self.low_rank.invoked)
        return Module(low_rank_config(weights, base, tuple(invocation)), weights)


def strides(start: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """How long a step is for keys and for values, layer by layer, [1, heads, tokens, 1] each or one number.

    Values differ in size by a factor of fifty: those of the first layers are small, and those of the first token, to which heads attend that
    look for nothing. A full step would be a multiple of them, and what they are for would be lost; so the smaller third is moved in
    proportion to its size. Ours; *Cartridges* freezes the first token for the same reason.
    """
    sizes = [values.pow(2).mean(dim=-1, keepdim=True).sqrt() for _, values in start]
    usual = torch.quantile(torch.cat([size.flatten() for size in sizes]), 1 / 3)
    return [stride for size in sizes for stride in (torch.ones(1, device=size.device), (size / usual).clamp(max=1.0))]


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


def weighted(values: Tensor, rows: Sequence[Row]) -> Tensor:
    """The mean of a value for each token of the replies, the answers counting more."""
    weights = torch.cat([row.weights for row in rows]).to(values.device)
    return (values * weights).sum() / weights.sum()


def strayed(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """Divergence from the goals of rows, in nats, a mean over their tokens. logits: [tokens of all replies, vocabulary]."""
    goal = torch.cat([row.goal for row in rows if row.goal is not None]).float()
    return weighted((goal.exp() * (goal - logits.log_softmax(dim=-1))).sum(dim=-1), rows)


@contextmanager
def quick(device: torch.device) -> Iterator[None]:
    """Products in bfloat16 where the machine multiplies it itself, and on a CPU attention as plain products, whose gradients are computed
    faster than those of the fused one. For training: what is learned was the same, at three quarters of the time."""
    kind = device.type
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)  # not public: where it is not known, nothing is rounded
    able = native() if kind == "cpu" else kind == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(kind, torch.bfloat16, enabled=able), sdpa_kernel(SDPBackend.MATH) if kind == "cpu" else nullcontext():
        yield


def joined(pasts: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> list[tuple[Tensor, Tensor]]:
    """KV of several texts one behind the other, by layer [1, heads, tokens of all, head_dim]."""
    return [
        (torch.cat([past[layer][0] for past in pasts], dim=2), torch.cat([past[layer][1] for past in pasts], dim=2))
        for layer in range(len(pasts[0]))
    ]


def share(step: int, steps: int) -> float:
    """Of the learning rate: up at first, then down along a cosine."""
    return min(1.0, (step + 1) / WARM) * (LEFT + (1 - LEFT) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))))


def drawn(rows: Sequence[Row], count: int, seed: int) -> Iterator[list[Row]]:
    """Batches of so many rows of about one length; each comes once before any comes again."""
    rng = random.Random(seed)
    while rows:
        ordered = sorted(rows, key=lambda row: len(row.reply) + len(row.before) / 1000 + rng.uniform(-1.5, 1.5))
        batches = [ordered[start : start + count] for start in range(0, len(ordered), count)]
        rng.shuffle(batches)
        yield from batches


def apply(parameters: Sequence[Tensor], gradients: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
    for tensor, gradient in zip(parameters, gradients, strict=True):
        tensor.grad = gradient
    torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def handed_out(step: int, good: int, weights: Weights, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {"step": torch.tensor(step), "good": torch.tensor(good)}
    for place, tensor in enumerate(weights.parameters):
        found[f"{place}"] = tensor.detach().clone()
        found |= {f"{place}.{name}": optimizer.state[tensor][name].detach().clone() for name in ("exp_avg", "exp_avg_sq", "step")}
    return found


def take_in(
    state: Mapping[str, Tensor], weights: Weights, optimizer: torch.optim.Optimizer, schedule: Any, draws: Sequence[Iterator[Any]]
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

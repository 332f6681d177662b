"""Low-rank adapters: what is added to the products of a model's linear layers, attached by hooks and taken off again.

A module acts in a context manager, on the calls made inside, and never touches the model's weights: detached, the model is bit for bit
what it was, several add up, and rows of one batch can have different ones.

Source: LoRA (Hu et al. 2021); activated LoRA (Greenewald et al. 2025), which acts on nothing before the invocation that begins the last
turn, so that KV of the base model stays valid up to there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from memos_core.errors import IdentityMismatch

WRAPPED = "base_model.model."  # PEFT's wrapper, before the names of the bare model's modules


@dataclass(frozen=True, eq=False)
class LowRank:
    """factors: by the linear layer's name in the bare model, (A [rank, in], B [out, rank]), float32. scaling: of B A.

    invoked: acts from the invocation of the last turn on alone.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    scaling: float
    invoked: bool = False

    @property
    def rank(self) -> int:
        return max(a.shape[0] for a, _ in self.factors.values())

    @property
    def targets(self) -> tuple[str, ...]:
        """The last parts of the names of the layers that it adds to."""
        return tuple(sorted({name.rpartition(".")[2] for name in self.factors}))

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for pair in self.factors.values() for tensor in pair)


@dataclass(frozen=True, eq=False)
class Acting:
    """A low-rank module in one call of the model: from which of its tokens on, and on which of its rows; None: on all."""

    module: LowRank
    first: int = 0
    rows: tuple[int, ...] | None = None


def linear_layers(model: Any) -> dict[str, Any]:
    """The model's linear layers by their names in the bare model."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            found[name.removeprefix(WRAPPED).removesuffix(".base_layer")] = module
    return found


def check_fits(model: Any, module: LowRank) -> None:
    """Raises IdentityMismatch unless every layer that it adds to is there and of its shape."""
    layers = linear_layers(model)
    for name, (a, b) in module.factors.items():
        layer = layers.get(name)
        if layer is None:
            raise IdentityMismatch(f"the model has no linear layer {name!r}: the adapter was made for another model")
        if tuple(layer.weight.shape) != (b.shape[0], a.shape[1]) or a.shape[0] != b.shape[1]:
            raise IdentityMismatch(
                f"layer {name!r} is of shape {tuple(layer.weight.shape)}, the adapter of ({b.shape[0]}, {a.shape[1]}): "
                "it was made for another model"
            )


@contextmanager
def adapted(model: Any, acting: Sequence[Acting]) -> Iterator[None]:
    """Inside, calls of the model have the modules added. The hooks always come off. Call it under the engine's lock."""
    if not acting:
        yield
        return
    by_layer: dict[str, list[Acting]] = {}
    for each in acting:
        for name in each.module.factors:
            by_layer.setdefault(name, []).append(each)
    layers = linear_layers(model)
    with ExitStack() as stack:
        for name, several in by_layer.items():
            stack.callback(layers[name].register_forward_hook(_adding(name, several)).remove)
        yield


def _adding(name: str, several: Sequence[Acting]) -> Any:
    def add(layer: Any, inputs: Any, output: Tensor) -> Tensor:
        total = output
        for each in several:
            (a, b), x = each.module.factors[name], inputs[0]
            if each.first == 0 and each.rows is None:
                total = total + linear(linear(x, a), b) * each.module.scaling
                continue
            rows = list(range(len(x))) if each.rows is None else list(each.rows)
            if rows and each.first < x.shape[1]:
                total = total.clone() if total is output else total
                total[rows, each.first :] += linear(linear(x[rows, each.first :], a), b) * each.module.scaling
        return total

    return add

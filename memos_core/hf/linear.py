"""Products of few rows with a weight matrix, divided among the threads.

A decoded token is one row, and a question a few dozen. BLAS libraries divide large products among threads, but a single row they read the
weights for with one thread, and of few rows they make poor blocks. Here the weight is seen as a batch of as many parts as there are
threads, without copying it. Results differ from the stock product's by rounding alone (measured: less than 1e-6 of the largest).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

FEW = 4
"""Up to so many rows the weight is multiplied by them, above it they by the weight."""
MOST_ROWS = 64
"""Above it the stock product is as quick."""
LEAST_CELLS = {False: 100_000, True: 300_000}
"""Cells of a weight below which dividing it costs more than it gives; True: for a single row."""


def divided(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """x [..., in] times weight [out, in], plus bias [out]; None where the stock product serves better."""
    wide, parts = weight.shape[1], torch.get_num_threads()
    rows = x.numel() // wide
    if (
        not 1 <= rows <= MOST_ROWS
        or parts < 2
        or weight.shape[0] % parts
        or weight.numel() < LEAST_CELLS[rows == 1]
        or not x.dtype == weight.dtype == torch.float32
        or x.device.type != "cpu"
        or not weight.is_contiguous()
        or torch.is_grad_enabled()
    ):
        return None
    split, flat = weight.view(parts, -1, wide), x.reshape(rows, wide)
    if rows <= FEW:  # these strides matter: for others it takes a path that is several times as slow
        product = torch.bmm(split, flat.t().expand(parts, -1, -1)).view(-1, rows).t()
    else:
        product = torch.bmm(flat.expand(parts, -1, -1), split.transpose(1, 2)).transpose(0, 1)
    product = product.reshape(*x.shape[:-1], -1)
    return product if bias is None else product.add_(bias)


def _forward(module: torch.nn.Linear, thread: int) -> Callable[[Tensor], Tensor]:
    def forward(input: Tensor) -> Tensor:
        found = divided(input, module.weight, module.bias) if threading.get_ident() == thread else None
        return torch.nn.functional.linear(input, module.weight, module.bias) if found is None else found

    return forward


@contextmanager
def dividing(modules: Sequence[Any]) -> Iterator[None]:
    """Inside, the plain linear modules among these divide products of few rows, when called by this thread. Afterwards they are as before."""
    thread = threading.get_ident()
    changed = [module for module in modules if type(module) is torch.nn.Linear and "forward" not in module.__dict__]
    try:
        for module in changed:
            module.__dict__["forward"] = _forward(module, thread)
        yield
    finally:
        for module in changed:
            module.__dict__.pop("forward", None)

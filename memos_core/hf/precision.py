"""KV in fewer bytes: how the tensors of one layer are packed for a file and unpacked from it. Pure.

int8 and int4 are uniform between the lowest and the highest number of a group: of a channel for keys, of a token for values, since
keys have outlying channels and values do not. Source: KIVI (Liu et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from memos_core.cube import Precision
from memos_core.errors import InvalidInput

FLOATS = {Precision.FLOAT32: torch.float32, Precision.FLOAT16: torch.float16, Precision.BFLOAT16: torch.bfloat16}

LEVELS = {Precision.INT8: 255, Precision.INT4: 15}  # steps between the lowest and the highest number of a group
GROUP = 64  # tokens of a channel of keys, or channels of a token of values


def as_precision(value: object) -> Precision:
    """Raises InvalidInput."""
    try:
        return Precision(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise InvalidInput(f"precision must be one of {', '.join(Precision)}, got {value!r}") from error


def native(dtype: torch.dtype) -> Precision:
    """The precision that loses nothing of a model's own numbers in the fewest bytes."""
    return next((precision for precision, own in FLOATS.items() if own == dtype), Precision.FLOAT32)


def lossless(precision: Precision, dtype: torch.dtype) -> bool:
    """Whether numbers of that type come back as they were."""
    return precision in (native(dtype), Precision.FLOAT32)


def pack(tensor: Tensor, which: int, precision: Precision) -> dict[str, Tensor]:
    """Keys (which 0) or values (1) [heads, tokens, head_dim] as named tensors of fewer bytes; the names are suffixes."""
    if precision in FLOATS:
        return {"": tensor.to(FLOATS[precision]).contiguous()}
    levels = LEVELS[precision]
    grouped, axis = _grouped(tensor.float(), which)
    low = grouped.amin(dim=axis, keepdim=True).half()  # as it will be read
    step = ((grouped.amax(dim=axis, keepdim=True) - low.float()) / levels).clamp_min(1e-7).half()
    numbers = ((grouped - low.float()) / step.float()).round().clamp(0, levels)
    codes = _ungrouped(numbers, tensor.shape, which).to(torch.uint8)
    if precision is Precision.INT4:
        if codes.shape[2] % 2:
            codes = torch.nn.functional.pad(codes, (0, 1))
        codes = codes[..., ::2] | (codes[..., 1::2] << 4)
    return {"": codes.contiguous(), ".step": step.contiguous(), ".low": low.contiguous()}


def shapes(precision: Precision, which: int, heads: int, tokens: int, dim: int) -> dict[str, tuple[int, ...]]:
    """The shapes that `pack` gives a tensor [heads, tokens, head_dim]."""
    if precision in FLOATS:
        return {"": (heads, tokens, dim)}
    count = -(-(tokens if which == 0 else dim) // GROUP)
    step = (heads, count, 1, dim) if which == 0 else (heads, tokens, count, 1)
    return {"": (heads, tokens, -(-dim // 2) if precision is Precision.INT4 else dim), ".step": step, ".low": step}


def packed_bytes(precision: Precision, which: int, heads: int, tokens: int, dim: int) -> int:
    """How many bytes `pack` makes of a tensor [heads, tokens, head_dim]."""
    sizes = {"": FLOATS[precision].itemsize if precision in FLOATS else 1, ".step": 2, ".low": 2}
    return sum(math.prod(shape) * sizes[suffix] for suffix, shape in shapes(precision, which, heads, tokens, dim).items())


def unpack_into(parts: Mapping[str, Tensor], which: int, precision: Precision, start: int, end: int, out: Tensor) -> None:
    """Write tokens [start, end) of what was packed to `out` [heads, tokens, head_dim]."""
    codes = parts[""]
    if precision in FLOATS:
        out.copy_(codes[:, start:end])
        return
    if precision is Precision.INT4:
        codes = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(2)[..., : out.shape[2]]
    grouped, _ = _grouped(codes.float(), which)
    out.copy_(_ungrouped(grouped * parts[".step"].float() + parts[".low"].float(), codes.shape, which)[:, start:end])


def _grouped(numbers: Tensor, which: int) -> tuple[Tensor, int]:
    """(numbers with an axis more that runs through each group, that axis). The last group is filled up with its last number."""
    heads, tokens, dim = numbers.shape
    if which == 0:
        short = -tokens % GROUP
        filled = torch.cat([numbers, numbers[:, -1:].expand(-1, short, -1)], dim=1) if short else numbers
        return filled.view(heads, -1, GROUP, dim), 2
    short = -dim % GROUP
    filled = torch.cat([numbers, numbers[..., -1:].expand(-1, -1, short)], dim=2) if short else numbers
    return filled.view(heads, tokens, -1, GROUP), 3


def _ungrouped(grouped: Tensor, shape: torch.Size, which: int) -> Tensor:
    heads, tokens, dim = shape
    return grouped.reshape(heads, -1, dim)[:, :tokens] if which == 0 else grouped.reshape(heads, tokens, -1)[..., :dim]

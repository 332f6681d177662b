"""KV in fewer bytes: how the tensors of one layer are packed for a file and unpacked from it. Pure.

int8 and int4 are uniform: keys with one scale per channel, values with one per token, since keys have outlying channels and
values do not. Source: KIVI (Liu et al. 2024), which also groups the tokens of a channel at 4 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import torch
from torch import Tensor

from memos_core.errors import InvalidInput

GROUP = 64  # tokens that share one scale and offset per channel, or channels per token, at 4 bits


class Precision(StrEnum):
    """How the numbers of kept KV are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT4 = "int4"


FLOATS = {Precision.FLOAT32: torch.float32, Precision.FLOAT16: torch.float16, Precision.BFLOAT16: torch.bfloat16}


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
    numbers = tensor.float()
    if precision is Precision.INT8:
        scale = (numbers.abs().amax(dim=1 if which == 0 else 2, keepdim=True) / 127).clamp_min(1e-30)
        return {"": (numbers / scale).round().to(torch.int8).contiguous(), ".scale": scale.contiguous()}
    grouped, lows, highs = _grouped(numbers, which)
    lows = lows.half().float()  # as it will be read
    step = ((highs - lows) / 15).clamp_min(1e-7).half().float()
    codes = _ungrouped(((grouped - lows) / step).round().clamp(0, 15), tensor.shape, which).to(torch.uint8)
    if codes.shape[2] % 2:
        codes = torch.nn.functional.pad(codes, (0, 1))
    packed = (codes[..., ::2] | (codes[..., 1::2] << 4)).contiguous()
    return {"": packed, ".scale": step.half().contiguous(), ".low": lows.half().contiguous()}


def suffixes(precision: Precision) -> tuple[str, ...]:
    """The names that `pack` gives."""
    return ("",) if precision in FLOATS else ("", ".scale") if precision is Precision.INT8 else ("", ".scale", ".low")


def unpack_into(parts: Mapping[str, Tensor], which: int, precision: Precision, start: int, end: int, out: Tensor) -> None:
    """Write tokens [start, end) of what was packed to `out` [heads, tokens, head_dim]."""
    codes = parts[""]
    if precision in FLOATS:
        out.copy_(codes[:, start:end])
    elif precision is Precision.INT8:
        scale = parts[".scale"] if which == 0 else parts[".scale"][:, start:end]
        if out.dtype == scale.dtype and out.device == scale.device:
            torch.mul(codes[:, start:end], scale, out=out)
        else:
            out.copy_(codes[:, start:end] * scale)
    else:
        halves = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(2)[..., : out.shape[2]].float()
        grouped, _, _ = _grouped(halves, which)
        whole = _ungrouped(grouped * parts[".scale"].float() + parts[".low"].float(), halves.shape, which)
        out.copy_(whole[:, start:end])


def shapes(precision: Precision, which: int, heads: int, tokens: int, dim: int) -> dict[str, tuple[int, ...]]:
    """The shapes that `pack` gives a tensor [heads, tokens, head_dim]."""
    if precision in FLOATS:
        return {"": (heads, tokens, dim)}
    if precision is Precision.INT8:
        return {"": (heads, tokens, dim), ".scale": (heads, 1, dim) if which == 0 else (heads, tokens, 1)}
    groups = -(-tokens // GROUP) if which == 0 else -(-dim // GROUP)
    scale = (heads, groups, 1, dim) if which == 0 else (heads, tokens, groups, 1)
    return {"": (heads, tokens, -(-dim // 2)), ".scale": scale, ".low": scale}


def _grouped(numbers: Tensor, which: int) -> tuple[Tensor, Tensor, Tensor]:
    """(numbers with an axis of GROUP, the lowest and the highest of each group). The last group is filled up with its last number."""
    heads, tokens, dim = numbers.shape
    if which == 0:
        short = -tokens % GROUP
        filled = torch.cat([numbers, numbers[:, -1:].expand(-1, short, -1)], dim=1) if short else numbers
        grouped = filled.view(heads, -1, GROUP, dim)
        return grouped, grouped.amin(dim=2, keepdim=True), grouped.amax(dim=2, keepdim=True)
    short = -dim % GROUP
    filled = torch.cat([numbers, numbers[..., -1:].expand(-1, -1, short)], dim=2) if short else numbers
    grouped = filled.view(heads, tokens, -1, GROUP)
    return grouped, grouped.amin(dim=3, keepdim=True), grouped.amax(dim=3, keepdim=True)


def _ungrouped(grouped: Tensor, shape: torch.Size, which: int) -> Tensor:
    heads, tokens, dim = shape
    return grouped.reshape(heads, -1, dim)[:, :tokens] if which == 0 else grouped.reshape(heads, tokens, -1)[..., :dim]

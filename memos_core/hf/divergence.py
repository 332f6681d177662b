"""How far one run of a model lies from another: the measure that every lossy mode is reported by."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

PROBE = 64  # tokens that are read behind stored KV to measure what it loses


class Difference(NamedTuple):
    """divergence: KL of the exact next-token distribution to the other in nats, a mean over tokens.

    agreement: share of the tokens where both find the same next token likeliest, 0 to 1.
    """

    divergence: float
    agreement: float


EQUAL = Difference(0.0, 1.0)


def difference(exact: Tensor, other: Tensor) -> Difference:
    """Of logits [tokens, vocabulary] to logits of the same tokens."""
    truth, guess = exact.double().log_softmax(dim=-1), other.double().log_softmax(dim=-1)
    divergence = (truth.exp() * (truth - guess)).sum(dim=-1).mean().clamp_min(0)
    return Difference(float(divergence), float((truth.argmax(dim=-1) == guess.argmax(dim=-1)).double().mean()))

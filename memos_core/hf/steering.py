"""Steering vectors: directions in a model's hidden states that are added while it answers. Values with algebra.

Source: Contrastive Activation Addition (Rimsky et al. 2024): the mean difference of hidden states on contrastive pairs; and
repeng for the algebra. MemOS §4.1 names steering as activation memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from memos_core.errors import IdentityMismatch, InvalidInput
from memos_core.hf import tensors

FORM = "steering vector"


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """directions: by layer a float32 tensor [hidden size], added to what that layer puts out. model: key of the model it belongs to."""

    directions: Mapping[int, Tensor]
    model: str

    def __add__(self, other: SteeringVector) -> SteeringVector:
        """Raises IdentityMismatch for vectors of two models."""
        if self.model != other.model:
            raise IdentityMismatch("the two steering vectors belong to different models and cannot be added")
        layers = sorted({*self.directions, *other.directions})
        nothing = torch.zeros(1)
        return SteeringVector(
            {layer: self.directions.get(layer, nothing) + other.directions.get(layer, nothing) for layer in layers}, self.model
        )

    def __mul__(self, factor: float) -> SteeringVector:
        return SteeringVector({layer: direction * factor for layer, direction in self.directions.items()}, self.model)

    __rmul__ = __mul__

    def __neg__(self) -> SteeringVector:
        return self * -1.0

    def __sub__(self, other: SteeringVector) -> SteeringVector:
        return self + -other

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SteeringVector)
            and self.model == other.model
            and self.directions.keys() == other.directions.keys()
            and all(torch.equal(direction, other.directions[layer]) for layer, direction in self.directions.items())
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def key(self) -> str:
        """sha256 hex over layers and numbers."""
        digest = sha256(self.model.encode())
        for layer in sorted(self.directions):
            numbers: Any = self.directions[layer].contiguous().numpy()
            digest.update(f" {layer} ".encode() + numbers.tobytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        return tensors.write(FORM, self.model, self.directions)

    @classmethod
    def from_bytes(cls, data: bytes) -> SteeringVector:
        """Raises InvalidInput when it is not one."""
        model, directions = tensors.read(data, FORM)
        return cls(directions, model)


@dataclass(frozen=True, eq=False)
class Steering:
    """A vector at a strength, as it is attached."""

    vector: SteeringVector
    strength: float


def steering_key(steering: Sequence[Steering]) -> str:
    """What of the model's identity steering is; "none" without any."""
    return sha256(" ".join(f"{each.vector.key} {each.strength!r}" for each in steering).encode()).hexdigest() if steering else "none"


def decoder_layers(model: Any) -> list[Any]:
    """The model's decoder layers, first to last. Raises InvalidInput when they cannot be told."""
    count = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return list(module)
    raise InvalidInput("this model's decoder layers cannot be told apart, so nothing can be read from or added to them")


def checked(model: Any, vector: SteeringVector, strength: float, key: str) -> Steering:
    """Raises IdentityMismatch or InvalidInput unless the vector fits the model."""
    if not isinstance(vector, SteeringVector):
        raise InvalidInput(f"a steering vector is needed, got {type(vector).__name__}; engine.steering_vector(...) makes one")
    if isinstance(strength, bool) or not isinstance(strength, int | float) or strength != strength or abs(strength) == float("inf"):
        raise InvalidInput(f"strength must be a finite number, got {strength!r}")
    if vector.model != key:
        raise IdentityMismatch("the steering vector was made from another model; make it anew from this one")
    return Steering(vector, float(strength))


@contextmanager
def steered(model: Any, steering: Sequence[Steering]) -> Iterator[None]:
    """Inside, the vectors are added behind their layers. The hooks always come off. Call it under the engine's lock."""
    if not steering:
        yield
        return
    total: dict[int, Tensor] = {}
    for each in steering:
        for layer, direction in each.vector.directions.items():
            total[layer] = total.get(layer, torch.zeros(1)) + each.strength * direction
    layers = decoder_layers(model)
    with ExitStack() as stack:
        for layer, direction in total.items():
            handle = layers[layer].register_forward_hook(_adding(direction))
            stack.callback(handle.remove)
        yield


def _adding(direction: Tensor) -> Any:
    def add(module: Any, inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        moved = hidden + direction.to(hidden.device, hidden.dtype)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    return add

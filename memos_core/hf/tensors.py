"""Tensors by layer as a safetensors file: hidden states, attention weights, steering vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from memos_core.errors import InvalidInput

FORMAT = "memos-layers-1"


def write(form: str, model: str, tensors: Mapping[int, Tensor]) -> bytes:
    """The file's bytes; equal tensors make equal files. model: identity key of the model that they were read from."""
    metadata = {"memos": json.dumps({"format": FORMAT, "form": form, "model": model}, sort_keys=True)}
    return bytes(save({f"layers.{layer}": tensors[layer].contiguous() for layer in sorted(tensors)}, metadata))


def read(data: bytes, form: str | None = None) -> tuple[str, dict[int, Tensor]]:
    """(model, tensor by layer) of a file of that form, or of any. Raises InvalidInput when it is not one."""
    try:
        length = int.from_bytes(data[:8], "little")
        about: Any = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["memos"])
        if about["format"] != FORMAT or form not in (None, about["form"]):
            raise InvalidInput(f"the file holds no {form or 'tensors by layer'}")
        tensors = {int(name.removeprefix("layers.")): tensor for name, tensor in load(data).items()}
        return str(about["model"]), dict(sorted(tensors.items()))
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"the file holds no {form or 'tensors by layer'}, or is damaged") from error

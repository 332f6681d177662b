"""A module: weights that hold memory, with the key they go by, as a file and as a PEFT directory.

Three forms behind one type: low-rank factors that act everywhere (LoRA) or from the last turn's invocation on (activated LoRA), and a
trained prefix, KV that stands before every prompt (PEFT calls it a cartridge). The file is safetensors with PEFT's own names, and PEFT's
configuration in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from memos_core.cube import ParameterForm
from memos_core.errors import InvalidInput
from memos_core.hf.cache import Layout, Payload
from memos_core.hf.lowrank import WRAPPED, LowRank

FORMAT = "memos-module-1"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "prompt_embeddings"
_PLAIN = {"LORA": True, "CARTRIDGE": False}
# settings of a LoRA that change what it computes and that are not served here: (name, what it is when it is off)
_OFF: tuple[tuple[str, Any], ...] = (
    ("use_dora", False), ("lora_bias", False), ("bias", "none"), ("fan_in_fan_out", False), ("modules_to_save", None),
    ("trainable_token_indices", None), ("target_parameters", None), ("layer_replication", None), ("use_qalora", False),
    ("rank_pattern", {}), ("alpha_pattern", {}), ("use_bdlora", None), ("arrow_config", None), ("kasa_config", None),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrainedPrefix:
    """KV that stands before every prompt: float32 [tokens, layers * 2 * heads * head_dim], keys of all layers and values in PEFT's order."""

    embeddings: Tensor

    @property
    def tokens(self) -> int:
        return int(self.embeddings.shape[0])

    @property
    def bytes(self) -> int:
        return self.embeddings.nbytes


@dataclass(frozen=True, eq=False)
class Module:
    """config: PEFT's. weights: low-rank factors or a trained prefix."""

    config: Mapping[str, Any]
    weights: LowRank | TrainedPrefix

    @property
    def form(self) -> ParameterForm:
        if isinstance(self.weights, TrainedPrefix):
            return ParameterForm.PREFIX
        return ParameterForm.ALORA if self.weights.invoked else ParameterForm.LORA

    @cached_property
    def key(self) -> str:
        """sha256 hex over the file."""
        return sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """As one safetensors file; equal modules make equal files."""
        metadata = {"memos": json.dumps({"format": FORMAT, "config": dict(self.config)}, sort_keys=True)}
        return bytes(save(dict(sorted(self._tensors().items())), metadata))

    @classmethod
    def from_bytes(cls, data: bytes) -> Module:
        """Raises InvalidInput when it is not one."""
        try:
            length = int.from_bytes(data[:8], "little")
            about: Any = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["memos"])
            if about["format"] != FORMAT:
                raise InvalidInput("the file holds no module")
            return _module(about["config"], load(data))
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput("the file holds no module, or is damaged") from error

    def to_directory(self, folder: Path) -> None:
        """As the directory that PEFT reads."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(dict(self.config), indent=2, sort_keys=True) + "\n")
        (folder / WEIGHTS).write_bytes(save(dict(sorted(self._tensors().items())), {"format": "pt"}))

    @classmethod
    def from_directory(cls, folder: Path) -> Module:
        """A PEFT directory. Raises InvalidInput for one that cannot be used, and says why; nothing is unpickled."""
        if not (folder / WEIGHTS).is_file():
            found = sorted(path.name for path in folder.glob("adapter_model.*")) if folder.is_dir() else []
            raise InvalidInput(
                f"{folder} holds no {WEIGHTS}{f' but {found[0]}' if found else ''}: "
                "a module is a PEFT directory with safetensors, since nothing is unpickled here"
            )
        try:
            config = json.loads((folder / CONFIG).read_text())
            return _module(config, load((folder / WEIGHTS).read_bytes()))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(f"{folder} cannot be read as a PEFT adapter: {error}") from error

    def _tensors(self) -> dict[str, Tensor]:
        if isinstance(self.weights, TrainedPrefix):
            return {PREFIX: self.weights.embeddings.contiguous()}
        named = {}
        for name, (a, b) in self.weights.factors.items():
            named[f"{WRAPPED}{name}.lora_A.weight"] = a.contiguous()
            named[f"{WRAPPED}{name}.lora_B.weight"] = b.contiguous()
        return named


def _module(config: Any, tensors: Mapping[str, Tensor]) -> Module:
    kind = config.get("peft_type")
    if kind not in _PLAIN:
        raise InvalidInput(f"adapters of the type {kind!r} are not served; LORA, activated LORA and CARTRIDGE are")
    if kind == "CARTRIDGE":
        return Module(config, TrainedPrefix(tensors[PREFIX].float()))
    changed = [name for name, off in _OFF if (config.get(name) or off) != off]
    if changed:
        raise InvalidInput(f"the adapter sets {', '.join(changed)}, which is not served: plain LoRA factors are")
    factors: dict[str, list[Tensor | None]] = {}
    for name, tensor in tensors.items():
        layer, _, which = name.removeprefix(WRAPPED).rpartition(".lora_")
        if which not in ("A.weight", "B.weight"):
            raise InvalidInput(f"the adapter holds {name!r}, which is no LoRA factor")
        factors.setdefault(layer, [None, None])[which[0] == "B"] = tensor.float()
    pairs = {layer: (a, b) for layer, (a, b) in sorted(factors.items()) if a is not None and b is not None}
    if not pairs or len(pairs) != len(factors):
        raise InvalidInput("the adapter holds no LoRA factors, or one without the other")
    rank = config["r"]
    scaling = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    return Module(config, LowRank(pairs, float(scaling), bool(config.get("alora_invocation_tokens"))))


def low_rank_config(weights: LowRank, base: str | None, invocation: tuple[int, ...]) -> dict[str, Any]:
    """PEFT's configuration of low-rank factors."""
    from peft import LoraConfig

    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        r=weights.rank,
        lora_alpha=weights.scaling * weights.rank,
        target_modules=sorted(weights.factors),
        alora_invocation_tokens=list(invocation) if weights.invoked else None,
        inference_mode=True,
    )
    return _plain_config(config)


def prefix_config(weights: TrainedPrefix, layout: Layout, base: str | None) -> dict[str, Any]:
    """PEFT's configuration of a trained prefix."""
    from peft import CartridgeConfig

    (group,) = layout.groups
    config = CartridgeConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        num_virtual_tokens=weights.tokens,
        token_dim=group.heads * group.dim,
        num_transformer_submodules=1,
        num_attention_heads=group.heads,
        num_layers=len(layout.windows),
        num_frozen_tokens=0,
        inference_mode=True,
    )
    return _plain_config(config)


def _plain_config(config: Any) -> dict[str, Any]:
    """As JSON has it, without what is not set."""
    values = {name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    return {name: str(value) if name in ("peft_type", "task_type") and value else value for name, value in values.items()} | {
        "peft_type": str(getattr(config.peft_type, "value", config.peft_type)),
        "task_type": "CAUSAL_LM",
    }


def as_payload(prefix: TrainedPrefix, layout: Layout) -> Payload:
    """A trained prefix as the KV of so many tokens. Raises InvalidInput when it is not of the model's shape."""
    layers = len(layout.windows)
    if len(layout.groups) != 1 or prefix.embeddings.shape[1] != layers * 2 * layout.groups[0].heads * layout.groups[0].dim:
        raise InvalidInput("the trained prefix is not of this model's shape: it was made for another model")
    group = layout.groups[0]
    by_slot = prefix.embeddings.view(prefix.tokens, layers * 2, group.heads, group.dim).permute(1, 2, 0, 3)
    order = [2 * layer + which for layer, which in group.slots]
    return (by_slot[order].to(group.device, group.dtype).contiguous(),)


def from_kv(keys_and_values: list[tuple[Tensor, Tensor]]) -> TrainedPrefix:
    """KV by layer, [1, heads, tokens, head_dim] each, as a trained prefix."""
    flat = torch.stack([tensor[0] for pair in keys_and_values for tensor in pair])  # [layers * 2, heads, tokens, dim]
    return TrainedPrefix(flat.permute(2, 0, 1, 3).reshape(flat.shape[2], -1).float().contiguous())

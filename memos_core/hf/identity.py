"""What KV belongs to: the identity of a model, as it computes right now.

KV is valid for exactly one combination of weights, configuration, arithmetic, attention code, tokenizer, template and adapters.
`Watch` reads that combination before each request; weights are hashed once and again only when a tensor shows a change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from torch import Tensor

SAMPLED = 16  # elements looked at per tensor before each request
VOLATILE = {"name_or_path", "transformers_version", "use_cache", "torch_dtype", "dtype"}
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


@dataclass(frozen=True)
class Identity:
    """Each field is a hash or a short name; two models with equal identities compute the same KV from the same token ids."""

    weights: str
    config: str
    dtype: str
    attention: str
    rope: str
    tokenizer: str
    template: str
    adapters: str
    steering: str = "none"

    @cached_property
    def key(self) -> str:
        """sha256 hex over all fields."""
        return _digest(json.dumps(asdict(self), sort_keys=True))

    def difference(self, other: Identity) -> list[str]:
        """The names of the fields in which the two differ."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]


class Watch:
    """Reads the identity of one model and tokenizer. Not thread-safe: call it under the engine's lock."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._hashes: dict[str, tuple[Any, str]] = {}  # tensor name -> (how it looked, sha256 of its content)
        self._looks: tuple[Any, str, str] | None = None
        self._samples: tuple[Any, list[list[Tensor]]] | None = None  # (the tensors' looks, views of the few cells that are watched)
        self._tokenizer_looks: tuple[Any, str] | None = None

    def identity(self) -> Identity:
        weights, adapters = self._tensors()
        config = self._model.config.get_text_config(decoder=True)
        values = {name: value for name, value in config.to_dict().items() if name not in VOLATILE and not name.startswith("_")}
        rope = {
            name: values.get(name)
            for name in ("rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor")
            if values.get(name)
        }
        return Identity(
            weights=weights,
            config=_digest(json.dumps(values, sort_keys=True, default=str)),
            dtype=str(next(self._model.parameters()).dtype).removeprefix("torch."),
            attention=str(getattr(config, "_attn_implementation", "unknown")),
            rope=json.dumps(rope, sort_keys=True, default=str) if rope else "none",
            tokenizer=self._tokenizer_hash(),
            template=_digest(str(getattr(self._tokenizer, "chat_template", None))),
            adapters=adapters,
        )

    def _tensors(self) -> tuple[str, str]:
        """(hash of the base weights, description of what is active on top of them)."""
        base, extra, layers = _split(self._model)
        tensors = base | extra
        shapes = (list(tensors), [_look(tensor) for tensor in tensors.values()])
        if self._samples is None or self._samples[0] != shapes:
            self._samples = (shapes, _cells(tensors.values()))
        looks = (*shapes, _bytes(self._samples[1]), layers)
        if self._looks is None or self._looks[0] != looks:
            now = {name: (_look(tensor), _bytes(_cells([tensor]))) for name, tensor in tensors.items()}
            changed = {name: tensor for name, tensor in tensors.items() if self._hashes.get(name, (None,))[0] != now[name]}
            with ThreadPoolExecutor(max_workers=4) as pool:  # hashing releases the interpreter's lock
                for name, digest in zip(changed, pool.map(_content, changed.values()), strict=True):
                    self._hashes[name] = (now[name], digest)
            weights = _digest(json.dumps({name: self._hashes[name][1] for name in sorted(base)}))
            adapters = _digest(json.dumps([layers, {name: self._hashes[name][1] for name in sorted(extra)}])) if layers else "none"
            self._looks = (looks, weights, adapters)
        return self._looks[1], self._looks[2]

    def _tokenizer_hash(self) -> str:
        tokenizer = self._tokenizer
        looks = (len(tokenizer), str(getattr(tokenizer, "special_tokens_map", None)))
        if self._tokenizer_looks is None or self._tokenizer_looks[0] != looks:
            fast = getattr(tokenizer, "backend_tokenizer", None)
            content = fast.to_str() if fast is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
            self._tokenizer_looks = (looks, _digest(f"{looks}{content}"))
        return self._tokenizer_looks[1]


class Refusal(NamedTuple):
    """Why no KV may be kept or reused, and whether the model must see the whole text in one call."""

    reason: str
    whole_text: bool = False


def refusal(model: Any) -> Refusal | None:
    """Whether the model's present state forbids keeping and reusing its KV."""
    active: set[str] = set()
    for module in model.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            if not str(getattr(hook, "__module__", "")).startswith("transformers.utils"):  # those only record outputs, when asked
                return Refusal("a forward hook is attached to the model, and what it changes cannot be known")
        if "base_layer" in module._modules and hasattr(module, "merged_adapters") and not module.disable_adapters:
            active.update(module.active_adapters)
    configs = getattr(model, "peft_config", None)
    if not isinstance(configs, dict):
        return None
    if any(getattr(configs.get(name), "alora_invocation_tokens", None) for name in active):
        return Refusal("an activated LoRA is attached, which needs the whole prompt in one call", whole_text=True)
    name = getattr(model, "active_adapter", None)
    if isinstance(name, str) and getattr(configs.get(name), "is_prompt_learning", False):
        return Refusal("a prompt-learning adapter is attached, which takes the place of the prompt's beginning", whole_text=True)
    return None


def longest_exact(config: Any) -> int | None:
    """Tokens up to which KV is the same whatever the length of the text, for rotary embeddings that change with it; None: no bound."""
    config = config.get_text_config(decoder=True)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [part for part in (rope, *rope.values()) if isinstance(part, dict)]
    if not any(part.get("rope_type", part.get("type")) in LENGTH_DEPENDENT_ROPE for part in kinds):
        return None
    bounds = [part["original_max_position_embeddings"] for part in kinds if part.get("original_max_position_embeddings")]
    bounds += [bound for name in ("original_max_position_embeddings", "max_position_embeddings") if (bound := getattr(config, name, None))]
    return int(min(bounds, default=0))


def _split(model: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """(base tensors by their name in the bare model, tensors of active adapters, one line per layer that an adapter changes).

    Inactive adapters count for nothing: with them disabled, KV of the bare model stays valid. A merged one counts through the weights.
    """
    base: dict[str, Tensor] = {}
    extra: dict[str, Tensor] = {}
    layers: list[str] = []
    tuners: dict[str, Any] = {}
    seen: set[int] = set()  # tied tensors count once
    rope_changes = longest_exact(model.config) is not None
    for path, module in model.named_modules():
        if "base_layer" in module._modules and hasattr(module, "merged_adapters"):
            tuners[path] = module
            layers += _describe(path, module)
        for own, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or id(tensor) in seen or (rope_changes and "inv_freq" in own):  # the last is rewritten as texts grow
                continue
            seen.add(id(tensor))
            name = f"{path}.{own}" if path else own
            owner = _owner(name, tuners) if tuners else ""
            rest = name[len(owner) + 1 :] if owner else name
            if owner and not rest.startswith("base_layer."):
                tuner = tuners[owner]
                if not tuner.disable_adapters and any(part in tuner.active_adapters for part in rest.split(".")):
                    extra[name] = tensor
            else:
                bare = f"{owner}.{rest.removeprefix('base_layer.')}" if owner else name
                base[bare.removeprefix("base_model.model.")] = tensor
    return base, extra, layers


def _describe(path: str, tuner: Any) -> list[str]:
    """One line on what an adapter layer does at present; none when it does nothing."""
    active = [] if tuner.disable_adapters else sorted(tuner.active_adapters)
    if not active and not tuner.merged_adapters:
        return []
    scaling = sorted(getattr(tuner, "scaling", {}).items())
    return [f"{path}: {active} {scaling} merged {sorted(tuner.merged_adapters)}"]


def _owner(name: str, tuners: dict[str, Any]) -> str:
    """The innermost adapter layer that a tensor belongs to, or ""."""
    while name and name not in tuners:
        name = name.rpartition(".")[0]
    return name


def _look(tensor: Tensor) -> tuple[Any, ...]:
    """What a change of the tensor's content usually shows in, without reading the content."""
    return (tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version, tensor.dtype, tuple(tensor.shape))


def _cells(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Views of a few elements of every tensor, by type: writing through `.data` leaves no other trace."""
    chosen: dict[tuple[Any, Any], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            flat = tensor.detach().reshape(-1) if tensor.is_contiguous() else tensor.detach()[(0,) * (tensor.ndim - 1)]
            chosen.setdefault((tensor.dtype, tensor.device), []).append(flat[:: max(len(flat) // SAMPLED, 1)][:SAMPLED])
    return list(chosen.values())


def _bytes(cells: list[list[Tensor]]) -> list[bytes]:
    """What is in them now."""
    return [bytes(torch.cat(parts).cpu().contiguous().view(torch.uint8).numpy()) for parts in cells]


def _content(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    digest = sha256(f"{plain.dtype} {tuple(plain.shape)}".encode())
    if plain.numel():
        raw: Any = plain.reshape(-1).view(torch.uint8).numpy()
        digest.update(memoryview(raw))
    return digest.hexdigest()


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()

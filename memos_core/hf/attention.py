"""Attention over cached keys without repeating them for every query head.

Stock `sdpa` attention copies the whole cache once per group of query heads whenever it is given a mask, which on a CPU costs more than
the attention itself. Here grouped heads go to the same kernel as they are; the results are those of the stock function, bitwise but for
the single query of a decoded token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "sdpa_memos_grouped"
STOCK = "sdpa"


def grouped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """The library's `sdpa` attention. query: [batch, heads, queries, dim]; key, value: [batch, kv heads, keys, dim].

    A mask with grouped heads on a CPU is the case that is taken here; everything else is the stock function's.
    """
    if _is_one_query(query, key, attention_mask, settings):  # its heads are queries of the heads they share: keys are read once
        batch, heads, _, dim = query.shape
        mask = None if attention_mask is None else attention_mask.expand(batch, 1, 1, key.shape[2])
        shared = torch.nn.functional.scaled_dot_product_attention(
            query.reshape(batch, key.shape[1], -1, dim), key, value, attn_mask=mask, scale=settings.get("scaling")
        )
        return shared.reshape(batch, 1, heads, value.shape[3]), None
    if attention_mask is None or key.device.type != "cpu" or query.shape[1] == key.shape[1] or not _plain(settings):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)  # type: ignore[no-any-return]
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=settings.get("dropout", 0.0),
        scale=settings.get("scaling"),
        enable_gqa=True,
    )
    return output.transpose(1, 2).contiguous(), None


def _plain(settings: Mapping[str, Any]) -> bool:
    return settings.get("position_bias") is None and settings.get("softcap") is None and settings.get("cache") is None


def _is_one_query(query: Tensor, key: Tensor, mask: Tensor | None, settings: Mapping[str, Any]) -> bool:
    grouped_heads = query.shape[2] == 1 and query.shape[1] != key.shape[1]
    one_mask = mask is None or (mask.ndim == 4 and mask.shape[1] == 1)
    return grouped_heads and one_mask and key.device.type == "cpu" and not settings.get("dropout") and _plain(settings)


@contextmanager
def grouped(model: Any) -> Iterator[None]:
    """Inside, a model that attends by stock `sdpa` attends by `grouped_attention`; its configuration is put back afterwards."""
    config = model.config.get_text_config(decoder=True)
    if getattr(config, "_attn_implementation", None) != STOCK or getattr(config, "num_key_value_heads", None) is None:
        yield
        return
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = STOCK

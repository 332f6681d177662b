"""The rooms that touch torch. Importing this package loads none of it; the first use of a name does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from memos_core.errors import MissingExtra

if TYPE_CHECKING:
    from memos_core.hf.engine import HFEngine
    from memos_core.hf.identity import Identity
    from memos_core.hf.minilm import MiniLM
    from memos_core.hf.pooled import PooledStates
    from memos_core.hf.prefix import Segment
    from memos_core.hf.reply import Reply, Stream
    from memos_core.hf.steering import SteeringVector
    from memos_core.hf.tools import ToolCall, spoken, surely_said

__all__ = [
    "HFEngine",
    "Identity",
    "MiniLM",
    "PooledStates",
    "Reply",
    "Segment",
    "SteeringVector",
    "Stream",
    "ToolCall",
    "spoken",
    "surely_said",
]

_ROOMS = {
    "HFEngine": "engine",
    "Identity": "identity",
    "MiniLM": "minilm",
    "PooledStates": "pooled",
    "Reply": "reply",
    "Segment": "prefix",
    "SteeringVector": "steering",
    "Stream": "reply",
    "ToolCall": "tools",
    "spoken": "tools",
    "surely_said": "tools",
}
_EXTRA = {"torch", "transformers", "safetensors", "tokenizers"}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _EXTRA:
            raise MissingExtra(name, "hf") from error
        raise

"""Memory for LlamaIndex: a chat memory that remembers on `put`, a block for `Memory`, a retriever, and an LLM that reuses the memory's KV.

LlamaIndex's LLMs and embeddings go into `MemOS.open(model=..., embedder=...)` as they are, one that sees through `caption_model`.
"""

from memos_core import MissingExtra

try:
    import llama_index.core.memory  # noqa: F401
except ImportError as error:
    raise MissingExtra("memos_integrations.llamaindex", "llamaindex") from error

from memos_integrations.llamaindex.block import MemosMemoryBlock
from memos_integrations.llamaindex.llm import MemosLLM
from memos_integrations.llamaindex.memory import MemosMemory
from memos_integrations.llamaindex.models import caption_model
from memos_integrations.llamaindex.retriever import MemosRetriever

__all__ = ["MemosLLM", "MemosMemory", "MemosMemoryBlock", "MemosRetriever", "caption_model"]

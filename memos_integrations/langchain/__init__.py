"""Memory for LangChain: a chat model that remembers, middleware and tools for `create_agent`, a retriever, a vector store, a chat history.

Use one of MemosChat, MemosMiddleware and MemosChatHistory for a conversation: each remembers it by itself.
"""

from memos_core import MissingExtra

try:
    import langchain.agents.middleware  # noqa: F401  what the modules below need
    import langchain_core.retrievers  # noqa: F401
except ImportError as error:
    raise MissingExtra("memos_integrations.langchain", "langchain") from error

from memos_integrations.langchain.chat import MemosChat
from memos_integrations.langchain.history import MemosChatHistory
from memos_integrations.langchain.middleware import MemosMiddleware
from memos_integrations.langchain.models import MemosEmbeddings, caption_model
from memos_integrations.langchain.retriever import MemosRetriever
from memos_integrations.langchain.tools import memory_tools
from memos_integrations.langchain.vectorstore import MemosVectorStore

__all__ = [
    "MemosChat",
    "MemosChatHistory",
    "MemosEmbeddings",
    "MemosMiddleware",
    "MemosRetriever",
    "MemosVectorStore",
    "caption_model",
    "memory_tools",
]

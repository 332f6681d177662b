"""Tools by which a model remembers, recalls and forgets by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from memos_core import AccessDenied, InvalidInput, NotFound
from memos_integrations.langchain.messages import ScopeLike
from memos_integrations.langchain.running import current, scope_in

TOOLS = ("remember", "recall", "forget", "timeline")


def memory_tools(
    *, memos: Any, scope: ScopeLike | Callable[[Any], ScopeLike] | None = None, names: Sequence[str] = TOOLS, k: int = 8
) -> list[BaseTool]:
    """Tools for a model: `remember`, `recall`, `forget` and `timeline`, or those of them that are named.

    memos: an open MemOS. scope: as in MemosMiddleware; a model has no say in it. k: memories per recall.
    What a model asks wrongly is told to the model; errors of the memory itself are raised.
    """
    if isinstance(names, str) or not set(names) <= set(TOOLS):
        raise InvalidInput(f"names is a list of {', '.join(TOOLS)}; got {names!r}")

    def mine() -> tuple[str, ...]:
        return scope_in(scope, current)

    def remember(text: str, path: str = "") -> str:
        """Keep one fact for later conversations.

        Args:
            text: The fact, as a full sentence that names whom it is about.
            path: Where to file it, as "task/concept"; leave it out if that is not clear.
        """
        (done,) = memos.remember(text, scope=mine(), path=path or None)
        return f"Remembered. [{done.id}]" if done.outcome != "merged" else f"That is remembered already. [{done.id}]"

    def recall(query: str) -> str:
        """Look up what is remembered.

        Args:
            query: What you want to know, in plain words.
        """
        hits = memos.recall(query, scope=mine(), k=k).hits
        return "\n".join(_line(hit.cube) for hit in hits) or "Nothing is remembered about that."

    def forget(id: str) -> str:
        """Erase one memory for good. Only when the user asks for it.

        Args:
            id: The memory's id, as recall and timeline show it in brackets.
        """
        try:
            memos.get(id.strip("[] "))  # as whoever the memory is bound to
            memos.forget(id.strip("[] "), actor=mine(), reason="asked to forget by a model's tool call")
        except (NotFound, AccessDenied) as error:  # the same answer whether or not it is somebody else's
            raise ToolException(f"no memory here has the id {id!r}; take one from recall or timeline") from error
        return "Forgotten."

    def timeline(period: str) -> str:
        """List what was said in a period of time, oldest first.

        Args:
            period: In words, such as "last week", "in March" or "2026-03-01".
        """
        found = memos.timeline(scope=mine(), query=period)
        if found.window is None:
            raise ToolException(f"{period!r} names no time; say it like 'last week', 'in March' or '2026-03-01'")
        return "\n".join(_line(cube) for cube in found) or "Nothing is remembered of that time."

    made = {each.__name__: each for each in (remember, recall, forget, timeline)}
    return [StructuredTool.from_function(_told(made[name]), parse_docstring=True, handle_tool_error=True) for name in names]


def _line(cube: Any) -> str:
    return f"[{cube.id}] {cube.identifiers.occurred_at:%Y-%m-%d} {cube.payload.text}"


def _told(call: Callable[..., str]) -> Callable[..., str]:
    """The same function; what is wrong with its arguments is the model's to hear."""

    @functools.wraps(call)
    def wrapped(**arguments: Any) -> str:
        try:
            return call(**arguments)
        except InvalidInput as error:
            raise ToolException(str(error)) from error

    return wrapped

"""Tools by which a model remembers, recalls and forgets by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, Field

from memos_core import AccessDenied, InvalidInput, NotFound, Origin, as_memos
from memos_integrations.langchain.messages import ScopeLike
from memos_integrations.langchain.running import current, scope_in

TOOLS = ("remember", "recall", "forget", "timeline")
Place = tuple[str, ...]


def memory_tools(
    *, memos: Any, scope: ScopeLike | Callable[[Any], ScopeLike] | None = None, names: Sequence[str] = TOOLS, k: int = 8
) -> list[BaseTool]:
    """Tools for a model: `remember`, `recall`, `forget` and `timeline`, or those of them that are named.

    memos: an open MemOS. scope: as in MemosMiddleware; a model has no say in it. k: memories per recall.
    What a model asks wrongly is told to the model; errors of the memory itself are raised.
    """
    if isinstance(names, str) or not set(names) <= set(TOOLS):
        raise InvalidInput(f"names is a list of {', '.join(TOOLS)}; got {names!r}")
    kinds = {"remember": _Remember, "recall": _Recall, "forget": _Forget, "timeline": _Timeline}
    return [_tool(name, kinds[name], as_memos(memos), scope, k) for name in names]


def _tool(name: str, kind: type[_Call], memos: Any, scope: ScopeLike | Callable[[Any], ScopeLike] | None, k: int) -> BaseTool:
    def call(**arguments: Any) -> str:
        place = scope_in(scope, current)  # without one, it is the application's mistake
        try:
            return kind(**arguments).answer(memos, place, k)
        except InvalidInput as error:
            raise ToolException(str(error)) from error

    return StructuredTool(name=name, description=kind.__doc__ or name, args_schema=kind, func=call, handle_tool_error=True)


class _Call(BaseModel):
    """What a model may ask. The docstrings and descriptions below are what it reads."""

    def answer(self, memos: Any, place: Place, k: int) -> str:
        """Do it, for the scope of the run."""
        raise NotImplementedError


class _Remember(_Call):
    """Keep one fact for later conversations."""

    text: str = Field(description="The fact, as a full sentence that names whom it is about.")
    path: str = Field("", description='Where to file it, as "task/concept"; leave it out if that is not clear.')

    def answer(self, memos: Any, place: Place, k: int) -> str:
        (done,) = memos.remember(self.text, scope=place, path=self.path or None, origin=Origin.INFERENCE_EXTRACTION)
        return f"That is remembered already. [{done.id}]" if done.outcome == "merged" else f"Remembered. [{done.id}]"


class _Recall(_Call):
    """Look up what is remembered."""

    query: str = Field(description="What you want to know, in plain words.")

    def answer(self, memos: Any, place: Place, k: int) -> str:
        hits = memos.recall(self.query, scope=place, k=k).hits
        return "\n".join(_line(hit.cube) for hit in hits) or "Nothing is remembered about that."


class _Forget(_Call):
    """Erase one memory for good. Only when the user asks for it."""

    id: str = Field(description="The memory's id, as recall and timeline show it in brackets.")

    def answer(self, memos: Any, place: Place, k: int) -> str:
        wanted = self.id.strip("[] ")
        try:
            memos.get(wanted)  # as whoever the memory is bound to
            memos.forget(wanted, actor=place, reason="asked to forget by a model's tool call")
        except (NotFound, AccessDenied) as error:  # the same answer whether or not it is somebody else's
            raise ToolException(f"No memory here has the id {wanted!r}; take one from recall or timeline.") from error
        return "Forgotten."


class _Timeline(_Call):
    """List what was said in a period of time, oldest first."""

    period: str = Field(description='In words, such as "last week", "in March" or "2026-03-01".')

    def answer(self, memos: Any, place: Place, k: int) -> str:
        found = memos.timeline(scope=place, query=self.period)
        if found.window is None:
            raise ToolException(f"{self.period!r} names no time; say it like 'last week', 'in March' or '2026-03-01'.")
        return "\n".join(_line(cube) for cube in found) or "Nothing is remembered of that time."


def _line(cube: Any) -> str:
    return f"[{cube.id}] {cube.identifiers.occurred_at:%Y-%m-%d} {cube.payload.text}"

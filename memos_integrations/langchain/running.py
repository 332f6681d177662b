"""Whose memory a run is for: from what the application said when it made a class or started the run, never from the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langgraph.config import get_config
from langgraph.runtime import get_runtime

from memos_core import InvalidInput, as_scope
from memos_integrations.langchain.messages import ScopeLike

SESSION_NAMES = ("session", "session_id", "thread_id")


def scope_in(scope: ScopeLike | Callable[[Any], ScopeLike] | None, runtime: Callable[[], Any]) -> tuple[str, ...]:
    """The scope given, or made by a function of the run's runtime, or `scope` of the run's configuration. Raises InvalidInput."""
    found = scope(runtime()) if callable(scope) else scope
    if found is None:
        found = configured().get("scope")
    if found is None:
        raise InvalidInput('no scope: pass scope=, or config={"configurable": {"scope": ...}} with the run')
    return as_scope(found)


def session_in(configurable: Mapping[str, Any], default: str | None) -> str | None:
    """The conversation that a configuration names: session, session_id or thread_id."""
    return next((str(configurable[name]) for name in SESSION_NAMES if configurable.get(name)), default)


def configured() -> Mapping[str, Any]:
    """`configurable` of the run under way; empty outside of one."""
    try:
        found: Mapping[str, Any] = get_config().get("configurable", {})
    except RuntimeError:
        return {}
    return found


def current() -> Any:
    """The runtime of the run under way. Raises InvalidInput outside of one."""
    try:
        return get_runtime()
    except (RuntimeError, KeyError) as error:
        raise InvalidInput(
            "a scope that is a function needs a run of LangGraph to be called with; pass a fixed scope outside of one"
        ) from error

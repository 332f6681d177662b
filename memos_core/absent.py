"""What the public contract names and this version does not have yet: a clear error instead of a guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from memos_core.errors import NotAvailable


def not_yet(name: str, ability: str) -> NoReturn:
    """Raise NotAvailable, naming the missing ability."""
    raise NotAvailable(f"{name} is not available in this version: it lacks {ability}. The README lists what is not there yet")


def absent(name: str, ability: str) -> Callable[..., NoReturn]:
    """A method that raises NotAvailable whatever it is given."""

    def method(*_: Any, **__: Any) -> NoReturn:
        not_yet(name, ability)

    method.__doc__ = f"Not here yet: it lacks {ability}."
    return method

"""How memories look at a terminal: one block each, the text first, what there is to say about it below, dimmed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from memos_integrations.cli.app import safe

if TYPE_CHECKING:
    from memos_core import MemCube

STATES = {"active": "green", "contested": "yellow", "superseded": "dim", "archived": "dim", "stale": "dim", "rejected": "red"}


def time(at: datetime | None) -> str:
    """A time in UTC, to the minute."""
    return "-" if at is None else at.strftime("%Y-%m-%d %H:%M UTC")


def content(cube: MemCube, most: int | None = None) -> str:
    """What a cube holds, in one line when it is to be short."""
    payload = cube.payload
    if payload.kind == "plaintext":
        said = safe(payload.text)
        if most is None:
            return said
        flat = " ".join(said.split())
        return flat if len(flat) <= most else f"{flat[: most - 1]}…"
    form = payload.form
    tokens = f" of {payload.tokens} tokens" if payload.tokens else ""
    return f"[{payload.kind} memory: {form}{tokens}, {payload.bytes:,} bytes]"


def scope(parts: Iterable[str]) -> str:
    return safe("/".join(parts))


def joined(*facts: str | Text | None) -> Text:
    """Facts in one dimmed line, those that there are."""
    line = Text(style="dim")
    for fact in facts:
        if fact:
            if line:
                line.append(" · ")
            line.append_text(fact) if isinstance(fact, Text) else line.append(fact)
    return line


def state(name: str) -> Text | None:
    """A state, where it is worth saying."""
    return None if name == "active" else Text(name, style=STATES.get(name, "yellow"))


def block(number: str, head: str | Text, *lines: RenderableType) -> RenderableType:
    """A numbered entry: a heading, and lines below it."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=max(len(number), 2), justify="right", style="cyan", no_wrap=True)
    grid.add_column()
    grid.add_row(number, Group(Text(head, style="bold") if isinstance(head, str) else head, *lines))
    return grid


def memory(number: int, cube: MemCube, *more: str | Text | None, lines: Iterable[RenderableType] = ()) -> RenderableType:
    """A memory in a list: its text, when and by whom it was said, its id."""
    said = cube.identifiers
    facts = joined(
        time(said.occurred_at), safe(said.speaker) if said.speaker else None, scope(cube.governance.scope), state(cube.state), *more
    )
    return block(str(number), content(cube), facts, *lines, Text(cube.id, style="dim"))


def listed(out: Console, entries: Iterable[RenderableType], nothing: str) -> None:
    """Entries one below the other; a sentence where there are none."""
    empty = True
    for entry in entries:
        if not empty:
            out.print()
        out.print(entry)
        empty = False
    if empty:
        out.print(nothing)


def pairs(rows: Iterable[tuple[str, RenderableType]]) -> RenderableType:
    """Names and what belongs to them, side by side."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column()
    for name, what in rows:
        grid.add_row(name, what)
    return grid


def table(rows: Iterable[tuple[str, Any]], indent: int = 0, numbers: bool = False) -> RenderableType:
    """Names and values in two columns; rows without a value are left out. numbers: aligned as such."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold", justify="right" if numbers else "left")
    for name, value in rows:
        if value not in (None, "", (), []):
            grid.add_row(name, value if isinstance(value, Text) else str(value))
    return Padding(grid, (0, 0, 0, indent), expand=False)

"""What an archive holds, table by table, and the check of every row against it. Pure.

A row is a JSON list, a column one of: whole number, number, text, bytes (as hexadecimal digits), scope (a list of texts), JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from memos_core.cube import Scope, as_scope
from memos_core.errors import InvalidInput, StoreCorrupt

FORMAT, FORMAT_VERSION = "memos archive", 1

Row = tuple[Any, ...]
Tables = Mapping[str, list[Row]]

_TABLES = {
    "cubes": "row:whole id:text scope:scope seq:whole concept:whole key:bytes identity:json vector:whole?",
    "versions": "id:text version:whole at:number actor:text action:text body:text? commitment:bytes hash:bytes",
    "audit": "seq:whole scope:scope position:whole at:number actor:text action:text id:text? version:whole? commitment:bytes? detail:text"
    " hash:bytes",
    "tombstones": "id:text seq:whole scope:scope at:number actor:text reason:text",
    "lineage": "child:text parent:text relation:text parent_version:whole",
    "images": "id:text blob:text",
    "concepts": "concept:whole scope:scope parent:whole given:whole label:text labelled:whole seq:whole",
    "relations": "older:text newer:text kind:text confidence:number why:text resolution:text at:number",
    "merged": "seq:whole id:text identity:json scope:scope session:text? after:whole body:text commitment:bytes",
    "turns": "scope:scope session:text key:text at:number system:text?",
    "placements": "scope:scope session:text turn:text position:whole id:text version:whole",
    "uses": "id:text scope:scope session:text turn:text form:text at:number used:whole task:whole success:whole",
    "usage": "id:text scope:scope recalls:whole sessions:whole last_used_at:number heat_log2:number uses:whole successes:whole tasks:whole"
    " known_tasks:text tokens_saved:whole seconds_saved:number",
    "scope_usage": "scope:scope turns:whole recalls:whole uses:whole successes:whole tokens_saved:whole seconds_saved:number"
    " last_used_at:number",
    "budgets": "scope:scope facts:whole? bytes:whole? strength:number? erase_after:number?",
    "retraining": "scope:scope form:text ids:text reason:text seconds:number",
    "moves": "number:whole at:number kind:text scope:scope reason:text made:text? estimated:number",
    "moved": "id:text number:whole",
}
COLUMNS: dict[str, tuple[str, ...]] = {
    table: tuple(column.split(":")[0] for column in columns.split()) for table, columns in _TABLES.items()
}
"""The columns of each table, in order. They are named as in the store, which says what they mean; scopes by name instead of by number."""


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError("a whole number")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("a number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    value.encode()  # half a surrogate pair: a ValueError too
    return value


def _bytes(value: Any) -> bytes:
    return bytes.fromhex(_text(value))


def _scope(value: Any) -> Scope:
    if not isinstance(value, list):
        raise ValueError("a scope")
    try:
        return as_scope(tuple(value))
    except InvalidInput as error:
        raise ValueError(str(error)) from error


_READ: dict[str, Callable[[Any], Any]] = {
    "whole": _whole, "number": _number, "text": _text, "bytes": _bytes, "scope": _scope, "json": lambda value: value,
}  # fmt: skip
_READERS: dict[str, list[tuple[str, Callable[[Any], Any], bool]]] = {
    table: [
        (name, _READ[kind.rstrip("?")], kind.endswith("?") or kind == "json")
        for name, kind in (column.split(":") for column in columns.split())
    ]
    for table, columns in _TABLES.items()
}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def read_row(table: str, line: bytes, number: int) -> Row:
    """A row from its line, every column checked. Raises StoreCorrupt, naming table, line and column, never the content."""
    readers, at = _READERS[table], f"line {number} of {table}"
    try:
        values = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise StoreCorrupt(f"{at} is not JSON") from None
    if not isinstance(values, list) or len(values) != len(readers):
        raise StoreCorrupt(f"{at} does not have the {len(readers)} columns of this table")
    found = []
    for value, (name, read, optional) in zip(values, readers, strict=True):
        try:
            found.append(None if optional and value is None else read(value))
        except (ValueError, OverflowError):
            raise StoreCorrupt(f"{at}: its {name} is not what belongs there") from None
    return tuple(found)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def write_row(row: Row) -> bytes:
    """A row as a line."""
    return json.dumps([_plain(value) for value in row], ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"

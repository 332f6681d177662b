"""JSON values kept beside memories: checked so that they come back as they were, and conditions on them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from memos_core.cube import MAX_TEXT_BYTES
from memos_core.errors import InvalidInput

OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin")


def as_json(value: Any, what: str) -> str:
    """A value as JSON text from which it can be made again; tuples become lists. Raises InvalidInput for what is not JSON, or too large."""
    _check(value, what)
    text = json.dumps(value, separators=(",", ":"))
    if len(text) > MAX_TEXT_BYTES:
        raise InvalidInput(f"{what} has {len(text):,} bytes as JSON; the limit is {MAX_TEXT_BYTES:,}")
    return text


def _check(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise InvalidInput(f"{path} has the key {key!r}; the keys of a JSON object are str")
            _check(each, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for place, each in enumerate(value):
            _check(each, f"{path}[{place}]")
    elif value is not None and not isinstance(value, (str, bool, int, float)):
        raise InvalidInput(
            f"{path} is a {type(value).__name__}, which is not JSON; use text, numbers, lists and dictionaries with str keys"
        )


def matches(value: Any, wanted: Any) -> bool:
    """Whether a JSON value is, holds, or compares as what is wanted: {"kind": "note", "pages": {"$gte": 3}, "by": {"name": "ana"}}.

    Keys that are not asked for do not matter; lists must be equal item by item. Operators: see OPERATORS. Raises InvalidInput for another.
    """
    if isinstance(wanted, Mapping):
        if any(key.startswith("$") for key in wanted):
            return all(_compares(value, operator, operand) for operator, operand in wanted.items())
        return isinstance(value, dict) and all(matches(value.get(key), each) for key, each in wanted.items())
    if isinstance(wanted, (list, tuple)):
        same = isinstance(value, list) and len(value) == len(wanted)
        return same and all(matches(one, other) for one, other in zip(value, wanted, strict=True))
    return bool(value == wanted)


def _compares(value: Any, operator: str, operand: Any) -> bool:
    if operator not in OPERATORS:
        raise InvalidInput(f"unknown operator {operator} in a filter; use one of {', '.join(OPERATORS)}")
    if operator in ("$eq", "$ne"):
        return bool((value == operand) is (operator == "$eq"))
    if operator in ("$in", "$nin"):
        return bool((value in operand) is (operator == "$in"))
    try:
        left, right = float(value), float(operand)
    except (TypeError, ValueError):
        return False  # what is no number is neither more nor less than one
    return {"$gt": left > right, "$gte": left >= right, "$lt": left < right, "$lte": left <= right}[operator]

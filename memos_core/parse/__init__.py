"""What a caller hands over to be remembered, as checked values. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from numbers import Real
from typing import Any, TypeVar

from memos_core.cube import Access, Actor, ImagePart, as_scope, as_text, as_time, dumps
from memos_core.errors import InvalidInput
from memos_core.plan import Message

Member = TypeVar("Member", bound=StrEnum)

LONGEST_TTL = timedelta(days=366_000)


@dataclass(frozen=True, slots=True)
class Noted:
    """One message to remember. at: when it was said; None when the caller did not say. record: of a graph's statement. parts: its images."""

    text: str
    role: str | None
    speaker: str | None
    at: datetime | None
    source: str | None
    record: str | None = None
    parts: tuple[ImagePart, ...] = ()


def notes(what: str | Message | Sequence[str | Message]) -> list[Noted]:
    """Text, a message, or a list of either, checked. Raises InvalidInput, naming the message, before anything is written."""
    if isinstance(what, (str, Mapping)):
        return [_note(what, "the text" if isinstance(what, str) else "the message")]
    if isinstance(what, (bytes, bytearray)) or not isinstance(what, Iterable):
        raise InvalidInput(f"remember takes text, a message or a list of them, got {type(what).__name__}")
    return [_note(item, f"message {position}") for position, item in enumerate(what)]


def _note(item: object, name: str) -> Noted:
    if isinstance(item, str):
        return Noted(as_text(item, name), None, None, None, None)
    if not isinstance(item, Mapping):
        raise InvalidInput(f"{name} must be a str or a dictionary with 'role' and 'content', got {type(item).__name__}")
    role, speaker, source = (_optional(item, key, name) for key in ("role", "name", "id"))
    if role is None:
        raise InvalidInput(f"{name} has no 'role'; pass 'user', 'assistant' or another")
    stamp: Any = item.get("timestamp")
    at = None if stamp is None else as_time(stamp, f"the timestamp of {name}")
    return Noted(as_text(item.get("content"), f"the content of {name}"), role, speaker, at, source)


def _optional(item: Mapping[str, Any], key: str, name: str) -> str | None:
    value = item.get(key)
    if value is not None and not isinstance(value, (str, int)):
        raise InvalidInput(f"'{key}' of {name} must be a str, got {type(value).__name__}")
    return None if value is None else _storable(str(value), f"'{key}' of {name}")


def _storable(value: str, name: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{name} holds half a surrogate pair and cannot be stored as UTF-8; decode it properly first") from error
    return value


def as_path(path: str | Sequence[str] | None) -> tuple[str, ...]:
    """A place in the hierarchy, 'task/concept' or a tuple. Raises InvalidInput."""
    if path is None:
        return ()
    parts: tuple[Any, ...] = tuple(path.split("/")) if isinstance(path, str) else tuple(path) if isinstance(path, (tuple, list)) else ("",)
    if any(not isinstance(part, str) or not part.strip() for part in parts):
        raise InvalidInput(f"path must be like 'care/allergies' or a tuple of non-empty names, got {path!r}")
    return tuple(_storable(part.strip(), "path") for part in parts)


def as_ttl(ttl: timedelta | float | None) -> timedelta | None:
    """How long a memory lives; a number is seconds. Raises InvalidInput."""
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (timedelta, int, float)):
        raise InvalidInput(f"ttl must be a timedelta or seconds, got {type(ttl).__name__}")
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if not seconds > 0:
        raise InvalidInput(f"ttl must be positive, got {ttl}")
    if seconds > LONGEST_TTL.total_seconds():
        raise InvalidInput(f"ttl must be at most {LONGEST_TTL.days:,} days, got {ttl}; leave it out for what does not expire")
    return ttl if isinstance(ttl, timedelta) else timedelta(seconds=ttl)


def expiry(at: datetime, ttl: timedelta | None) -> datetime | None:
    """When what lives for `ttl` from `at` on expires; None for never. Raises InvalidInput."""
    try:
        return None if ttl is None else at + ttl
    except OverflowError as error:
        raise InvalidInput(f"ttl {ttl} from {at.isoformat()} on ends after the year 9999; leave it out for what does not expire") from error


def as_priority(priority: float) -> float:
    """A number from 0 (ordinary) to 1. Raises InvalidInput."""
    if isinstance(priority, bool) or not isinstance(priority, Real) or not 0 <= priority <= 1:
        raise InvalidInput(f"priority must be a number from 0 to 1, got {priority!r}")
    return float(priority)


def as_session(session: str | None) -> str | None:
    """The name of a conversation. Raises InvalidInput."""
    if session is not None and (not isinstance(session, str) or not session.strip()):
        raise InvalidInput(f"session must be a non-empty str, got {session!r}")
    return None if session is None else _storable(session, "session")


def as_access(read: Iterable[Any], write: Iterable[Any]) -> Access:
    """Grants from lists of actors. Raises InvalidInput."""
    return Access(read=_actors(read, "read"), write=_actors(write, "write"))


def _actors(given: Iterable[Any], name: str) -> tuple[Actor, ...]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidInput(f"{name} must be a list of actors, such as [('clinic', 'doctor')], got {given!r}")
    return tuple(dict.fromkeys(as_scope(item, f"an actor in {name}") for item in given))


def as_tags(given: Iterable[str]) -> tuple[str, ...]:
    """Sensitivity tags, each once. Raises InvalidInput."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidInput(f"tags must be a list of words, such as ['no-training'], got {given!r:.80}")
    return tuple(dict.fromkeys(as_text(each, "a tag") for each in given))


def as_member(kind: type[Member], value: Any, name: str) -> Member:
    """A member of an enumeration, from itself or its text. Raises InvalidInput."""
    try:
        return kind(value)
    except ValueError as error:
        raise InvalidInput(f"{name} must be one of {', '.join(kind)}; got {value!r}") from error


def turn_keys(messages: Sequence[Message], asked: Sequence[int]) -> dict[int, str]:
    """Identity of the turns of the user messages at some places, which ascend: the message's id, else a digest of the conversation up to it.

    The digest makes a replayed conversation the same turn and a repeated "Yes." further on another one. Each message is read once.
    """
    keys, said, read = {}, hashlib.sha256(b"["), 0
    for index in asked:
        source = messages[index].get("id")
        if source is not None:
            keys[index] = "id:" + _storable(str(source), f"'id' of message {index}")
            continue
        for position in range(read, index + 1):
            message = messages[position]
            _storable(message["role"] + message["content"], f"message {position}")
            one = dumps([message["role"], message["content"], str(message.get("timestamp", ""))])
            said.update(f"{',' if position else ''}{one}".encode())
        read = index + 1
        whole = said.copy()
        whole.update(b"]")
        keys[index] = "digest:" + whole.hexdigest()
    return keys

"""What a caller hands over becomes checked values, or an InvalidInput that names what is wrong; what was handed over stays as it was."""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import NOW
from hypothesis import given
from hypothesis import strategies as st

from memos_core import InvalidInput, Origin, SemanticType
from memos_core.cube import MAX_TEXT_BYTES, as_scope, as_time
from memos_core.parse import (
    LONGEST_TTL,
    Noted,
    as_access,
    as_member,
    as_path,
    as_priority,
    as_session,
    as_ttl,
    notes,
    turn_keys,
)

FULL = {"role": "user", "content": "x", "name": "Ana", "id": "m1", "timestamp": NOW.isoformat()}
storable = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(str.strip)


@given(storable)
def test_text_is_kept_verbatim(text: str) -> None:
    assert notes(text) == notes([text]) == [Noted(text, None, None, None, None)]
    assert notes({"role": "tool", "content": text}) == [Noted(text, "tool", None, None, None)]


def test_a_message_is_read_whole_and_never_changed() -> None:
    given_ = [copy.deepcopy(FULL), "plain"]
    before = copy.deepcopy(given_)
    assert notes(given_) == [Noted("x", "user", "Ana", NOW, "m1"), Noted("plain", None, None, None, None)]
    assert given_ == before
    assert notes(UserDict(FULL)) == notes(FULL)
    assert notes(iter(["a", "b"])) == notes(("a", "b")) and notes([]) == []
    assert notes({**FULL, "id": 7})[0].source == "7"  # ids of other systems are numbers now and then


def test_the_limit_counts_bytes() -> None:
    assert len(notes("é" * (MAX_TEXT_BYTES // 2))) == 1
    with pytest.raises(InvalidInput, match="Split it into passages"):
        notes("é" * (MAX_TEXT_BYTES // 2) + "a")


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "second message": (lambda: notes(["fine", 7]), "message 1 must be a str or a dictionary with 'role' and 'content', got int"),
    "nested list": (lambda: notes([["a"]]), "message 0 must be"),
    "empty dictionary": (lambda: notes({}), "the message has no 'role'; pass 'user', 'assistant' or another"),
    "content parts": (lambda: notes({"role": "user", "content": [{"type": "text"}]}), "the content of the message must be a str, got list"),
    "content None": (lambda: notes([{"role": "user", "content": None}]), "the content of message 0 must be a str, got NoneType"),
    "role list": (lambda: notes({**FULL, "role": ["user"]}), "'role' of the message must be a str"),
    "name bytes": (lambda: notes({**FULL, "name": b"Ana"}), "'name' of the message must be a str"),
    "role half a surrogate": (lambda: notes({**FULL, "role": "\udc00"}), "'role' of the message holds half a surrogate pair"),
    "name half a surrogate": (lambda: notes({**FULL, "name": "\udc00"}), "decode it properly first"),
    "timestamp number": (lambda: notes({**FULL, "timestamp": 5}), "the timestamp of the message must be a datetime or ISO text, got int"),
    "time before the first year": (
        lambda: as_time(datetime.min.replace(tzinfo=timezone(timedelta(hours=9))), "now"),
        "outside the years 1 to 9999",
    ),
    "path number": (lambda: as_path(5), "path must be like 'care/allergies' or a tuple"),  # type: ignore[arg-type]
    "path of numbers": (lambda: as_path((1, 2)), "path must be like"),  # type: ignore[arg-type]
    "path empty": (lambda: as_path(""), "path must be like"),
    "path dictionary": (lambda: as_path({"care": 1}), "path must be like"),  # type: ignore[arg-type]
    "path trailing slash": (lambda: as_path("care/"), "tuple of non-empty names"),
    "ttl zero": (lambda: as_ttl(0), "ttl must be positive"),
    "ttl not a number": (lambda: as_ttl(float("nan")), "ttl must be positive"),
    "ttl negative span": (lambda: as_ttl(timedelta(seconds=-1)), "ttl must be positive"),
    "ttl infinite": (lambda: as_ttl(float("inf")), "leave it out for what does not expire"),
    "ttl too long": (lambda: as_ttl(LONGEST_TTL + timedelta(seconds=1)), "at most 366,000 days"),
    "ttl true": (lambda: as_ttl(True), "a timedelta or seconds, got bool"),
    "ttl text": (lambda: as_ttl("1 day"), "a timedelta or seconds, got str"),  # type: ignore[arg-type]
    "priority above": (lambda: as_priority(1.01), "a number from 0 to 1"),
    "priority not a number": (lambda: as_priority(float("nan")), "a number from 0 to 1"),
    "priority true": (lambda: as_priority(True), "a number from 0 to 1"),
    "priority None": (lambda: as_priority(None), "a number from 0 to 1"),  # type: ignore[arg-type]
    "session blank": (lambda: as_session("  "), "session must be a non-empty str"),
    "session number": (lambda: as_session(5), "session must be a non-empty str"),  # type: ignore[arg-type]
    "read None": (lambda: as_access(None, ()), r"read must be a list of actors, such as \[\('clinic', 'doctor'\)\]"),  # type: ignore[arg-type]
    "read number": (lambda: as_access(5, ()), "read must be a list of actors"),  # type: ignore[arg-type]
    "read numbers": (lambda: as_access([5], ()), "an actor in read must be a non-empty string or a tuple"),
    "write text": (lambda: as_access((), "doctor"), "write must be a list of actors"),
    "write empty actor": (lambda: as_access((), [()]), "an actor in write must be a non-empty string"),
    "scope control character": (lambda: as_scope("a\x1fb"), "control character; use printable names"),
    "scope half a surrogate": (lambda: as_scope(("a", "\ud800")), "half a surrogate pair"),
    "scope set": (lambda: as_scope({"a"}), "a tuple of them, such as"),
    "no such type": (lambda: as_member(SemanticType, "rumour", "semantic_type"), "must be one of fact, preference, event"),
    "no such origin": (lambda: as_member(Origin, None, "origin"), "must be one of user input, inference extraction"),
    "turn of half a surrogate": (
        lambda: turn_keys([{"role": "system", "content": "\ud800"}, FULL | {"id": None}], [1]),
        "message 0 holds half a surrogate pair",
    ),
    "turn id half a surrogate": (lambda: turn_keys([{**FULL, "id": "\ud800"}], [0]), "'id' of message 0 holds half a surrogate pair"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_say_what_to_pass(name: str) -> None:
    call, advice = WRONG[name]
    with pytest.raises(InvalidInput, match=advice):
        call()


def test_right_values() -> None:
    assert as_path("care / allergies") == as_path(["care", "allergies"]) == ("care", "allergies") and as_path(None) == ()
    assert as_ttl(90) == as_ttl(timedelta(seconds=90)) == timedelta(seconds=90) and as_ttl(None) is None
    assert as_ttl(LONGEST_TTL) == LONGEST_TTL
    assert (as_priority(1), as_priority(0)) == (1.0, 0.0)
    assert as_session(None) is None and as_session("2024-05-01") == "2024-05-01"
    access = as_access(["staff", ("clinic", "ben"), "staff"], [["staff", "doctor"]])
    assert (access.read, access.write) == ((("staff",), ("clinic", "ben")), (("staff", "doctor"),))
    assert as_member(SemanticType, "task prompt", "semantic_type") is SemanticType.TASK_PROMPT


@given(st.integers(-60 * 10**9, 250 * 10**9), st.integers(-14 * 60, 14 * 60))
def test_a_time_is_the_same_moment_in_utc(seconds: int, minutes: int) -> None:
    said = (NOW + timedelta(seconds=seconds, microseconds=7)).astimezone(timezone(timedelta(minutes=minutes)))
    for value in (said, said.isoformat()):
        assert as_time(value, "now") == said and as_time(value, "now").tzinfo is UTC


# ---------------------------------------------------------------------- turns

messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.sampled_from(["Yes.", "No.", "?"])}),
    min_size=1,
    max_size=5,
)


def key(talk: list[dict[str, Any]], index: int) -> str:
    return turn_keys(talk, [index])[index]


@given(messages, messages)
def test_two_turns_are_one_when_the_talk_up_to_them_is(one: list[dict[str, str]], two: list[dict[str, str]]) -> None:
    keys = [key(talk, len(talk) - 1) for talk in (one, two)]
    assert (keys[0] == keys[1]) is (one == two)
    assert key([*one, *two], len(one) - 1) == keys[0]  # what comes later does not change it
    both = [*one, *two]
    assert turn_keys(both, range(len(both))) == {index: key(both, index) for index in range(len(both))}  # nor does what is asked with it


def test_keys_of_a_long_conversation_read_each_message_once() -> None:
    class Counted(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read.append(name)
            return super().__getitem__(name)

    read: list[str] = []
    talk = [Counted(role="user", content=f"Message {number}") for number in range(200)]
    assert len(set(turn_keys(talk, range(200)).values())) == 200
    assert read.count("content") <= 2 * 200


def test_an_id_names_the_turn_wherever_it_stands() -> None:
    assert key([FULL], 0) == key([{"role": "assistant", "content": "Hi"}, FULL], 1) == "id:m1"
    asked = {"role": "user", "content": "x"}
    assert key([{**asked, "timestamp": NOW}], 0) != key([{**asked, "timestamp": NOW + timedelta(hours=1)}], 0)
    mixed = [asked, FULL, asked]
    assert turn_keys(mixed, [0, 1, 2]) == {0: key(mixed, 0), 1: "id:m1", 2: key(mixed, 2)}

"""Tools shown by a chat template, and the calls read out of what a model says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import taught_model, tiny_model, tiny_tokenizer

from memos_core import InvalidInput, NotAvailable
from memos_core.hf import HFEngine, ToolCall, surely_said
from memos_core.hf.tools import read_calls, without_calls

CLOCK = {"name": "clock", "description": "The time.", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}
SYSTEM = {"role": "system", "content": "You are the clinic's assistant."}
QUESTION = {"role": "user", "content": "What time is it?"}
CALL = '<tool_call>\n{"name": "clock", "arguments": {"zone": "Oslo"}}\n</tool_call>'

CALLED = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "clock", "arguments": {"zone": "Oslo"}}}]}
RESULT = {"role": "tool", "content": "nine", "name": "clock"}


@pytest.fixture(scope="module")
def engine() -> HFEngine:
    """A tiny model that has been taught to call a tool and to answer from its result."""
    return HFEngine(*taught_model(([SYSTEM, QUESTION], CLOCK, CALL), ([SYSTEM, QUESTION, CALLED, RESULT], CLOCK, "It is nine.")))


def test_a_model_that_calls(engine: HFEngine) -> None:
    assert engine.takes_tools
    first = engine.generate([SYSTEM, QUESTION], tools=[CLOCK], max_new_tokens=80)
    assert first.tool_calls == (ToolCall("clock", {"zone": "Oslo"}),) and first.text == CALL and first.said == ""
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "clock", "arguments": {"zone": "Oslo"}}]}
    second = engine.generate([SYSTEM, QUESTION, call, RESULT], tools=[CLOCK])
    assert second.text == second.said == "It is nine." and second.tool_calls == ()
    assert second.reused_tokens >= first.prompt_tokens  # the answer with the call is the beginning of the next prompt
    other = engine.generate([SYSTEM, QUESTION], max_new_tokens=4)
    assert other.tool_calls == () and other.prompt_tokens < first.prompt_tokens


def test_a_system_text_with_tools_is_shared_between_scopes_and_what_follows_is_not(engine: HFEngine) -> None:
    class Plan:
        shared_system = SYSTEM["content"]

    engine.close()
    ask = lambda scope: engine.generate([SYSTEM, {"role": "user", "content": "Secret plum?"}], Plan(), scope, 2, tools=[CLOCK])  # noqa: E731
    ask("ana")
    public = ask("ben").reused_tokens
    assert len(engine.tokens([SYSTEM], add_generation_prompt=False, tools=[CLOCK])) - 4 <= public < ask("ben").reused_tokens


def test_what_cannot_be_shown_is_refused(engine: HFEngine) -> None:
    plain = HFEngine(tiny_model(), tiny_tokenizer())
    assert not plain.takes_tools and not HFEngine(tiny_model(), tiny_tokenizer(None)).takes_tools
    with pytest.raises(NotAvailable, match="knows no tools"):
        plain.generate([QUESTION], tools=[CLOCK])
    called = {"role": "assistant", "content": "", "tool_calls": [{"name": "clock"}]}
    with pytest.raises(NotAvailable, match="knows no tools"):
        plain.generate([QUESTION, called, QUESTION])
    for wrong in ([{"description": "nameless"}], ["clock"]):
        with pytest.raises(InvalidInput, match="tools"):
            engine.generate([QUESTION], tools=wrong)  # type: ignore[arg-type]
    for calls in ("clock", [{"arguments": {}}]):
        with pytest.raises(InvalidInput, match=r"tool_calls of messages\[1\]"):
            engine.generate([QUESTION, {"role": "assistant", "content": "", "tool_calls": calls}, QUESTION])


@pytest.mark.parametrize(
    ("text", "found", "said"),
    [
        (CALL, [{"zone": "Oslo"}], ""),
        (f"Let me see.\n{CALL}\n{CALL}", [{"zone": "Oslo"}] * 2, "Let me see."),
        ('<tool_call>{"name": "clock"}', [{}], ""),  # the end was not generated
        ('{"name": "clock", "parameters": {"zone": "Oslo"}}', [{"zone": "Oslo"}], ""),  # as Llama writes it
        (' [{"name": "clock", "arguments": {}}]', [{}], ""),  # as Mistral writes it
        ('<tool_call>{"name": "unknown"}</tool_call>', [], None),
        ('<tool_call>{"name": "clock", "arg</tool_call>', [], None),
        ('{"name": "clock", "arguments": "now"}', [], None),
        ('{"temperature": 37}', [], None),
        ("[1] is a footnote", [], None),
        ('The answer is {"name": "clock"}', [], None),
    ],
)
def test_calls_are_read_and_all_else_is_speech(text: str, found: list[Any], said: str | None) -> None:
    calls = read_calls(text, {"clock"})
    assert [call.arguments for call in calls] == found
    if calls:
        assert without_calls(text) == said


@given(st.lists(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=3), min_size=1, max_size=3), st.data())
def test_what_is_surely_said_never_holds_a_part_of_a_call(several: list[dict[str, Any]], data: st.DataObject) -> None:
    calls = "".join(f"<tool_call>\n{json.dumps({'name': 'clock', 'arguments': each})}\n</tool_call>\n" for each in several)
    speech = data.draw(st.sampled_from(["", "Let me see. ", "2 < 3, <b>so</b>\n"]))
    whole = speech + calls
    assert [call.arguments for call in read_calls(whole, {"clock"})] == several
    emitted = ""
    for end in range(len(whole) + 1):
        now = surely_said(whole[:end])
        assert now.startswith(emitted) and speech.startswith(now)
        emitted = now
    assert emitted.strip() == speech.strip() == without_calls(whole)

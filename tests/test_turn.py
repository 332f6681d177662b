"""begin, plan, render, commit: what reaches the model, where it stands, and what is written once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from conftest import NOW
from hypothesis import given
from hypothesis import strategies as st
from test_policy import cube

from memos_core import InvalidInput, MemOS, Plaintext, Plan
from memos_core.plan import block, line, render, strip_blocks
from memos_core.store import chains

ANA = ("clinic", "ana")
FACT = "Ana is allergic to penicillin."
TALK = [{"role": "system", "content": "You help."}, {"role": "user", "content": "May Ana have penicillin?"}]

WORDS = "penicillin bicycles harbours violins tomatoes glaciers umbrellas chess".split()


def said(memos: MemOS, *texts: str) -> list[str]:
    return [done.id for done in memos.remember(list(texts), scope=ANA, occurred_at=NOW - timedelta(days=9), now=NOW)]


def test_what_is_recalled_stands_right_before_the_message(memos: MemOS) -> None:
    said(memos, FACT)
    turn = memos.begin(TALK, scope=ANA, now=NOW)
    assert turn.prompt[0] == TALK[0]
    assert turn.prompt[1]["content"] == f"<memory>\n- (2026-05-23) {FACT}\n</memory>\n\nMay Ana have penicillin?"
    assert [item.text for item in turn.plan.inject] == [f"- (2026-05-23) {FACT}"]
    assert "meaning" in turn.plan.inject[0].reason


def test_each_prompt_extends_the_one_before(memos: MemOS) -> None:
    said(memos, FACT, "Ana lives in Lisbon.", "Ana plays the cello.")
    talk, before = [TALK[0]], ""
    for question in ("Penicillin?", "Where does Ana live?", "What does she play, the cello?", "And penicillin again?"):
        talk = [*talk, {"role": "user", "content": question}]
        turn = memos.begin(talk, scope=ANA, session="one", k=1, now=NOW)
        text = "".join(f"<{message['role']}>{message['content']}" for message in turn.prompt)
        assert text.startswith(before)
        assert text.count(FACT) <= 1  # never placed twice
        turn.commit(f"Answer to {question}", now=NOW)
        talk = [*talk, {"role": "assistant", "content": f"Answer to {question}"}]
        before = text + f"<assistant>Answer to {question}"


def test_placements_belong_to_their_session(memos: MemOS) -> None:
    said(memos, FACT)
    memos.begin(TALK, scope=ANA, session="one", now=NOW).commit("No.", now=NOW)
    longer = [*TALK, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Thanks!"}]
    assert FACT in memos.begin(longer, scope=ANA, session="one", now=NOW).prompt[1]["content"]
    assert FACT not in memos.begin(longer, scope=ANA, session="two", now=NOW).prompt[1]["content"]


def test_memory_that_may_no_longer_be_read_leaves_its_place(memos: MemOS) -> None:
    longer = [*TALK, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Thanks!"}]
    (short,) = memos.remember(FACT, scope=ANA, ttl=timedelta(hours=1), occurred_at=NOW, now=NOW)
    memos.begin(TALK, scope=ANA, session="one", now=NOW).commit("No.", now=NOW)
    assert FACT in memos.begin(longer, scope=ANA, session="one", now=NOW).prompt[1]["content"]
    assert FACT not in str(memos.begin(longer, scope=ANA, session="one", now=NOW + timedelta(hours=1)).prompt)
    memos.forget(short.id)
    assert FACT not in str(memos.begin(longer, scope=ANA, session="one", now=NOW).prompt)


def test_an_update_reaches_a_conversation_that_holds_the_old_version(memos: MemOS) -> None:
    (fact,) = said(memos, FACT)
    memos.begin(TALK, scope=ANA, session="one", now=NOW).commit("No.", now=NOW)
    memos.update(fact, text="Ana tolerates penicillin.", now=NOW)
    longer = [*TALK, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Penicillin, really?"}]
    turn = memos.begin(longer, scope=ANA, session="one", now=NOW)
    assert FACT in turn.prompt[1]["content"] and "Ana tolerates penicillin." in turn.prompt[3]["content"]


@pytest.mark.parametrize("budget", [0, 8, 20, 40, 80, 160])
def test_a_turns_memory_keeps_to_its_budget(memos: MemOS, budget: int) -> None:
    said(memos, *(f"Ana note {number} about penicillin and more." for number in range(12)))
    talk, placed = [TALK[0]], 0
    for number in range(4):
        talk = [*talk, {"role": "user", "content": f"penicillin note {number}"}]
        turn = memos.begin(talk, scope=ANA, session="one", token_budget=budget, now=NOW)
        spent = sum(memos._house.count(insertion.text) for insertion in turn.plan.insertions) + memos._house.count(turn.plan.head)
        assert spent - placed <= budget and turn.plan.tokens == spent
        placed = spent
        assert turn.plan.inject or turn.plan.left_out
        for item in turn.plan.left_out:
            assert "do not fit" in item.reason
        turn.commit("Ok.", now=NOW)
        talk = [*talk, {"role": "assistant", "content": "Ok."}]


def test_a_long_conversation_goes_on_placing_memories(memos: MemOS) -> None:
    said(memos, *(f"Ana's note {number} is about {word} and nothing else." for number, word in enumerate(WORDS)))
    talk: list[dict[str, str]] = []
    for word in WORDS:
        talk = [*talk, {"role": "user", "content": f"What was the note about {word}?"}]
        turn = memos.begin(talk, scope=ANA, session="one", token_budget=64, k=1, now=NOW)
        assert word in talk[-1]["content"] and f"about {word} and" in turn.prompt[-1]["content"]
        turn.commit("Ok.", now=NOW)
        talk = [*talk, {"role": "assistant", "content": "Ok."}]


def test_a_turn_reads_the_placements_of_what_it_shows_alone(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that never ends, such as "default", must not make each turn slower than the one before."""
    said(memos, *(f"Ana's note {number} is about {word} and nothing else." for number, word in enumerate(WORDS)))
    read: list[int] = []
    monkeypatch.setattr("memos_core.store.snapshot.chains.load", lambda body, load=chains.load: read.append(1) or load(body))
    counts = []
    for number in range(20):
        read.clear()
        turn = memos.begin([{"role": "user", "content": f"Note {number} about {WORDS[number % 8]}?"}], scope=ANA, k=1, now=NOW)
        counts.append(len(read))
        turn.commit("Ok.", now=NOW)
    assert len(turn.plan.placed) == 1 and len(set(counts)) == 1


def test_a_commit_writes_once(memos: MemOS) -> None:
    turn = memos.begin(TALK, scope=ANA, now=NOW)
    first = turn.commit("No.", now=NOW)
    assert [each.outcome for each in first] == ["added", "added"]
    assert turn.commit("Something else.", now=NOW) == first
    before = memos.stats()["counts"]
    again = memos.begin(TALK, scope=ANA, now=NOW).commit("No.", now=NOW)
    assert [each.outcome for each in again] == ["merged", "merged"] and memos.stats()["counts"] == before
    assert [cube.payload.text for cube in memos.conversation(scope=ANA, session="default")] == ["May Ana have penicillin?", "No."]


def test_the_conversation_itself_is_not_placed_again(memos: MemOS) -> None:
    turn = memos.begin(TALK, scope=ANA, session="one", now=NOW)
    turn.commit("No.", now=NOW)
    longer = [*TALK, {"role": "assistant", "content": "No."}, {"role": "user", "content": "May Ana have penicillin?"}]
    assert memos.begin(longer, scope=ANA, session="one", now=NOW).plan.inject == ()


def test_a_question_or_a_reply_does_not_take_the_place_of_a_fact(memos: MemOS) -> None:
    said(memos, FACT, *(f"Small talk number {number} about the weather." for number in range(20)))
    memos.begin(TALK, scope=ANA, session="one", now=NOW).commit("Penicillin is fine for Ana, I made that up.", now=NOW)
    turn = memos.begin([{"role": "user", "content": "Is penicillin fine for Ana?"}], scope=ANA, session="two", k=1, now=NOW)
    assert [item.text for item in turn.plan.inject] == [f"- (2026-05-23) {FACT}"]


def test_what_does_not_stand_out_is_left_out(memos: MemOS) -> None:
    said(memos, FACT, *(f"Small talk number {number} about the weather." for number in range(20)))
    turn = memos.begin(TALK, scope=ANA, k=8, now=NOW)
    assert len(turn.plan.inject) == 1
    few = MemOS.begin(memos, [{"role": "user", "content": "Penicillin?"}], scope=("clinic", "new"), now=NOW)
    assert few.plan.inject == ()


def test_memory_text_is_stripped_wherever_it_comes_back(memos: MemOS) -> None:
    said(memos, "First line,\nsecond line about penicillin\n</memory>\nlast line.")
    turn = memos.begin(TALK, scope=ANA, now=NOW)
    pasted = turn.prompt[1]["content"]
    assert strip_blocks(pasted) == "May Ana have penicillin?"
    (done,) = memos.remember({"role": "user", "content": pasted}, scope=("clinic", "other"), now=NOW)
    assert done.cube.payload.text == "May Ana have penicillin?"
    again = memos.begin([{"role": "user", "content": pasted}], scope=("clinic", "third"), now=NOW)
    assert again.prompt[0]["content"] == "May Ana have penicillin?"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=4), st.text(max_size=40))
def test_a_block_is_stripped_whatever_it_holds(texts: list[str], user: str) -> None:
    lines = [line(cube(n).model_copy(update={"payload": Plaintext(text=text)})) for n, text in enumerate(texts)]
    if user.startswith("\n") or "<memory>" in user:
        return
    assert strip_blocks(block(lines) + user) == user


def test_a_head_stands_behind_the_callers_system_text() -> None:
    plan = Plan(head="What you know", shared_system="You help.")
    assert [message["content"] for message in render(TALK, plan)] == ["You help.\n\nWhat you know", TALK[1]["content"]]
    assert render(TALK[1:], plan)[0] == {"role": "system", "content": "You help.\n\nWhat you know"}


def test_a_reply_must_be_text(memos: MemOS) -> None:
    turn = memos.begin(TALK, scope=ANA, now=NOW)
    with pytest.raises(InvalidInput, match="reply must be a str"):
        turn.commit(None)  # type: ignore[arg-type]
    assert [each.outcome for each in turn.commit("No.", now=NOW)] == ["added", "added"]

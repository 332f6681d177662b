"""MemosChat around a chat model, on a real memory: what the model sees, what is remembered, streams, tools, users, failures."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import bag_of_words
from langchain_core.messages import BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_tests.unit_tests import ChatModelUnitTests
from pydantic import BaseModel
from scripted_models import ANA, BEN, FACT, QUESTION, Scripted, Streaming, calling, clock, said

from memos_core import InvalidInput, MemOS, Plan, StoreUnusable
from memos_integrations.langchain import MemosChat
from memos_integrations.langchain.messages import placed


def test_memory_stands_before_the_question_and_the_turn_is_remembered(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(script=["Take macrolides."])
    answer = MemosChat(memos=memos, scope=ANA, model=model, session="s").invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    system, human = model.seen[0]
    assert system.content == "Be brief."
    assert FACT in human.content and human.content.endswith(QUESTION) and human.content.startswith("<memory>")
    assert answer.content == "Take macrolides."
    assert said(memos, session="s") == [("user", QUESTION), ("assistant", "Take macrolides.")]
    used = answer.response_metadata["memos"]
    assert [memory["text"].endswith(FACT) for memory in used["used"]] == [True] and used["session"] == "s"


def test_six_turns_are_remembered_once_each_and_nothing_recalled_again(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(answer=lambda messages: f"Answer {len(messages)} about penicillin.")
    chat = MemosChat(memos=memos, scope=ANA, model=model, session="s")
    history: list[BaseMessage] = []
    for number in range(6):
        history.append(HumanMessage(f"Penicillin question {number}?"))
        history.append(chat.invoke(history))
    assert said(memos, session="s") == [("user" if isinstance(m, HumanMessage) else "assistant", m.content) for m in history]
    before = memos.stats()["counts"]
    chat.invoke(history[:-1])  # the caller tries the last turn again
    assert memos.stats()["counts"] == before
    assert all("<memory" not in text for _, text in said(memos, session="s"))
    assert sum(FACT in str(cube.payload.text) for cube in (hit.cube for hit in memos.recall("penicillin", scope=ANA, k=50).hits)) == 1


def test_the_prompt_of_a_session_only_grows(memos: MemOS) -> None:
    memos.remember([FACT, "The clinic opens at nine.", "Ben likes tea."], scope=ANA)
    model = Scripted(answer=lambda messages: "Noted.")
    chat = MemosChat(memos=memos, scope=ANA, model=model, k=2)
    history: list[BaseMessage] = [SystemMessage("Be brief.")]
    for question in ("Is penicillin safe?", "When does the clinic open?", "What does Ben like?"):
        history.append(HumanMessage(question))
        history.append(chat.invoke(history))
    texts = [[message.text for message in prompt] for prompt in model.seen]
    assert texts[1][: len(texts[0])] == texts[0] and texts[2][: len(texts[1])] == texts[1]


def test_what_is_handed_over_stays_as_it_is_and_other_attributes_reach_the_model(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [
        SystemMessage([{"type": "text", "text": "Be brief."}]),
        HumanMessage([{"type": "text", "text": QUESTION}, picture], name="ana", id="m1", additional_kwargs={"x": 1}),
    ]
    before = copy.deepcopy(messages)
    model = Scripted(script=["Yes."])
    MemosChat(memos=memos, scope=ANA, model=model).invoke(messages)
    assert messages == before
    human = model.seen[0][1]
    assert human.content[0]["text"].startswith("<memory") and human.content[1:] == before[1].content
    assert (human.id, human.name, human.additional_kwargs) == ("m1", "ana", {"x": 1})
    cube = memos.conversation(scope=ANA, session="default")[0]
    assert cube.identifiers.sources == ("m1",) and cube.identifiers.speaker == "ana" and cube.payload.text == f"{QUESTION}\n[image]"


def test_one_instance_serves_many_users_at_once(memos: MemOS) -> None:
    for name in ("ana", "ben"):
        memos.remember(f"The secret word of {name} is {name}-secret.", scope=("clinic", name))
    model = Scripted(answer=lambda messages: " | ".join(message.text for message in messages))
    chat = MemosChat(memos=memos, model=model)

    def ask(name: str, turn: int) -> tuple[str, str]:
        config = {"configurable": {"scope": ("clinic", name), "thread_id": f"t-{name}"}}
        return name, chat.invoke(f"What is my secret word? ({turn})", config).text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, ["ana", "ben"] * 8, range(16)))
    for name, text in answers:
        other = "ben" if name == "ana" else "ana"
        assert f"{name}-secret" in text and f"{other}-secret" not in text
    assert len(said(memos, ANA, "t-ana")) == len(said(memos, BEN, "t-ben")) == 16
    with pytest.raises(InvalidInput, match="scope"):
        chat.invoke("Whose am I?")


@pytest.mark.parametrize("empty", ["", ()])
def test_a_call_that_names_nobody_is_not_somebody_elses(memos: MemOS, empty: Any) -> None:
    """An application whose user has no name must not be given the memory of the constructor's."""
    chat = MemosChat(memos=memos, scope=ANA, model=Scripted(answer=lambda messages: "Noted."))
    for call in (chat.invoke, lambda text, config: list(chat.stream(text, config))):
        with pytest.raises(InvalidInput, match="scope"):
            call("My secret word is plum.", {"configurable": {"scope": empty}})
    assert said(memos) == []


def test_config_reaches_every_way_of_calling(memos: MemOS) -> None:
    config: Any = {"configurable": {"scope": BEN, "session": "s9"}}
    chat = MemosChat(memos=memos, scope=ANA, model=Scripted(answer=lambda messages: "Noted."))
    chain = ChatPromptTemplate.from_messages([("human", "{text}")]) | chat
    chain.invoke({"text": "one"}, config)
    list(chat.stream("two", config))
    chat.batch(["three"], config)
    assert [text for role, text in said(memos, BEN, "s9") if role == "user"] == ["one", "two", "three"]
    assert memos.recall("one two three", scope=ANA).hits == ()


def test_a_finished_stream_is_remembered_before_its_last_piece(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    chat = MemosChat(memos=memos, scope=ANA, model=Streaming(script=[["Take ", "macro", "lides."]]))
    pieces = list(chat.stream(QUESTION))
    assert [piece.text for piece in pieces][:3] == ["Take ", "macro", "lides."]
    assert said(memos) == [("user", QUESTION), ("assistant", "Take macrolides.")]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.text == "Take macrolides." and whole.response_metadata["memos"]["used"]


def test_an_abandoned_or_failing_stream_remembers_nothing(memos: MemOS) -> None:
    broken = ConnectionError("the line is dead")
    chat = MemosChat(memos=memos, scope=ANA, model=Streaming(script=[["Take ", "this."], ["Take ", broken]]))
    abandoned = chat.stream("First?")
    assert next(abandoned).text == "Take "
    abandoned.close()
    with pytest.raises(ConnectionError):
        list(chat.stream("Second?"))
    assert said(memos) == [] and memos.stats()["counts"]["turns"] == 0


async def test_async_calls_and_streams(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    plain, streaming = Scripted(script=["One.", "Two."]), Streaming(script=[["Th", "ree."]])
    assert (await MemosChat(memos=memos, scope=ANA, model=plain).ainvoke(QUESTION)).text == "One."
    chat = MemosChat(memos=memos, scope=ANA, model=plain, session="b")
    assert "".join([piece.text async for piece in chat.astream("And?")]) == "Two."
    chat = MemosChat(memos=memos, scope=ANA, model=streaming, session="c")
    assert "".join([piece.text async for piece in chat.astream("So?")]) == "Three."
    events = [
        event["event"]
        async for event in MemosChat(memos=memos, scope=ANA, model=Scripted(script=["E."]), session="d").astream_events("Hm?")
    ]
    assert events[-1] == "on_chat_model_end"
    assert [said(memos, session=session)[-1][1] for session in ("default", "b", "c", "d")] == ["One.", "Two.", "Three.", "E."]
    assert FACT in plain.seen[0][-1].text


def test_tool_calls_are_no_answer_and_tools_go_to_the_inner_model(memos: MemOS) -> None:
    memos.remember(FACT, scope=ANA)
    model = Scripted(script=[calling("clock"), "It is nine, and no penicillin."])
    bound = MemosChat(memos=memos, scope=ANA, model=model).bind_tools([clock], tool_choice="auto")
    messages: list[BaseMessage] = [HumanMessage(QUESTION)]
    messages.append(bound.invoke(messages))
    assert said(memos) == []
    messages.append(ToolMessage("It is nine.", tool_call_id="call-clock"))
    bound.invoke(messages)
    assert said(memos) == [("user", QUESTION), ("assistant", "It is nine, and no penicillin.")]
    assert model.given[0] == {"tools": ["clock"], "tool_choice": "auto"}
    first, second = ([message.text for message in prompt] for prompt in model.seen)
    assert second[: len(first)] == first


def test_structured_output_goes_through_the_memory(memos: MemOS) -> None:
    class Safe(BaseModel):
        """Whether it is safe."""

        safe: bool

    memos.remember(FACT, scope=ANA)
    model = Scripted(script=[calling("Safe", safe=False)])
    assert MemosChat(memos=memos, scope=ANA, model=model).with_structured_output(Safe).invoke(QUESTION) == Safe(safe=False)
    assert FACT in model.seen[0][0].text
    assert said(memos) == [("user", QUESTION), ("assistant", '{"safe": false}')]  # here the call is the answer
    list(
        MemosChat(memos=memos, scope=ANA, session="b", model=Scripted(script=[calling("Safe", safe=True)]))
        .with_structured_output(Safe)
        .stream("So?")
    )
    assert said(memos, session="b") == [("user", "So?"), ("assistant", '{"safe": true}')]


def test_a_write_that_fails_reaches_the_caller(memos: MemOS) -> None:
    def answer(messages: list[BaseMessage]) -> str:
        memos.close()
        return "Too late."

    chat = MemosChat(memos=memos, scope=ANA, model=Scripted(answer=answer))
    with pytest.raises(StoreUnusable, match="closed"):
        chat.invoke(QUESTION)
    with pytest.raises(StoreUnusable, match="closed"):
        list(chat.stream(QUESTION))


def test_a_model_that_is_none_is_refused(memos: MemOS) -> None:
    with pytest.raises(ValueError, match="HFEngine"):
        MemosChat(memos=memos, scope=ANA, model="gpt")


class TestMemosChat(ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _memory(self, memos: MemOS) -> None:
        self.memos = memos

    @property
    def chat_model_class(self) -> type[MemosChat]:
        return MemosChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"memos": self.memos, "scope": ANA, "model": Scripted()}


def test_a_human_message_with_an_image_is_remembered_with_it(memos: MemOS) -> None:
    data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    blocks = [{"type": "text", "text": "What is this?"}, {"type": "image", "base64": data, "mime_type": "image/png"}]
    chat = MemosChat(memos=memos, scope="ana", model=Scripted(script=["A dot."]))
    assert chat.invoke([HumanMessage(content=blocks)]).text == "A dot."
    question = memos.conversation(scope="ana", session="default")[0]
    assert question.payload.text == "What is this?\n[image]" and question.payload.parts[0].mime_type == "image/png"
    assert memos.content(question.id)[1]["base64"] == data


def test_a_chat_model_judges_for_the_memory(tmp_path: Path) -> None:
    answer = '{"relation": "contradicts", "confidence": 0.9, "update": true, "why": "moved"}'
    with MemOS.open(tmp_path / "x.memos", embedder=bag_of_words, model=Scripted(script=[answer])) as memos:
        assert str(memos.relation("I live in Lisbon.", "Oslo is home now.").kind) == "contradicts"


def test_a_head_is_put_behind_system_text_of_either_kind() -> None:
    plan = Plan(head="What is known: tea.", shared_system="Be brief.")
    for system in (SystemMessage("Be brief."), ChatMessage(role="system", content="Be brief.")):
        shown = placed([system, HumanMessage("Hi.")], plan)
        assert [message.text for message in shown] == ["Be brief.\n\nWhat is known: tea.", "Hi."] and type(shown[0]) is type(system)

"""MemosChat over an HFEngine: reuse and what it cost, KV that the scheduler prefilled, async code, and what such a model cannot do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from scripted_models import ANA, FACT, QUESTION, clock, said

from memos_core import InvalidInput, MemOS, NotAvailable
from memos_integrations.langchain import MemosChat


@pytest.fixture(scope="module")
def engine() -> Any:
    from tiny_models import tiny_model, tiny_tokenizer

    from memos_core.hf import HFEngine

    return HFEngine(tiny_model(max_position_embeddings=4096), tiny_tokenizer())


def test_an_engine_answers_with_reuse_and_says_what_it_cost(tmp_path: Path, hash_embedder: Any, engine: Any) -> None:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        memos.remember(FACT, scope=ANA)
        chat = MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=8)
        history: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage(QUESTION)]
        history.append(chat.invoke(history))
        history.append(HumanMessage("And when does the clinic open?"))
        second = chat.invoke(history)
        assert second.usage_metadata["input_token_details"]["cache_read"] > 0.5 * history[2].usage_metadata["input_tokens"]
        assert second.usage_metadata["output_tokens"] <= 8 and second.response_metadata["exact"] is True
        assert second.response_metadata["seconds_to_first_token"] > 0 and second.response_metadata["memos"]["used"] is not None
        assert [role for role, _ in said(memos)].count("user") == 2
        history += [second, HumanMessage("Thanks.")]
        pieces = list(MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=8, session="other").stream(history))
        whole = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        assert whole.usage_metadata["input_tokens"] > 0 and whole.response_metadata["memos"]["session"] == "other"
        assert said(memos, session="other")[0] == ("user", "Thanks.")


def test_kv_prefilled_by_the_scheduler_is_hit_by_the_first_turn_after_reopening(tmp_path: Path, hash_embedder: Any, engine: Any) -> None:
    system, later = SystemMessage("Be brief."), datetime.now(UTC) + timedelta(hours=2)
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        memos.remember(FACT, scope=ANA)
        for session in ("a", "b", "c"):
            MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=2, session=session).invoke([system, HumanMessage(QUESTION)])
        assert [move.kind for move in memos.tick(later)] == ["prefill"]
    engine.close()
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        answer = MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=2, session="d").invoke([system, HumanMessage(QUESTION)])
        used = answer.response_metadata["memos"]["used"]
        assert "reuse" in {memory["form"] for memory in used}
        assert answer.usage_metadata["input_token_details"]["cache_read"] >= engine.count(FACT)


async def test_an_engine_in_async_code(tmp_path: Path, hash_embedder: Any, engine: Any) -> None:
    with MemOS.open(tmp_path / "memory", embedder=hash_embedder, engine=engine) as memos:
        chat = MemosChat(memos=memos, scope=ANA, model=engine, max_tokens=4)
        whole = (await chat.ainvoke("Hello.")).text
        again = "".join([piece.text async for piece in chat.astream("Hello.", {"configurable": {"session": "b"}}, reuse=False)])
        assert said(memos)[0] == said(memos, session="b")[0] == ("user", "Hello.")
        assert isinstance(whole, str) and isinstance(again, str)


def test_what_an_engine_cannot_do_is_said(memos: MemOS, engine: Any) -> None:
    chat = MemosChat(memos=memos, scope=ANA, model=engine)
    with pytest.raises(NotAvailable, match="tools"):
        chat.bind_tools([clock])
    with pytest.raises(InvalidInput, match="frequency_penalty"):
        chat.invoke("Hi.", frequency_penalty=1.0)
    with pytest.raises(NotAvailable, match="text"):
        chat.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])])
    assert said(memos) == []

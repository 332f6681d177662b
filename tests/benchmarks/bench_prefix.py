"""A remote model: how much of each request is an unchanged beginning of the one before it, which is what a provider's prefix cache can use.

    python tests/benchmarks/bench_prefix.py [directory-with-locomo_dev.json]

A conversation of fifty turns, recorded: without an argument that of a club (made up), with one that of LoCoMo's first pair of people, the
one as user and the other as assistant; what they said in earlier sessions is remembered. The answers are those of the record, and what
is recalled is the same for all, five memories a turn with no bound on their tokens; only its place differs:

- ours: right before the user's message, and it stays there (requests as MemosChat, MemosMiddleware and MemosMemory send them);
- mem0's documented way: what is recalled now at the end of the system message;
- LlamaIndex's Memory: what its block recalls now, at the head of the system message (its own code puts it there).

Tokens are those of SmolLM2's tokenizer and chat template. "share": the mean over the requests after the first of (tokens that it has in
common with the request before it, from the first on) / (its tokens). "of all": the same of all their tokens together. "in blocks":
that of whole blocks of 128 tokens, from 1,024 on, as OpenAI's automatic cache counts. "sent" and "new": tokens of all requests, and how
many of them are not in such a common beginning. What stays in its place is sent again: ours sends more, and has less of it read.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import CustomLLM
from llama_index.core.memory import BaseMemoryBlock, Memory

from memos_core import MemOS
from memos_core.hf import HFEngine
from memos_integrations.langchain import MemosChat, MemosMiddleware
from memos_integrations.llamaindex import MemosMemory

TURNS, ASKED = 50, 0.9
SYSTEM = "You are a friend who remembers what was said before. Answer in one or two sentences."
SCOPE = ("people", "one")
SETTINGS: dict[str, Any] = {"memos": None, "scope": SCOPE, "token_budget": 1 << 20, "k": 5}
Request = list[dict[str, str]]
Turns = list[tuple[str, str]]  # what the user says, what is answered


# ---------------------------------------------------------------------- the conversation
def club() -> tuple[list[dict[str, Any]], Turns]:
    """Made up: what is known of a club's members, and fifty questions on it."""
    names = ("Ana", "Ben", "Carla", "Dan", "Eva", "Finn")
    things = ("the cello", "chess", "tennis", "the flute", "rugby", "cards", "the drums", "golf", "the piano", "squash")
    known = {
        (name, thing): f"{name} practises {thing} on day {3 * place + number} of the month, and {names[number - 1]} comes along."
        for number, name in enumerate(names)
        for place, thing in enumerate(things)
    }
    turns = []
    for number in range(TURNS):
        name, thing = names[number % len(names)], things[number * 7 % len(things)]
        turns.append((f"On which day does {name} practise {thing}, and who else is there?", known[name, thing]))
    return [{"role": "user", "content": text} for text in known.values()], turns


def locomo(file: Path) -> tuple[list[dict[str, Any]], Turns]:
    """The first pair of people: the last sessions as one conversation, all before them as messages to remember."""
    record = json.loads(file.read_text())[0]["conversation"]
    numbers = sorted(int(found[1]) for name in record if (found := re.fullmatch(r"session_(\d+)", name)))
    user = record["speaker_a"]
    spoken: list[tuple[bool, str]] = []
    first = len(numbers)
    while first and len(turns := list(_turns(spoken))) < TURNS:
        first -= 1
        spoken = [(one["speaker"] == user, one["text"]) for one in record[f"session_{numbers[first]}"]] + spoken
    known = []
    for number in numbers[:first]:
        stamp = " ".join(record[f"session_{number}_date_time"].split())
        start = datetime.strptime(stamp, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        for place, one in enumerate(record[f"session_{number}"]):
            said = {"role": "user", "name": one["speaker"], "content": one["text"], "id": one["dia_id"]}
            known.append({**said, "timestamp": start + timedelta(seconds=20 * place)})
    return known, turns[:TURNS]


def _turns(spoken: Sequence[tuple[bool, str]]) -> Iterator[tuple[str, str]]:
    """What one says in a row is one message; a conversation begins with the user's."""
    messages = [(user, "\n".join(text for _, text in several)) for user, several in groupby(spoken, key=lambda each: each[0])]
    messages = messages[0 if messages and messages[0][0] else 1 :]
    yield from ((asked, answer) for (_, asked), (_, answer) in zip(messages[::2], messages[1::2], strict=False))


# ---------------------------------------------------------------------- models that answer as recorded, and keep what they are sent
class Recorded(BaseChatModel):
    """A remote model, as LangChain sees one."""

    answers: list[str]
    sent: list[Request] = []  # noqa: RUF012  pydantic copies it

    @property
    def _llm_type(self) -> str:
        return "recorded"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        roles = {"human": "user", "ai": "assistant"}
        self.sent.append([{"role": roles.get(each.type, each.type), "content": str(each.text)} for each in messages])
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=self.answers[len(self.sent) - 1]))])


class RecordedLLM(CustomLLM):
    """The same, as LlamaIndex sees one."""

    answers: list[str]
    sent: list[Request] = []  # noqa: RUF012  pydantic copies it

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True)

    def chat(self, messages: Sequence[ChatMessage], **_: Any) -> ChatResponse:
        self.sent.append([{"role": each.role.value, "content": each.content or ""} for each in messages])
        return ChatResponse(message=ChatMessage(role="assistant", content=self.answers[len(self.sent) - 1]))

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        raise NotImplementedError


# ---------------------------------------------------------------------- the ways
def with_chat(memos: MemOS, turns: Turns) -> tuple[list[Request], list[list[str]]]:
    """Requests of MemosChat, and what was recalled for each."""
    model = Recorded(answers=[answer for _, answer in turns])
    chat = MemosChat(**{**SETTINGS, "memos": memos}, model=model, session="chat")
    messages: list[BaseMessage] = [SystemMessage(SYSTEM)]
    recalled = []
    for asked, _ in turns:
        messages.append(HumanMessage(asked))
        answer = chat.invoke(messages)
        used = answer.response_metadata["memos"]
        assert not any("do not fit" in why for why in used["why"])
        recalled.append([each["text"] for each in used["used"]])
        messages.append(AIMessage(str(answer.text)))
    return model.sent, recalled


def with_middleware(memos: MemOS, turns: Turns) -> list[Request]:
    model = Recorded(answers=[answer for _, answer in turns])
    middleware = MemosMiddleware(**{**SETTINGS, "memos": memos}, session="middleware")
    agent = create_agent(model, middleware=[middleware], system_prompt=SYSTEM, checkpointer=InMemorySaver())
    for asked, _ in turns:
        agent.invoke({"messages": [HumanMessage(asked)]}, {"configurable": {"thread_id": "one"}})
    return model.sent


def with_memory(memos: MemOS, turns: Turns) -> list[Request]:
    model = RecordedLLM(answers=[answer for _, answer in turns])
    memory = MemosMemory(**{**SETTINGS, "memos": memos}, session="memory", token_limit=1 << 21)
    chat = SimpleChatEngine.from_defaults(llm=model, memory=memory, system_prompt=SYSTEM)
    for asked, _ in turns:
        chat.chat(asked)
    return model.sent


def as_mem0(turns: Turns, recalled: list[list[str]]) -> list[Request]:
    """As in mem0's quickstart: the system message is the instruction and, below it, the memories found for this message."""
    requests, talk = [], []
    for (asked, answer), lines in zip(turns, recalled, strict=True):
        talk.append({"role": "user", "content": asked})
        system = f"{SYSTEM}\nUser Memories:\n" + "\n".join(lines)
        requests.append([{"role": "system", "content": system}, *talk])
        talk.append({"role": "assistant", "content": answer})
    return requests


class Given(BaseMemoryBlock[str]):
    """A block of LlamaIndex's Memory that says what was recalled for the message at hand."""

    name: str = "memories"
    recalled: dict[str, list[str]]

    async def _aget(self, messages: list[ChatMessage] | None = None, **_: Any) -> str:
        return "\n".join(self.recalled[(messages or [])[-1].content or ""])

    async def _aput(self, messages: list[ChatMessage]) -> None:
        raise AssertionError("the conversation is to fit")


def as_llamaindex(turns: Turns, recalled: list[list[str]]) -> list[Request]:
    """LlamaIndex's Memory with its defaults; the instruction is the system message that it holds."""
    block = Given(recalled={asked: lines for (asked, _), lines in zip(turns, recalled, strict=True)})
    memory = Memory.from_defaults(memory_blocks=[block], token_limit=1 << 20)
    memory.put(ChatMessage(role="system", content=SYSTEM))
    requests = []
    for asked, answer in turns:
        memory.put(ChatMessage(role="user", content=asked))
        requests.append([{"role": each.role.value, "content": each.content or ""} for each in memory.get()])
        memory.put(ChatMessage(role="assistant", content=answer))
    return requests


# ---------------------------------------------------------------------- the measure
def row(requests: list[Request], tokens: Callable[[Request], list[int]]) -> tuple[float, str]:
    """The mean share, and all figures as a line."""
    read = [tokens(request) for request in requests]
    common = [
        next((place for place, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
        for before, now in pairwise(read)
    ]
    sizes = [len(each) for each in read[1:]]
    cached = sum(count // 128 * 128 for count in common if count >= 1024)
    share = mean(count / size for count, size in zip(common, sizes, strict=True))
    sent = sum(map(len, read))
    return share, f"{share:6.1%} {sum(common) / sum(sizes):7.1%} {cached / sum(sizes):10.1%} {sent:9,} {sent - sum(common):9,}"


def main() -> int:
    data = Path(sys.argv[1]) / "locomo_dev.json" if len(sys.argv) > 1 else None
    known, turns = club() if data is None else locomo(data)
    assert len(turns) == TURNS
    tokens = HFEngine.load().tokens
    ways: dict[str, list[Request]] = {}
    for name in ("MemosChat", "MemosMiddleware", "MemosMemory"):  # each over a memory of its own, so that none recalls what another wrote
        with tempfile.TemporaryDirectory(prefix="memos-bench-") as folder, MemOS.open(Path(folder) / "x.memos") as memos:
            memos.remember(known, scope=SCOPE)
            if name == "MemosChat":
                ways[name], recalled = with_chat(memos, turns)
            else:
                ways[name] = (with_middleware if name == "MemosMiddleware" else with_memory)(memos, turns)
    ways |= {"mem0's way": as_mem0(turns, recalled), "LlamaIndex's Memory": as_llamaindex(turns, recalled)}
    lines = sum(map(len, recalled))
    print(f"{len(known)} messages remembered, {TURNS} turns, {lines} memories in the requests ({lines / TURNS:.1f} a turn)")
    print(f"{'':22} share  of all  in blocks      sent       new")
    met = True
    for name, requests in ways.items():
        share, figures = row(requests, tokens)
        print(f"{name:22}{figures}")
        met &= share >= ASKED or not name.startswith("Memos")
    print(f"asked of ours: a share of {ASKED:.0%} or more: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

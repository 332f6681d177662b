"""The main job: two processes, two frameworks, one memory, and the same answers sooner.

    python cookbook/demo.py [directory]

The first process remembers a history and chats through LangChain; the second opens the same directory and chats through LlamaIndex.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memos_core import MemOS, Plan
from memos_core.hf import HFEngine, Reply

SCOPE = ("home", "mira")
SYSTEM = "You are Mira's assistant. Answer her in one short sentence."
FIRST = {
    "breakfast": ["What am I allergic to?", "What are my cats called?", "What is my start number?"],
    "lunch": ["Which medicine must I never get?", "Who is the vet of my cats?"],
    "evening": ["Do I eat pork?", "When do we fly to Lisbon?"],
}
SECOND = ["What are my cats called?", "Who is the vet of my cats?", "When is Adaeze's birthday?"]
console = Console(width=118)


class Watched(HFEngine):
    """An engine that keeps what it was asked last, so that the demo can ask the same again without reuse."""

    last: tuple[Any, Plan | None, Any, Reply]

    def generate(self, messages: Any, plan: Any = None, scope: Any = None, max_new_tokens: int = 64, **options: Any) -> Reply:
        reply = super().generate(messages, plan, scope, max_new_tokens, **options)
        self.last = (messages, plan, scope, reply)
        return reply

    def without_reuse(self) -> Reply:
        messages, plan, scope, reply = self.last
        return super().generate(messages, plan, scope, max(1, len(reply.token_ids)), reuse=False)


def load() -> Watched:
    """The small local model, warmed up, so that the first turn's time is not that of starting."""
    transformers.utils.logging.disable_progress_bar()
    engine = Watched.load()
    engine.next_token_logits([{"role": "user", "content": "Hello!"}], reuse=False)
    return engine


def history() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The sessions of the history that is shipped: (session, messages)."""
    session, messages = "", []
    for line in (Path(__file__).parent / "data" / "history.txt").read_text().splitlines():
        if line.startswith("== "):
            if messages:
                yield session, messages
            at, messages = datetime.fromisoformat(line[3:].strip()), []
            session = at.date().isoformat()
        elif line[:3] in ("M: ", "A: "):
            speaker = ("user", "Mira") if line[0] == "M" else ("assistant", "Assistant")
            identity = f"{session}#{len(messages) + 1}"
            messages.append({"role": speaker[0], "name": speaker[1], "content": line[3:], "timestamp": at, "id": identity})
            at += timedelta(minutes=1)
    yield session, messages


def show(question: str, plan: Plan | None, engine: Watched) -> bool:
    """Print one turn; returns whether the answer without reuse has the same tokens."""
    reply, cold = engine.last[3], engine.without_reuse()
    same = reply.token_ids == cold.token_ids
    console.print(f"\n[bold]Mira:[/bold] {escape(question)}")
    console.print(f"[bold]Answer:[/bold] {escape(reply.text.strip())}")
    for form, used in (("text", plan.inject), ("KV", plan.reuse)) if plan else ():
        for item in used:
            console.print(f"   [dim]{form:>4} {escape(item.text[2:])}\n        because of {escape(item.reason)}[/dim]")
    gain = cold.seconds_to_first_token / max(reply.seconds_to_first_token, 1e-9)
    console.print(
        f"   {reply.prompt_tokens} prompt tokens, {reply.reused_tokens} reused: first token after {reply.seconds_to_first_token:.2f} s with "
        f"reuse, {cold.seconds_to_first_token:.2f} s without, {gain:.1f} × sooner; same tokens: {'yes' if same else '[red]NO[/red]'}"
    )
    return same


def first(directory: str) -> bool:
    """Remember the history, then chat through LangChain in three conversations."""
    from langchain_core.messages import HumanMessage, SystemMessage

    from memos_integrations.langchain import MemosChat

    engine = load()
    same = []
    with MemOS.open(directory, engine=engine) as memos:
        start = time.perf_counter()
        count = sum(len(memos.remember(messages, scope=SCOPE, session=session)) for session, messages in history())
        console.print(f"Remembered {count} messages of nine sessions in {time.perf_counter() - start:.1f} s.")
        chat = MemosChat(memos=memos, scope=SCOPE, model=engine, max_tokens=24, k=3)
        for session, questions in FIRST.items():
            console.print(f"\n[bold]Conversation “{session}”[/bold]")
            talk: list[Any] = [SystemMessage(SYSTEM)]
            for question in questions:
                talk.append(HumanMessage(question))
                talk.append(chat.invoke(talk, {"configurable": {"session": session}}))
                same.append(show(question, engine.last[1], engine))
        console.print("\n[bold]The scheduler looks at what was used[/bold]")
        for move in memos.tick():
            console.print(f"   {move.kind}: {escape(move.reason)}")
            for cube in (memos.get(id) for id in move.ids if move.kind == "prefill"):
                used = cube.usage
                console.print(f"      [dim]{used.recalls} × in {used.sessions} conversations: {escape(cube.payload.text)}[/dim]")
    return all(same)


def second(directory: str) -> bool:
    """Open the same directory in a new process, and chat through LlamaIndex."""
    from llama_index.core.chat_engine import SimpleChatEngine

    from memos_integrations.llamaindex import MemosMemory

    engine = load()
    same = []
    with MemOS.open(directory, engine=engine) as memos:
        memory = MemosMemory(memos=memos, scope=SCOPE, session="llamaindex", k=3)
        chat = SimpleChatEngine.from_defaults(memory=memory, llm=memory.llm(engine, max_tokens=24), system_prompt=SYSTEM)
        for question in SECOND:
            chat.chat(question)
            same.append(show(question, memory.last_turn.plan, engine))
            if len(same) == 1 and not engine.last[3].reused_tokens:
                console.print("[red]the first turn did not reuse the KV on disk[/red]")
                same.append(False)
        contents(memos)
    return all(same)


def contents(memos: MemOS) -> None:
    """What is in the memory directory now."""
    stats, table = memos.stats(), Table(title="What is in the memory directory", title_justify="left")
    table.add_column("what")
    table.add_column("how much", justify="right")
    for name, value in stats["counts"].items():
        table.add_row(name, f"{value:,}")
    for name, value in stats["bytes"].items():
        table.add_row(name, f"{value / 1e6:,.1f} MB")
    verification = memos.verify()
    table.add_row("everything verifies", "yes" if verification.ok else "NO: " + "; ".join(verification.problems))
    console.print()
    console.print(table)


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] in ("first", "second"):
        return 0 if {"first": first, "second": second}[sys.argv[1]](sys.argv[2]) else 1
    with tempfile.TemporaryDirectory() as temporary:
        directory = sys.argv[1] if len(sys.argv) > 1 else str(Path(temporary) / "mira.memos")
        for which, title in (("first", "Process 1: LangChain"), ("second", "Process 2: LlamaIndex, the same directory")):
            console.rule(f"[bold]{title}")
            code = subprocess.run([sys.executable, __file__, which, directory], check=False).returncode
            if code:
                console.print("[red]The demo failed: see above.[/red]")
                return code
        console.print("\nWith and without reuse, greedy decoding gave the same tokens in every turn.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

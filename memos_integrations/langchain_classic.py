"""Memory for LangChain's legacy chains (`LLMChain`, `ConversationChain`). New code uses `memos_integrations.langchain`."""

from __future__ import annotations

import threading
import uuid
import warnings
from typing import Annotated, Any

from memos_core import InvalidInput, MissingExtra, Plan, Turn, as_memos

try:
    from langchain_classic.base_memory import BaseMemory
    from langchain_classic.memory.utils import get_prompt_input_key
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
    from pydantic import AfterValidator, Field, PrivateAttr
except ImportError as error:
    raise MissingExtra("memos_integrations.langchain_classic", "langchain-classic") from error


class MemosMemory(BaseMemory):
    """Legacy: a chain's memory that outlives the process. It gives the session's history with recalled memory in it.

    memos: an open MemOS. scope: whose memory. session: the conversation, continued if it exists; a new one by default.
    memory_key, input_key, output_key, return_messages, human_prefix, ai_prefix: as in ConversationBufferMemory.
    token_budget: tokens that memory may take of the prompt. k: memories recalled per turn.

    The session is shown whole, however long, as by ConversationBufferMemory. What was recalled for the coming input stands last in the
    history, so right before the input in the usual prompt. To a chain that condenses questions it is history as well, so that it
    condenses the first one too. The input and the output are remembered by `save_context` in one transaction; the chain raises what
    that raises.
    """

    memos: Annotated[Any, AfterValidator(as_memos)] = Field(repr=False, exclude=True)
    scope: str | tuple[str, ...]
    session: str = Field(default_factory=lambda: uuid.uuid4().hex)
    memory_key: str = "history"
    input_key: str | None = None
    output_key: str | None = None
    return_messages: bool = False
    human_prefix: str = "Human"
    ai_prefix: str = "AI"
    token_budget: int = 512
    k: int = 8
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _turn: tuple[str, Turn] | None = PrivateAttr(default=None)

    @property
    def memory_variables(self) -> list[str]:
        """The one variable that this memory fills."""
        return [self.memory_key]

    def load_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The history, with memory recalled for the input; without an input, the history alone. Writes nothing."""
        history = self._history()
        if not set(inputs) - {self.memory_key, "stop"}:
            return {self.memory_key: self._shown(history, Plan())}
        text = self._input(inputs)
        turn = self._begin(history, text)
        with self._lock:
            self._turn = (text, turn)
        return {self.memory_key: self._shown(history, turn.plan)}

    def save_context(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Remember the input and the output, once. Raises InvalidInput when it is unclear which output is meant."""
        text, reply = self._input(inputs), self._output(outputs)
        with self._lock:
            begun, self._turn = self._turn, None
        turn = begun[1] if begun is not None and begun[0] == text else self._begin(self._history(), text)
        turn.commit(reply)

    def clear(self) -> None:
        """Start a new session. Nothing is erased: `memos.forget` does that."""
        with self._lock:
            self._turn = None
        self.session = uuid.uuid4().hex

    def _begin(self, history: list[dict[str, Any]], text: str) -> Turn:
        messages = [*history, {"role": "user", "content": text}]
        return self.memos.begin(messages, scope=self.scope, session=self.session, token_budget=self.token_budget, k=self.k)

    def _history(self) -> list[dict[str, Any]]:
        """The session's messages as the core takes them, with the ids they came with."""
        messages = []
        for cube in self.memos.conversation(scope=self.scope, session=self.session):
            known = cube.identifiers
            if known.role in ("user", "assistant"):
                source = {"id": known.sources[0]} if known.sources else {}
                messages.append({"role": known.role, "content": cube.payload.text, **source})
        return messages

    def _shown(self, history: list[dict[str, Any]], plan: Plan) -> str | list[BaseMessage]:
        """The history with the plan's memory in it: the head first, what was recalled before the message it was recalled for."""
        texts = {insertion.index: insertion.text for insertion in plan.insertions}
        said = [(message["role"], texts.get(index, "") + message["content"]) for index, message in enumerate(history)]
        head = [("system", plan.head)] if plan.head else []
        coming = [("system", texts[len(history)].strip())] if len(history) in texts else []
        shown = [*head, *said, *coming]
        if self.return_messages:
            kinds = {"user": HumanMessage, "assistant": AIMessage, "system": SystemMessage}
            return [kinds[role](content=text) for role, text in shown]
        prefixes = {"user": f"{self.human_prefix}: ", "assistant": f"{self.ai_prefix}: ", "system": ""}
        return "\n".join(prefixes[role] + text for role, text in shown)

    def _input(self, inputs: dict[str, Any]) -> str:
        return _as_text(inputs[self.input_key or get_prompt_input_key(inputs, self.memory_variables)])

    def _output(self, outputs: dict[str, Any]) -> str:
        key = self.output_key
        if key is None:
            if len(outputs) != 1 and "output" not in outputs:
                raise InvalidInput(f"the chain has several outputs ({', '.join(outputs)}); name the one to remember with output_key=")
            if len(outputs) != 1:
                warnings.warn(f"the chain has several outputs ({', '.join(outputs)}); remembering 'output'", stacklevel=3)
            key = "output" if len(outputs) != 1 else next(iter(outputs))
        return _as_text(outputs[key])


def _as_text(value: Any) -> str:
    return str(value.text) if isinstance(value, BaseMessage) else value

"""A conversation as LlamaIndex's chat engines and agents keep it, remembered as it is put."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.base.llms.types import MessageRole as Role
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_serializer
from llama_index.core.memory import BaseMemory
from llama_index.core.utils import get_tokenizer

from memos_core import InvalidInput, MemCube, MemOS, Plaintext, Turn, as_memos, as_scope
from memos_integrations.llamaindex.messages import Said, put_before

if TYPE_CHECKING:
    from memos_integrations.llamaindex.llm import MemosLLM

TOKEN_LIMIT = 30_000
"""As LlamaIndex's `Memory` has it."""
KEPT = 0.5
"""Share of the limit that a conversation is cut to. Each cut changes the prompt's first tokens, so that there are to be few."""
OF_WINDOW = 0.75
"""Share of a model's context window that a conversation may take, where the limit is not given. As `ChatMemoryBuffer` has it."""

_handed_over: WeakValueDictionary[tuple[Any, ...], MemOS] = WeakValueDictionary()
"""The MemOS that a conversation was given, so that a reloaded workflow Context finds it, with its engine and embedder."""


class MemosMemory(BaseMemory):
    """A conversation that is remembered as it is put, and that recalls, as it is read, what its scope remembers.

    memos: an open MemOS. scope: whose memory. session: the conversation, continued if it exists; a new one by default.
    token_budget: tokens that memory may take of a prompt. k: memories recalled per turn. token_limit: tokens of all that `get`
    returns, memory included, as tokenizer_fn counts them (LlamaIndex's global tokenizer by default). Of a conversation that is
    longer, the oldest turns are not shown, though remembered and recalled; the last turn is always shown, whole.

    `put` remembers messages of the user and final answers of the assistant, verbatim and once, a user's with its images; tool calls, tool
    results and a ReActAgent's thoughts are shown to the model but not remembered. `get` gives copies of the conversation with recalled text right
    before the user message that it was recalled for; stable memory, if the scheduler chose any, comes first, as a system message.
    With a local model, take the LLM from `llm(engine)`: it puts that memory behind the chat engine's own system prompt, where its KV
    can be reused.

    All but memos and tokenizer_fn is saved with a workflow's Context, `aside` with it: what was put and is not remembered. When it is
    loaded, the conversation goes on with the MemOS that was given to a MemosMemory of the same location, scope and session in this
    process; else `location` is opened with the default embedder. Safe to use from several threads. Errors of the memory are raised
    by `put` and `get`.
    """

    location: str
    scope: tuple[str, ...]
    session: str
    token_budget: int
    k: int
    token_limit: int
    aside: list[tuple[str, ChatMessage]] = Field(repr=False)  # with the id that it stands behind, or whose remembered text it has
    tokenizer_fn: Callable[[str], Any] = Field(exclude=True, repr=False)
    _memos: Any = PrivateAttr()
    _lock: Any = PrivateAttr(default_factory=threading.RLock)
    _view: list[Said] = PrivateAttr(default_factory=list)
    _coming: list[Said] = PrivateAttr(default_factory=list)
    _start: int = PrivateAttr(default=0)
    _system: str | None = PrivateAttr(default=None)
    _turn: Turn | None = PrivateAttr(default=None)
    _begun: tuple[Any, ...] = PrivateAttr(default=())

    def __init__(
        self,
        *,
        scope: Any,
        memos: Any = None,
        location: str | None = None,
        session: str | None = None,
        token_budget: int = 512,
        k: int = 8,
        token_limit: int = TOKEN_LIMIT,
        aside: Sequence[Any] = (),
        tokenizer_fn: Callable[[str], Any] | None = None,
    ) -> None:
        if memos is None and location is None:
            raise InvalidInput("MemosMemory needs memos=, an open MemOS, or location=, the directory of one")
        if token_limit <= token_budget:
            raise InvalidInput(f"token_limit={token_limit} leaves no room for the conversation beside token_budget={token_budget}")
        where = str(Path(as_memos(memos).path if memos is not None else location).resolve())
        super().__init__(
            location=where,
            scope=as_scope(scope),
            session=session or uuid.uuid4().hex,
            token_budget=token_budget,
            k=k,
            token_limit=token_limit,
            aside=list(aside),
            tokenizer_fn=tokenizer_fn or get_tokenizer(),
        )
        self._memos = memos or _handed_over.get(self._key()) or MemOS.open(where)
        self._load()

    @classmethod
    def class_name(cls) -> str:
        return "MemosMemory"

    @classmethod
    def from_defaults(cls, chat_history: Sequence[ChatMessage] = (), llm: Any = None, **fields: Any) -> MemosMemory:
        """The constructor's arguments, and a conversation to begin with. llm: whose context window sets the token limit, if nothing does."""
        if llm is not None and "token_limit" not in fields:
            fields["token_limit"] = int(llm.metadata.context_window * OF_WINDOW)
        memory = cls(**fields)
        if chat_history:
            memory.set(list(chat_history))
        return memory

    def llm(self, engine: Any, **fields: Any) -> MemosLLM:
        """An LLM over an HFEngine for this conversation; it reuses KV of this scope. fields: as of MemosLLM."""
        from memos_integrations.llamaindex.llm import MemosLLM

        return MemosLLM(engine=engine, scope=self.scope, memory=self, **fields)

    @property
    def memos(self) -> MemOS:
        """The memory behind it."""
        return self._memos

    @property
    def last_turn(self) -> Turn | None:
        """The latest turn: `plan` says what memory was used and why. None before the first `get`."""
        return self._turn

    @field_serializer("aside")
    def _as_json(self, aside: list[tuple[str, ChatMessage]]) -> list[tuple[str, dict[str, Any]]]:
        """In a form that a Context can be saved in, pictures included."""
        return [(id, message.model_dump(mode="json")) for id, message in aside]

    # ------------------------------------------------------------------ LlamaIndex's interface
    def get(self, input: str | ChatMessage | None = None, initial_token_count: int = 0, **_: Any) -> list[ChatMessage]:
        """The conversation with memory in it, for a model. input: the user message to come, or its text; without one, the last one put.

        initial_token_count: tokens of what the caller puts before it, counted in the limit.
        """
        with self._lock:
            asked = self._asked(self._view)[1]
            coming = ChatMessage(role=Role.USER, content=input) if isinstance(input, str) else input
            put_already = coming is None or (asked == (coming.content or "") and not self._answered())
            self._coming = [] if coming is None or put_already else [self._said(coming.model_copy(deep=True), self._new_id())]
            beside = initial_token_count + sum(said.tokens for said in self._coming)
            self._fit(self.token_limit - self.token_budget - beside)
            shown = self._shown()
            # the plan counts memory by its own tokenizer: where that differs, another turn makes room
            while self._tokens(shown) + beside > self.token_limit and (later := self._later()):
                self._start = later
                shown = self._shown()
            return shown

    def get_all(self) -> list[ChatMessage]:
        """The conversation as it was put, oldest first."""
        with self._lock:
            return [said.message.model_copy(deep=True) for said in self._view]

    def put(self, message: ChatMessage) -> None:
        """Add a message, and remember it. The assistant's answer is remembered together with what memory was used for it."""
        with self._lock:
            said = self._said(message.model_copy(deep=True))
            if said.lasts:
                known = [coming.id for coming in self._coming if (coming.role, coming.text) == (said.role, said.text)]
                said = self._said(said.message, known[0] if known else self._new_id())
                if said.role == "assistant" and self._turn is not None and self._is_open():
                    self._turn.commit(said.worth)
                else:
                    self._remember([said])
            self._coming = []
            self._set_aside(said)
            self._view.append(said)

    def set(self, messages: list[ChatMessage]) -> None:
        """Make these messages the conversation. What of them the session does not hold yet is remembered; nothing is erased.

        That includes what was forgotten and is shown again: whoever keeps the history has to take it out there too.
        """
        with self._lock:
            held: dict[tuple[str, str], list[Said]] = {}
            for known in self._stored():
                held.setdefault(known.words, []).append(known)
            view, new = [], []
            for message in messages:
                said = self._said(message.model_copy(deep=True))
                alike = held.get(said.words, [])
                if same := next((known for known in alike if known.pictures in ((), said.pictures)), None):
                    alike.remove(same)
                    said = self._said(said.message, same.id)
                elif said.lasts:
                    said = self._said(said.message, self._new_id())
                    new.append(said)
                view.append(said)
            if new:
                self._remember(new)
            self._view, self._coming, self._turn, self._start, self.aside = [], [], None, 0, []
            for said in view:
                self._set_aside(said)
                self._view.append(said)

    def reset(self) -> None:
        """Start a new session. Nothing is erased: `memos.forget` does that."""
        with self._lock:
            self.session, self.aside = uuid.uuid4().hex, []
            self._load()

    # ------------------------------------------------------------------ the turn
    def begin_behind(self, system: str | None) -> Turn | None:
        """The turn under way, planned for a prompt that begins with this system text of the caller's. For MemosLLM."""
        with self._lock:
            self._system = system
            return self._begin()

    def asks(self, messages: Sequence[ChatMessage]) -> bool:
        """Whether these messages ask what this conversation asks, rather than, say, to condense a question. For MemosLLM."""
        with self._lock:
            text = self._asked([*self._view, *self._coming])[1]
        return bool(text.strip()) and any(message.role == Role.USER and (message.content or "").endswith(text) for message in messages)

    def _begin(self) -> Turn | None:
        """Recall and plan once per user message and system text, however often an agent asks. None before any user message."""
        begun = (*self._asked([*self._view, *self._coming]), self._system, self._start)
        if begun[0] < 0:
            return None
        if self._turn is None or begun != self._begun:
            system = [] if self._system is None else [{"role": "system", "content": self._system}]
            messages = [*system, *(said.as_dict() for said in (*self._view[self._start :], *self._coming))]
            self._turn = self._memos.begin(messages, scope=self.scope, session=self.session, token_budget=self.token_budget, k=self.k)
            self._begun = begun
        return self._turn

    def _shown(self) -> list[ChatMessage]:
        """Copies of what is shown of the conversation, with memory in it."""
        shown = [said.message.model_copy(deep=True) for said in self._view[self._start :]]
        if (turn := self._begin()) is None:
            return shown
        for insertion in turn.plan.insertions:
            index = insertion.index - (0 if self._system is None else 1)
            if index < len(shown):
                put_before(shown[index], insertion.text)
            else:  # the message to come is not ours to return; what stands right before it is the last that we return
                shown.append(ChatMessage(role=Role.SYSTEM, content=insertion.text.strip()))
        head = [ChatMessage(role=Role.SYSTEM, content=turn.plan.head)] if turn.plan.head else []
        return [*head, *shown]

    @staticmethod
    def _asked(view: Sequence[Said]) -> tuple[int, str]:
        """Position and text of the last user message; -1 when there is none."""
        return next(((place, view[place].text) for place in reversed(range(len(view))) if view[place].role == "user"), (-1, ""))

    def _answered(self) -> bool:
        """Whether the last user message has its final answer."""
        return any(said.role == "assistant" and said.lasts for said in self._view[self._asked(self._view)[0] + 1 :])

    def _is_open(self) -> bool:
        """Whether the turn under way is that of the last user message, and not answered yet."""
        return self._asked(self._view) == self._begun[:2] and not self._answered()

    # ------------------------------------------------------------------ the limit
    def _fit(self, room: int) -> None:
        """Show fewer of the oldest turns, where the conversation no longer fits: from then on as many as take KEPT of the room."""
        if sum(said.tokens for said in self._view[self._start :]) <= room:
            return
        while (later := self._later()) and sum(said.tokens for said in self._view[self._start :]) > room * KEPT:
            self._start = later

    def _later(self) -> int:
        """Where the turn after the first one shown begins; 0 when the first one is the last."""
        return next((place for place in range(self._start + 1, len(self._view)) if self._view[place].role == "user"), 0)

    def _tokens(self, messages: Sequence[ChatMessage]) -> int:
        return sum(len(self.tokenizer_fn(message.content or "")) for message in messages)

    # ------------------------------------------------------------------ the session
    def _said(self, message: ChatMessage, id: str | None = None) -> Said:
        return Said(message, id, self._tokens([message]))

    def _key(self) -> tuple[Any, ...]:
        return (self.location, self.scope, self.session)

    def _new_id(self) -> str:
        """An id no other process gives: a counted one would make two turns of a session that is open twice the same."""
        return f"{self.session}#{uuid.uuid4().hex[:16]}"

    def _remember(self, messages: Sequence[Said]) -> None:
        said = [message.as_dict() for message in messages]
        self._memos.remember(said, scope=self.scope, session=self.session, in_passing=True)

    def _stored(self) -> list[Said]:
        cubes = self._memos.conversation(scope=self.scope, session=self.session)
        return [
            self._said(self._message(cube), next(iter(cube.identifiers.sources), None))
            for cube in cubes
            if cube.identifiers.role in ("user", "assistant")
        ]

    def _message(self, cube: MemCube) -> ChatMessage:
        """A message as it is remembered, with its images."""
        assert isinstance(cube.payload, Plaintext)
        if not cube.payload.parts:
            return ChatMessage(role=cube.identifiers.role, content=cube.payload.text)
        return ChatMessage(role=cube.identifiers.role, blocks=self._memos.content(cube.id, shape="llamaindex"))

    def _set_aside(self, said: Said) -> None:
        """Keep, for the time that this conversation is open, what the memory does not hold of a message to come."""
        if not said.lasts:
            self.aside.append((next((each.id for each in reversed(self._view) if each.id), ""), said.message))
        elif said.id is not None and said.message.blocks != [TextBlock(text=said.worth)]:
            self.aside.append((said.id, said.message))

    def _load(self) -> None:
        """Go on with the session as the memory holds it, and with what was set aside."""
        _handed_over[self._key()] = self._memos
        aside: dict[str, list[Said]] = {}
        for id, message in self.aside:
            aside.setdefault(id, []).append(self._said(message))
        self._view = [said for said in aside.get("", ()) if not said.lasts]
        for stored in self._stored():
            of_it = aside.get(stored.id or "", ())
            whole = [said.message for said in of_it if said.words == stored.words]
            self._view.append(self._said(whole[0], stored.id) if whole else stored)
            self._view += [said for said in of_it if not said.lasts]
        self._coming, self._turn, self._system, self._start = [], None, None, 0

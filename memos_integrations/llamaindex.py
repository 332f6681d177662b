"""Memory for LlamaIndex: a chat memory that remembers on `put`, a retriever, and an LLM that reuses the memory's KV."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from memos_core import InvalidInput, MemOS, MissingExtra, NotAvailable, Plan, Turn

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response, stream_chat_response_to_completion_response
    from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata, TextBlock, ToolCallBlock
    from llama_index.core.base.llms.types import MessageRole as Role
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.llms import LLM, CustomLLM
    from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
    from llama_index.core.memory import BaseMemory
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise MissingExtra("memos_integrations.llamaindex", "llamaindex") from error

_handed_over: WeakValueDictionary[tuple[Any, ...], MemOS] = WeakValueDictionary()
"""The MemOS that a conversation was given, so that a reloaded workflow Context finds it, with its engine and embedder."""


@dataclass(frozen=True)
class _Said:
    """A message of a conversation, and the id under which the memory knows it."""

    message: ChatMessage
    id: str | None = None

    @property
    def text(self) -> str:
        return self.message.content or ""

    @property
    def role(self) -> str:
        """user, system, tool, call (of a tool, by the assistant), or assistant, for all else that a model said."""
        if self.message.role in (Role.ASSISTANT, Role.CHATBOT, Role.MODEL):
            blocks = any(isinstance(block, ToolCallBlock) for block in self.message.blocks)
            return "call" if blocks or self.message.additional_kwargs.get("tool_calls") else "assistant"
        return {Role.USER: "user", Role.SYSTEM: "system", Role.DEVELOPER: "system"}.get(self.message.role, "tool")

    @property
    def lasts(self) -> bool:
        """Whether it is a message to remember."""
        return self.role in ("user", "assistant") and bool(self.text.strip())

    def as_dict(self, text_only: bool = False) -> dict[str, Any]:
        """The message as the core and the engine take it. Raises NotAvailable for an image and the like, when asked to."""
        if text_only and self.role == "user" and any(not isinstance(block, TextBlock) for block in self.message.blocks):
            raise NotAvailable("an HFEngine reads text alone; this conversation holds other content, such as an image")
        role = "assistant" if self.role == "call" else self.role
        return {"role": role, "content": self.text, **({} if self.id is None else {"id": self.id})}


class MemosMemory(BaseMemory):
    """A conversation that is remembered as it is put, and that recalls, as it is read, what its scope remembers.

    memos: an open MemOS. scope: whose memory. session: the conversation, continued if it exists; a new one by default.
    token_budget: tokens that memory may take of a prompt. k: memories recalled per turn.

    `put` remembers messages of the user and final answers of the assistant, verbatim and once; tool calls and tool results are
    shown to the model but not remembered. `get` gives copies of the conversation with recalled text right before the user message
    that it was recalled for; stable memory, if the scheduler chose any, comes first, as a system message. With a local model, take
    the LLM from `llm(engine)`: it puts that memory behind the chat engine's own system prompt, where its KV can be reused.

    `location`, `scope` and `session` are saved with a workflow's Context. When it is loaded, the conversation goes on with the MemOS
    that was given to a MemosMemory of the same three in this process; else `location` is opened with the default embedder.
    Safe to use from several threads. Errors of the memory are raised by `put` and `get`.
    """

    location: str
    scope: tuple[str, ...]
    session: str
    token_budget: int
    k: int
    _memos: Any = PrivateAttr()
    _lock: Any = PrivateAttr(default_factory=threading.RLock)
    _view: list[_Said] = PrivateAttr(default_factory=list)
    _coming: list[_Said] = PrivateAttr(default_factory=list)
    _system: str | None = PrivateAttr(default=None)
    _turn: Turn | None = PrivateAttr(default=None)
    _begun: tuple[Any, ...] = PrivateAttr(default=())

    def __init__(
        self, *, scope: Any, memos: Any = None, location: str | None = None, session: str | None = None, token_budget: int = 512, k: int = 8
    ) -> None:
        if memos is None and location is None:
            raise InvalidInput("MemosMemory needs memos=, an open MemOS, or location=, the directory of one")
        place = (scope,) if isinstance(scope, str) else tuple(scope)
        where = str(Path(memos.path if memos is not None else location).resolve())
        super().__init__(location=where, scope=place, session=session or uuid.uuid4().hex, token_budget=token_budget, k=k)
        self._memos = memos or _handed_over.get(self._key()) or MemOS.open(where)
        self._load()

    @classmethod
    def class_name(cls) -> str:
        return "MemosMemory"

    @classmethod
    def from_defaults(cls, chat_history: Sequence[ChatMessage] = (), llm: Any = None, **fields: Any) -> MemosMemory:
        """The constructor's arguments, and a conversation to begin with. `llm` is not needed."""
        memory = cls(**fields)
        if chat_history:
            memory.set(list(chat_history))
        return memory

    def llm(self, engine: Any, **fields: Any) -> MemosLLM:
        """An LLM over an HFEngine for this conversation; it reuses KV of this scope. fields: as of MemosLLM."""
        return MemosLLM(engine=engine, scope=self.scope, memory=self, **fields)

    @property
    def memos(self) -> MemOS:
        """The memory behind it."""
        return self._memos

    @property
    def last_turn(self) -> Turn | None:
        """The latest turn: `plan` says what memory was used and why. None before the first `get`."""
        return self._turn

    # ------------------------------------------------------------------ LlamaIndex's interface
    def get(self, input: str | None = None, **_: Any) -> list[ChatMessage]:
        """The conversation with memory in it, for a model. input: the user message to come; without one, the last one put."""
        with self._lock:
            put_already = input is None or self._asked(self._view) == (len(self._view) - 1, input)
            self._coming = [] if put_already else [_Said(ChatMessage(role=Role.USER, content=input), self._new_id())]
            shown = self.get_all()
            if (turn := self._begin()) is None:
                return shown
            for insertion in turn.plan.insertions:
                index = insertion.index - (0 if self._system is None else 1)
                if index < len(shown):
                    _put_before(shown[index], insertion.text)
                else:  # the message to come is not ours to return; what stands right before it is the last that we return
                    shown.append(ChatMessage(role=Role.SYSTEM, content=insertion.text.strip()))
            head = [ChatMessage(role=Role.SYSTEM, content=turn.plan.head)] if turn.plan.head else []
            return [*head, *shown]

    def get_all(self) -> list[ChatMessage]:
        """The conversation as it was put, oldest first."""
        with self._lock:
            return [said.message.model_copy(deep=True) for said in self._view]

    def put(self, message: ChatMessage) -> None:
        """Add a message, and remember it. The assistant's answer is remembered together with what memory was used for it."""
        with self._lock:
            said = _Said(message.model_copy(deep=True))
            if said.lasts:
                known = [coming.id for coming in self._coming if (coming.role, coming.text) == (said.role, said.text)]
                said = _Said(said.message, known[0] if known else self._new_id())
                if said.role == "assistant" and self._turn is not None and self._is_open():
                    self._turn.commit(said.text)
                else:
                    self._memos.remember([said.as_dict()], scope=self.scope, session=self.session)
            self._coming = []
            self._view.append(said)

    def set(self, messages: list[ChatMessage]) -> None:
        """Make these messages the conversation. What of them the session does not hold yet is remembered; nothing is erased."""
        with self._lock:
            held: dict[tuple[str, str], list[_Said]] = {}
            for known in self._stored():
                held.setdefault((known.role, known.text), []).append(known)
            view, new = [], []
            for message in messages:
                said = _Said(message.model_copy(deep=True))
                if same := held.get((said.role, said.text)):
                    said = _Said(said.message, same.pop(0).id)
                elif said.lasts:
                    said = _Said(said.message, self._new_id())
                    new.append(said.as_dict())
                view.append(said)
            if new:
                self._memos.remember(new, scope=self.scope, session=self.session)
            self._view, self._coming, self._turn = view, [], None

    def reset(self) -> None:
        """Start a new session. Nothing is erased: `memos.forget` does that."""
        with self._lock:
            self.session = uuid.uuid4().hex
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
        view = [*self._view, *self._coming]
        begun = (*self._asked(view), self._system)
        if begun[0] < 0:
            return None
        if self._turn is None or begun != self._begun:
            system = [] if self._system is None else [{"role": "system", "content": self._system}]
            messages = [*system, *(said.as_dict() for said in view)]
            self._turn = self._memos.begin(messages, scope=self.scope, session=self.session, token_budget=self.token_budget, k=self.k)
            self._begun = begun
        return self._turn

    @staticmethod
    def _asked(view: Sequence[_Said]) -> tuple[int, str]:
        """Position and text of the last user message; -1 when there is none."""
        return next(((place, view[place].text) for place in reversed(range(len(view))) if view[place].role == "user"), (-1, ""))

    def _is_open(self) -> bool:
        """Whether the turn under way is that of the last user message, and not answered yet."""
        asked = self._asked(self._view)
        answered = any(said.role == "assistant" and said.lasts for said in self._view[asked[0] + 1 :])
        return asked == self._begun[:2] and not answered

    def _key(self) -> tuple[Any, ...]:
        return (self.location, self.scope, self.session)

    def _new_id(self) -> str:
        """An id no other process gives: a counted one would make two turns of a session that is open twice the same."""
        return f"{self.session}#{uuid.uuid4().hex[:16]}"

    def _stored(self) -> list[_Said]:
        cubes = self._memos.conversation(scope=self.scope, session=self.session)
        return [
            _Said(ChatMessage(role=cube.identifiers.role, content=cube.payload.text), next(iter(cube.identifiers.sources), None))
            for cube in cubes
            if cube.identifiers.role in ("user", "assistant")
        ]

    def _load(self) -> None:
        """Go on with the session as the memory holds it."""
        _handed_over[self._key()] = self._memos
        self._view = self._stored()
        self._coming, self._turn, self._system = [], None, None


class MemosRetriever(BaseRetriever):
    """Recalled memories as nodes, best first: `node_id` is the cube's id, `metadata` holds reasons, time, sources and path.

    memos: an open MemOS. scope: whose memory. k: how many. rest: of BaseRetriever, such as callback_manager. Reads only.
    """

    def __init__(self, *, memos: Any, scope: str | Sequence[str], k: int = 10, **rest: Any) -> None:
        self._memos = memos
        self._scope = scope
        self._k = k
        super().__init__(**rest)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in self._memos.recall(query_bundle.query_str, scope=self._scope, k=self._k).hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


class MemosLLM(CustomLLM):
    """An HFEngine as LLM: each prompt is computed only from where the KV known for its scope ends.

    engine: an HFEngine. scope: whose content the prompts hold, None for public. max_tokens: length of an answer.
    memory: the conversation it answers, set by `MemosMemory.llm`. Then the conversation's stable memory goes behind the leading
    system text, in one system message, which is the text that the scheduler prefills KV for.
    The answer's `additional_kwargs` say what it cost: prompt_tokens, completion_tokens, reused_tokens, seconds_to_first_token.
    Arguments of a call: max_tokens, stop, temperature, top_p, seed, reuse. Raises what the engine raises.
    """

    engine: Any = Field(exclude=True, repr=False)
    scope: str | tuple[str, ...] | None = None
    max_tokens: int = 256
    memory: MemosMemory | None = Field(default=None, exclude=True, repr=False)

    @classmethod
    def class_name(cls) -> str:
        return "MemosLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What the model is: its context window, its name; it chats and does not call functions."""
        config = self.engine.model.config
        window = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
        name = getattr(config, "name_or_path", "") or type(self.engine.model).__name__
        known = {"context_window": window} if isinstance(window, int) and window > 0 else {}
        return LLMMetadata(num_output=self.max_tokens, is_chat_model=True, model_name=name, **known)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        prompt, plan = self._prompt(messages)
        return self._answer(prompt, plan, kwargs)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Iterator[ChatResponse]:
        """Answer a conversation piece by piece; the last piece is empty and carries the costs."""
        prompt, plan = self._prompt(messages)
        return self._pieces(prompt, plan, kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a text, as the only message of a conversation; no memory is put into it."""
        return chat_response_to_completion_response(self._answer([{"role": "user", "content": prompt}], None, kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Iterator[CompletionResponse]:
        """The same, piece by piece; the last piece is empty and carries the costs."""
        return stream_chat_response_to_completion_response(self._pieces([{"role": "user", "content": prompt}], None, kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation in a worker thread."""
        return await asyncio.to_thread(self.chat, messages, **kwargs)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a text in a worker thread."""
        return await asyncio.to_thread(self.complete, prompt, formatted, **kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncIterator[ChatResponse]:
        """Answer a conversation piece by piece in a worker thread."""
        return _in_thread(await asyncio.to_thread(self.stream_chat, messages, **kwargs))

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> AsyncIterator[CompletionResponse]:
        """Answer a text piece by piece in a worker thread."""
        return _in_thread(await asyncio.to_thread(self.stream_complete, prompt, formatted, **kwargs))

    def _prompt(self, messages: Sequence[ChatMessage]) -> tuple[list[dict[str, Any]], Plan | None]:
        """The messages for the engine, and the plan they follow, if they are the memory's conversation."""
        prompt = [_Said(message).as_dict(text_only=True) for message in messages]
        if self.memory is None or self.memory.last_turn is None or not self.memory.asks(messages):
            return prompt, None
        leading = next((place for place, message in enumerate(prompt) if message["role"] != "system"), len(prompt))
        shown = self.memory.last_turn.plan.head
        system = "\n\n".join(message["content"] for message in prompt[:leading] if message["content"] != shown) or None
        turn = self.memory.begin_behind(system)
        assert turn is not None
        whole = f"{turn.plan.shared_system}\n\n{turn.plan.head}" if turn.plan.head else system
        return [*([] if whole is None else [{"role": "system", "content": whole}]), *prompt[leading:]], turn.plan

    def _answer(self, prompt: list[dict[str, Any]], plan: Plan | None, given: dict[str, Any]) -> ChatResponse:
        return _response(self.engine.generate(prompt, plan, self.scope, **self._arguments(given)))

    def _pieces(self, prompt: list[dict[str, Any]], plan: Plan | None, given: dict[str, Any]) -> Iterator[ChatResponse]:
        text = ""
        with self.engine.stream(prompt, plan, self.scope, **self._arguments(given)) as pieces:
            for delta in pieces:
                text += delta
                yield ChatResponse(message=ChatMessage(role=Role.ASSISTANT, content=text), delta=delta)
        yield _response(pieces.reply, delta="")

    def _arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        if unknown := given.keys() - {"max_tokens", "stop", "temperature", "top_p", "seed", "reuse"}:
            raise InvalidInput(f"an HFEngine takes no {', '.join(sorted(unknown))}; see MemosLLM for what it takes")
        known = {name: given[name] for name in ("temperature", "top_p", "seed", "reuse") if name in given}
        return {**known, "max_new_tokens": given.get("max_tokens", self.max_tokens), "stop": tuple(given.get("stop") or ())}


def text_model(llm: LLM) -> Callable[[str], str]:
    """An LLM as `MemOS.open(model=...)` takes it, from a prompt to text: it reads facts out of messages and judges contradictions."""
    return lambda prompt: str(llm.complete(prompt))


# ---------------------------------------------------------------------- messages
def _put_before(message: ChatMessage, text: str) -> None:
    """Recalled text in front of a message's text (of a copy that is ours)."""
    first, *rest = message.blocks or [TextBlock(text="")]
    message.blocks = [TextBlock(text=text + first.text), *rest] if isinstance(first, TextBlock) else [TextBlock(text=text), first, *rest]


def _response(reply: Any, delta: str | None = None) -> ChatResponse:
    """An engine's reply with what it cost, where LlamaIndex's users and its token counter look for it."""
    new = len(reply.token_ids)
    cost = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": new, "total_tokens": reply.prompt_tokens + new}
    cost |= {
        "reused_tokens": reply.reused_tokens,
        "seconds_to_first_token": reply.seconds_to_first_token,
        "finish_reason": reply.finish_reason,
    }
    message = ChatMessage(role=Role.ASSISTANT, content=reply.text, additional_kwargs=dict(cost))
    return ChatResponse(message=message, delta=delta, raw=dict(cost), additional_kwargs=cost)


async def _in_thread(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _node(hit: Any) -> NodeWithScore:
    known = hit.cube.identifiers
    described = known.model_dump(mode="json", include={"occurred_at", "sources", "path", "session", "speaker"})
    metadata = {**described, "scope": list(hit.cube.governance.scope), "reasons": [str(reason) for reason in hit.reasons]}
    hidden = [name for name in metadata if name not in ("occurred_at", "speaker")]  # what a model need not read
    node = TextNode(id_=hit.cube.id, text=hit.cube.payload.text, metadata=metadata, excluded_llm_metadata_keys=hidden)
    return NodeWithScore(node=node, score=hit.score)

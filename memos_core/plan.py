"""What of the recalled memory reaches the model, in which form, and where in the prompt. Pure.

Layout (MemOS §4.1 "inject or reuse"; the placement rule is ours): the head of the prompt holds only stable memory in a
canonical order, behind the caller's system text; what was recalled for a turn stands right before that turn's user
message and stays there in later turns. So each prompt of a session is an extension of the one before, and the KV cache
of a local model, or the prefix cache of a provider, goes on matching.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, Protocol

from memos_core.cube import CubeId, MemCube, Plaintext
from memos_core.errors import InvalidInput

Message = Mapping[str, Any]
Form = Literal["inject", "reuse", "activate"]

DEFAULT_SYSTEM = "You are a helpful assistant."
HEAD_TITLE = "What you know about the user:"
_BLOCK = re.compile(r"<memory>\n(?:- \(\d{4}-\d\d-\d\d\) [^\n]*\n(?:  [^\n]*\n)*)+</memory>\n*")


class Engine(Protocol):
    """What the core needs of a model. A black box has capabilities {"plaintext"} and is never asked for more."""

    @property
    def capabilities(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Used:
    """One memory on its way to the model, or left out, and why. recalled: recall brought it up for this turn, which counts as a use.

    tokens: that it takes of the prompt, or saves where it is activated. through: the KV or the module that stands for its text.
    """

    id: CubeId
    version: int
    form: Form
    text: str
    tokens: int
    reason: str
    recalled: bool = True
    through: CubeId | None = None


@dataclass(frozen=True, slots=True)
class Insertion:
    """Recalled text that stands right before the content of the user message at `index` of the caller's messages."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Head:
    """The stable memory at the head of a scope's prompts. `reusable`: KV of it is kept for the engine in use; id: the cube of that KV."""

    cubes: tuple[MemCube, ...]
    text: str
    reusable: bool
    reason: str
    id: CubeId | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one turn's prompt will hold.

    head: text that goes behind the caller's system text, "" for none. shared_system: the system text before it, which is
    public and whose KV may be shared between scopes; None when the prompt has no system message. insertions: recalled
    text by message index, this turn's and earlier turns'. inject / reuse: by form, the memories of the head and
    those recalled for this turn, whether placed now or standing there already. left_out: recalled, not in the prompt. placed: id and
    version of what stands right before this turn's user message. tokens: of all memory in the prompt. activate: recalled, and known to the
    modules that act on the request, so that its text stays out; modules: their ids. saved_tokens: what that text would have taken.
    head_tokens: of the head, whose KV is reused; 0 where it is not.
    """

    head: str = ""
    shared_system: str | None = None
    insertions: tuple[Insertion, ...] = ()
    inject: tuple[Used, ...] = ()
    reuse: tuple[Used, ...] = ()
    left_out: tuple[Used, ...] = ()
    placed: tuple[tuple[CubeId, int], ...] = ()
    tokens: int = 0
    why: tuple[str, ...] = ()
    activate: tuple[Used, ...] = ()
    modules: tuple[CubeId, ...] = ()
    head_tokens: int = 0

    @property
    def uses(self) -> tuple[tuple[CubeId, Form], ...]:
        """What counts as used, and how: what recall brought up, the KV of the head, and the modules."""
        found: list[tuple[CubeId, Form]] = [(item.id, item.form) for item in (*self.inject, *self.reuse, *self.activate) if item.recalled]
        found += [(id, "reuse") for id in dict.fromkeys(item.through for item in self.reuse) if id is not None]
        return (*found, *((id, "activate") for id in self.modules))

    @property
    def saved_tokens(self) -> int:
        return sum(used.tokens for used in self.activate)


def line(cube: MemCube) -> str:
    """One memory as a line of a prompt: date, speaker, text; further lines of the text are indented."""
    assert isinstance(cube.payload, Plaintext)
    speaker = " ".join((cube.identifiers.speaker or "").split())
    text = cube.payload.text.replace("\n", "\n  ")
    return f"- ({cube.identifiers.occurred_at.date().isoformat()}) {speaker}{': ' if speaker else ''}{text}"


def head_text(cubes: Sequence[MemCube]) -> str:
    """The head block: stable memories in canonical order (when they were said, then id)."""
    ordered = sorted(cubes, key=lambda cube: (cube.identifiers.occurred_at, cube.id))
    return "\n".join([HEAD_TITLE, *map(line, ordered)]) if ordered else ""


def block(lines: Sequence[str]) -> str:
    """Recalled lines as a tagged block; "" for none."""
    return "<memory>\n" + "".join(f"{each}\n" for each in lines) + "</memory>\n\n" if lines else ""


def strip_blocks(text: str) -> str:
    """Text without anything of the exact form that `block` writes.

    So what came from recall is never remembered again as if it were new, and nobody can slip a forged memory into a prompt.
    """
    return _BLOCK.sub("", text)


def check_messages(messages: Sequence[Message]) -> tuple[dict[str, Any], ...]:
    """Copies of a conversation's messages, checked. Raises InvalidInput unless it holds a user message."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise InvalidInput("messages must be a list of dictionaries with 'role' and 'content'")
    checked = []
    for position, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidInput(f"message {position} must be a dictionary with a 'role' and a 'content', got {message!r:.80}")
        if not isinstance(message.get("content"), str):
            raise InvalidInput(f"the content of message {position} must be a str, got {type(message.get('content')).__name__}")
        checked.append(dict(message))
    if not any(message["role"] == "user" for message in checked):
        raise InvalidInput("the conversation has no message with role 'user'; pass at least the one to be answered")
    return tuple(checked)


def render(messages: Sequence[Message], plan: Plan) -> tuple[dict[str, Any], ...]:
    """The prompt: the messages with the head behind the system text and each insertion before its user message."""
    inserted = {insertion.index: insertion.text for insertion in plan.insertions}
    prompt = [{**message, "content": inserted.get(index, "") + message["content"]} for index, message in enumerate(messages)]
    if plan.head:
        system = f"{plan.shared_system}\n\n{plan.head}"
        if prompt and prompt[0]["role"] == "system":
            prompt[0]["content"] = system
        else:
            prompt.insert(0, {"role": "system", "content": system})
    return tuple(prompt)


def make_plan(
    *,
    system: str | None,
    turn_index: int,
    candidates: Sequence[tuple[MemCube, str]],
    head: Head | None,
    placed: Mapping[int, Sequence[MemCube]],
    said: frozenset[str],
    token_budget: int,
    count: Callable[[str], int],
    known: Mapping[CubeId, str] = MappingProxyType({}),
    modules: Sequence[tuple[CubeId, str]] = (),
) -> Plan:
    """Decide inject or reuse for each recalled memory within a token budget.

    system: the caller's system text. turn_index: the user message being answered. candidates: recalled cubes with their
    reasons, best first. placed: cubes already standing before earlier messages, by index. said: texts that the visible
    conversation holds anyway. modules: the ids of those that act on the request, with why; known: what they have been measured to know, and
    which of them does: it is activated, not injected. The budget covers the head and then this turn's memories by rank. What stands there from
    earlier turns is not counted against it: taking it away would break the prefix, and counting it would leave nothing for later turns.
    """
    why: list[str] = []
    insertions = [Insertion(index, block([line(cube) for cube in cubes])) for index, cubes in sorted(placed.items()) if cubes]
    stood, spent = sum(count(insertion.text) for insertion in insertions), 0
    standing = {(cube.id, cube.version) for cubes in placed.values() for cube in cubes}
    if insertions:
        why.append(f"{len(standing)} memories stay where earlier turns placed them ({stood} tokens)")
    head_ids: dict[CubeId, MemCube] = {}
    text = ""
    if head is not None and head.cubes:
        size = count(head.text)
        if size <= token_budget:
            head_ids, text, spent = {cube.id: cube for cube in head.cubes}, head.text, size
            why.append(f"head of {len(head.cubes)} stable memories as {'KV' if head.reusable else 'text'} ({size} tokens): {head.reason}")
        else:
            why.append(f"head of {size} tokens left out: only {token_budget} are free")
    inject: list[Used] = []
    of_head: list[Used] = []
    form: Form = "reuse" if head is not None and head.reusable else "inject"
    through = head.id if head is not None and head.reusable else None
    left_out: list[Used] = []
    fresh: list[Used] = []
    activate: list[Used] = []
    why += [f"module {id} acts: {reason}" for id, reason in modules]
    taken = 0  # tokens of the block that holds the fresh ones
    said_at = {cube.id: (cube.identifiers.occurred_at, cube.id) for cube, _ in candidates}
    for cube, reason in candidates:
        item = line(cube)
        used = Used(cube.id, cube.version, "inject", item, 0, reason)
        if cube.id in head_ids:
            of_head.append(replace(used, form=form, reason=f"{reason}; stands in the head", through=through))
        elif (cube.id, cube.version) in standing:
            inject.append(replace(used, reason=f"{reason}; stands in this conversation already"))
        elif cube.id in known:
            by, size = known[cube.id], count(f"{item}\n")
            activate.append(replace(used, form="activate", tokens=size, reason=f"{reason}; module {by} knows it", through=by))
        elif isinstance(cube.payload, Plaintext) and cube.payload.text in said:
            left_out.append(replace(used, reason=f"{reason}; the conversation says it"))
        else:
            tried = sorted([*fresh, used], key=lambda each: said_at[each.id])  # oldest first: what holds now stands nearest to the question
            size = count(block([each.text for each in tried]))
            if spent + size > token_budget:
                free = token_budget - spent - taken
                left_out.append(replace(used, tokens=size - taken, reason=f"{reason}; {size - taken} tokens do not fit, {free} are free"))
                continue
            fresh = [replace(each, tokens=size - taken) if each is used else each for each in tried]
            taken = size
    of_head.extend(
        Used(cube.id, cube.version, form, line(cube), 0, "stands in the head; not recalled for this message", False, through)
        for cube in head_ids.values()
        if cube.id not in said_at
    )
    if fresh:
        insertions.append(Insertion(turn_index, block([used.text for used in fresh])))
    shared = system if system is not None else (DEFAULT_SYSTEM if text else None)
    return Plan(
        head=text,
        shared_system=shared,
        insertions=tuple(insertions),
        inject=(*(of_head if form == "inject" else ()), *inject, *fresh),
        reuse=tuple(of_head) if form == "reuse" else (),
        left_out=tuple(left_out),
        placed=tuple((used.id, used.version) for used in fresh),
        tokens=stood + spent + taken,
        why=tuple(why),
        activate=tuple(activate),
        modules=tuple(id for id, _ in modules),
        head_tokens=count(text) if through is not None and text else 0,
    )

"""Messages to tokens: validation, rendering by the model's chat template, and the tokens that every continuation shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError

from memos_core.errors import InvalidInput, NotAvailable
from memos_core.hf.tools import checked_calls, takes_tools

Message = Mapping[str, Any]
ROLES = ("system", "user", "assistant", "tool")
# Beginnings that no tokenizer merges with the text before them in the same way.
PROBES = ("alpha", "7", "\n\n- x", "Ω ?")


class Renderer:
    """Renders conversations for one tokenizer and tokenises them whole, once: parts tokenised apart merge differently where they meet."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the chat template shows tools to the model."""
        return takes_tools(self._tokenizer)

    def tokens(self, messages: Sequence[Message], *, add_generation_prompt: bool, tools: Sequence[Message] = ()) -> list[int]:
        """Token ids of the conversation. Raises InvalidInput for messages that cannot be rendered or come to no token at all."""
        plain = checked(messages)
        ids = self._encode(self.text(plain, add_generation_prompt, tools), special=not self._has_template())
        if not ids:
            raise InvalidInput("the prompt is empty: give at least one message with some content")
        return ids

    def text(self, messages: list[dict[str, Any]], add_generation_prompt: bool, tools: Sequence[Message] = ()) -> str:
        if (tools or any("tool_calls" in message for message in messages)) and not self.takes_tools:
            raise NotAvailable("this model's chat template knows no tools; take a model whose template does, or an agent that acts in text")
        if not self._has_template():
            lines = [f"{message['role']}: {message['content']}\n" for message in messages]
            return "".join(lines) + ("assistant:" if add_generation_prompt else "")
        refusal: TemplateError | None = None
        for conversation in (messages, fold_system(messages)):  # the second for templates without a system role
            try:
                return self._template(conversation, add_generation_prompt, tools)
            except TemplateError as error:
                refusal = error
        raise InvalidInput(f"the model's chat template refuses this conversation ({refusal}); check the order of its roles") from refusal

    def stable_prefix(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> list[int]:
        """The tokens that every continuation of `messages` begins with: what renderings with very different continuations share."""
        plain = checked(messages)
        role = "assistant" if plain[-1]["role"] in ("user", "tool") else "user"
        renderings = [self.tokens([*plain, {"role": role, "content": probe}], add_generation_prompt=False, tools=tools) for probe in PROBES]
        return renderings[0][: min(shared(renderings[0], other) for other in renderings[1:])]

    def plain(self, text: str) -> list[int]:
        """Token ids of a text as it is, with what the tokenizer puts before every text."""
        return self._encode(text, special=True)

    def inner(self, text: str) -> list[int]:
        """Token ids of a text that stands amid others."""
        return self._encode(text, special=False)

    def spans(self, messages: Sequence[Message], texts: Sequence[str], *, inside: bool = False) -> list[tuple[int, int]]:
        """Where each text first stands in the rendered conversation: token places [start, end), (0, 0) when it does not.

        inside: without tokens that reach beyond it. Raises InvalidInput for tokenizers that cannot tell.
        """
        rendered = self.text(checked(messages), True)
        if not getattr(self._tokenizer, "is_fast", False):
            raise InvalidInput("this tokenizer does not tell where its tokens stand in a text; load the fast one")
        special = not self._has_template()
        places = self._tokenizer(rendered, add_special_tokens=special, return_offsets_mapping=True, verbose=False)["offset_mapping"]
        found = []
        for text in texts:
            start = rendered.find(text) if text else -1
            end = start + len(text)
            if start < 0:
                touched = []
            elif inside:
                touched = [place for place, (a, b) in enumerate(places) if start <= a < b <= end]
            else:
                touched = [place for place, (a, b) in enumerate(places) if a < end and b > start]
            found.append((touched[0], touched[-1] + 1) if touched else (0, 0))
        return found

    def count(self, text: str) -> int:
        return len(self._encode(text, special=False))

    def with_reply(self, messages: Sequence[Message], reply: str) -> list[int]:
        """Token ids of the conversation with `reply` begun as the assistant's answer, its end not marked."""
        return self._encode(self.text(checked(messages), True) + reply, special=not self._has_template())

    def _has_template(self) -> bool:
        return bool(getattr(self._tokenizer, "chat_template", None))

    def _template(self, messages: list[dict[str, Any]], add_generation_prompt: bool, tools: Sequence[Message]) -> str:
        shown = {"tools": list(tools)} if tools else {}
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt, **shown))

    def _encode(self, text: str, special: bool) -> list[int]:
        ids = list(self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        end = getattr(self._tokenizer, "eos_token_id", None)
        if special and ids and ids[-1] == end and not text.endswith(str(self._tokenizer.eos_token)):
            ids.pop()  # a tokenizer that closes every text; a prompt is to be continued
        return ids


def checked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Fresh dictionaries of role and content alone, and of the tools' calls and names. Raises InvalidInput, naming the message at fault."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise InvalidInput("messages must be a list of dictionaries with 'role' and 'content'")
    if not messages:
        raise InvalidInput("messages is empty: give at least one message")
    plain: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        role, content = (message.get("role"), message.get("content")) if isinstance(message, Mapping) else (None, None)
        if role not in ROLES:
            raise InvalidInput(f"messages[{place}] has the role {role!r}; use one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise InvalidInput(f"messages[{place}] has content of type {type(content).__name__}; content must be text")
        plain.append({"role": str(role), "content": content})
        if role == "assistant" and message.get("tool_calls"):
            plain[-1]["tool_calls"] = checked_calls(message["tool_calls"], place)
        elif role == "tool":
            plain[-1] |= {name: str(message[name]) for name in ("name", "tool_call_id") if message.get(name)}
    return plain


def fold_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation with all system text put before the first user message."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    rest = [dict(message) for message in messages if message["role"] != "system"]
    first = next((message for message in rest if message["role"] == "user"), None)
    if not system or first is None:
        return messages
    first["content"] = "\n\n".join([*system, first["content"]])
    return rest


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return next((place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))

"""One model with its tokenizer, as every part of the engine sees it: what it is, what of it can be kept, and the lock it runs under."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from typing import Any

from memos_core.cube import ParameterForm
from memos_core.errors import InvalidInput
from memos_core.hf.cache import Layout, Workspace, find_layout
from memos_core.hf.decode import running
from memos_core.hf.identity import Identity, Refusal, Watch, longest_exact, refusal
from memos_core.hf.kv import PrefixTree
from memos_core.hf.lowrank import check_fits
from memos_core.hf.module import Module, TrainedPrefix, as_payload
from memos_core.hf.prefix import Prompt, Scope, scope_salt
from memos_core.hf.prompt import Message, Renderer, shared
from memos_core.hf.rates import Rates
from memos_core.hf.steering import Steering, SteeringVector, checked, steering_key
from memos_core.hf.tools import checked_tools

Router = Callable[[Sequence[Message], Any, Scope], Sequence[Module]]


def several(modules: Sequence[Module]) -> tuple[Module, ...]:
    """Modules that act together, each once, in one order. Raises InvalidInput for two trained prefixes: there is one beginning."""
    found = {module.key: module for module in modules}
    if sum(module.form is ParameterForm.PREFIX for module in found.values()) > 1:
        raise InvalidInput("two trained prefixes cannot act on one request: each takes the beginning of the prompt")
    return tuple(found[key] for key in sorted(found))


class Machine:
    """Owns one model and one tokenizer, which it never changes. The model runs under one lock, one step at a time."""

    def __init__(self, model: Any, tokenizer: Any, *, kv_bytes: int = 1 << 30) -> None:
        """`kv_bytes`: how many bytes of KV to keep in RAM; 0 keeps none."""
        if not callable(model) or not hasattr(model, "config"):
            raise InvalidInput(f"model must be a transformers model, got {type(model).__name__}; HFEngine.load(name) loads one")
        if not isinstance(kv_bytes, int) or kv_bytes < 0:
            raise InvalidInput(f"kv_bytes must be a number of bytes, 0 or more, got {kv_bytes!r}")
        self.model, self.tokenizer = model, tokenizer
        self.kv = PrefixTree(kv_bytes)
        self.lock = threading.RLock()
        self.rates = Rates()
        self.workspace = Workspace(kv_bytes)
        self._steering: ContextVar[tuple[Steering, ...]] = ContextVar("steering", default=())
        self._modules: ContextVar[tuple[Module, ...]] = ContextVar("modules", default=())
        self._routers: dict[object, Router] = {}
        self._renderer = Renderer(tokenizer)
        self._watch = Watch(model, tokenizer)
        self._layout: tuple[object, Layout | str] = (None, "")  # (what it depends on, the layout or why there is none)

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """The forms in which memory can reach this model: text always, KV when its cache can be kept."""
        with self.lock:
            kept = not isinstance(self.reusable(self._watch.identity(), 0), Refusal)
        return frozenset({"plaintext", "activation", "parameter"} if kept else {"plaintext"})

    @property
    def identity(self) -> Identity:
        """What KV made now belongs to."""
        with self.lock:
            return self.identity_under(self.steering_now, self._modules.get())

    def identity_under(self, steering: tuple[Steering, ...], modules: tuple[Module, ...] = ()) -> Identity:
        """The same with these steering vectors and modules attached. Call it under the lock.

        Activated LoRA counts for nothing: up to where it acts KV is the base's, and what comes after is not kept.
        """
        identity = self._watch.identity()
        if acting := [module.key for module in modules if module.form is not ParameterForm.ALORA]:
            identity = replace(identity, adapters=" ".join([identity.adapters, *acting]))
        return replace(identity, steering=steering_key(steering)) if steering else identity

    @property
    def base_identity(self) -> Identity:
        """The model's identity with nothing steering it."""
        with self.lock:
            return self._watch.identity()

    @property
    def steering_now(self) -> tuple[Steering, ...]:
        """What requests made here and now are steered by."""
        return self._steering.get()

    @contextmanager
    def steer(self, vector: SteeringVector, strength: float = 1.0) -> Iterator[None]:
        """Inside, requests made in this thread or task have `strength` times the vector added to the hidden states behind its layers.

        Several add up. No other request is touched, and outside the model is bit for bit what it was.
        Raises IdentityMismatch for a vector of another model, InvalidInput.
        """
        token = self._steering.set((*self.steering_now, checked(self.model, vector, strength, self.base_identity.key)))
        try:
            yield
        finally:
            self._steering.reset(token)

    @contextmanager
    def activate(self, *modules: Module) -> Iterator[None]:
        """Inside, these modules act on every request made in this thread or task, whatever the routers say. Several add up; at most one
        may be a trained prefix. No other request is touched, and outside the model is bit for bit what it was.

        Raises IdentityMismatch for a module of another model's shape, InvalidInput.
        """
        for module in modules:
            self.check_module(module)
        token = self._modules.set(several((*self._modules.get(), *modules)))
        try:
            yield
        finally:
            self._modules.reset(token)

    def check_module(self, module: Module) -> None:
        """Raises IdentityMismatch or InvalidInput unless the module fits this model."""
        if not isinstance(module, Module):
            raise InvalidInput(f"a module is needed, got {type(module).__name__}; promote(ids, to='parameter') makes one")
        with self.lock:
            layout = self.reusable(self._watch.identity(), 0)
        if isinstance(layout, Refusal):
            raise InvalidInput(f"this model takes no modules, since its KV cannot be kept: {layout.reason}")
        if isinstance(module.weights, TrainedPrefix):
            as_payload(module.weights, layout)
        else:
            check_fits(self.model, module.weights)

    def route(self, key: object, router: Router | None) -> None:
        """Ask `router` from now on which modules act on a request: (messages, plan, scope) -> modules. None: no longer."""
        with self.lock:
            if router is None:
                self._routers.pop(key, None)
            else:
                self._routers[key] = router

    def _acting(self, messages: Sequence[Message], plan: Any, scope: Scope) -> tuple[Module, ...]:
        """The modules of a request: those that are active here and now, and those it is routed to. There is one beginning: where a trained
        prefix is there already, another that the request is routed to stays out."""
        acting = list(self._modules.get())
        for router in list(self._routers.values()):
            for module in router(messages, plan, scope):
                if module.form is not ParameterForm.PREFIX or all(each.form is not ParameterForm.PREFIX for each in acting):
                    acting.append(module)
        return several(acting)

    @property
    def takes_tools(self) -> bool:
        """Whether the model's chat template shows tools to it, so that it can be asked to call them."""
        return self._renderer.takes_tools

    def tokens(self, messages: Sequence[Message], *, add_generation_prompt: bool = True, tools: Sequence[Message] = ()) -> list[int]:
        """The whole conversation rendered by the model's template and tokenised once. Raises InvalidInput or NotAvailable."""
        return self._renderer.tokens(messages, add_generation_prompt=add_generation_prompt, tools=checked_tools(tools))

    def count(self, text: str) -> int:
        """Tokens of a text."""
        if not isinstance(text, str):
            raise InvalidInput(f"count takes a text, got {type(text).__name__}")
        return self._renderer.count(text)

    def _asked(self, messages: Sequence[Message], plan: Any, scope: Scope, tools: Sequence[Message] = ()) -> Prompt:
        """The prompt of a conversation that is to be answered, with the modules that act on it."""
        tokens, modules = self.tokens(messages, tools=tools), self._acting(messages, plan, scope)
        prompt = self._prompt(tokens, plan, scope, modules, checked_tools(tools))
        self._check_length(prompt.width)
        if not any(module.form is ParameterForm.ALORA for module in modules):
            return prompt
        return replace(prompt, turn=shared(tokens, self.tokens(messages, add_generation_prompt=False, tools=tools)))

    def _prompt(
        self, tokens: list[int], plan: Any, scope: Scope, modules: tuple[Module, ...] = (), tools: Sequence[Message] = ()
    ) -> Prompt:
        salt = scope_salt(scope)
        self._check_length(len(tokens))
        public = len(tokens) if not salt else 0
        if salt and (system := getattr(plan, "shared_system", None)):
            public = shared(tokens, self._renderer.stable_prefix([{"role": "system", "content": system}], tools))
        if salt and any(module.form is not ParameterForm.ALORA for module in modules):
            public = 0  # KV under a module holds something of it
        with self.lock:
            identity = self.identity_under(self.steering_now, modules)
        return Prompt(identity, tuple(tokens), public, salt, modules)

    @property
    def context_window(self) -> int | None:
        """How many tokens the model can read, None when unbounded."""
        longest = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return longest if isinstance(longest, int) and longest > 0 else None

    def _room_for(self, tokens: int, wanted: int) -> int:
        """How many tokens an answer to a prompt may have. Raises InvalidInput unless one or more are wanted."""
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
            raise InvalidInput(f"max_new_tokens must be 1 or more, got {wanted!r}")
        limit = self.context_window
        return wanted if limit is None else min(wanted, limit - tokens + 1)

    def _check_length(self, count: int) -> None:
        if (longest := self.context_window) is not None and count > longest:
            raise InvalidInput(
                f"the prompt has {count} tokens and the model reads at most {longest}: shorten it, or lower the token budget"
            )

    def reusable(self, identity: Identity, tokens: int) -> Layout | Refusal:
        """The layout of the model's cache, or why KV of a text of so many tokens can be neither kept nor reused at present."""
        if (refused := refusal(self.model)) is not None:
            return refused
        bound = longest_exact(self.model.config)
        if bound is not None and tokens > bound:
            return Refusal(f"beyond {bound} tokens this model's position embedding depends on the length of the text")
        depends = (identity.config, identity.dtype, self.model.get_input_embeddings().weight.device)
        if self._layout[0] != depends:
            with running(self.model):
                self._layout = (depends, find_layout(self.model))
        layout = self._layout[1]
        return Refusal(layout) if isinstance(layout, str) else layout

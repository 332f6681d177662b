"""KV made ahead, written to files, found again, frozen and forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memos_core.cube import Precision
from memos_core.errors import EngineError, IdentityMismatch
from memos_core.hf import segment as segments
from memos_core.hf.cache import Payload, Piece, PrivateCache
from memos_core.hf.decode import PrivateLive, running
from memos_core.hf.divergence import EQUAL, PROBE, Difference, difference
from memos_core.hf.identity import Refusal
from memos_core.hf.machine import Machine
from memos_core.hf.precision import as_precision, lossless, native, packed_bytes
from memos_core.hf.prefix import Prompt, Saved, Scope, Segment, scope_salt
from memos_core.hf.prompt import Message
from memos_core.hf.request import Request
from memos_core.hf.steering import steered


class Keeping(Machine):
    """What an engine does with KV between requests."""

    def prefill(self, messages: Sequence[Message], scope: Scope = None, *, plan: Any = None) -> Segment:
        """Compute and keep the KV of what every continuation of `messages` begins with. Raises EngineError when this model's KV cannot
        be reused (the message says why)."""
        prompt = self._prompt(self._renderer.stable_prefix(messages), plan, scope)
        request = Request(self, prompt, 0, True, whole=True)
        try:
            size = request.layout().bytes_per_token * len(prompt.tokens)
            request.start()
        finally:
            request.close(list(prompt.tokens))
        made = Segment(prompt.tokens, prompt.prefix_key(), prompt.identity, prompt.public, prompt.salt, size)
        with self.lock:
            self.kv.remember(made)
        return made

    def prefill_tokens(self, messages: Sequence[Message], scope: Scope = None, *, plan: Any = None) -> int:
        """How many tokens `prefill` would keep the KV of, without computing it."""
        return len(self._prompt(self._renderer.stable_prefix(messages), plan, scope).tokens)

    def sizes(self, tokens: int, least: Precision | str | None = None) -> tuple[tuple[Precision, int], ...]:
        """(precision, bytes of KV of so many tokens in a file), from the model's own precision down to `least`; None: its own alone.

        Raises EngineError when this model's KV cannot be kept.
        """
        with self.lock:
            layout = self.reusable(self.identity, tokens)
        if isinstance(layout, Refusal):
            raise EngineError(f"this model's KV cannot be kept: {layout.reason}")
        own = native(layout.groups[0].dtype)
        chosen = [own]
        if least is not None:
            ladder = list(Precision)
            chosen += ladder[ladder.index(own) + 1 : ladder.index(as_precision(least)) + 1]
        slots = [(which, group.heads, group.dim) for group in layout.groups for _, which in group.slots]
        found = [(each, sum(packed_bytes(each, which, heads, tokens, dim) for which, heads, dim in slots)) for each in chosen]
        return tuple((each, size) for place, (each, size) in enumerate(found) if all(size < before for _, before in found[:place]))

    def save(self, segment: Segment, precision: Precision | str | None = None) -> bytes:
        """The bytes that `pack` makes."""
        return self.pack(segment, precision).data

    def pack(self, segment: Segment, precision: Precision | str | None = None, probe: int = PROBE) -> Saved:
        """The segment as a safetensors file. What is no longer in RAM is computed again. Raises IdentityMismatch when the
        model has changed since it was made.

        precision: how its numbers are stored; None: as the model's own. What loses some is measured: how far the predictions behind
        its last `probe` tokens then differ.
        """
        if fields := segment.identity.difference(self.identity):
            raise IdentityMismatch(f"{', '.join(fields)} changed since the segment was made: prefill it again")
        prompt = Prompt(segment.identity, segment.token_ids, segment.public_tokens, segment.salt)
        request = Request(self, prompt, 0, True, whole=True, exact=True)
        try:
            layout = request.layout()
            request.start()
            payload = request.copy(0, segment.tokens)
        finally:
            request.close(list(prompt.tokens))
        own = native(layout.groups[0].dtype)
        chosen = own if precision is None else as_precision(precision)
        tensors = segments.pack_layers(layout, payload, chosen)
        difference = EQUAL
        if not lossless(chosen, layout.groups[0].dtype):
            read_back = segments.unpack_layers(layout, tensors, chosen, segment.tokens)
            difference = self.compare(segment.token_ids, payload, read_back, probe)
        header = segments.Header(
            segment.token_ids, segment.public_tokens, segment.salt, segment.prefix_key, segment.identity, chosen, *difference
        )
        size = sum(tensor.nbytes for tensor in tensors.values())
        return Saved(segments.write(header, tensors), size, chosen, *difference)

    def compare(self, token_ids: Sequence[int], exact: Payload, other: Payload, probe: int = PROBE) -> Difference:
        """What answers behind other KV of the same tokens differ by: the last `probe` tokens are read behind either.

        Payloads: per group of equally shaped tensors [slots, heads, tokens, head_dim].
        """
        count = len(token_ids)
        start = max(count - probe, min(count - 1, 1))
        with self.lock:
            layout = self.reusable(self.identity, count)
            if isinstance(layout, Refusal):
                raise EngineError(f"this model's KV cannot be kept: {layout.reason}")
            logits = []
            for payload in (exact, other):
                private = PrivateCache(layout, count, self.workspace)
                private.fill([Piece(start, payload)])
                with running(self.model), steered(self.model, self.steering_now):
                    logits.append(PrivateLive(self.model, private).feed(list(token_ids[start:]), last=count - start))
                private.close()
        return difference(*logits)

    def attach(self, path: str | Path, *, scope: Scope, prefix_key: str) -> str | None:
        """Make a saved segment findable; its tensors stay on disk until a prompt matches. Returns None, or the reason why it cannot be
        used, which is also counted as a miss."""
        with self.lock:
            reason = self._attach(Path(path), scope_salt(scope), prefix_key)
            if reason is not None:
                self.kv.count_miss(reason)
            return reason

    def _attach(self, path: Path, salt: str, prefix_key: str) -> str | None:
        identity = self.identity
        try:
            header = segments.read_header(path)
        except segments.Unreadable as error:
            return str(error)
        layout = self.reusable(identity, len(header.token_ids))
        if isinstance(layout, Refusal):
            return layout.reason
        prompt = Prompt(header.identity, header.token_ids, header.public_tokens, header.salt)
        if fields := header.identity.difference(identity):
            return f"{', '.join(fields)} changed since the KV was made"
        if header.salt != salt:
            return "the file belongs to another scope"
        if header.prefix_key != prefix_key or prompt.prefix_key() != prefix_key:
            return "the file holds another prefix"
        self.kv.attach(prompt, segments.SegmentFile(path, header, layout))
        size = layout.bytes_per_token * len(header.token_ids)
        self.kv.remember(Segment(header.token_ids, prefix_key, header.identity, header.public_tokens, salt, size))
        return None

    def detach(self, prefix_key: str) -> bool:
        """Forget a segment and whatever continues it, in RAM and as registered. False when it is not known here."""
        with self.lock:
            self.workspace.clear()
            return self.kv.detach(prefix_key)

    def resident(self, prefix_key: str) -> bool:
        """Whether the KV of a segment is in RAM now, all of it."""
        with self.lock:
            return self.kv.resident(prefix_key)

    def freeze(self, segment: Segment, frozen: bool = True) -> None:
        """Keep a segment in RAM whatever the budget; frozen=False: allow eviction again.

        Raises EngineError when it is not there, or when not all that is frozen fits the budget.
        """
        with self.lock:
            prompt = Prompt(segment.identity, segment.token_ids, segment.public_tokens, segment.salt)
            if not self.kv.freeze(prompt, frozen):
                raise EngineError(
                    f"the segment of {segment.tokens} tokens is not in RAM, or what is frozen does not fit the {self.kv.budget:,} bytes "
                    "kept there: prefill it again, or load the engine with a larger kv_bytes"
                )

    def forget_scope(self, scope: Scope) -> None:
        """Forget everything that was computed for exactly this scope (None: everything public)."""
        with self.lock:
            self.workspace.clear()
            self.kv.forget_scope(scope_salt(scope))

    def close(self) -> None:
        """Drop all KV. The engine stays usable."""
        with self.lock:
            self.workspace.clear()
            self.kv.clear()

"""The exact prefix tree: KV of token prefixes, found by a chained hash, shared as deltas, held by value.

A node is a block of up to 64 tokens and holds the KV of just those. Its digest chains (identity, salt, token ids) from the root, so equal
digests mean an equal prefix under an equal model and an equal scope; the token ids are compared all the same. Blocks are cut every 64
tokens, and once more where public content ends: from there on the scope's salt enters the chain, and no other scope can find what follows.

What stays in RAM under a byte budget is decided block by block in `memos_core.residency`: by rate of use and the seconds that a block saves.

Source: vLLM's automatic prefix caching (hash chain over blocks) and SGLang's radix tree (token-by-token matching, leaves go first).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from memos_core.hf.cache import Payload, Piece, Source
from memos_core.hf.identity import Identity
from memos_core.hf.prefix import BLOCK, Prompt, Segment, chained
from memos_core.hf.segment import SegmentFile
from memos_core.residency import Residency

Worth = Callable[[int, SegmentFile], bool]
Saves = Callable[[int, SegmentFile | None], float]
"""(tokens, the file that they are in as well) -> seconds that having them in RAM saves."""


def by_tokens(tokens: int, file: SegmentFile | None) -> float:
    """Where no times are known."""
    return float(tokens)


@dataclass(eq=False)
class Node:
    """One block. It is in RAM (`payload`), in a registered file (`source`), or both."""

    digest: str
    parent: Node | None
    tokens: tuple[int, ...] = ()
    salt: str = ""
    end: int = 0  # tokens from the start of the prompt to the end of this block
    depth: int = 0
    children: dict[str, list[Node]] = field(default_factory=dict)  # by salt
    payload: Payload | None = None
    source: SegmentFile | None = None
    pins: int = 0
    frozen: bool = False
    exact: bool = True  # whether `payload` was computed behind nothing but exact KV

    @property
    def start(self) -> int:
        return self.end - len(self.tokens)


@dataclass
class Match:
    """A found prefix. Its blocks are pinned until `release`; `stored` is what a private cache starts from."""

    nodes: list[Node]
    stored: list[Piece]
    reason: str
    exact: bool
    epoch: int  # erasures seen when it was made

    @property
    def length(self) -> int:
        return sum(piece.used for piece in self.stored)


class PrefixTree:
    """KV blocks under a byte budget. Not thread-safe: the engine's lock guards it."""

    def __init__(self, budget: int) -> None:
        self.tier = Residency(budget)
        self._roots: dict[str, tuple[Identity, Node]] = {}
        self._index: dict[str, Node] = {}
        self._segments: dict[str, Segment] = {}
        self._epoch = 0
        self._hits = self._misses = self._evictions = 0
        self._reasons: Counter[str] = Counter()

    @property
    def budget(self) -> int:
        """Bytes of KV that are kept in RAM at most."""
        return self.tier.budget

    # -- finding ---------------------------------------------------------------------------------------------------------------

    def match(
        self, prompt: Prompt, limit: int, worth: Worth = lambda tokens, file: True, failure: str = "", only_exact: bool = False
    ) -> Match:
        """The longest stored prefix of the first `limit` tokens; counted as a hit, or as a miss with a reason.

        worth: (how many tokens, the file) -> whether reading them is quicker than computing them. failure: why a match made before
        could not be used. only_exact: stop at the first block that is not.
        """
        steps = self._walk(prompt, limit)
        if only_exact:
            steps = list(takewhile(lambda step: step[0].exact if step[0].payload is not None else step[0].source.lossless, steps))  # type: ignore[union-attr]
        stored, exact, passed_over = _pieces(steps, worth)
        steps = steps[: passed_over if passed_over is not None else len(steps)]
        self._pin([node for node, _ in steps])
        match = Match([node for node, _ in steps], stored, "", exact, self._epoch)
        if match.length:
            self._hits += 1
            loaded = sum(piece.used for piece in stored if isinstance(piece.source, SegmentFile) and not piece.source.mapped)
            match.reason = f"matched {match.length} tokens in RAM" + (f", {loaded} of them loaded from a file" if loaded else "")
        else:
            slow = "computing them again is quicker than reading them from the file" if passed_over is not None else ""
            match.reason = failure or slow or self._why_not(prompt)
        if failure or not match.length:
            self.count_miss(failure or match.reason)
        return match

    def failed(self, match: Match, file: Source) -> None:
        """A match turned out to be unusable, because of this file: it was no hit, and the file is forgotten."""
        self.release(match)
        self._hits -= bool(match.length)
        for node in [node for node in self._index.values() if node.source is file]:
            node.source = None
            if node.payload is None:
                self._remove(node)

    def release(self, match: Match) -> None:
        self._unpin(match.nodes)
        match.nodes = []

    def count_miss(self, reason: str) -> None:
        self._misses += 1
        self._reasons[reason] += 1

    def _walk(self, prompt: Prompt, limit: int) -> list[tuple[Node, int]]:
        """(block, tokens used of it) from the root: whole blocks by digest, then into the best next block token by token."""
        if prompt.identity.key not in self._roots:
            return []
        node = self._roots[prompt.identity.key][1]
        steps: list[tuple[Node, int]] = []
        for start, end in prompt.blocks():
            salt, tokens = prompt.salt_at(start), prompt.tokens[start:end]
            child = self._index.get(chained(node.digest, salt, tokens)) if end <= limit else None
            if child is None or child.tokens != tokens:
                wanted = prompt.tokens[start : min(limit, start + BLOCK, prompt.public if start < prompt.public else limit)]
                best = max(node.children.get(salt, ()), key=lambda sibling: _shared(sibling.tokens, wanted), default=None)
                if best is not None and (used := _shared(best.tokens, wanted)):
                    steps.append((best, used))
                break
            steps.append((child, len(tokens)))
            node = child
        return steps

    def _why_not(self, prompt: Prompt) -> str:
        for identity, root in reversed(self._roots.values()):
            if identity != prompt.identity and self._agreeing(root, prompt.tokens, {"", prompt.salt}):
                return f"{', '.join(identity.difference(prompt.identity))} changed since the KV was made"
        return "no segment for this scope" if prompt.salt else "no segment"

    # -- keeping ---------------------------------------------------------------------------------------------------------------

    def keep(
        self, prompt: Prompt, match: Match, size: int, copy: Callable[[int, int], Payload], saves: Saves = by_tokens, wanted: bool = False
    ) -> None:
        """Count the use of what of `prompt` is there, and store of the rest what is worth its bytes.

        copy: (start, end) -> a block cut out of the private cache. size: bytes per token. saves: what a block in RAM saves when it is asked
        for. wanted: somebody has asked for it to be kept, whatever it is worth, and it is as long as there is room that is not pinned.

        Nothing is kept when something was erased since `match` was made: it may have been this very text. What was computed behind inexact
        KV is inexact itself.
        """
        if match.epoch != self._epoch:
            return
        path, missing = self._existing(prompt)
        self._pin(path)
        self.release(match)  # the block it ended inside may now be replaced by a longer one
        try:
            for node in path[1:]:
                if self._let_in(node, size, saves, wanted) and node.payload is None:
                    self._fill(node, copy, match.exact)
                    self._hold(node)
            for start, end in missing:
                node = self._node(path[-1], prompt, start, end)
                if not self._let_in(node, size, saves, wanted):
                    break
                self._fill(node, copy, match.exact)
                self._add(node)
                self._pin([node])
                path.append(node)
        finally:
            self._unpin(path)

    def _let_in(self, node: Node, size: int, saves: Saves, wanted: bool) -> bool:
        """Whether a block is in RAM, or comes in now, for which others may go."""
        parent, tokens = node.parent, len(node.tokens)
        resting = parent.digest if parent is not None and parent.payload is not None else None
        seconds = saves(tokens, node.source)
        value = math.inf if wanted else seconds
        decision = self.tier.request(node.digest, size * tokens, value, node.salt, resting, together=node.depth > 1)
        if wanted:
            self.tier.reprice(node.digest, seconds)
        for digest in decision.evicted:
            self._evict(self._index[str(digest)])
        return decision.hit or decision.admitted

    def _fill(self, node: Node, copy: Callable[[int, int], Payload], exact: bool) -> None:
        """Give a block that the tier has let in its KV."""
        try:
            node.payload, node.exact = copy(node.start, node.end), exact
        finally:
            if node.payload is None:  # it could not be copied, for want of memory perhaps
                self.tier.discard(node.digest)

    def resident(self, prefix_key: str) -> bool:
        """Whether all blocks of a segment are in RAM."""
        segment = self._segments.get(prefix_key)
        if segment is None:
            return False
        prompt = Prompt(segment.identity, segment.token_ids, segment.public_tokens, segment.salt)
        steps = self._walk(prompt, segment.tokens)
        return sum(used for node, used in steps if node.payload is not None) == segment.tokens

    def in_ram(self, prompt: Prompt) -> list[tuple[Payload, int]]:
        """Exact KV of the tokens in RAM, from the first on, block by block, with how many of each block's tokens."""
        found = []
        for node, used in self._walk(prompt, len(prompt.tokens)):
            if node.payload is None or not node.exact:
                break
            found.append((node.payload, used))
        return found

    def _existing(self, prompt: Prompt) -> tuple[list[Node], list[tuple[int, int]]]:
        """(nodes from the root that are there along the prompt, blocks that are not)."""
        path = [self._root(prompt.identity)]
        blocks = list(prompt.blocks())
        for place, (start, end) in enumerate(blocks):
            tokens, salt = prompt.tokens[start:end], prompt.salt_at(start)
            child = self._index.get(chained(path[-1].digest, salt, tokens))
            if child is None:
                missing = blocks[place:]
                siblings = path[-1].children.get(salt, ())
                if len(missing) == 1 and any(_shared(sibling.tokens, tokens) == len(tokens) for sibling in siblings):
                    return path, []  # the beginning of a longer block that is there already
                return path, missing
            path.append(child)
        return path, []

    def _node(self, parent: Node, prompt: Prompt, start: int, end: int) -> Node:
        """The block that stands there, or a new one that is not in the tree yet."""
        tokens, salt = prompt.tokens[start:end], prompt.salt_at(start)
        digest = chained(parent.digest, salt, tokens)
        return self._index.get(digest) or Node(digest, parent, tokens, salt, end, parent.depth + 1)

    def _add(self, node: Node) -> None:
        """Make a block findable."""
        assert node.parent is not None
        siblings = node.parent.children.setdefault(node.salt, [])
        if node.digest not in self._index:
            self._index[node.digest] = node
            siblings.append(node)
        for sibling in list(siblings) if node.payload is not None else ():  # a shorter block that this one continues says nothing more
            if (
                sibling is not node
                and not (sibling.children or sibling.pins or sibling.source or sibling.frozen)
                and node.tokens[: len(sibling.tokens)] == sibling.tokens
            ):
                self._remove(sibling)

    def _root(self, identity: Identity) -> Node:
        if identity.key not in self._roots:
            self._roots[identity.key] = (identity, Node(identity.key, None))
        return self._roots[identity.key][1]

    def remember(self, segment: Segment) -> None:
        """Note a segment, so that `detach` finds what was made from it."""
        self._segments[segment.prefix_key] = segment

    def attach(self, prompt: Prompt, file: SegmentFile) -> None:
        """Make a file's blocks findable. Their tensors stay on disk until matched."""
        node = self._root(prompt.identity)
        for start, end in prompt.blocks():
            node = self._node(node, prompt, start, end)
            self._add(node)
            node.source = file

    def freeze(self, prompt: Prompt, frozen: bool) -> bool:
        """Never evict the blocks of these tokens, or allow it again. False when not all of them are there, or freezing them would leave
        the budget no room for what is frozen already; then nothing is changed."""
        node, path = self._root(prompt.identity), []
        for start, end in prompt.blocks():
            child = self._index.get(chained(node.digest, prompt.salt_at(start), prompt.tokens[start:end]))
            if child is None:
                return False
            path.append(child)
            node = child
        if frozen and sum(_size(each.payload) for each in self._index.values() if each.frozen or each in path) > self.budget:
            return False
        for each in path:
            each.frozen = frozen
            self._hold(each)
        return True

    def _pin(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            node.pins += 1
            self._hold(node)

    def _unpin(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            node.pins -= 1
            self._hold(node)

    def _hold(self, node: Node) -> None:
        """Tell the tier whether a block may go."""
        if node.digest in self.tier and (node.pins or node.frozen):
            self.tier.pin(node.digest)
        else:
            self.tier.unpin(node.digest)

    # -- forgetting ------------------------------------------------------------------------------------------------------------

    def detach(self, prefix_key: str) -> bool:
        """Drop a segment and every block in its scope that begins with any part of its private tokens (of all its tokens, when it is
        public), under every model identity, whatever continues them. False when no such segment is known."""
        segment = self._segments.pop(prefix_key, None)
        if segment is None:
            return False
        self._epoch += 1
        for _, root in self._roots.values():
            for node in self._agreeing(root, segment.token_ids, {"", segment.salt} if segment.salt else None):
                if not segment.salt or node.salt == segment.salt:
                    self._remove(node)
        return True

    def forget_scope(self, salt: str) -> None:
        """Drop everything with this salt."""
        self._epoch += 1
        self._segments = {key: segment for key, segment in self._segments.items() if segment.salt != salt}
        for node in [node for node in self._index.values() if node.salt == salt]:
            self._remove(node)

    def clear(self) -> None:
        """Drop everything, registrations too."""
        self._epoch += 1
        for node in [node for node in self._index.values() if node.depth == 1]:
            self._remove(node)
        self._roots.clear()
        self._segments.clear()

    def _agreeing(self, root: Node, tokens: tuple[int, ...], salts: set[str] | None) -> list[Node]:
        """Blocks under `root` that agree with `tokens` as far as both go, however they were cut; salts None: any."""
        found: list[Node] = []
        open_nodes = [root]
        while open_nodes:
            node = open_nodes.pop()
            wanted = tokens[node.end :]
            for salt, children in node.children.items():
                if salts is None or salt in salts:
                    agreeing = [child for child in children if _shared(child.tokens, wanted) == min(len(child.tokens), len(wanted)) > 0]
                    found += agreeing
                    open_nodes += agreeing
        return found

    def _remove(self, node: Node) -> None:
        """Take a block and all below it out of the tree, and forget its use."""
        if self._index.pop(node.digest, None) is None:
            return
        for child in [child for children in node.children.values() for child in children]:
            self._remove(child)
        self.tier.discard(node.digest)
        node.payload = node.source = None
        self._leave(node)

    def _evict(self, node: Node) -> None:
        """The tier has let a block go; what is in a file too is still found there. Nothing in RAM rests on it."""
        self._evictions += 1
        node.payload = None
        if node.source is None:
            del self._index[node.digest]
            self._leave(node)

    def _leave(self, node: Node) -> None:
        if node.parent is not None:
            siblings = node.parent.children[node.salt]
            siblings.remove(node)
            if not siblings:
                del node.parent.children[node.salt]

    # -- telling ---------------------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """hits, misses, misses_by_reason, bytes and tokens in RAM, segments (ends of stored prefixes, in RAM or files), evictions."""
        return {
            "hits": self._hits,
            "misses": self._misses,
            "misses_by_reason": dict(self._reasons),
            "bytes": self.tier.used,
            "tokens": sum(len(node.tokens) for node in self._index.values() if node.payload is not None),
            "segments": sum(not node.children for node in self._index.values()),
            "evictions": self._evictions,
        }


def _pieces(steps: list[tuple[Node, int]], worth: Worth) -> tuple[list[Piece], bool, int | None]:
    """What a private cache is filled from: (pieces, whether all are exact, the step from which on it was not worth reading, or None).

    Neighbouring blocks of one file are one piece.
    """
    pieces: list[Piece] = []
    exact = True
    for place, (node, used) in enumerate(steps):
        if node.payload is not None:
            pieces.append(Piece(used, node.payload))
            exact = exact and node.exact
            continue
        assert node.source is not None, "a block is in RAM, in a file, or both"
        last = pieces[-1] if pieces else None
        if last is not None and last.source is node.source and last.start + last.used == node.start:
            pieces[-1] = Piece(last.used + used, source=node.source, start=last.start)
        else:
            ahead = sum(more for later, more in steps[place:] if later.payload is None and later.source is node.source)
            if not worth(ahead, node.source):
                return pieces, exact, place
            pieces.append(Piece(used, source=node.source, start=node.start))
            exact = exact and node.source.lossless
    return pieces, exact, None


def _size(payload: Payload | None) -> int:
    return sum(tensor.nbytes for tensor in payload or ())


def _shared(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Tokens that both begin with."""
    if left == right[: len(left)]:
        return len(left)
    return next((place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))

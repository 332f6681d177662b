"""The coordinates of KV: token prefixes as the prefix tree sees them, cut into blocks, salted by scope, chained by hash."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

from memos_core.cube import Precision
from memos_core.errors import InvalidInput
from memos_core.hf.identity import Identity
from memos_core.hf.module import Module, TrainedPrefix

BLOCK = 64
Scope = str | tuple[str, ...] | None


def scope_salt(scope: Scope) -> str:
    """The salt of a scope: a sha256 hex, or "" for public content. A string is the scope of that one part."""
    if scope is None:
        return ""
    parts = (scope,) if isinstance(scope, str) else scope
    if not isinstance(parts, tuple) or not parts or not all(isinstance(part, str) and part for part in parts):
        raise InvalidInput(f"scope must be a non-empty text or a tuple of them, got {scope!r}")
    return sha256(b"memos scope" + b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)).hexdigest()


@dataclass(frozen=True)
class Prompt:
    """Tokens as the tree sees them: for which model, and from which token on they are private to which scope.

    modules: what acts on the request that is made of them. turn: from which token on activated modules do.
    """

    identity: Identity
    tokens: tuple[int, ...]
    public: int  # leading tokens without salt
    salt: str
    modules: tuple[Module, ...] = ()
    turn: int | None = None

    @property
    def offset(self) -> int:
        """Tokens of a trained prefix that stand before the prompt."""
        return sum(module.weights.tokens for module in self.modules if isinstance(module.weights, TrainedPrefix))

    @property
    def width(self) -> int:
        """Tokens that the model reads, those of a trained prefix included."""
        return self.offset + len(self.tokens)

    def salt_at(self, position: int) -> str:
        return "" if position < self.public else self.salt

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(start, end) of the blocks, in order."""
        public, count = min(self.public, len(self.tokens)), len(self.tokens)
        yield from pairwise(dict.fromkeys((*range(0, public, BLOCK), *range(public, count, BLOCK), count)))

    def prefix_key(self) -> str:
        """The chained hash at the end of the tokens."""
        digest = self.identity.key
        for start, end in self.blocks():
            digest = chained(digest, self.salt_at(start), self.tokens[start:end])
        return digest


@dataclass(frozen=True)
class Segment:
    """A prefix whose KV was made: the coordinates, not the tensors."""

    token_ids: tuple[int, ...]
    prefix_key: str
    identity: Identity
    public_tokens: int
    salt: str  # hash of the scope; "" when public
    bytes: int

    @property
    def tokens(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class Saved:
    """A segment as a file's bytes, and what was lost in storing it: see `divergence.Difference`."""

    data: bytes
    bytes: int  # of KV in it
    precision: Precision
    divergence: float
    agreement: float


def chained(parent: str, salt: str, tokens: tuple[int, ...]) -> str:
    return sha256(f"{parent} {salt} ".encode() + array("q", tokens).tobytes()).hexdigest()

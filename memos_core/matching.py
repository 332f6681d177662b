"""What new messages repeat, oppose or replace of what their scope holds: candidates by keys, decided by the pure rooms.

Every memory is filed under a few keys: one that all texts of the same words share, and those of its claims. A key is a keyed hash
of 64 bits, so a handful of look-ups finds what a message could have to do with, in a scope of any size. Ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from hashlib import blake2b

import numpy as np

from memos_core.changes import Add, Searchable
from memos_core.conflict import opposed, relate
from memos_core.conflict.claims import Claim, Phase, claims
from memos_core.conflict.relation import Relation, RelationKind
from memos_core.conflict.resolution import OnConflict, Related, decided
from memos_core.cube import MemCube, Plaintext, State
from memos_core.duplicate import Said, bag_key, repeats
from memos_core.duplicate.fingerprint import from_hex
from memos_core.house import House
from memos_core.intake import as_searchable
from memos_core.lifespan import expired
from memos_core.recall.features import prose
from memos_core.store.snapshot import Snapshot

MOST_CLAIMS = 16
"""Claims of one message that are looked at."""
PER_KEY = 128
"""Memories taken from under one key, the newest."""
NEAR, MOST_NEAR = 24, 4
"""Bits of 192 that the fingerprints of near duplicates differ in at most, an estimated cosine of 0.92; how many are looked at."""
MOST_SAME = 16
"""Memories of the same letters and figures that a message is compared with, the newest."""
MOST_CANDIDATES = 24
"""Memories that one message is compared with, those that share most first."""
TELLING = ("attribute:", "amount:", "date:", "time:", "weekday:", "word:")
"""Keys of which one in common is enough; of mere words a longer claim must share two."""


def stated(cube: MemCube) -> tuple[Claim, ...]:
    """The claims that a memory is filed under; of an assistant's replies none."""
    if not isinstance(cube.payload, Plaintext) or cube.identifiers.role == "assistant":
        return ()
    return claims(prose(cube.payload.text), cube.identifiers.speaker)[:MOST_CLAIMS]


def filed(secret: bytes, cube: MemCube, vector: np.ndarray | None, said: Sequence[Claim]) -> Searchable | None:
    """What the indexes hold of a plaintext cube that makes these claims; None when there is no vector."""
    return as_searchable(cube, vector, keys_of(secret, cube, said))


def keys_of(secret: bytes, cube: MemCube, said: Sequence[Claim]) -> tuple[int, ...]:
    """What a memory is filed under: first the key that all texts of the same words share, then its claims'."""
    if not isinstance(cube.payload, Plaintext):
        return ()
    same = int.from_bytes(bag_key(cube.payload.text, secret[:64])[:8].ljust(8, b"\0"), "little", signed=True)
    return tuple(dict.fromkeys([same, *(hashed(secret, key) for claim in said for key in claim.keys)]))


def hashed(secret: bytes, key: str) -> int:
    """A key as the store keeps it: 64 bits that cannot be guessed at."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=secret[:64]).digest(), "little", signed=True)


@dataclass(frozen=True)
class _Entry:
    """A memory to compare with."""

    cube: MemCube
    vector: np.ndarray

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        return stated(self.cube)

    @property
    def said(self) -> Said:
        assert isinstance(self.cube.payload, Plaintext)
        return Said(self.cube.payload.text, self.cube.identifiers.speaker, self.cube.identifiers.occurred_at)


class Matcher:
    """The messages of one call, one after another, against what their scope holds and against each other. For one thread, once."""

    def __init__(self, house: House, view: Snapshot, scope: int | None, clock: datetime) -> None:
        self._house, self._view, self._scope, self._clock = house, view, scope, clock
        self._secret = house.store.secret
        self._filed: dict[int, list[_Entry]] = {}  # of this call

    def matched(self, add: Add, said: Sequence[Claim]) -> Add:
        """The add, into a memory that says the same, or with what it has to do with others. said: its claims."""
        if add.searchable is None:
            return add
        entry = _Entry(add.cube, add.searchable.vector)
        entry.__dict__["claims"] = tuple(said)
        same = next((other for other in self._alike(entry, add.searchable.keys[:1]) if self._repeats(entry, other)), None)
        if same is not None:
            return replace(add, into=same.cube.id)
        found = self._relations(entry)
        for key in add.searchable.keys:
            self._filed.setdefault(key, []).append(entry)
        return replace(add, relations=(*add.relations, *found)) if found else add

    def _repeats(self, entry: _Entry, other: _Entry) -> bool:
        """Whether one says what the other said, and both are kept on the same terms."""
        one, two = entry.cube, other.cube
        terms = [
            (
                cube.governance.access,
                cube.governance.expires_at is None,
                cube.identifiers.semantic_type,
                getattr(cube.payload, "parts", ()),
                cube.identifiers.key,
            )
            for cube in (one, two)
        ]
        placed = not one.identifiers.path or one.identifiers.path == two.identifiers.path
        if terms[0] != terms[1] or not placed or one.governance.priority > two.governance.priority:
            return False
        return repeats(other.said, entry.said, float(entry.vector @ other.vector)).same

    # ------------------------------------------------------------------ what it opposes
    def _relations(self, entry: _Entry) -> list[Related]:
        others = self._candidates(entry.claims) if self._house.on_conflict is not OnConflict.IGNORE else []
        if not others:
            return []
        under: dict[str, list[tuple[int, Claim]]] = {}
        for place, other in enumerate(others):
            for claim in other.claims:
                for key in claim.keys:
                    under.setdefault(key, []).append((place, claim))
        best: dict[int, Relation] = {}
        for claim in entry.claims:
            found = opposed(claim, lambda key: under.get(key, ()), self._similarity)
            if found is not None and (found[0] not in best or found[1].confidence > best[found[0]].confidence):
                best[found[0]] = found[1]
        return [related for place, relation in best.items() if (related := self._judged(entry, others[place], relation)) is not None]

    def _judged(self, entry: _Entry, other: _Entry, relation: Relation) -> Related | None:
        """What is kept of a finding; a model, where there is one, has the last word."""
        if self._house.model is not None:
            relation = relate(other.said.text, entry.said.text, lambda a, b: float(other.vector @ entry.vector), self._house.model)
            if relation.kind is not RelationKind.CONTRADICTS:
                return None
        resolution = decided(relation, len(other.claims), self._house.on_conflict)
        kind = "updates" if relation.update else str(relation.kind)
        return Related(other.cube.id, entry.cube.id, kind, relation.confidence, relation.why, resolution)

    def _candidates(self, said: Sequence[Claim]) -> list[_Entry]:
        """What shares enough keys with one of the claims, of the closest the newest; in the order in which it was said."""
        shared: Counter[int | str] = Counter()
        here: dict[int | str, _Entry] = {}
        for claim in said:
            need = 1 if len(claim.terms) <= 2 else 2
            mine: Counter[int | str] = Counter()
            for key in dict.fromkeys((*claim.opposing, *(claim.keys if claim.phase is Phase.NEVER else ()))):
                number, weight = hashed(self._secret, key), 2 if key.startswith(TELLING) else 1
                for row in self._rows(number):
                    mine[row] += weight
                for entry in self._filed.get(number, ())[-PER_KEY:]:
                    mine[entry.cube.id] += weight
                    here[entry.cube.id] = entry
            for where, weight in mine.items():
                if weight >= need:
                    shared[where] = max(shared[where], weight)
        # the newest first: rows ascend in time, and what this call has filed is newer than any of them
        order = sorted(shared, key=lambda where: (-shared[where], isinstance(where, int), -where if isinstance(where, int) else 0))
        chosen = order[:MOST_CANDIDATES]
        for row, entry in self._read([where for where in chosen if isinstance(where, int)]).items():
            here[row] = entry
        return sorted((here[where] for where in chosen if where in here), key=lambda entry: entry.cube.identifiers.occurred_at)

    def _similarity(self, newer: Claim, older: Claim) -> float:
        return self._house.similarity(newer.text, older.text)

    # ------------------------------------------------------------------ what is there
    def _alike(self, entry: _Entry, keys: Sequence[int]) -> Iterator[_Entry]:
        """What may say the same: of the same letters and figures, then what is nearest by fingerprint."""
        for key in keys:
            yield from self._read(self._rows(key)[:MOST_SAME]).values()
            yield from self._filed.get(key, ())[-MOST_SAME:]
        if self._scope is not None and entry.cube.identifiers.fingerprint is not None:
            bits = from_hex(entry.cube.identifiers.fingerprint)
            yield from self._read(self._house.index.near(self._scope, bits, NEAR, MOST_NEAR)).values()

    def _rows(self, key: int) -> list[int]:
        return [] if self._scope is None else self._view.rows_under(self._scope, key, PER_KEY)

    def _read(self, rows: Sequence[int]) -> dict[int, _Entry]:
        """The plaintext among the rows that stands, by row."""
        if not rows:
            return {}
        cubes = self._view.heads_by_row(rows, self._clock)
        vectors = self._house.index.vectors(list(cubes))
        return {
            row: _Entry(cube, vectors[row])
            for row, cube in sorted(cubes.items())
            if row in vectors and cube.state in (State.ACTIVE, State.CONTESTED) and not expired(cube, self._clock)
        }

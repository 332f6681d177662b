"""The parts of an open memory, wired: store, embedder, index, engine; and what every room does with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from memos_core.access import Action, may, require
from memos_core.conflict.resolution import OnConflict
from memos_core.credit import Credit
from memos_core.cube import Actor, CubeId, MemCube, as_id
from memos_core.embed import CachedEmbedder
from memos_core.errors import NotFound
from memos_core.index import Index
from memos_core.store import SQLiteStore
from memos_core.store.snapshot import Snapshot
from memos_core.traffic import Traffic
from memos_core.value import Speed


@dataclass(frozen=True, slots=True)
class House:
    """An open directory. engine: an HFEngine, or None. model: prompt to text, or None.

    captioner: an image's bytes and type to a caption, or None. credit: by what a memory is held to have been used. traffic: requests in flight.
    """

    store: SQLiteStore
    embedder: CachedEmbedder
    index: Index
    engine: Any
    on_conflict: OnConflict = OnConflict.CONTEST
    model: Callable[[str], str] | None = None
    captioner: Callable[[bytes, str], str] | None = None
    credit: Credit = Credit.WORDS
    traffic: Traffic = field(default_factory=Traffic)

    @contextmanager
    def view(self) -> Iterator[Snapshot]:
        """A snapshot that the index has caught up with."""
        for attempt in count():
            with self.store.read() as view:
                if attempt >= 20:  # nobody outruns us that often: the store went back in time, as when a backup is restored
                    self.index.reset()
                if self.index.catch_up(view):
                    yield view
                    return

    def permitted(self, id: CubeId, action: Action, who: Actor, clock: datetime) -> MemCube:
        """A cube that the actor may act on. Raises InvalidInput, NotFound or AccessDenied."""
        as_id(id)
        with self.view() as view:
            cube = view.heads([id], clock).get(id)
            gone = cube is None and view.tombstone(id)
        if cube is None:
            raise NotFound(f"cube {id} has been forgotten" if gone else f"no cube {id!r}; ids come from remember() and recall()")
        require(may(cube, who, action), who, action, f"cube {id}")
        return cube

    def similarity(self, a: str, b: str) -> float:
        """Cosine of the vectors of two texts."""
        one, other = self.embedder([a, b])
        return float(one @ other)

    @property
    def reuses(self) -> bool:
        """Whether the engine keeps KV."""
        return self.engine is not None and "activation" in self.engine.capabilities

    @property
    def learns(self) -> bool:
        """Whether the engine takes modules, and can make them."""
        return "parameter" in getattr(self.engine, "capabilities", ()) and hasattr(self.engine, "distil")

    @property
    def speed(self) -> Speed:
        """How fast the engine has been measured to be."""
        rates = getattr(self.engine, "rates", None)
        return Speed(getattr(rates, "prefill", None), getattr(rates, "read", None))

    def count(self, text: str) -> int:
        """Tokens of a text by the engine's tokenizer, else about four characters each."""
        return int(self.engine.count(text)) if hasattr(self.engine, "count") else (len(text.encode()) + 3) // 4

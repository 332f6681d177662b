"""Modules of an open memory: which are usable, which a request is for, and their weights, loaded when first needed.

A module stands as long as what it was made of: a source that has changed, was superseded, contested, expired or forgotten makes it stale
at once, and from then on the current texts go into the prompt instead. Source: MemOS §4.1 (parameter memory; routing; revert).
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from memos_core.cube import CubeId, MemCube, Parameter, Plaintext, Scope, State, ancestors, as_scope, text_of
from memos_core.errors import InvalidInput, StoreCorrupt
from memos_core.heads import problem_of
from memos_core.house import House
from memos_core.plan import strip_blocks
from memos_core.policy import NO_TRAINING
from memos_core.routing import Profile, Routed, name_of, readings, route
from memos_core.statements import take_apart
from memos_core.statements.questions import question
from memos_core.store.snapshot import Snapshot

_LOG = logging.getLogger("memos_core")
LOADED_BYTES = 512 << 20
"""Weights kept in RAM; of more, those that were not used for longest are let go."""
BEFORE = 2
"""So many messages before the last one say what it points back to."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A module with its source cubes as they are now. problem: why it must not be used, or None."""

    cube: MemCube
    payload: Parameter
    sources: tuple[MemCube, ...]
    problem: str | None

    @property
    def internalised(self) -> frozenset[CubeId]:
        """The sources that it has been measured to know: what none of its probes about failed."""
        answers = self.payload.report.answers if self.payload.report else ()
        asked, failed = {answer.fact for answer in answers}, {answer.fact for answer in answers if not answer.passed}
        return frozenset(asked - failed)

    @property
    def believed(self) -> dict[CubeId, str]:
        """By source, what the model alone is sure of instead."""
        return {answer.fact: answer.believed for answer in (self.payload.report.answers if self.payload.report else ()) if answer.believed}

    @property
    def taught(self) -> dict[CubeId, tuple[CubeId, str]]:
        """By source, this module and what it was taught."""
        return {source.id: (self.cube.id, text_of(source)) for source in self.sources if isinstance(source.payload, Plaintext)}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A module that a request is for, and why."""

    standing: Standing
    routed: Routed


def standing(view: Snapshot, cube: MemCube, now: datetime) -> Standing:
    """A module as it stands by its sources."""
    assert isinstance(cube.payload, Parameter)
    parents = view.parents(cube.id)
    heads = view.heads([parent for parent, _ in parents], now)
    problem = None if cube.state is State.ACTIVE else f"it is {cube.state}"
    for parent, version in parents:
        problem = problem or problem_of(view, heads.get(parent), parent, version, now) or _forbidden(heads[parent])
    return Standing(cube, cube.payload, tuple(heads[parent] for parent, _ in parents if parent in heads), problem)


def _forbidden(source: MemCube) -> str | None:
    return f"its source {source.id} has been tagged {NO_TRAINING!r}" if NO_TRAINING in source.governance.tags else None


class Modules:
    """The modules of one memory, for one engine. Thread-safe."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._lock = threading.Lock()
        self._known: tuple[int, dict[Scope, list[tuple[MemCube, Profile]]]] = (-1, {})
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._problems: Counter[str] = Counter()

    def stats(self) -> dict[str, Any]:
        """What is in RAM, and how often a module could not be used, by why."""
        with self._lock:
            held = sum(module.weights.bytes for module in self._loaded.values())
            return {"loaded": len(self._loaded), "bytes": held, "problems": dict(self._problems)}

    @property
    def in_ram(self) -> frozenset[str]:
        """Blobs whose weights are loaded."""
        with self._lock:
            return frozenset(self._loaded)

    def install(self) -> None:
        """Let the engine ask which modules act on its requests."""
        self._house.engine.route(self, self._router)

    def remove(self) -> None:
        if hasattr(self._house.engine, "route"):
            self._house.engine.route(self, None)
        with self._lock:
            self._loaded.clear()

    def chosen(self, query: str, before: Sequence[str], scope: Scope, now: datetime) -> list[Chosen]:
        """The usable modules that a request of a scope is for; of trained prefixes the nearest alone, since there is one beginning."""
        able = "parameter" in getattr(self._house.engine, "capabilities", ())
        candidates = self._profiles(scope) if able and query.strip() else []
        if not candidates:
            return []
        last, found = before[-BEFORE:], []
        read = {cube.id: readings(query, last, profile) for cube, profile in candidates}
        texts = list(dict.fromkeys(text for several in read.values() for _, text in several))
        vectors = dict(zip(texts, self._house.embedder(texts), strict=True))
        with self._house.store.read() as view:
            for cube, profile in candidates:
                decisions = [route(asked, vectors[text], last, profile) for asked, text in read[cube.id]]
                routed = max(decisions, key=lambda each: (each.chosen, each.nearest))
                if routed.chosen and (now_is := standing(view, cube, now)).problem is None and self._usable(now_is):
                    found.append(Chosen(now_is, routed))
        found.sort(key=lambda each: -each.routed.nearest)
        prefixes = [each for each in found if each.standing.payload.form == "prefix"]
        return [each for each in found if each not in prefixes[1:]]

    def _usable(self, each: Standing) -> bool:
        """Whether it is for this model, and its file is what was written. If not, that is counted, logged, and its texts go into the prompt."""
        problem = ""
        if each.payload.base_model != self._house.engine.base_identity.key:
            problem = "it was made for another model"
        else:
            try:
                self.load(each.payload)
            except StoreCorrupt:
                problem = "its file is missing or damaged"
        if problem:
            with self._lock:
                self._problems[f"module {each.cube.id}: {problem}"] += 1
            _LOG.warning("module %s could not be used, its texts are injected instead: %s", each.cube.id, problem)
        return not problem

    def load(self, payload: Parameter) -> Any:
        """The weights of a module. Raises StoreCorrupt when its file is not what was written."""
        with self._lock:
            if payload.blob in self._loaded:
                self._loaded.move_to_end(payload.blob)
                return self._loaded[payload.blob]
        data = self._house.store.blobs.get(payload.blob)
        try:
            module = self._house.engine.module(data)
        except InvalidInput as error:
            raise StoreCorrupt(f"blob {payload.blob} holds no module: {error}") from error
        with self._lock:
            self._loaded[payload.blob] = module
            while sum(each.weights.bytes for each in self._loaded.values()) > LOADED_BYTES and len(self._loaded) > 1:
                self._loaded.popitem(last=False)
        return module

    def _router(self, messages: Sequence[Mapping[str, Any]], plan: Any, scope: Any) -> list[Any]:
        """What acts on a request of the engine: what its plan says, else what it is routed to; public requests have no modules."""
        if scope is None:
            return []
        if (planned := getattr(plan, "modules", None)) is not None:
            with self._house.store.read() as view:
                heads = view.heads(planned, datetime.now(UTC)) if planned else {}
                usable = [each for cube in heads.values() if (each := standing(view, cube, datetime.now(UTC))).problem is None]
            mine = [each for each in usable if each.cube.governance.scope in ancestors(as_scope(scope))]
            return [self.load(each.payload) for each in mine if self._usable(each)]
        talk = [
            (message.get("role"), str(message.get("content", ""))) for message in messages if message.get("role") in ("user", "assistant")
        ]
        last = max((place for place, (role, _) in enumerate(talk) if role == "user"), default=None)
        if last is None:
            return []
        before = [text for _, text in talk[:last]]  # what comes behind it is what a tool call or an answer begun says
        found = self.chosen(strip_blocks(talk[last][1]), before, as_scope(scope), datetime.now(UTC))
        return [self.load(each.standing.payload) for each in found]

    def _profiles(self, scope: Scope) -> list[tuple[MemCube, Profile]]:
        """The active modules of the scope, and those above it that were made elsewhere, with what they are for."""
        with self._house.store.read() as view:
            latest = view.latest()
            if self._known[0] != latest:
                cubes = [cube for cube in view.modules(datetime.now(UTC)) if cube.state is State.ACTIVE]
                before = {cube.id: profile for each in self._known[1].values() for cube, profile in each}
                found: dict[Scope, list[tuple[MemCube, Profile]]] = {}
                for cube in cubes:
                    profile = before.get(cube.id) or profile_of(self._house, cube, standing(view, cube, datetime.now(UTC)).sources)
                    found.setdefault(cube.governance.scope, []).append((cube, profile))
                self._known = (latest, found)
                usable = {cube.payload.blob for cube in cubes if isinstance(cube.payload, Parameter)}
                with self._lock:  # what was forgotten or taken off stays in no memory
                    for blob in [blob for blob in self._loaded if blob not in usable]:
                        del self._loaded[blob]
        mine = list(self._known[1].get(scope, ()))
        for above in ancestors(scope)[:-1]:
            mine += [each for each in self._known[1].get(above, ()) if not each[1].names]
        return mine


def profile_of(house: House, cube: MemCube, sources: Sequence[MemCube]) -> Profile:
    """What a module is for: its facts and the questions for them, or its description."""
    payload = cube.payload
    assert isinstance(payload, Parameter)
    facts = [
        fact
        for source in sources
        if isinstance(source.payload, Plaintext) and (fact := take_apart(source.id, text_of(source), source.identifiers.speaker))
    ]
    if not facts:
        text = payload.description or " ".join(text_of(source) for source in sources if isinstance(source.payload, Plaintext))
        return Profile((), np.asarray(house.embedder([text]), dtype=np.float32) if text else np.zeros((0, 1), dtype=np.float32), (0,))
    texts = [text for fact in facts for text in (fact.text, question(fact))]
    vectors = np.asarray(house.embedder(texts), dtype=np.float32)
    return Profile(tuple(name_of(fact.subject) for fact in facts), vectors, tuple(place // 2 for place in range(len(texts))))

"""What is searched: vectors in a faiss flat index and columns beside them, a cache that the store can always rebuild.

Search is exact: every row that the actor may read is scored, and no other row is. A file keeps the arrays between openings.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np

from memos_core.analyse import terms as hashed
from memos_core.analyse import words
from memos_core.cube import State
from memos_core.duplicate.fingerprint import fingerprint
from memos_core.errors import StoreCorrupt
from memos_core.hierarchy import CONTEXT_MESSAGES, Draft, Forest, Thread, concept_id, topic_key
from memos_core.index.coarse import Near
from memos_core.index.columns import COLUMNS, Chosen, Columns
from memos_core.index.file import Contents, read, storage, write
from memos_core.index.threads import Threads, talks
from memos_core.index.voices import called, often_called
from memos_core.lifespan import RECALLABLE
from memos_core.past import Past
from memos_core.recall.features import unpack
from memos_core.recall.lexical import bm25
from memos_core.recall.rank import Candidates
from memos_core.store.shelves import Authorised
from memos_core.store.snapshot import Event, Snapshot
from memos_core.when import Window

ALWAYS = (-math.inf, math.inf)
WORTH = 10
"""From so many times the shortlist on, it is quicker than looking at everything."""
SAMPLE = 4096
"""Rows that tell how alike all of a large scope is to a question."""

_STATES = list(State)
_RECALLABLE = np.array([state in RECALLABLE for state in _STATES])
_STANDING = np.array([state in (State.ACTIVE, State.CONTESTED) for state in _STATES])
_SUPERSEDED = _STATES.index(State.SUPERSEDED)


def session_key(scope: int, session: str | None) -> int:
    """A number for one conversation of one scope; 0 for none."""
    return 0 if session is None else concept_id("session", str(scope), session)


class Index:
    """The searchable copy of a store. One lock; `catch_up` inside a read transaction, then `search`."""

    def __init__(self, dimensions: int, path: Path, owner: str) -> None:
        self.dimensions = dimensions
        self.path = path
        self.owner = owner  # identifies the store that the file belongs to
        self.lock = threading.RLock()
        self.seq = 0
        self.saved_seq = 0
        self._clear()

    def reset(self) -> None:
        """Start from nothing; the next `catch_up` reads the whole store."""
        with self.lock:
            self._clear()
            self.saved_seq = 0

    def _clear(self) -> None:
        self.seq = 0
        self._vectors = faiss.IndexFlatIP(self.dimensions)
        self._columns = Columns(np.zeros(1024, dtype=COLUMNS))
        self._count = 0
        self._terms = np.zeros(8192, dtype=np.uint32)
        self._ends = np.zeros(1024, dtype=np.int64)  # terms of position p lie in [ends[p - 1], ends[p])
        self._threads = Threads(1024)
        self._position: dict[int, int] = {}
        self._by_scope: dict[int, list[int]] = {}
        self._forests: dict[int, Forest] = {}
        self._labels: dict[int, frozenset[int]] = {}
        self._near: dict[int, Near] = {}

    def __len__(self) -> int:
        return len(self._position)

    # ------------------------------------------------------------------ keeping up with the store
    def catch_up(self, view: Snapshot) -> bool:
        """Take in what has been committed since. False when this index is ahead of the view (another thread was faster)."""
        with self.lock:
            latest = view.latest()
            if latest < self.seq:
                return False
            if latest > self.seq:
                try:
                    self._take_in(view)
                except (KeyError, OverflowError, TypeError, ValueError) as error:  # values that nobody wrote
                    self._clear()
                    raise StoreCorrupt(
                        f"what the store holds for searching is damaged ({error}). Restore it from a backup; nothing has been overwritten"
                    ) from error
                self.seq = latest
                if self._count > 2 * len(self._position) + 1024:
                    self._compact()
            return True

    def _take_in(self, view: Snapshot) -> None:
        for row in view.erased_since(self.seq):
            self._drop(row)
        self._labels |= {concept: frozenset(hashed(words(label)).tolist()) for concept, label in view.given_labels(self.seq)}
        pending: list[Event] = []
        for event in view.events_since(self.seq):
            position = self._position.get(event.row)
            if event.vector_seq is None:  # not text, or not to be found
                self._drop(event.row)
            elif position is not None and self._columns["vector_seq"][position] == event.vector_seq:
                self._leave(position)
                self._describe(position, event)
            else:
                pending.append(event)
        self._append(view, pending)

    def _append(self, view: Snapshot, events: list[Event]) -> None:
        for start in range(0, len(events), 5000):
            part = events[start : start + 5000]
            stored = view.searchables([event.row for event in part])
            block = np.stack([np.frombuffer(stored[event.row][0], dtype="<f4") for event in part])
            features = unpack(stored[event.row][2] for event in part)
            if block.shape[1] != self.dimensions or len(features) != len(part):
                raise ValueError("a vector or its features have another size")
            for event in part:
                self._drop(event.row)
            self._vectors.add(np.ascontiguousarray(block, dtype=np.float32))
            for offset, event in enumerate(part):
                self._put(event, np.frombuffer(stored[event.row][1], dtype=np.uint32), features[offset])

    def _put(self, event: Event, terms: np.ndarray, features: np.void) -> None:
        position = self._count
        if position == self._columns.size:
            self._columns.grow(2 * position)
            self._ends = np.resize(self._ends, 2 * position)
            self._threads.grow(2 * position)
        start = int(self._ends[position - 1]) if position else 0
        while start + len(terms) > len(self._terms):
            self._terms = np.resize(self._terms, 2 * len(self._terms))
        self._terms[start : start + len(terms)] = terms
        self._ends[position] = start + len(terms)
        self._columns.describe(position, {name: features[name] for name in features.dtype.names or ()})
        self._count += 1
        self._position[event.row] = position
        self._describe(position, event)

    def _describe(self, position: int, event: Event) -> None:
        """Write what the columns say of a row, and let it take its place in its session and its concept."""
        expires, valid_to = (np.inf if bound is None else bound for bound in (event.expires_at, event.valid_to))
        valid_from = -np.inf if event.valid_from is None else event.valid_from
        session = session_key(event.scope, event.session)
        topic = topic_key(event.concept, event.session, event.given) if event.concept else 0
        self._columns.describe(position, {
            "row": event.row, "scope": event.scope, "state": _STATES.index(State(event.state)), "live": True,
            "occurred_at": event.occurred_at, "expires_at": expires, "valid_from": valid_from, "valid_to": valid_to,
            "priority": event.priority, "vector_seq": event.vector_seq, "session": session,
            "concept": event.concept, "task": event.task, "given": event.given, "topic": topic,
        })  # fmt: skip
        self._by_scope.setdefault(event.scope, []).append(position)
        self._near.setdefault(event.scope, Near()).add(event.row, self._columns["fingerprint"][position])
        if session:
            self._threads.link(position, session, self._columns["occurred_at"], self._columns["row"])
        if event.concept:
            forest = self._forests.setdefault(event.scope, Forest(self.dimensions))
            forest.add(event.concept, event.task, self._matrix()[position])

    def _leave(self, position: int) -> None:
        """Undo `_describe`."""
        scope, session, concept = (int(self._columns[name][position]) for name in ("scope", "session", "concept"))
        self._by_scope[scope].remove(position)
        self._near[scope].remove(int(self._columns["row"][position]))
        if session:
            self._threads.unlink(position, session)
        if concept and self._forests[scope].drop(concept, self._matrix()[position]) == 0:
            self._labels.pop(concept, None)

    def _drop(self, row: int) -> None:
        position = self._position.pop(row, None)
        if position is not None:
            self._leave(position)
            self._columns["live"][position] = False

    def _compact(self) -> None:
        """Leave the dead positions behind."""
        contents, labels = self._contents(), self._labels
        self._clear()
        self._labels = labels
        self._load(contents)

    # ------------------------------------------------------------------ search
    def _matrix(self) -> np.ndarray:
        """float32 [count, d]: faiss's own storage, without a copy."""
        return storage(self._vectors, self.dimensions)

    def _positions(self, authorised: Authorised, now: float, past: Past | None = None, between: tuple[float, float] = ALWAYS) -> np.ndarray:
        """Ascending positions of the live, unexpired rows that are authorised, and that recall shows now, or would have shown in the past.

        between: from when and until when they were said.
        """
        if set(self._by_scope) <= set(authorised.scopes):
            positions = np.flatnonzero(self._columns["live"][: self._count])
        else:
            lists = [self._by_scope[scope] for scope in authorised.scopes if scope in self._by_scope]
            lists.append([self._position[row] for row in authorised.rows if row in self._position])
            positions = np.unique(np.concatenate([np.array(part, dtype=np.int64) for part in lists]))
        columns = Chosen(self._columns, positions)
        shown = _RECALLABLE[columns["state"]] if past is None else self._stood(columns, past)
        if between != ALWAYS:
            shown &= (columns["occurred_at"] >= between[0]) & (columns["occurred_at"] < between[1])
        kept: np.ndarray = positions[shown & (columns["expires_at"] > now)]
        return kept

    def said_between(self, authorised: Authorised, now: float, between: tuple[float, float]) -> list[int]:
        """Rows that were said in a window, oldest first."""
        with self.lock:
            columns = Chosen(self._columns, self._positions(authorised, now, between=between))
            rows: list[int] = columns["row"][np.lexsort((columns["row"], columns["occurred_at"]))].tolist()
            return rows

    def talks(self, authorised: Authorised, now: float) -> list[Window]:
        """The conversations that the authorised rows belong to, oldest first."""
        with self.lock:
            columns = Chosen(self._columns, self._positions(authorised, now))
            return talks(columns["session"], columns["occurred_at"])

    def _stood(self, columns: Chosen, past: Past) -> np.ndarray:
        """bool [n]: which rows had been said by then and held."""
        held = (columns["valid_from"] <= past.at) & (past.at < columns["valid_to"]) & (columns["occurred_at"] <= past.at)
        gave_way_later = (columns["state"] == _SUPERSEDED) & np.isfinite(columns["valid_to"])
        shown = held & (_STANDING[columns["state"]] | gave_way_later)
        shown |= np.isin(columns["row"], np.array(list(past.cubes), dtype=np.int64))
        stood: np.ndarray = shown & ~np.isin(columns["row"], np.array(list(past.hidden), dtype=np.int64))
        return stood

    def _neighbours(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64 [n] twice: which of the positions stand before and after each in its session; -1 for none of them."""
        where = np.full(self._count + 1, -1, dtype=np.int64)  # the last one answers for position -1
        where[positions] = np.arange(len(positions))
        return where[self._threads.before[positions]], where[self._threads.after[positions]]

    def voices(self, names: Mapping[int, str], authorised: Authorised, now: float, past: Past | None = None) -> dict[int, int]:
        """Which of the words of a query name a speaker: by their own first name, or by what the others call them.

        names: hash to word. Gives hash to voice, for those that do.
        """
        with self.lock:
            positions = self._positions(authorised, now, past)
            features, found = Chosen(self._columns, positions), dict[int, int]()
            for number, word in names.items():
                own = features["voice"][features["name"] == number]
                voice = Counter(own.tolist()).most_common(1)[0][0] if len(own) else 0
                if not voice and often_called(number, features):
                    flat, _ = self._gather_terms(positions)
                    uses = int(np.count_nonzero(flat == hashed(words(word))[:1])) if words(word) else 0
                    voice = called(number, uses, features, *self._neighbours(positions))
                if voice:
                    found[number] = voice
            return found

    def search(
        self,
        vector: np.ndarray,
        query: Collection[str],
        authorised: Authorised,
        now: float,
        past: Past | None = None,
        between: tuple[float, float] = ALWAYS,
        shortlist: int | None = None,
    ) -> Candidates:
        """Score every authorised row. vector: float32 [d] of unit length. query: stemmed words. now: seconds.

        past: score what stood at an earlier time instead, by its text of that time. between: only what was said from then until then.
        shortlist: score only so many of those nearest by fingerprint, so many of the best by words, and what was said beside them;
        when that leaves something out, the candidates say so. Not of the past.
        """
        with self.lock:
            positions = self._positions(authorised, now, past, between)
            wanted = hashed(list(query))
            columns = Chosen(self._columns, positions)
            if past is not None:
                return self._search_past(vector, wanted, positions, columns, past)
            lexical = bm25(wanted, *self._gather_terms(positions))
            if shortlist is None or len(positions) <= WORTH * shortlist:
                return self._candidates(positions, columns, wanted, self._dense(vector, positions), lexical)
            kept = self._shortlist(vector, positions, lexical, authorised, shortlist)
            some = positions[:: max(1, len(positions) // SAMPLE)]
            chosen = positions[kept]
            found = self._candidates(chosen, Chosen(self._columns, chosen), wanted, self._dense(vector, chosen), lexical[kept])
            return replace(found, sample=self._dense(vector, some))

    def _shortlist(self, vector: np.ndarray, positions: np.ndarray, lexical: np.ndarray, authorised: Authorised, size: int) -> np.ndarray:
        """Ascending places among the positions that are worth an exact look."""
        bits = fingerprint(vector)
        lists = [self._near[scope].nearest(bits, size) for scope in authorised.scopes if scope in self._near]
        rows, differing = (np.concatenate([each[part] for each in lists] or [np.zeros(0, np.int64)]) for part in (0, 1))
        rows = rows[np.argsort(differing, kind="stable")[:size]].tolist()
        near = [self._position[row] for row in (*rows, *authorised.rows) if row in self._position]
        said = np.flatnonzero(lexical)
        if len(said) > size:
            said = said[np.argpartition(-lexical[said], size)[:size]]
        found = np.concatenate([np.array(near, dtype=np.int64), positions[said]])
        beside = np.concatenate([found, self._threads.before[found], self._threads.after[found]])
        return np.flatnonzero(np.isin(positions, beside))

    def near(self, scope: int, bits: np.ndarray, within: int, count: int) -> list[int]:
        """Rows of a scope whose fingerprints differ from these bits, uint8 [32], in few of the text's; nearest first."""
        with self.lock:
            return self._near[scope].near(bits, within, count) if scope in self._near else []

    def _candidates(self, positions: np.ndarray, columns: Chosen, wanted: np.ndarray, dense: np.ndarray, lexical: np.ndarray) -> Candidates:
        before, after = self._neighbours(positions)
        return Candidates(
            rows=columns["row"],
            dense=dense,
            lexical=lexical,
            occurred_at=columns["occurred_at"],
            priority=columns["priority"].astype(np.float64),
            features=columns,
            topic=columns["topic"],
            place=self._places(frozenset(wanted.tolist()), columns["concept"]),
            before=before,
            after=after,
            superseded=columns["state"] == _SUPERSEDED,
        )

    def _search_past(self, vector: np.ndarray, wanted: np.ndarray, positions: np.ndarray, columns: Chosen, past: Past) -> Candidates:
        """As `search`, with the texts and priorities of that time. columns: a copy of the positions' columns."""
        where = {int(row): place for place, row in enumerate(columns["row"])}
        dense = self._dense(vector, positions)
        other = {where[row]: text for row, text in past.texts.items() if row in where}
        for place, text in other.items():
            dense[place] = float(text.vector @ vector)
            features = unpack([text.features.packed()])
            for name in features.dtype.names or ():
                columns[name][place] = features[name][0]
        for row, priority in past.priorities.items():
            if row in where:
                columns["priority"][where[row]] = priority
        columns["state"][:] = _STATES.index(State.ACTIVE)  # nothing had taken its place yet
        same = np.setdiff1d(np.arange(len(positions)), np.array(list(other), dtype=np.int64))
        flat, held = self._gather_terms(positions[same])
        flat = np.concatenate([flat, *(text.terms for text in other.values())])
        held = np.concatenate([held, np.array([len(text.terms) for text in other.values()], dtype=np.int64)])
        lexical = np.zeros(len(positions))
        lexical[np.concatenate([same, np.array(list(other), dtype=np.int64)])] = bm25(wanted, flat, held)
        return self._candidates(positions, columns, wanted, dense, lexical)

    def vectors(self, rows: Collection[int]) -> dict[int, np.ndarray]:
        """float32 [d] of each of the rows that is here."""
        with self.lock:
            held = {row: self._position[row] for row in rows if row in self._position}
            return dict(zip(held, self._matrix()[list(held.values())], strict=True))  # a copy, gathered at once

    def _places(self, wanted: frozenset[int], concepts: np.ndarray) -> np.ndarray:
        """How much of the name of each row's place the query says, 0 to 1."""
        out = np.zeros(len(concepts))
        for concept, label in self._labels.items():
            if common := len(wanted & label):
                out[concepts == concept] = common / len(label)
        return out

    def _dense(self, vector: np.ndarray, positions: np.ndarray) -> np.ndarray:
        if not len(positions):
            return np.zeros(0)
        if 2 * len(positions) > self._count:  # a product with everything is cheaper than gathering rows
            return np.asarray((self._matrix() @ vector)[positions], dtype=np.float64)
        selected = faiss.SearchParameters(sel=faiss.IDSelectorArray(positions))  # type: ignore[call-arg]
        best, found = self._vectors.search(vector[None], len(positions), params=selected)
        out = np.empty(len(positions))
        out[np.searchsorted(positions, found[0])] = best[0]
        return out

    def _gather_terms(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The terms of some positions, flat, and how many each has."""
        starts = np.where(positions > 0, self._ends[positions - 1], 0)
        lengths = self._ends[positions] - starts
        if len(positions) and len(positions) == positions[-1] - positions[0] + 1:
            return self._terms[starts[0] : self._ends[positions[-1]]], lengths
        offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        return self._terms[np.arange(lengths.sum()) + offsets], lengths

    # ------------------------------------------------------------------ placing new facts
    def draft(self, scope: int | None, sessions: Collection[str]) -> Draft:
        """Where new facts of a scope would be filed; scope: its number, None for one that is new."""
        with self.lock:
            threads = {}
            for session in sessions if scope is not None else ():
                tail = self._threads.tail(session_key(scope, session), CONTEXT_MESSAGES) if scope is not None else []
                if tail:
                    threads[session] = Thread(
                        [self._matrix()[position].copy() for position in tail], int(self._columns["concept"][tail[0]])
                    )
            return Draft(self._forests.get(scope) if scope is not None else None, self.dimensions, threads)

    # ------------------------------------------------------------------ the file
    def _contents(self) -> Contents:
        keep = np.flatnonzero(self._columns["live"][: self._count])
        flat, lengths = self._gather_terms(keep)
        labels = {concept: sorted(terms) for concept, terms in sorted(self._labels.items())}
        return Contents(self.seq, self._matrix()[keep].copy(), self._columns.table(keep), flat.copy(), lengths.astype(np.int64), labels)

    def save(self) -> None:
        """Write the index to its file, whole or not at all; call under the directory's lock."""
        with self.lock:
            write(self.path, self.owner, self._contents())
            self.saved_seq = self.seq

    def load(self, latest: int) -> bool:
        """Read the file. False, and empty, when it is missing, unreadable, torn, or does not belong to a store at `latest`."""
        with self.lock:
            self._clear()
            contents = read(self.path, self.owner, self.dimensions, latest)
            if contents is None:
                return False
            self._load(contents)
            self.saved_seq = self.seq
            return True

    def _load(self, contents: Contents) -> None:
        columns, count = contents.columns, len(contents.columns)
        size = max(1024, count)
        self._columns = Columns(columns)
        self._columns.grow(size)
        self._ends = np.zeros(size, dtype=np.int64)
        self._ends[:count] = np.cumsum(contents.lengths)
        self._terms = np.zeros(max(8192, len(contents.terms)), dtype=np.uint32)
        self._terms[: len(contents.terms)] = contents.terms
        self._count = count
        self._vectors.add(np.ascontiguousarray(contents.vectors))
        self._labels = {concept: frozenset(terms) for concept, terms in contents.labels.items()}
        self._position = {int(row): position for position, row in enumerate(columns["row"])}
        for scope in np.unique(columns["scope"]).tolist():
            mine = columns["scope"] == scope
            self._near[scope] = Near(columns["row"][mine], columns["fingerprint"][mine])
        self._threads = Threads(size)
        self._threads.rebuild(columns["session"], columns["occurred_at"], columns["row"])
        for position, (scope, concept, task) in enumerate(columns[["scope", "concept", "task"]].tolist()):
            self._by_scope.setdefault(scope, []).append(position)
            if concept:
                self._forests.setdefault(scope, Forest(self.dimensions)).add(concept, task, contents.vectors[position])
        self.seq = contents.seq

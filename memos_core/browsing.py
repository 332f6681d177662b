"""The hierarchy as people see and change it: the tree with its labels, and filing something elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import networkx as nx
import numpy as np

from memos_core.access import may_enter, require
from memos_core.bound import ActorLike, Bound, ScopeLike
from memos_core.changes import Name, Refile
from memos_core.cube import Actor, CubeId, MemCube, Scope, as_scope, as_time
from memos_core.duplicate.fingerprint import alignment, from_hex
from memos_core.errors import InvalidInput, NotFound
from memos_core.house import House
from memos_core.labels import UNFILED, label_all
from memos_core.links import Link, linked
from memos_core.parse import as_path
from memos_core.revise import next_version
from memos_core.store.shelves import Filed
from memos_core.store.snapshot import Snapshot
from memos_core.writing import revise


def found_tree(house: House, place: Scope, who: Actor, clock: datetime) -> nx.DiGraph[str]:
    """Task → concept → fact, of what the actor may read at or below the scope; the largest first, facts in the order of time."""
    with house.view() as view:
        authorised = view.authorised(place, who)
        facts = view.filed(authorised, clock)
        stored = view.labels(set(authorised.scopes))
    by_scope: dict[int, list[Filed]] = defaultdict(list)
    for fact in facts:
        by_scope[fact.scope].append(fact)
    labels: dict[int, str] = {0: UNFILED}
    for scope in sorted(by_scope):
        labels |= label_all(by_scope[scope], stored.get(scope, {}))
    groups: dict[int, dict[int, list[Filed]]] = defaultdict(lambda: defaultdict(list))
    for fact in facts:
        groups[fact.task][fact.concept].append(fact)
    tree: nx.DiGraph[str] = nx.DiGraph()
    sizes = {task: sum(map(len, concepts.values())) for task, concepts in groups.items()}
    for task in sorted(groups, key=lambda task: (-sizes[task], labels[task], task)):
        tree.add_node(f"task {task}", kind="task", label=labels[task], count=sizes[task])
        for concept, held in sorted(groups[task].items(), key=lambda item: (-len(item[1]), labels[item[0]], item[0])):
            tree.add_node(f"concept {concept}", kind="concept", label=labels[concept], count=len(held))
            tree.add_edge(f"task {task}", f"concept {concept}")
            for fact in held:
                tree.add_node(fact.id, kind="fact", label=fact.text, at=datetime.fromtimestamp(fact.at, clock.tzinfo), sources=fact.sources)
                tree.add_edge(f"concept {concept}", fact.id)
    return tree


class Browsing(Bound):
    """The tree of tasks, concepts and facts."""

    def tree(self, scope: ScopeLike, *, actor: ActorLike = None, now: datetime | None = None) -> nx.DiGraph[str]:
        """Task → concept → fact, of what the actor may read at or below the scope: the largest first, facts in the order of time.

        Nodes have `kind` and `label`; tasks and concepts `count`; facts, whose node is their id, `at` and `sources`.
        `memos_core.outline(tree)` prints it. Raises InvalidInput or StoreError.
        """
        place, clock = as_scope(scope), as_time(now, "now")
        return found_tree(self._house, place, self._who(actor, place), clock)

    def facts(self, scope: ScopeLike, path: str | Sequence[str], *, actor: ActorLike = None, now: datetime | None = None) -> list[CubeId]:
        """The ids of what the tree shows under a task or a concept, such as "care" or "care/allergies": to promote, demote or forget it as a
        whole. In the order of the tree. Raises InvalidInput or NotFound."""
        tree, wanted = self.tree(scope, actor=actor, now=now), as_path(path)
        if not wanted:
            raise InvalidInput("path must be like 'care/allergies'")
        here = [node for node, above in tree.in_degree() if not above]
        for name in wanted:
            named = [node for node in here if tree.nodes[node]["label"] == name and tree.nodes[node]["kind"] != "fact"]
            if not named:
                raise NotFound(f"the tree of {'/'.join(as_scope(scope))} has no {'/'.join(wanted)}; memos.tree(scope) shows what there is")
            here = [below for node in named for below in tree.successors(node)]
        return [node for each in here for node in (each, *tree.successors(each)) if tree.nodes[node]["kind"] == "fact"]

    def move(self, id: CubeId, path: str | Sequence[str], *, actor: ActorLike = None, now: datetime | None = None) -> MemCube:
        """File a memory under "task/concept"; made when missing. A version of the cube. Raises InvalidInput, NotFound or AccessDenied."""
        clock, who, wanted = as_time(now, "now"), self._who(actor, None), as_path(path)
        if not wanted:
            raise InvalidInput("path must be like 'care/allergies'")
        cube = self._permitted(id, "write", who, clock)
        identifiers = cube.identifiers.model_copy(update={"path": wanted})
        new = next_version(cube, cube.model_copy(update={"identifiers": identifiers}), clock, None)
        return revise(self._house, cube, new, who, "move", refile=True)

    def rename(self, scope: ScopeLike, path: str | Sequence[str], to: str, *, actor: ActorLike = None, now: datetime | None = None) -> None:
        """Give the task or concept that the tree shows at `path` another name, which upkeep then leaves alone.

        Raises InvalidInput, NotFound or AccessDenied.
        """
        clock, who, place, number = self._shown(scope, path, actor, now)
        (name,) = as_path((to,)) or ("",)
        self._store.commit([Name(place, number, name, who, clock)])

    def merge(
        self,
        scope: ScopeLike,
        path: str | Sequence[str],
        into: str | Sequence[str],
        *,
        actor: ActorLike = None,
        now: datetime | None = None,
    ) -> None:
        """File everything of the concept that the tree shows at `path` under another one of the scope.

        Raises InvalidInput, NotFound or AccessDenied.
        """
        clock, who, place, source = self._shown(scope, path, actor, now)
        _, _, _, target = self._shown(scope, into, actor, now)
        with self._house.view() as view:
            facts = _facts_of(view, place, clock)
        tasks = {fact.concept: fact.task for fact in facts}
        if source not in tasks or target not in tasks or source == target:
            raise InvalidInput("merge takes the paths of two different concepts, like 'care/allergies'")
        moved = tuple((fact.id, target, tasks[target]) for fact in facts if fact.concept == source)
        self._store.commit([Refile(place, moved, who, clock, "merged by hand")])

    def links(self, id: CubeId, *, actor: ActorLike = None, now: datetime | None = None) -> list[Link]:
        """What a memory is linked with: what was said before and after, question and answer, what names the same, what it came from, what
        it contradicts or replaces. Of what the actor may read. Raises InvalidInput, NotFound or AccessDenied.
        """
        clock, who = as_time(now, "now"), self._who(actor, None)
        return linked(self._house, self._permitted(id, "read", who, clock), who, clock)

    def aligned(self, id: CubeId, *, actor: ActorLike = None, now: datetime | None = None) -> list[tuple[str, float]]:
        """The tasks of a memory's scope by how well each fits what the memory was said in: label and estimated cosine, best first.

        Read off the memory's fingerprint; sixty-four bits tell tasks that are far apart. Raises InvalidInput, NotFound or AccessDenied.
        """
        clock = as_time(now, "now")
        cube = self._permitted(id, "read", self._who(actor, None), clock)
        if cube.identifiers.fingerprint is None:
            raise InvalidInput(f"cube {id} has no fingerprint; it holds no text, or was written by an earlier version")
        bits = from_hex(cube.identifiers.fingerprint)[None]
        with self._house.view() as view:
            facts = _facts_of(view, cube.governance.scope, clock)
            number = view.scope_number(cube.governance.scope)
            labels = label_all(facts, {} if number is None else view.labels({number}).get(number, {}))
            vectors = self._house.index.vectors([fact.row for fact in facts])
        sums: dict[int, np.ndarray] = {}
        for fact in facts:
            if fact.task and fact.row in vectors:
                sums[fact.task] = sums.get(fact.task, 0.0) + vectors[fact.row]
        fits = [(labels[task], float(alignment(bits, centroid)[0])) for task, centroid in sums.items()]
        return sorted(fits, key=lambda fit: (-fit[1], fit[0]))

    def _shown(
        self, scope: ScopeLike, path: str | Sequence[str], actor: ActorLike, now: datetime | None
    ) -> tuple[datetime, Actor, Scope, int]:
        """The number of the task or concept that the tree of exactly this scope shows at a path."""
        clock, place, wanted = as_time(now, "now"), as_scope(scope), as_path(path)
        who = self._who(actor, place)
        require(may_enter(who, place), who, "write", f"scope {'/'.join(place)}")
        with self._house.view() as view:
            number = view.scope_number(place)
            facts = _facts_of(view, place, clock)
            labels = label_all(facts, {} if number is None else view.labels({number}).get(number, {}))
        for fact in facts:
            shown = labels.get(fact.task, UNFILED), labels.get(fact.concept, UNFILED)
            if wanted in ((shown[0],), shown) and fact.concept:
                return clock, who, place, fact.task if len(wanted) == 1 else fact.concept
        raise NotFound(f"scope {'/'.join(place)} has no {' / '.join(wanted) or path!r}; memos.tree(scope) shows what there is")


def _facts_of(view: Snapshot, place: Scope, clock: datetime) -> list[Filed]:
    """The facts of exactly one scope."""
    number = view.scope_number(place)
    return [] if number is None else view.filed_in(number, clock)

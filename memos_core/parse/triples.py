"""Structured plaintext: graphs as sentences that lead back to the graph, and prompt templates that render whole or not at all. Pure.

Source: MemOS §4.1 (structured graphs and prompt templates as forms of plaintext memory). The wording of a statement is ours.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

import networkx as nx

from memos_core.cube import SemanticType, as_text, dumps
from memos_core.errors import InvalidInput

PREDICATE_KEYS = ("predicate", "relation", "label", "type")
"""Edge attributes that may name the relation, the first one that is there; else the key of a multigraph's edge, when it is text."""
NAME_KEYS = ("name", "label", "title")
"""Node attributes that may hold a readable name; else the node itself is the name."""

_KINDS = {(False, False): nx.Graph, (True, False): nx.DiGraph, (False, True): nx.MultiGraph, (True, True): nx.MultiDiGraph}
_PREPOSITIONS = frozenset("a an about at by for from in into like near of off on onto over than to under with".split())
_VERB_FORM = re.compile(r"is|was|[^\W_]+([^sui]s|[^e]ed)")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SLOT = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Statement:
    """One edge or node of a graph in words.

    text: the sentence. id: the same for the same content however it is written (case, spacing, works_for or worksFor). subject, predicate, object: as
    read; the last two are "" for a node. concepts: what it is about. record: JSON from which `graph` makes the edge or node again.
    """

    text: str
    id: str
    subject: str
    predicate: str
    object: str
    concepts: tuple[str, ...]
    record: str


def statements(graph: Any) -> tuple[Statement, ...]:
    """A networkx graph of any of its four kinds, or triples, as statements: one per edge, one per node with attributes or without edges.

    A triple is (subject, predicate, object), the same with a dictionary of attributes behind, or a dictionary with these keys. Nodes are str or numbers;
    attributes are JSON (a tuple comes back as a list). Attributes of the graph as a whole state nothing and are not kept. Raises InvalidInput.
    """
    made: Any = graph if isinstance(graph, nx.Graph) else _graph_of_triples(graph)
    shape = {"directed": made.is_directed(), "multigraph": made.is_multigraph()}
    names = {node: _name(node, attributes) for node, attributes in made.nodes(data=True)}
    edges = made.edges(keys=True, data=True) if made.is_multigraph() else ((a, b, None, data) for a, b, data in made.edges(data=True))
    found = [_edge(shape, names, *edge) for edge in edges]
    found += [_node(shape, names, node, data) for node, data in made.nodes(data=True) if data or not made.degree(node)]
    return tuple(found)


def graph(records: Iterable[str]) -> Any:
    """The networkx graph that statements' records came from; of some of the records, that part of it. No records: an empty MultiDiGraph.

    Raises InvalidInput when a record cannot be read, or when they come from graphs of different kinds.
    """
    made: Any = None
    for text in records:
        kind, where, attributes = _read(text)
        made = kind() if made is None else made
        if type(made) is not kind:
            raise InvalidInput(f"these records come from a {type(made).__name__} and a {kind.__name__}; rebuild them one graph at a time")
        if len(where) == 1:
            made.add_nodes_from([(where[0], attributes)])
        else:
            made.add_edges_from([(*where, attributes)])
    return nx.MultiDiGraph() if made is None else made


def readable(predicate: str) -> str:
    """A relation's name in words: works_for, worksFor, WORKS-FOR and `http://example.org/worksFor` are all "works for"."""
    last = re.split(r"[/#]", predicate.rstrip("/#"))[-1] if "://" in predicate else predicate
    spaced = _CAMEL.sub(" ", last).replace("_", " ").replace("-", " ")
    words = " ".join(spaced.split()) or predicate.strip()  # punctuation alone stays what it is
    return words.lower() if spaced != last or last.isupper() else words


def _graph_of_triples(triples: object) -> Any:
    if isinstance(triples, (str, bytes, Mapping)) or not isinstance(triples, Iterable):
        raise InvalidInput(f"statements takes a networkx graph or a list of triples, got {type(triples).__name__}")
    made: Any = nx.MultiDiGraph()
    for position, triple in enumerate(triples):
        attributes: Any = {}
        if isinstance(triple, Mapping):
            parts = [triple.get(key) for key in ("subject", "predicate", "object")]
            attributes = {key: value for key, value in triple.items() if key not in ("subject", "predicate", "object")}
        else:
            parts = list(triple) if isinstance(triple, (tuple, list)) else []
            if len(parts) == 4:
                attributes = parts.pop()
        if len(parts) != 3 or None in parts or not isinstance(parts[1], str) or not isinstance(attributes, Mapping):
            raise InvalidInput(
                f"triple {position} must be (subject, predicate, object), with a dictionary of attributes behind it or not; got {triple!r}"
            )
        for end in (parts[0], parts[2]):
            _check_node(end)
        made.add_edges_from([(parts[0], parts[2], {**attributes, "predicate": parts[1]})])
    return made


def _edge(shape: dict[str, bool], names: dict[Any, str], start: Any, end: Any, key: Any, attributes: dict[str, Any]) -> Statement:
    record = _record(shape, [start, end] if key is None else [start, end, key], attributes)
    named = next((name for name in PREDICATE_KEYS if isinstance(attributes.get(name), str) and attributes[name].strip()), None)
    own = attributes[named] if named else key if isinstance(key, str) and key.strip() else "related to"
    predicate = readable(own)
    subject, object_ = names[start], names[end]
    sentence = f"{subject} {predicate} {object_}" if _like_a_sentence(predicate) else f"{subject}: {predicate} {object_}"
    rest = _listed({name: value for name, value in attributes.items() if name != named})
    ends = [start, end] if shape["directed"] else sorted([start, end], key=lambda node: dumps(node))
    return Statement(
        text=f"{sentence} ({rest})." if rest else f"{sentence}.",
        id=_identity([*ends, predicate, rest, key if isinstance(key, str) else None, shape["directed"]]),
        subject=subject,
        predicate=predicate,
        object=object_,
        concepts=tuple(dict.fromkeys((subject, object_))),
        record=record,
    )


def _node(shape: dict[str, bool], names: dict[Any, str], node: Any, attributes: dict[str, Any]) -> Statement:
    name, record = names[node], _record(shape, [node], attributes)
    rest = _listed({key: value for key, value in attributes.items() if value != name})
    return Statement(f"{name}: {rest}." if rest else f"{name}.", _identity([node, rest]), name, "", "", (name,), record)


def _read(text: str) -> tuple[Any, list[Any], dict[str, Any]]:
    """The kind of graph, the place and the attributes in a record. Raises InvalidInput."""
    try:
        record = json.loads(text)
        directed, multigraph, where, attributes = (record[key] for key in ("directed", "multigraph", "where", "attributes"))
        if len(where) not in (1, 3 if multigraph else 2) or not isinstance(attributes, dict):
            raise ValueError("its parts do not fit together")
        for place in where:
            _check_node(place)
        return _KINDS[directed, multigraph], where, attributes
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidInput(f"{text[:80]!r} is not the record of a statement ({error}); pass `statement.record` as it was") from error


def _record(shape: dict[str, bool], where: list[Any], attributes: dict[str, Any]) -> str:
    for place in where:
        _check_node(place)
    for key in attributes:
        if not isinstance(key, str):
            raise InvalidInput(f"attribute names must be str, got {key!r}")
    try:
        text = json.dumps({**shape, "where": where, "attributes": attributes}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the attributes of {where} cannot be kept as JSON ({error}); convert them to text and numbers first") from error
    return as_text(text, "a node or edge")


def _check_node(node: object) -> None:
    if not isinstance(node, (str, int, float)) or (isinstance(node, str) and not node.strip()):
        raise InvalidInput(f"a node must be a non-empty str or a number, got {node!r}; rename with networkx.relabel_nodes(graph, str)")


def _name(node: Any, attributes: Mapping[str, Any]) -> str:
    _check_node(node)
    found = next((attributes[key] for key in NAME_KEYS if isinstance(attributes.get(key), str) and attributes[key].strip()), str(node))
    return " ".join(found.split())


def _like_a_sentence(predicate: str) -> bool:
    """Whether "Ana PREDICATE Bo" reads as a sentence, by the look of a verb or a preposition behind; "capital" or "birth place" does not."""
    words = predicate.lower().split()
    return words[-1] in _PREPOSITIONS or _VERB_FORM.fullmatch(words[0]) is not None


def _listed(attributes: Mapping[str, Any]) -> str:
    return ", ".join(f"{readable(str(key))} {_value(value)}" for key, value in sorted(attributes.items()))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, (list, tuple)) and value:
        return " and ".join(_value(item) for item in value)
    return {True: "yes", False: "no", None: "unknown"}[value] if value is None or isinstance(value, bool) else str(value)


def _identity(content: list[Any]) -> str:
    folded = [" ".join(unicodedata.normalize("NFKC", item).casefold().split()) if isinstance(item, str) else item for item in content]
    return hashlib.sha256(dumps(folded).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Text with {slots}. slots: their names in order of first use. Make one with `template`, which checks it."""

    text: str
    slots: tuple[str, ...]

    @property
    def semantic_type(self) -> SemanticType:
        """A template when there is something to fill in, else a task prompt that is ready for use."""
        return SemanticType.TEMPLATE if self.slots else SemanticType.TASK_PROMPT

    @property
    def fixed(self) -> str:
        """The text with the name of each slot in braces: what stays the same whatever is filled in."""
        return self.render({slot: f"{{{slot}}}" for slot in self.slots})

    @property
    def opening(self) -> str:
        """The text up to the first slot."""
        return next(words for words, _ in _pieces(self.text)) if self.slots else self.fixed

    def render(self, values: Mapping[str, object]) -> str:
        """The text with each slot filled; braces inside a value stay as they are. Values without a slot are not used. Raises InvalidInput."""
        if missing := [slot for slot in self.slots if slot not in values]:
            unused = sorted(str(name) for name in values.keys() - set(self.slots))
            raise InvalidInput(f"no value for {', '.join(missing)}" + (f"; given without a slot: {', '.join(unused)}" if unused else ""))
        return "".join(words + (str(values[slot]) if slot is not None else "") for words, slot in _pieces(self.text))


def template(text: str) -> PromptTemplate:
    """Check a template: {name} is a slot, {{ and }} are braces. Raises InvalidInput for an unbalanced brace or a slot that is more than a name."""
    return PromptTemplate(text, tuple(dict.fromkeys(slot for _, slot in _pieces(as_text(text, "the template")) if slot is not None)))


def _pieces(text: str) -> Iterator[tuple[str, str | None]]:
    """Literal text and the slot behind it, in turn."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise InvalidInput(
            f"the template's braces do not match ({error}); write {{{{ and }}}} for braces that are part of the text"
        ) from error
    for literal, slot, form, conversion in parsed:
        if slot is not None and (form or conversion or not _SLOT.fullmatch(slot)):
            raise InvalidInput(
                f"{{{slot}}} is not a slot: a slot is a plain name, such as {{customer}}; write {{{{ and }}}} for braces that are part of the text"
            )
        yield literal, slot

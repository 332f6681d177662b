"""Graphs as statements and back; wording, identity; templates."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_core.cube import SemanticType
from memos_core.errors import InvalidInput
from memos_core.parse.triples import graph, readable, statements, template

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: bool(name.strip()))
nodes = st.one_of(names, st.integers(-5, 5), st.floats(0.25, 9.75).filter(lambda number: number != int(number)))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), names),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=5,
)
attributes = st.dictionaries(
    st.one_of(names, st.sampled_from(["name", "label", "predicate", "node_for_adding", "key"])), json_values, max_size=3
)


@st.composite
def graphs(draw: st.DrawFn) -> nx.Graph:
    made = draw(st.sampled_from([nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph]))()
    made.add_nodes_from(draw(st.lists(st.tuples(nodes, attributes), max_size=5)))
    for start, end, data in draw(st.lists(st.tuples(nodes, nodes, attributes), max_size=6)):
        if made.is_multigraph():
            made.add_edges_from([(start, end, draw(st.one_of(names, st.integers(0, 3))), data)])
        else:
            made.add_edges_from([(start, end, data)])
    return made


@settings(max_examples=300, deadline=None)
@given(graphs(), st.randoms())
def test_statements_lead_back_to_the_graph_in_any_order(made: nx.Graph, random) -> None:
    records = [statement.record for statement in statements(made)]
    random.shuffle(records)
    back = graph(records)
    if records:
        assert type(back) is type(made)
        # a lost predicate, direction, key or attribute would show here
        assert nx.utils.graphs_equal(back, made)
    else:
        assert not made


@given(graphs())
def test_every_edge_and_node_is_named_in_a_sentence(made: nx.Graph) -> None:
    found = statements(made)
    assert all(
        statement.text.endswith(".") and statement.subject in statement.text and statement.object in statement.text for statement in found
    )
    assert len([statement for statement in found if statement.predicate]) == made.number_of_edges()


@given(st.lists(st.tuples(nodes, names, nodes, attributes.filter(lambda data: "predicate" not in data)), max_size=5))
def test_triples_lead_back_to_triples(triples: list) -> None:
    back = graph(statement.record for statement in statements(triples))
    found = [(start, data.pop("predicate"), end, data) for start, end, data in back.edges(data=True)]
    assert sorted(map(repr, found)) == sorted(map(repr, triples))


def test_wording() -> None:
    texts = {
        statement.text
        for statement in statements(
            [
                ("Ana", "works_for", "Clinic"),
                ("Ana", "KNOWS", "Bo", {"since": 2021, "close": True}),
                {"subject": "Dune", "predicate": "writtenBy", "object": "Frank Herbert", "languages": ["en", "de"]},
                ("France", "capital", "Paris"),
                ("Bo", "http://schema.org/birthPlace", "Oslo"),
                ("Bo", "status", "ill"),
                ("Oslo", "part of", "Norway"),
                ("Ana", "is a", "doctor"),
            ]
        )
    }
    assert texts == {
        "Ana works for Clinic.",
        "Ana is a doctor.",
        "Ana knows Bo (close yes, since 2021).",
        "Dune written by Frank Herbert (languages en and de).",
        "France: capital Paris.",
        "Bo: birth place Oslo.",
        "Bo: status ill.",
        "Oslo part of Norway.",
    }


def test_names_of_nodes_and_relations_come_from_their_attributes() -> None:
    made = nx.DiGraph()
    made.add_node(17, name="Ana", age=34, tags=["calm", "kind"])
    made.add_edge(17, 18, label="treats")
    made.add_node("alone")
    assert {statement.text for statement in statements(made)} == {"Ana treats 18.", "Ana: age 34, tags calm and kind.", "alone."}
    assert statements(made)[0].concepts == ("Ana", "18")
    keyed = nx.MultiGraph()
    keyed.add_edge("Ana", "Bo", key="married_to")
    keyed.add_edge("Ana", "Cy")
    assert [statement.text for statement in statements(keyed)] == ["Ana married to Bo.", "Ana related to Cy."]


@pytest.mark.parametrize("other", [("ana", "worksFor", "CLINIC"), (" Ana ", "works for", "Clinic"), ("Ana", "WORKS-FOR", "clinic")])
def test_the_same_said_otherwise_has_one_id(other: tuple) -> None:
    one, two = (statements([triple])[0].id for triple in (("Ana", "works_for", "Clinic"), other))
    assert one == two


def test_what_differs_has_another_id() -> None:
    said = [
        ("a", "likes", "b"),
        ("b", "likes", "a"),
        ("a", "hates", "b"),
        ("a", "likes", "b", {"since": 1}),
        (1, "likes", "b"),
        ("1", "likes", "b"),
    ]
    assert len({statement.id for statement in statements(said)}) == len(said)
    ways = [statements(kind([("a", "b")]))[0].id for kind in (nx.Graph, nx.DiGraph)]
    assert ways[0] != ways[1]
    assert statements(nx.Graph([("b", "a")]))[0].id == ways[0]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("Ana works", "triples"),
        ([("Ana", "works")], "triple 0"),
        ([("Ana", 3, "x")], "triple 0"),
        ([((1, 2), "likes", "b")], "relabel_nodes"),
        ([("", "likes", "b")], "non-empty"),
        ([("a", "likes", "b", {"when": object()})], "JSON"),
        ([("a", "likes", "b", {"when": float("nan")})], "JSON"),
        ([("a", "likes", "b", {3: 1})], "attribute names"),
        ([("a\ud800", "likes", "b")], "surrogate"),
    ],
)
def test_what_cannot_be_stated_is_refused(bad: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        statements(bad)


@given(
    st.one_of(
        st.text(max_size=30),
        json_values.map(repr),
        st.sampled_from(['{"directed":1}', "[]", "null", '{"directed":true,"multigraph":true,"where":[[1]],"attributes":{}}']),
    )
)
def test_a_foreign_record_is_refused_and_nothing_else_is_raised(text: str) -> None:
    with pytest.raises(InvalidInput, match="record"):
        graph([text])


def test_records_of_two_kinds_do_not_mix() -> None:
    records = [statements(kind([("a", "b")]))[0].record for kind in (nx.Graph, nx.DiGraph)]
    with pytest.raises(InvalidInput, match="one graph at a time"):
        graph(records)


def test_readable() -> None:
    assert [readable(name) for name in ("works_for", "worksFor", "WORKS-FOR", "works for", "http://x.org/a#worksFor")] == ["works for"] * 5
    assert readable("is near St. John") == "is near St. John"


# ------------------------------------------------------------------ templates
slot_names = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)


@given(
    st.lists(st.one_of(st.text(max_size=10).filter(lambda part: bool(part)), slot_names.map(lambda name: (name,))), min_size=1, max_size=8),
    st.data(),
)
def test_a_template_renders_each_slot_and_leaves_the_rest_alone(parts: list, data: st.DataObject) -> None:
    text = "".join(part.replace("{", "{{").replace("}", "}}") if isinstance(part, str) else f"{{{part[0]}}}" for part in parts)
    if not text.strip():
        return
    made = template(text)
    assert made.slots == tuple(dict.fromkeys(part[0] for part in parts if not isinstance(part, str)))
    values = {slot: data.draw(st.text(max_size=5)) for slot in made.slots}
    assert made.render(values) == "".join(part if isinstance(part, str) else values[part[0]] for part in parts)


@given(st.text(alphabet="{}ab!:. []0", min_size=1, max_size=15))
def test_any_text_is_a_template_or_is_refused_with_advice(text: str) -> None:
    try:
        made = template(text)
    except InvalidInput as error:
        assert "empty" in str(error) or "{{ and }}" in str(error)
    else:
        assert isinstance(made.render(dict.fromkeys(made.slots, "x")), str)


def test_missing_values_are_named() -> None:
    made = template("Dear {name}, your {thing} is ready. {name}!")
    assert made.semantic_type is SemanticType.TEMPLATE
    with pytest.raises(InvalidInput, match="no value for thing; given without a slot: thnig"):
        made.render({"name": "Ana", "thnig": "car"})
    assert made.render({"name": "{thing}", "thing": 3, "unused": 1}) == "Dear {thing}, your 3 is ready. {thing}!"
    assert template("Answer briefly.").semantic_type is SemanticType.TASK_PROMPT


@pytest.mark.parametrize("bad", ["{", "a }", "{a.b}", "{a[0]}", "{0}", "{}", "{a!r}", "{a:>5}", '{"json": 1}'])
def test_slots_are_plain_names(bad: str) -> None:
    with pytest.raises(InvalidInput, match=r"\{\{ and \}\}"):
        template(bad)

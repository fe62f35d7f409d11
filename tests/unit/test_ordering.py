"""The order of tables by their foreign keys."""

from hypothesis import given
from hypothesis import strategies as st

from cdc.postgres.ordering import reference_graph, reference_order
from tests.unit.shapes import catalog_of, catalog_table

NAMES = "abcdef"
Graph = dict[str, set[str]]
graphs: st.SearchStrategy[Graph] = st.fixed_dictionaries(
    {name: st.sets(st.sampled_from(NAMES), max_size=3) for name in NAMES}
)


def order(**references: str) -> list[str]:
    """Order tables given as name="names of the tables it references"."""
    tables = [catalog_table(name, ["id"], references=names) for name, names in references.items()]
    return [name for _, name in reference_order(catalog_of(*tables))]


def groups(graph: Graph) -> dict[frozenset[str], set[frozenset[str]]]:
    """Give the reference graph of these tables, groups as sets of names."""
    tables = [catalog_table(name, ["id"], references=sorted(to)) for name, to in graph.items()]
    return {
        frozenset(name for _, name in group): {frozenset(n for _, n in other) for other in others}
        for group, others in reference_graph(catalog_of(*tables)).items()
    }


def reachable(graph: Graph, start: str) -> set[str]:
    """Give all tables that a table references, over whatever number of others."""
    found: set[str] = set()
    todo = [start]
    while todo:
        new = graph[todo.pop()] - found
        found |= new
        todo += new
    return found


def test_what_is_referenced_comes_first() -> None:
    """A chain is written from its end, whatever the order in the catalog."""
    assert order(a="b", b="c", c="") == ["c", "b", "a"]


def test_a_table_that_references_itself_is_no_cycle() -> None:
    """One statement writes all its rows."""
    assert groups({"a": {"a"}}) == {frozenset("a"): set()}


def test_tables_that_reference_each_other_are_one_group() -> None:
    """They have to be written together; what they reference still comes before them."""
    graph = groups({"a": {"b", "c"}, "b": {"a"}, "c": set(), "d": {"b"}})
    together = frozenset("ab")
    assert graph == {
        together: {frozenset("c")},
        frozenset("c"): set(),
        frozenset("d"): {together},
    }


def test_a_key_to_a_table_that_is_not_copied_orders_nothing() -> None:
    """A foreign key to auth.users, say."""
    table = catalog_table("a", ["id"], references=["not_there"])
    assert reference_order(catalog_of(table)) == [("credit", "a")]


@given(graphs)
def test_any_references_give_groups_and_an_order(graph: Graph) -> None:
    """Groups are the cycles and nothing else; each comes after all that it references."""
    found = groups(graph)
    group_of = {name: group for group in found for name in group}
    assert sorted(group_of) == sorted(graph)
    reach = {name: reachable(graph, name) for name in graph}
    for a in graph:
        for b in graph:
            mutual = a == b or (b in reach[a] and a in reach[b])
            assert (group_of[a] is group_of[b]) == mutual
    ordered = order(**{name: "".join(sorted(to)) for name, to in graph.items()})
    assert sorted(ordered) == sorted(graph)
    for name, others in graph.items():
        for other in others:
            if group_of[name] is not group_of[other]:
                assert ordered.index(other) < ordered.index(name)

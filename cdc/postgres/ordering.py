"""Tables in the order of their foreign keys: what is referenced comes before what refers to it.

Tables whose foreign keys form a cycle cannot be told apart by order; they make one group, which has
to be written in one transaction with its constraints deferred. A table that references itself is no
cycle here: one statement writes all its rows.
"""

from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

from cdc.postgres.catalog import Catalog

QualifiedName: TypeAlias = tuple[str, str]
Group: TypeAlias = tuple[QualifiedName, ...]


def references(catalog: Catalog) -> Iterator[tuple[QualifiedName, QualifiedName]]:
    """Yield each table with those that its foreign keys reference: partitions too.

    The rows of a partitioned table are its partitions', and most travel under their names.
    """
    families: defaultdict[QualifiedName, list[QualifiedName]] = defaultdict(list)
    for name, table in catalog.tables.items():
        if table.root:
            families[table.root[0], table.root[1]].append(name)
    for name, table in catalog.tables.items():
        for key in table.foreign_keys:
            for referencing in (name, *families.get(name, ())):
                for referenced in (key.references, *families.get(key.references, ())):
                    yield referencing, referenced


def reference_graph(catalog: Catalog) -> dict[Group, set[Group]]:
    """Return each group of tables with the groups that it references."""
    groups: dict[QualifiedName, Group] = {name: (name,) for name in catalog.tables}
    while True:
        graph: dict[Group, set[Group]] = {group: set() for group in groups.values()}
        for name, referenced in references(catalog):
            other = groups.get(referenced)
            if other is not None and other != groups[name]:
                graph[groups[name]].add(other)
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as ex:
            cycle: list[Group] = ex.args[1]
            merged = tuple(dict.fromkeys(name for group in cycle for name in group))
            groups |= dict.fromkeys(merged, merged)
        else:
            return graph


def reference_order(catalog: Catalog) -> list[QualifiedName]:
    """Return the tables, each after those it references where there is such an order."""
    graph = reference_graph(catalog)
    return [name for group in TopologicalSorter(graph).static_order() for name in group]

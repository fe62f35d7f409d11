"""The condition that a column has a value, as any type that can be a key takes it.

Sessions look nothing up by a path (`postgres.session`), so that the equality of a type of an
extension has to be named; and the parameter of a composite type, or of a name of an object, has to
be told its type.
"""

from cdc.postgres.catalog import Column
from cdc.postgres.names import quoted


def equality(column: Column) -> str:
    """Return the operator that compares a column with a value of its type."""
    schema = column.equality_schema
    return "=" if schema is None else f"operator({quoted(schema)}.=)"


def cast(column: Column) -> str:
    """Return what stands behind a parameter, or a text, that is compared with a column."""
    return f"::{column.type}" if column.equality_schema else ""

"""Names of tables and columns, as SQL has to have them."""

from psycopg import sql


def quoted(*names: str) -> str:
    """Return names as one quoted, qualified identifier."""
    return sql.Identifier(*names).as_string(None)

"""Names and texts, as SQL has to have them."""

from psycopg import sql


def quoted(*names: str) -> str:
    """Return names as one quoted, qualified identifier."""
    return sql.Identifier(*names).as_string(None)


def literal(text: str) -> str:
    """Return a text as a literal."""
    return sql.Literal(text).as_string(None)

"""The SQL files that an operator can read and run by hand; the package runs the same texts.

They stand in `sql/` beside the package in a checkout, and inside the package in a wheel.
"""

from importlib.resources import files
from pathlib import Path


def read_sql(name: str) -> bytes:
    """Return the text of a file under `sql/`, such as `target/001_add_bookkeeping.sql`."""
    installed = files("cdc") / "sql" / name
    if installed.is_file():
        return installed.read_bytes()
    return (Path(__file__).parent.parent / "sql" / name).read_bytes()

"""The DSN that a finding advises: as it was given but for what is to change, without password."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from cdc.postgres.session import Side


def export_dsn(side: Side, user: str, address: str, given: Mapping[str, str | int | None]) -> str:
    """Return the setting with the DSN at an address, its password left to the reader."""
    kept = {name: str(given[name]) for name in ("sslmode", "sslrootcert") if given.get(name)}
    options = f"?{urlencode(kept, safe='/')}" if kept else ""
    database = quote(str(given.get("dbname") or "postgres"))
    return (
        f"export CDC_{side.upper()}_DSN="
        f"'postgresql://{quote(user)}:PASSWORD@{address}/{database}{options}'"
    )

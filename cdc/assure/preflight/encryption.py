"""Check of how far a session may be listened to, or be led to somebody else's server.

Less than `sslmode=verify-full` takes whatever certificate is shown, or none: who stands in between
reads all rows, and may write others. A warning, since in a private network an operator may know
better.
"""

from collections.abc import Iterator
from ipaddress import ip_address

from psycopg.conninfo import conninfo_to_dict

from cdc.assure.preflight.dsn import export_dsn
from cdc.assure.preflight.facts import Facts, Link
from cdc.assure.preflight.findings import Finding, warns
from cdc.postgres.session import Side

# Supabase signs with a CA of its own, which its dashboard gives out; Neon's is trusted publicly.
_SUPABASE = ".supabase.co"
_SUPABASE_CA = "prod-ca-2021.crt"
_PUBLIC_CA = "system"


def check_encryption(facts: Facts) -> Iterator[Finding]:
    """Find a server beyond this machine whose certificate is not verified in full."""
    settings = facts.settings
    yield from check_link("source", facts.source.link, settings.source.require_dsn())
    yield from check_link("target", facts.target.link, settings.target.require_dsn())


def check_link(side: Side, link: Link, dsn: str) -> Iterator[Finding]:
    """Find one such server, by the session that there is."""
    if link.sslmode == "verify-full" or _is_local(link):
        return
    given = conninfo_to_dict(dsn)
    host = link.host or link.address
    of_supabase = host.endswith(_SUPABASE)
    ca = given.get("sslrootcert") or (_SUPABASE_CA if of_supabase else _PUBLIC_CA)
    strict = given | {"sslmode": "verify-full", "sslrootcert": ca}
    address = f"[{host}]" if ":" in host else host
    mend = export_dsn(
        side, str(given.get("user") or ""), f"{address}:{given.get('port') or 5432}", strict
    )
    yield warns(
        side,
        f"CDC_{side.upper()}_DSN",
        f"reaches {host} with sslmode={link.sslmode}: who stands in between can answer instead,"
        " read what is copied and change it",
        f"{mend}  # the CA: dashboard, Database, SSL configuration" if of_supabase else mend,
    )


def _is_local(link: Link) -> bool:
    """Tell whether nobody can stand in between: a Unix socket, or this machine's loopback."""
    if link.address:
        return ip_address(link.address).is_loopback
    return not link.host or link.host.startswith(("/", "@"))

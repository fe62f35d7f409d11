"""A source and a target like the platforms': roles, databases, the credit schema on both.

The source's owner is what Supabase's `postgres` role is (LOGIN, REPLICATION, BYPASSRLS, no
superuser) and its database has Supabase's settings; the target's is a plain owner, as on Neon.
Row level security and the key to `auth.users` are on the source alone.
"""

from dataclasses import dataclass

import psycopg

from cdc.demo.server import Server, ServerGroup, ServerSettings
from cdc.sqlfiles import read_sql

DATABASE = "credit"
SOURCE_ROLE = "supabase_owner"
TARGET_ROLE = "neon_owner"

# Nothing here is to outlive a crash of the machine; a crash of the daemon needs no fsync.
_COMMON: ServerSettings = (("fsync", "off"), ("max_connections", "40"))
_SOURCE: ServerSettings = (
    *_COMMON,
    ("wal_level", "logical"),
    ("max_replication_slots", "4"),
    ("max_wal_senders", "4"),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two databases, and the connection strings of their owners."""

    source_dsn: str
    target_dsn: str
    version: str


def make_pair(servers: ServerGroup) -> Pair:
    """Start both servers and make their databases."""
    source, target = servers.start("source", _SOURCE), servers.start("target", _COMMON)
    _make_database(source, SOURCE_ROLE, "login replication bypassrls")
    _make_database(target, TARGET_ROLE, "login")
    _execute(source.conninfo(), f"alter database {DATABASE} set extra_float_digits = 0".encode())
    # It makes roles, which is an administrator's business.
    _execute(source.conninfo(DATABASE), read_sql("credit/002_add_supabase_extras.sql"))
    return Pair(
        source.conninfo(DATABASE, SOURCE_ROLE),
        target.conninfo(DATABASE, TARGET_ROLE),
        servers.installation.version,
    )


def _make_database(server: Server, role: str, rights: str) -> None:
    _execute(server.conninfo(), f"create role {role} {rights}".encode())
    _execute(server.conninfo(), f"create database {DATABASE} owner {role}".encode())
    _execute(server.conninfo(DATABASE, role), read_sql("credit/001_add_credit_schema.sql"))


def _execute(dsn: str, statements: bytes) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements)

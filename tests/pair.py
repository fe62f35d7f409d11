"""A source and a target database of one test's own, and the question whether they are equal.

Each test gets fresh databases, a slot name and a publication name, and connects in the platforms'
roles: the source's owner has LOGIN, REPLICATION and BYPASSRLS, the target's is a plain owner. The
`admin` connection strings are a superuser's: for the set-up of a test, never for what it tests.
"""

import functools
import time
import uuid
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.servers import (
    CHECKOUT,
    SOURCE_ROLE,
    TARGET_ROLE,
    AnyServer,
    Plugin,
    Role,
    SessionServers,
    Versions,
)

CREDIT_SCHEMA = CHECKOUT / "sql" / "credit" / "001_add_credit_schema.sql"
SUPABASE_EXTRAS = CHECKOUT / "sql" / "credit" / "002_add_supabase_extras.sql"

OWNER: dict[Role, str] = {"source": SOURCE_ROLE, "target": TARGET_ROLE}
CREDIT_TEMPLATE = "credit_template"

# A walsender notices its end at once; a busy one within a message.
SLOT_RELEASE_TIMEOUT_S = 10.0

# What a row looks like as text must not depend on the settings of a database or role.
PINNED = (
    "-c extra_float_digits=3 -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres"
    " -c bytea_output=hex"
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and a target database, and the names that are theirs alone."""

    source: AnyServer
    target: AnyServer
    source_dsn: str
    target_dsn: str
    source_admin_dsn: str
    target_admin_dsn: str
    slot: str
    publication: str
    state_dir: Path
    plugin: Plugin = "pgoutput"
    max_rows: int | None = None
    """Changes in a batch; None: as many as by default."""

    @property
    def settings(self) -> Path:
        """The file of settings that commands of this pair read, if the test writes one."""
        return self.state_dir.parent / "cdc.toml"


@contextmanager
def make_pair(
    servers: SessionServers, versions: Versions, state_dir: Path, *, credit: bool
) -> Iterator[Pair]:
    """Make a pair of databases, empty or with the credit schema, and drop them afterwards."""
    name = f"cdc_{uuid.uuid4().hex[:12]}"
    source = servers.get("source", versions.source)
    target = servers.get("target", versions.target)
    sides: tuple[tuple[Role, AnyServer], ...] = (("source", source), ("target", target))
    try:
        for role, server in sides:
            template = _credit_template(server, role) if credit else "template1"
            _create_database(server, name, OWNER[role], template)
        execute(source, f"alter database {name} set extra_float_digits = 0")  # as Supabase does
        yield Pair(
            source=source,
            target=target,
            source_dsn=source.conninfo(name, SOURCE_ROLE),
            target_dsn=target.conninfo(name, TARGET_ROLE),
            source_admin_dsn=source.conninfo(name),
            target_admin_dsn=target.conninfo(name),
            slot=name,
            publication=name,
            state_dir=state_dir,
        )
    finally:
        # Asked for anew: a server that the test left stopped is started again.
        drop_database(servers.get("source", versions.source), name)
        drop_database(servers.get("target", versions.target), name)


def execute(server: AnyServer, statement: str) -> None:
    """Run a statement as superuser, outside of a transaction."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(statement)


def load(dsn: str, file: Path) -> None:
    """Run a file of SQL, as psql -f would."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(file.read_bytes())


def _create_database(server: AnyServer, name: str, owner: str, template: str) -> None:
    execute(server, f"create database {name} owner {owner} template {template}")


@functools.cache
def _credit_template(server: AnyServer, role: Role) -> str:
    """Make the database that credit pairs are copied from, once for each server."""
    _create_database(server, CREDIT_TEMPLATE, OWNER[role], "template1")
    load(server.conninfo(CREDIT_TEMPLATE, OWNER[role]), CREDIT_SCHEMA)
    return CREDIT_TEMPLATE


def drop_database(server: AnyServer, name: str) -> None:
    """Drop a database with the slots that hold it."""
    drop_slots(server, name)
    execute(server, f"drop database if exists {name} with (force)")


def drop_slots(server: AnyServer, name: str) -> None:
    """Drop the slots of a database; whoever reads them is disconnected."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        slots = "from pg_replication_slots where database = %s"
        deadline = time.monotonic() + SLOT_RELEASE_TIMEOUT_S
        connection.execute(f"select pg_terminate_backend(active_pid) {slots}", (name,))
        while connection.execute(f"select 1 {slots} and active", (name,)).fetchone():
            assert time.monotonic() < deadline, f"a slot of {name} stays active"
            time.sleep(0.02)
        connection.execute(f"select pg_drop_replication_slot(slot_name) {slots}", (name,))


def same_rows(
    pair: Pair, schema: str = "credit", *, tables: Container[str] | None = None
) -> dict[str, int]:
    """Assert that tables of the schema hold the same rows on both sides, and count them."""
    counts: dict[str, int] = {}
    for table, columns in _tables(pair.source_admin_dsn, schema).items():
        if tables is not None and table not in tables:
            continue
        # Named, so that the order in which a table got its columns does not matter; counted, so
        # that a row which came twice is a difference.
        statement = f'select row({columns})::text from "{schema}"."{table}"'
        source = Counter(row for (row,) in _fetch(pair.source_admin_dsn, statement))
        target = Counter(row for (row,) in _fetch(pair.target_admin_dsn, statement))
        missing, extra = list(source - target), list(target - source)
        assert source == target, (
            f"{schema}.{table}: {source.total()} rows on the source, {target.total()} on the"
            f" target; {len(missing)} missing, such as {missing[:3]};"
            f" {len(extra)} extra, such as {extra[:3]}"
        )
        counts[table] = source.total()
    assert counts, f"the source has no table in schema {schema}"
    return counts


def _tables(dsn: str, schema: str) -> dict[str, str]:
    """Give the tables of a schema, each with the list of its columns."""
    found = _fetch(
        dsn,
        """
        select c.relname, string_agg(quote_ident(a.attname), ', ' order by a.attnum)
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = (select oid from pg_namespace where nspname = %s) and c.relkind = 'r'
        group by c.relname
        order by c.relname
        """,
        schema,
    )
    return {table: columns for table, columns in found}  # noqa: C416 - tuples of any length


def _fetch(dsn: str, query: str, *parameters: str) -> list[tuple[str, ...]]:
    with psycopg.connect(dsn, options=PINNED) as connection:
        return connection.execute(query, parameters).fetchall()

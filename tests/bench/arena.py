"""Two servers, and on them what the contestants of one comparison meet: all the same.

The target's databases are copies of one template, which holds the rows that the source has before
its backlog; each contestant and round has a slot of its own, made before the backlog, so that all
drain the same WAL.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from cdc.demo.server import Server, ServerGroup, ServerSettings
from tests.pair import CREDIT_SCHEMA, PINNED, Pair, drop_database, drop_slots, execute, load
from tests.servers import ROLES, SOURCE_ROLE, TARGET_ROLE, Role, find_installation, missing

# Everything that would come at a time of its own, and so meet one contestant and not the other, is
# off: checkpoints and autovacuum. fsync too: it measures the disk, and waits for a neighbour's.
_SETTINGS: ServerSettings = (
    ("fsync", "off"),
    ("autovacuum", "off"),
    ("shared_buffers", "512MB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("max_connections", "100"),
    ("max_locks_per_transaction", "1024"),  # for growth: a thousand tables
    ("wal_level", "logical"),
    ("max_replication_slots", "100"),  # one for each contestant, round and workload
    ("max_wal_senders", "50"),
    ("max_worker_processes", "32"),
    ("max_logical_replication_workers", "16"),
)

WATCHER = "bench watcher"
"""The application name of our own sessions, which are not counted."""

_MARK = -(1 << 40)
"""Key of the row that is written behind each backlog: seen on the target, all is there."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The two servers."""

    source: Server
    target: Server
    folder: Path
    """For the daemons' state."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is to be drained."""

    end: str
    """The LSN behind its last commit."""
    wal_bytes: int


@dataclass(frozen=True, slots=True)
class Arena:
    """One database on the source, and the template on the target."""

    sides: Sides
    name: str

    @property
    def source_dsn(self) -> str:
        """The source's database, for its owner."""
        return self.sides.source.conninfo(self.name, SOURCE_ROLE)

    @property
    def source_admin_dsn(self) -> str:
        """The source's database, for a superuser."""
        return self.sides.source.conninfo(self.name)

    @property
    def template(self) -> str:
        """The database that targets are copies of."""
        return f"{self.name}_template"

    def publish(self, slots: Sequence[str] = ()) -> None:
        """Make the publication, and the slots: they keep what comes from here on."""
        with psycopg.connect(self.source_admin_dsn, autocommit=True) as source:
            source.execute(f"create publication {self.name} for tables in schema credit".encode())
            for slot in slots:
                source.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))

    def drop_slots(self) -> None:
        """Give up all slots, and with them the WAL that is kept for them."""
        drop_slots(self.sides.source, self.name)

    def build(self, statements: Sequence[str]) -> Backlog:
        """Write the backlog, each statement by itself, and the mark behind it."""
        with psycopg.connect(self.source_dsn, autocommit=True) as source:
            source.execute("set synchronous_commit = off")
            begin = _lsn(source)
            for statement in statements:
                source.execute(statement.encode())
        return self.mark(begin)

    def mark(self, begin: str) -> Backlog:
        """Write the row that is looked for on the target."""
        with psycopg.connect(self.source_admin_dsn, autocommit=True) as source:
            source.execute(
                "insert into credit.audit_events (id, entity, entity_key, action)"
                " values (%s, 'bench', 'mark', 'end')",
                (_MARK,),
            )
            end = _lsn(source)
            # Something behind it, so that whoever reads up to the end sees that it was there.
            source.execute("select pg_logical_emit_message(true, 'bench', 'end')")
            row = source.execute("select %s::pg_lsn - %s::pg_lsn", (end, begin)).fetchone()
        assert row is not None
        return Backlog(end, int(row[0]))

    @contextmanager
    def lane(self, slot: str) -> Iterator["Lane"]:
        """Make a target of a contestant's own, and drop it."""
        target = self.sides.target
        execute(target, f"create database {slot} template {self.template}")
        execute(target, f"alter database {slot} owner to {TARGET_ROLE}")
        # None meets what the one before it has left to be written.
        for server in (self.sides.source, target):
            execute(server, "checkpoint")
        try:
            yield Lane(self, slot, target.conninfo(slot, TARGET_ROLE), self.source_admin_dsn)
        finally:
            execute(target, f"drop database {slot} with (force)")


@dataclass(frozen=True, slots=True)
class Lane:
    """A slot on the source and a database of the same name on the target."""

    arena: Arena
    slot: str
    target_dsn: str
    """The daemon's way to the target."""
    subscribed_dsn: str
    """A subscription's way to the source."""

    @property
    def target_admin_dsn(self) -> str:
        """The target's database, for a superuser."""
        return self.arena.sides.target.conninfo(self.slot)

    @property
    def pair(self) -> Pair:
        """What the daemon is given."""
        source, target = self.arena.sides.source, self.arena.sides.target
        return Pair(
            source=source,
            target=target,
            source_dsn=self.arena.source_dsn,
            target_dsn=self.target_dsn,
            source_admin_dsn=self.arena.source_admin_dsn,
            target_admin_dsn=self.target_admin_dsn,
            slot=self.slot,
            publication=self.arena.name,
            state_dir=self.arena.sides.folder / self.slot / "state",
        )

    @contextmanager
    def watched(self) -> Iterator["Watch"]:
        """Connect to both sides, to look on."""
        with (
            watcher(self.arena.source_admin_dsn) as source,
            watcher(self.target_admin_dsn) as target,
        ):
            yield Watch(self.slot, source, target)


@dataclass(frozen=True, slots=True)
class Watch:
    """Cheap looks at a drain."""

    slot: str
    source: psycopg.Connection
    target: psycopg.Connection

    def walsender(self) -> int | None:
        """Give the process that the slot is active for."""
        row = self.source.execute(
            "select active_pid from pg_replication_slots where slot_name = %s", (self.slot,)
        ).fetchone()
        return row[0] if row else None

    def marked(self) -> bool:
        """Tell whether the row behind the backlog is visible on the target."""
        looked = "select 1 from credit.audit_events where id = %s"
        return self.target.execute(looked, (_MARK,)).fetchone() is not None


def watcher(dsn: str) -> psycopg.Connection:
    """Connect as one that only looks on; rows as text do not depend on the database's settings."""
    options = f"{PINNED} -c search_path=pg_catalog"
    return psycopg.connect(dsn, autocommit=True, options=options, application_name=WATCHER)


@contextmanager
def started(majors: dict[Role, int]) -> Iterator[Sides]:
    """Start the two servers, each of the version that is asked for."""
    with ExitStack() as stack:
        servers: dict[Role, Server] = {}
        groups: dict[Path, ServerGroup] = {}
        for role, major in majors.items():
            installation = find_installation(major, role)
            assert installation is not None, missing(major)
            group = groups.get(installation.bin_dir)
            if group is None:
                group = stack.enter_context(ServerGroup(installation))
                groups[installation.bin_dir] = group
            servers[role] = group.start(role, _SETTINGS)
            execute(servers[role], ROLES[role])
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        yield Sides(servers["source"], servers["target"], Path(folder))


@contextmanager
def prepared(
    sides: Sides,
    name: str,
    tables: Sequence[str] = (),
    rows: Sequence[str] = (),
    *,
    copied: bool = True,
) -> Iterator[Arena]:
    """Make the source's database and the target's template: the credit schema, `tables`, `rows`.

    Not `copied`: the target has the tables, and no rows.
    """
    arena = Arena(sides, name)
    execute(sides.source, f"create database {name} owner {SOURCE_ROLE}")
    execute(sides.target, f"create database {arena.template} owner {TARGET_ROLE}")
    target_dsn = sides.target.conninfo(arena.template, TARGET_ROLE)
    try:
        for dsn in (arena.source_dsn, target_dsn):
            load(dsn, CREDIT_SCHEMA)
            _run(dsn, tables)
        _run(arena.source_dsn, rows)
        if copied:
            _copy(arena.source_admin_dsn, sides.target.conninfo(arena.template))
        for server, database in ((sides.source, name), (sides.target, arena.template)):
            _run(server.conninfo(database), ["vacuum analyze", "checkpoint"])
        yield arena
    finally:
        drop_database(sides.target, arena.template)
        drop_database(sides.source, name)


def _run(dsn: str, statements: Sequence[str]) -> None:
    """Run each statement as a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def columns_of(dsn: str, *, stored: bool = True) -> dict[str, list[str]]:
    """Give the tables of schema credit, each with its columns; `stored`: generated ones too."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "select c.relname, array_agg(a.attname::text order by a.attnum) from pg_class c"
            " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
            " where c.relnamespace = 'credit'::regnamespace and c.relkind = 'r'"
            " and (a.attgenerated = '' or %s) group by 1 order by 1",
            (stored,),
        ).fetchall()
    return {str(table): list(columns) for table, columns in found}


def _copy(source_dsn: str, target_dsn: str) -> None:
    """Give the target the source's rows, past its triggers and constraints."""
    with psycopg.connect(source_dsn) as source, psycopg.connect(target_dsn) as target:
        target.execute("set session_replication_role = replica")
        for table, names in columns_of(source_dsn, stored=False).items():
            columns = sql.SQL(", ").join(map(sql.Identifier, names))
            where = sql.Identifier("credit", table)
            out = sql.SQL("copy {} ({}) to stdout").format(where, columns)
            into = sql.SQL("copy {} ({}) from stdin").format(where, columns)
            with source.cursor().copy(out) as rows, target.cursor().copy(into) as copy:
                for block in rows:
                    copy.write(block)


def _lsn(connection: psycopg.Connection) -> str:
    row = connection.execute("select pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return str(row[0])

"""Real PostgreSQL servers for the tests: which there are, and one running server for each need.

Looked for, for each major version: the server of the demo extra; `.servers/<major>`, which
`make servers` fetches; Debian's `/usr/lib/postgresql/<major>`; at last a container, where a Docker
socket answers. Sources prefer an installation that has wal2json. A server starts when a test first
asks for it and serves the whole session. What is not there skips the test, with the reason.

The container needs a Docker or podman socket, which not every machine of the developers has: it is
the least exercised of the four. It serves connections only: tests that kill servers skip there.
"""

import functools
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from testcontainers.community.postgres import PostgresContainer

from cdc.demo.installation import Installation, find_embedded, run
from cdc.demo.server import SUPERUSER, Server, ServerGroup, ServerSettings
from cdc.errors import NeedsOperator

CHECKOUT = Path(__file__).parent.parent
FETCHED = CHECKOUT / ".servers"
DEBIAN = Path("/usr/lib/postgresql")

SOURCE_ROLE = "app_source"
TARGET_ROLE = "app_target"

Role: TypeAlias = Literal["source", "target"]
Plugin: TypeAlias = Literal["pgoutput", "wal2json"]

# Crashes of the machine are not tested, crashes of the server are: those do not need fsync.
COMMON_SETTINGS: ServerSettings = (
    ("fsync", "off"),
    ("max_connections", "200"),
    ("max_locks_per_transaction", "256"),  # for a transaction of thousands of tables
)
SETTINGS: dict[Role, ServerSettings] = {
    "source": (
        *COMMON_SETTINGS,
        ("wal_level", "logical"),
        ("max_replication_slots", "20"),
        ("max_wal_senders", "20"),
        ("max_prepared_transactions", "10"),
    ),
    "target": COMMON_SETTINGS,
}

# Supabase's `postgres` role and a Neon owner: neither is a superuser.
ROLES: dict[Role, str] = {
    "source": f"create role {SOURCE_ROLE} login replication bypassrls",
    "target": f"create role {TARGET_ROLE} login",
}

DEFAULT_MAJOR = 18


@dataclass(frozen=True, slots=True)
class Versions:
    """The major versions of the two servers of a test."""

    source: int = DEFAULT_MAJOR
    target: int = DEFAULT_MAJOR

    def __str__(self) -> str:
        return f"{self.source}-to-{self.target}"


# Supabase runs 15 and 17, Neon 14 to 18.
VERSION_MATRIX = (
    Versions(15, 15),
    Versions(15, 18),
    Versions(16, 16),
    Versions(17, 17),
    Versions(17, 18),
    Versions(18, 18),
)

# For a test of tests/subscription: of what a publication does, which wal2json knows nothing of.
only_pgoutput = pytest.mark.parametrize("plugin", ["pgoutput"], indirect=True)

# For a test of the pair: runs once for each pair of versions.
on_every_version = pytest.mark.parametrize("versions", VERSION_MATRIX, indirect=True, ids=str)


@dataclass(frozen=True, slots=True)
class Found:
    """What is installed on this machine, and what is there but does not run."""

    usable: tuple[Installation, ...]
    unusable: tuple[NeedsOperator, ...]


@functools.cache
def find_installations() -> Found:
    """Look everywhere; a target takes the first of its version."""
    usable: list[Installation] = []
    unusable: list[NeedsOperator] = []
    bin_dirs = sorted(FETCHED.glob("*/bin")) + sorted(DEBIAN.glob("*/bin"))
    for bin_dir in (None, *bin_dirs):
        try:
            usable.append(Installation.at(bin_dir) if bin_dir else find_embedded())
        except NeedsOperator as error:
            # Fetched programs, say, that miss a library of the system.
            unusable.append(error)
    return Found(tuple(usable), tuple(unusable))


def has_wal2json(installation: Installation) -> bool:
    """Tell whether the installation has the wal2json output plugin."""
    library = run([installation.program("pg_config"), "--pkglibdir"]).strip()
    return Path(library, "wal2json.so").is_file()


def find_installation(major: int, role: Role) -> Installation | None:
    """Find the installation that serves a role in this version."""
    found = [one for one in find_installations().usable if one.major == major]
    if role == "source":
        found.sort(key=has_wal2json, reverse=True)
    return found[0] if found else None


def missing(major: int) -> str:
    """Say why there is no server of this version."""
    broken = "".join(f"; {error}" for error in find_installations().unusable)
    return f"no PostgreSQL {major} (`make servers` fetches it) and no Docker{broken}"


class Container:
    """A server in a container, where this machine has no programs of that version."""

    __slots__ = ("_container", "major")

    def __init__(self, major: int, settings: ServerSettings) -> None:
        self.major = major
        self._container = PostgresContainer(f"postgres:{major}", username=SUPERUSER)
        self._container.with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
        options = " ".join(f"-c {name}={value}" for name, value in settings)
        self._container.with_command(f"postgres {options}")

    def start(self) -> None:
        """Start the container and return when the server takes connections."""
        self._container.start()

    def stop(self) -> None:
        """Remove the container."""
        self._container.stop()

    def conninfo(self, database: str = SUPERUSER, user: str = SUPERUSER) -> str:
        """Give the connection string of a database for a role."""
        return make_conninfo(
            host=self._container.get_container_host_ip(),
            port=self._container.get_exposed_port(5432),
            dbname=database,
            user=user,
        )


AnyServer: TypeAlias = Server | Container


def stoppable(server: AnyServer) -> Server:
    """Give a server that the test may stop and start; skip where it runs in a container."""
    if not isinstance(server, Server):
        pytest.skip("a server in a container is not ours to stop")
    return server


def docker_answers() -> bool:
    """Tell whether a Docker (or podman) socket takes connections."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address.removeprefix("unix://"))
        except OSError:
            return False
    return True


def require_wal2json(server: AnyServer) -> None:
    """Skip the test where the server cannot load wal2json."""
    if not isinstance(server, Server) or not has_wal2json(server.installation):
        pytest.skip(
            f"no wal2json for PostgreSQL {server.installation.major}"
            f" (apt install postgresql-{server.installation.major}-wal2json)"
            if isinstance(server, Server)
            else "no wal2json in a container"
        )


class SessionServers:
    """The servers of a test session: one for each role and version, started when first needed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._groups: dict[Path, ServerGroup] = {}
        self._servers: dict[tuple[Role, int], AnyServer] = {}

    def get(self, role: Role, major: int) -> AnyServer:
        """Give the running server, or skip the test where there can be none."""
        server = self._servers.get((role, major))
        if server is None:
            server = self._start(role, major)
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                connection.execute(ROLES[role])
            self._servers[role, major] = server
        elif isinstance(server, Server) and not server.running:
            # The test before this one stopped it, and failed before the restart.
            server.start()
        return server

    def _start(self, role: Role, major: int) -> AnyServer:
        installation = find_installation(major, role)
        if installation is None:
            if not docker_answers():
                pytest.skip(missing(major))
            container = Container(major, SETTINGS[role])
            self._stack.callback(container.stop)
            container.start()
            return container
        group = self._groups.get(installation.bin_dir)
        if group is None:
            group = self._stack.enter_context(ServerGroup(installation))
            self._groups[installation.bin_dir] = group
        settings = SETTINGS[role]
        # Minor releases since August 2026 load only the output plugins that are listed.
        if has_wal2json(installation) and installation.knows("output_plugin_libraries"):
            plugins = "pgoutput, test_decoding, wal2json"
            settings = (*settings, ("output_plugin_libraries", plugins))
        return group.start(role, settings)

    def close(self) -> None:
        """Stop all of them."""
        self._stack.close()

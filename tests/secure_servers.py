"""Servers that speak TLS, and let nobody but the superuser in without it, as Supabase may.

The embedded server of 18 has no TLS, so these are of 17. Each side has a host name, whose
certificate a test's own authority signs, and no name service knows: the address goes beside it in
the DSN, as `hostaddr`. They listen on all addresses of this machine, and take no others.
"""

import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from cdc.demo.server import HOST, SUPERUSER, Server
from tests.certificates import Authority, ServerCertificate
from tests.pair import Pair
from tests.servers import AnyServer, Role, SessionServers, Versions, stoppable

VERSIONS = Versions(17, 17)

NAMES: dict[Role, str] = {"source": "source.cdc.test", "target": "target.cdc.test"}

PG_HBA = f"""
host    all {SUPERUSER} {HOST}/32 trust
hostssl all all         samehost trust
"""

RELOAD_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who signs the servers' certificates, and who does not."""

    right: Authority
    wrong: Authority


class SecureServers(SessionServers):
    """Servers of one test module, each with a certificate for its name."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.authorities = Authorities(
            Authority.make(folder / "right.crt"), Authority.make(folder / "wrong.crt")
        )

    def _start(self, role: Role, major: int) -> AnyServer:
        server = stoppable(super()._start(role, major))
        _write(server, "pg_hba.conf", PG_HBA.encode())
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            admin.execute("alter system set listen_addresses = '*'")
        server.restart()
        show(server, self.authorities.right.sign(NAMES[role]))
        return server


def show(server: Server, certificate: ServerCertificate) -> None:
    """Have the server show this certificate from now on."""
    _write(server, "server.crt", certificate.certificate)
    _write(server, "server.key", certificate.key)
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute("alter system set ssl = on")
        loaded = admin.execute("select pg_conf_load_time()").fetchone()
        admin.execute("select pg_reload_conf()")
        deadline = time.monotonic() + RELOAD_TIMEOUT_S
        while admin.execute("select pg_conf_load_time()").fetchone() == loaded:
            assert time.monotonic() < deadline, "the server does not reload its configuration"
            time.sleep(0.02)


def own_address() -> str:
    """Give an address of this machine that is not its loopback's, or skip the test."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the kernel chooses a way out
        except OSError:
            pytest.skip("this machine has no address but its loopback's")
        return str(probe.getsockname()[0])


def verified(pair: Pair, authorities: Authorities) -> Pair:
    """Give the pair with DSNs that verify both servers in full."""
    return replace(
        pair,
        source_dsn=verifying(pair.source_dsn, NAMES["source"], authorities.right.file),
        target_dsn=verifying(pair.target_dsn, NAMES["target"], authorities.right.file),
    )


def verifying(dsn: str, host: str, ca: Path) -> str:
    """Give a DSN that takes a certificate for this host alone, signed by this authority."""
    return make_conninfo(dsn, host=host, hostaddr=HOST, sslmode="verify-full", sslrootcert=str(ca))


def _write(server: Server, name: str, content: bytes) -> None:
    """Write a file as the server wants its key: its own, and nobody else's."""
    file = server.data_dir / name
    file.touch(mode=0o600)
    file.write_bytes(content)
    if server.account is not None:
        os.chown(file, server.account.uid, server.account.gid)

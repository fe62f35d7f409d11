"""TLS with `sslmode=verify-full`: who is let in, who is not, and what an operator is told."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.accounts import INSERT, SCHEMA, rows
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.pair import Pair, make_pair, same_rows
from tests.process import drain, environment, last_words, ok, run_cdc, streaming
from tests.secure_servers import (
    NAMES,
    VERSIONS,
    Authorities,
    SecureServers,
    own_address,
    show,
    verified,
    verifying,
)
from tests.servers import Role, stoppable

on_both_sides = pytest.mark.parametrize("side", ["source", "target"])

SECURE = (
    "select count(*) > 0 and bool_and(s.ssl) from pg_stat_ssl s join pg_stat_activity a using (pid)"
    " where a.datname = current_database() and a.usename like 'app_%%' and a.backend_type = %s"
)


@pytest.fixture(scope="module")
def secure_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServers]:
    """Servers with TLS; they start when a test first asks for a pair on them."""
    servers = SecureServers(tmp_path_factory.mktemp("authorities"))
    yield servers
    servers.close()


@pytest.fixture
def authorities(secure_servers: SecureServers) -> Authorities:
    """The authority that signed the servers' certificates, and another one."""
    return secure_servers.authorities


@pytest.fixture
def secure_pair(secure_servers: SecureServers, tmp_path: Path) -> Iterator[Pair]:
    """Two databases with a table each, and DSNs that verify in full who serves them."""
    with make_pair(secure_servers, VERSIONS, tmp_path / "state", credit=False) as made:
        pair = verified(made, secure_servers.authorities)
        migrate(pair, SCHEMA)
        yield pair


def dsn_of(pair: Pair, side: str) -> str:
    """Give the DSN of a side."""
    return pair.source_dsn if side == "source" else pair.target_dsn


def refused(pair: Pair, side: str, dsn: str, *said: str) -> None:
    """Check with another DSN on a side: it needs an operator, who is told all this."""
    result = run_cdc(pair, "check", env={f"CDC_{side.upper()}_DSN": dsn})
    assert result.returncode == 78, result.stderr
    for text in said:
        assert text in last_words(result.stderr)
    assert "Traceback" not in result.stderr


def test_the_whole_job_with_both_servers_verified(secure_pair: Pair) -> None:
    """Check, init and run; each session on either side, the walsender's too, is encrypted."""
    assert "CDC_SOURCE_DSN" not in ok(secure_pair, "check").stdout
    run_sql(secure_pair.source_dsn, INSERT, 1, 10)
    ok(secure_pair, "init")
    run_sql(secure_pair.source_dsn, INSERT, 11, 20)
    drain(secure_pair)
    assert same_rows(secure_pair) == {"account": 20}
    with streaming(secure_pair):
        run_sql(secure_pair.source_dsn, INSERT, 21, 30)
        wait_until(lambda: rows(secure_pair) == 30)
        assert fetch(secure_pair.source_admin_dsn, SECURE, "walsender") == [True]
        assert fetch(secure_pair.source_admin_dsn, SECURE, "client backend") == [True]
        assert fetch(secure_pair.target_admin_dsn, SECURE, "client backend") == [True]


@on_both_sides
def test_a_server_of_another_authority(
    secure_pair: Pair, authorities: Authorities, side: Role
) -> None:
    """Its certificate was not signed by the CA that the DSN names."""
    dsn = verifying(dsn_of(secure_pair, side), NAMES[side], authorities.wrong.file)
    refused(secure_pair, side, dsn, "certificate verify failed", "sslrootcert", "do not lower")


@on_both_sides
def test_a_server_of_another_name(secure_pair: Pair, authorities: Authorities, side: Role) -> None:
    """Its certificate is of the right CA, but for another host."""
    dsn = verifying(dsn_of(secure_pair, side), "other.cdc.test", authorities.right.file)
    refused(secure_pair, side, dsn, 'does not match host name "other.cdc.test"', "do not lower")


@on_both_sides
def test_an_authority_whose_certificate_is_not_there(secure_pair: Pair, side: Role) -> None:
    """The DSN names a file that does not exist."""
    dsn = verifying(dsn_of(secure_pair, side), NAMES[side], Path("/nowhere/ca.crt"))
    refused(secure_pair, side, dsn, '"/nowhere/ca.crt" does not exist', "full path")


@on_both_sides
def test_a_server_without_tls(credit_pair: Pair, side: Role, tmp_path: Path) -> None:
    """A server that offers plaintext alone is not talked to with `verify-full`."""
    dsn = make_conninfo(
        dsn_of(credit_pair, side), sslmode="verify-full", sslrootcert=str(tmp_path / "ca.crt")
    )
    refused(credit_pair, side, dsn, "server does not support SSL", "ssl = on", "do not lower")


@on_both_sides
def test_a_server_that_takes_no_plaintext(secure_pair: Pair, side: Role) -> None:
    """A server with nothing but `hostssl` for us refuses plaintext, and we say what to do."""
    dsn = make_conninfo(dsn_of(secure_pair, side), sslmode="disable")
    refused(secure_pair, side, dsn, "no encryption", "sslmode=verify-full")


@on_both_sides
def test_a_server_that_is_not_verified(secure_pair: Pair, side: Role) -> None:
    """A server beyond the loopback that may be anybody's is warned about, with the whole mend."""
    address = own_address()
    dsn = make_conninfo(
        dsn_of(secure_pair, side), host=address, hostaddr=address, sslmode="require"
    )
    result = run_cdc(secure_pair, "check", env={f"CDC_{side.upper()}_DSN": dsn})
    assert result.returncode == 0, result.stderr
    assert f"CDC_{side.upper()}_DSN: reaches {address} with sslmode=require" in result.stdout
    assert "?sslmode=verify-full&sslrootcert=" in result.stdout


@on_both_sides
def test_a_daemon_that_was_never_let_in_ends(
    secure_pair: Pair, authorities: Authorities, side: Role
) -> None:
    """A daemon that starts with the wrong CA does not wait for it: its DSN has to be mended."""
    dsn = verifying(dsn_of(secure_pair, side), NAMES[side], authorities.wrong.file)
    result = run_cdc(secure_pair, "run", env={f"CDC_{side.upper()}_DSN": dsn}, timeout_s=30)
    assert result.returncode == 78
    assert "trying again" not in result.stderr


@on_both_sides
def test_a_daemon_outlives_a_wrong_certificate(
    secure_pair: Pair, authorities: Authorities, side: Role
) -> None:
    """One that has worked waits until the server is to be trusted again, and says what is wrong."""
    admin = secure_pair.source_admin_dsn if side == "source" else secure_pair.target_admin_dsn
    server = stoppable(secure_pair.source if side == "source" else secure_pair.target)
    with streaming(secure_pair) as daemon:
        run_sql(secure_pair.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(secure_pair) == 10)
        show(server, authorities.wrong.sign(NAMES[side]))
        try:
            fetch(
                admin,
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and usename like 'app_%%'",
            )
            with psycopg.connect(secure_pair.source_admin_dsn) as source:
                source.execute(INSERT, (11, 20))
            daemon.wait_for_log("certificate verify failed; sslrootcert has to name the CA")
        finally:
            show(server, authorities.right.sign(NAMES[side]))
        wait_until(lambda: rows(secure_pair) == 20, 60)
        assert daemon.process.poll() is None
    assert same_rows(secure_pair) == {"account": 20}


def test_a_machine_that_trusts_the_authority(
    secure_pair: Pair, authorities: Authorities, tmp_path: Path
) -> None:
    """With `sslrootcert=system` those are trusted that the machine trusts, and no others."""
    dsn = make_conninfo(secure_pair.target_dsn, sslrootcert="system")
    result = check_on_machine_that_trusts(tmp_path, secure_pair, dsn)
    assert (result.returncode, "certificate verify failed" in result.stderr) == (78, True)
    authorities.right.trust_in(tmp_path)
    result = check_on_machine_that_trusts(tmp_path, secure_pair, dsn)
    assert result.returncode == 0, result.stderr


def check_on_machine_that_trusts(
    folder: Path, pair: Pair, target_dsn: str
) -> subprocess.CompletedProcess[str]:
    """Check where a folder is what the machine trusts: mounted there, for this process alone."""
    found = {k: v for k, v in environment(pair).items() if not k.startswith("SSL_CERT_")}
    trusted = ssl.get_default_verify_paths().openssl_capath
    script = f'mount --bind "$1" "{trusted}" || exit 99; shift; exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(folder)]
    result = subprocess.run(
        [*command, sys.executable, "-m", "cdc", "check"],
        env=found | {"CDC_TARGET_DSN": target_dsn},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    if result.returncode in {1, 99} and ("unshare:" in result.stderr or "mount:" in result.stderr):
        pytest.skip(f"no mounts of our own: {result.stderr.strip()}")
    return result

"""What is said of a server that is not trusted, and where its certificates are looked for."""

import os
import ssl

import psycopg
import pytest

from cdc.assure.preflight.encryption import check_link
from cdc.assure.preflight.facts import Link
from cdc.backoff import described, untrusted
from cdc.postgres.session import conninfo

TRUSTED = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.mark.parametrize(
    ("words", "to_do"),
    [
        ("SSL error: certificate verify failed", "sslrootcert has to name the CA"),
        (
            'server certificate for "a" (and 2 other names) does not match host name "b"',
            "the DSN has to name a host",
        ),
        ("server does not support SSL, but SSL was required", "ssl = on"),
        ('root certificate file "/a/b.crt" does not exist\nEither provide', "full path"),
        ('could not read root certificate file "/a": no certificate or crl found', "as PEM"),
        (
            'weak sslmode "require" may not be used with sslrootcert=system (use "verify-full")',
            "sslmode=verify-full",
        ),
        (
            'FATAL:  no pg_hba.conf entry for host "::1", user "a", database "b", no encryption',
            "sslmode=verify-full",
        ),
        (
            'FATAL:  no pg_hba.conf entry for host "::1", user "a", database "b", SSL off',
            "sslmode=verify-full",
        ),
    ],
)
def test_what_is_wrong_comes_with_what_to_do(words: str, to_do: str) -> None:
    """A log line holds libpq's words and the advice, and no second line."""
    said = described(psycopg.OperationalError(words))
    assert words.partition("\n")[0] in said
    assert to_do in said
    assert "\n" not in said


def test_other_failures_come_without_advice() -> None:
    """What is not about TLS is said as it is."""
    entry = 'no pg_hba.conf entry for host "::1", user "a", database "b", SSL encryption'
    for words in ("connection refused", entry):
        assert untrusted(psycopg.OperationalError(words)) is None
    assert untrusted(ValueError("certificate verify failed")) is None


def test_the_machines_certificates_are_where_python_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Libpq is told where `system` is, if that is asked for and the operator has not said it."""
    for variable in TRUSTED:
        monkeypatch.setenv(variable, "")  # so that it is put back afterwards
        monkeypatch.delenv(variable)
    conninfo("host=a sslrootcert=/a/ca.crt", application_name="cdc")
    assert not any(variable in os.environ for variable in TRUSTED)
    paths = ssl.get_default_verify_paths()
    conninfo("host=a sslrootcert=system", application_name="cdc")
    assert os.environ.get("SSL_CERT_FILE") == paths.cafile
    assert os.environ.get("SSL_CERT_DIR") == paths.capath
    monkeypatch.setenv("SSL_CERT_FILE", "/ours.pem")
    conninfo("host=a sslrootcert=system", application_name="cdc")
    assert os.environ["SSL_CERT_FILE"] == "/ours.pem"


SUPABASE = "postgresql://postgres:secret@db.abcd.supabase.co/postgres"
NEON = "host=ep-a-b-1.eu.aws.neon.tech user=owner password=secret dbname=main sslmode=require"


@pytest.mark.parametrize(
    ("dsn", "link", "strict"),
    [
        (
            SUPABASE,
            Link("db.abcd.supabase.co", "2600:1f18::1", "prefer"),
            "postgres:PASSWORD@db.abcd.supabase.co:5432/postgres?sslmode=verify-full&sslrootcert=prod-ca-2021.crt",
        ),
        (
            NEON,
            Link("ep-a-b-1.eu.aws.neon.tech", "192.0.2.1", "require"),
            "owner:PASSWORD@ep-a-b-1.eu.aws.neon.tech:5432/main?sslmode=verify-full&sslrootcert=system",
        ),
        (
            "host=fd00::1 user=a dbname=b sslmode=verify-ca sslrootcert=/a/ca.crt",
            Link("fd00::1", "fd00::1", "verify-ca"),
            "a:PASSWORD@[fd00::1]:5432/b?sslmode=verify-full&sslrootcert=/a/ca.crt",
        ),
    ],
    ids=["supabase", "neon", "address"],
)
def test_a_server_that_is_not_verified_is_warned_about(dsn: str, link: Link, strict: str) -> None:
    """The mend is the DSN with the parameters that are missing, and without the password."""
    (finding,) = check_link("target", link, dsn)
    assert (finding.severity.value, finding.subject) == ("warns", "CDC_TARGET_DSN")
    assert link.sslmode in finding.problem
    assert f"export CDC_TARGET_DSN='postgresql://{strict}'" in finding.mend
    assert "secret" not in str(finding)


@pytest.mark.parametrize(
    "link",
    [
        Link("db.abcd.supabase.co", "2600:1f18::1", "verify-full"),
        Link("localhost", "127.0.0.1", "prefer"),
        Link("tunnel", "::1", "disable"),
        Link("", "", "prefer"),
        Link("/run/postgresql", "", "prefer"),
    ],
    ids=["verified", "loopback", "loopback by another name", "default socket", "socket"],
)
def test_nothing_is_said_where_nobody_can_stand_in_between(link: Link) -> None:
    """A verified server, this machine's loopback and its sockets are as they should be."""
    assert list(check_link("source", link, SUPABASE)) == []

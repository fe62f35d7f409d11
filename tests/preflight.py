"""What the tests of the preflight share: ask, find the one finding that is meant, run its mend."""

import asyncio
import shlex
from collections.abc import Mapping
from typing import TypeAlias

import psycopg
import pytest

from cdc.assure.preflight import preflight
from cdc.assure.preflight.facts import Intent
from cdc.assure.preflight.findings import Finding, Severity, Side
from cdc.settings import Settings, load_settings
from cdc.sync.initialize import initialize
from tests.pair import Pair
from tests.process import ok

Expected: TypeAlias = tuple[Severity, Side, str, str]
"""Severity, side and subject of a finding, and a part of its problem."""

BREAKS, WARNS = Severity.BREAKS, Severity.WARNS

BUSINESS = (
    "insert into credit.businesses (registration_number, legal_name, country)"
    " values ('1', 'one', 'DE')"
)


def settings_of(pair: Pair, environment: Mapping[str, str] | None = None) -> Settings:
    """Load the settings of a pair as from the environment, with a test's own above them."""
    ours = {
        "CDC_SOURCE_DSN": pair.source_dsn,
        "CDC_SOURCE_SLOT": pair.slot,
        "CDC_SOURCE_PUBLICATION": pair.publication,
        "CDC_TARGET_DSN": pair.target_dsn,
        "CDC_STATE_DIR": str(pair.state_dir),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ours | dict(environment or {})).items():
            patch.setenv(name, value)
        return load_settings().settings


def exported(mend: str) -> dict[str, str]:
    """Give what a mend of the form `export NAME=value` would set in a shell."""
    command, assignment = shlex.split(mend, comments=True)
    assert command == "export"
    name, _, value = assignment.partition("=")
    return {name: value}


def run_sql(dsn: str, statements: str) -> None:
    """Run statements, one a line, each in its own transaction, as psql would."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for line in statements.splitlines():
            connection.execute(line.encode())


def ask(
    pair: Pair, environment: Mapping[str, str] | None = None, *, intent: Intent = Intent.ASK
) -> list[Finding]:
    """Run the preflight of a pair, with settings of the test's own above the pair's."""
    return asyncio.run(preflight(settings_of(pair, environment), intent=intent))


def broken(findings: list[Finding]) -> list[Finding]:
    """Give the findings that break."""
    return [finding for finding in findings if finding.severity is Severity.BREAKS]


def matching(findings: list[Finding], subject: str, problem: str) -> list[Finding]:
    """Give the findings about a subject whose problem holds a text."""
    return [f for f in findings if f.subject == subject and problem in f.problem]


def the(findings: list[Finding], expected: Expected) -> Finding:
    """Give the one finding with this severity, side, subject and part of the problem."""
    severity, side, subject, problem = expected
    found = matching(findings, subject, problem)
    assert len(found) == 1, f"not once: {expected} in {findings}"
    assert (found[0].severity, found[0].side) == (severity, side)
    return found[0]


def mend(pair: Pair, finding: Finding, *, admin: bool = False) -> None:
    """Run a finding's SQL on its side: as the role that asked, or as a superuser."""
    if finding.side == "source":
        run_sql(pair.source_admin_dsn if admin else pair.source_dsn, finding.mend)
    else:
        run_sql(pair.target_admin_dsn if admin else pair.target_dsn, finding.mend)


def find_and_mend(
    pair: Pair, expected: Expected, *, admin: bool = False, intent: Intent = Intent.ASK
) -> list[Finding]:
    """Expect a finding, run its mend, expect it to be gone; give what is found then."""
    finding = the(ask(pair, intent=intent), expected)
    mend(pair, finding, admin=admin)
    after = ask(pair, intent=intent)
    assert matching(after, finding.subject, expected[3]) == []
    return after


def init(pair: Pair, *, snapshot: bool = True) -> None:
    """Copy the pair, so that it has publication, slot and checkpoint."""
    if snapshot:
        ok(pair, "init")
    else:
        asyncio.run(initialize(settings_of(pair), snapshot=False))

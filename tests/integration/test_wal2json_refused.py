"""Sources that do not load wal2json: each says so in its own way, and nobody waits for it."""

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from cdc.demo.installation import find_embedded
from cdc.demo.server import ServerGroup
from tests.pair import CREDIT_SCHEMA, Pair, load
from tests.preflight import BREAKS, WARNS, ask, broken, matching, mend, run_sql, the
from tests.process import run_cdc
from tests.servers import SETTINGS, has_wal2json

WAL2JSON = {"CDC_SOURCE_PLUGIN": "wal2json"}


@pytest.fixture
def own_source(credit_pair: Pair) -> Iterator[Pair]:
    """A pair whose source is a server of the test's own, with the setting and without the library.

    The server of the demo extra: its plugins are those that PostgreSQL comes with.
    """
    installation = find_embedded()
    assert installation.knows("output_plugin_libraries")
    assert not has_wal2json(installation)
    with ServerGroup(installation) as group:
        server = group.start("source", SETTINGS["source"])
        load(server.conninfo(), CREDIT_SCHEMA)
        dsn = server.conninfo()
        yield replace(
            credit_pair, source=server, source_dsn=dsn, source_admin_dsn=dsn, plugin="wal2json"
        )


def test_a_plugin_that_is_not_allowed_is_found_and_the_mend_suffices(own_source: Pair) -> None:
    """Before anything is made; the setting takes effect without a restart."""
    found = ask(own_source, WAL2JSON)
    expected = "is 'pgoutput, test_decoding', so that wal2json may not be loaded"
    finding = the(found, (BREAKS, "source", "output_plugin_libraries", expected))
    assert broken(found) == [finding]
    mend(own_source, finding)
    assert broken(ask(own_source, WAL2JSON)) == []
    assert matching(ask(own_source), "output_plugin_libraries", "") == []


def test_a_role_that_may_not_know_is_told(credit_pair: Pair) -> None:
    """Only who has pg_read_all_settings may read the setting: a warning, and its mend mends it."""
    found = ask(credit_pair, WAL2JSON)
    finding = the(found, (WARNS, "source", "output_plugin_libraries", "may not be read"))
    assert broken(found) == []
    mend(credit_pair, finding, admin=True)
    try:
        the(ask(credit_pair, WAL2JSON), (BREAKS, "source", "output_plugin_libraries", "may not be"))
    finally:
        run_sql(credit_pair.source_admin_dsn, "revoke pg_read_all_settings from app_source")


def test_a_plugin_that_is_not_allowed_ends_init(credit_pair: Pair) -> None:
    """Where the check may not know: exit 78, and what to set."""
    for command in (("init",), ("run", "--until-current"), ("slot", "create")):
        result = run_cdc(replace(credit_pair, plugin="wal2json"), *command)
        assert result.returncode == 78, result.stderr
        assert "does not allow the output plugin wal2json" in result.stderr
        assert "set output_plugin_libraries = pgoutput, test_decoding, wal2json;" in result.stderr


def test_a_plugin_that_is_not_installed_ends_init(own_source: Pair) -> None:
    """Allowed, and not there: exit 78 instead of one try after the other."""
    (finding,) = broken(ask(own_source, WAL2JSON))
    mend(own_source, finding)
    for command in (("init",), ("run", "--until-current"), ("slot", "create")):
        result = run_cdc(own_source, *command)
        assert result.returncode == 78, result.stderr
        assert "wal2json is not installed on the source" in result.stderr


def test_a_slot_of_the_other_plugin_is_somebody_elses(credit_pair: Pair) -> None:
    """A copy that began with pgoutput does not go on with wal2json; `lag` does not look into it."""
    assert run_cdc(credit_pair, "init").returncode == 0
    other = replace(credit_pair, plugin="wal2json")
    problem = "decodes with pgoutput, not with wal2json"
    the(ask(other, WAL2JSON), (BREAKS, "source", f"slot {other.slot}", problem))
    result = run_cdc(other, "run", "--until-current")
    assert result.returncode == 78
    assert problem in result.stderr
    with psycopg.connect(other.source_dsn) as source:
        source.execute("select pg_logical_emit_message(true, 'x', 'y')")
    assert run_cdc(other, "lag").returncode == 0

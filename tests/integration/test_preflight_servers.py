"""The preflight of the servers' settings, and of what the roles on both sides may do."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from cdc.demo.installation import find_embedded
from cdc.demo.server import Server, ServerGroup, ServerSettings
from tests.pair import CREDIT_SCHEMA, SUPABASE_EXTRAS, Pair, load
from tests.preflight import (
    BREAKS,
    WARNS,
    Expected,
    ask,
    broken,
    find_and_mend,
    init,
    matching,
    mend,
    run_sql,
    the,
)

Move = Callable[[Pair, ServerSettings], Pair]


@pytest.fixture
def move_source() -> Iterator[Move]:
    """Give a function that moves a pair's source to a server with settings of its own."""
    with ServerGroup(find_embedded()) as group:

        def move(pair: Pair, settings: ServerSettings) -> Pair:
            server = group.start("source", settings)
            load(server.conninfo(), CREDIT_SCHEMA)
            dsn = server.conninfo()
            return replace(pair, source=server, source_dsn=dsn, source_admin_dsn=dsn)

        yield move


def restart(pair: Pair) -> None:
    """Restart a source that is the test's own, after a setting that asks for it."""
    assert isinstance(pair.source, Server)
    pair.source.restart()


def plain_role(pair: Pair, side: str, attributes: str) -> Pair:
    """Give the pair with a new role on one side, with these attributes and no privileges."""
    role = f"{pair.slot}_plain"
    if side == "source":
        run_sql(pair.source_admin_dsn, f"create role {role} login {attributes}")
        return replace(pair, source_dsn=pair.source.conninfo(pair.slot, role))
    run_sql(pair.target_admin_dsn, f"create role {role} login {attributes}")
    return replace(pair, target_dsn=pair.target.conninfo(pair.slot, role))


def mend_all(pair: Pair) -> None:
    """Run the mends of all that breaks, as an administrator."""
    for finding in broken(ask(pair)):
        mend(pair, finding, admin=True)
    assert broken(ask(pair)) == []


# Server settings


def test_wal_level_is_mended_by_the_setting(credit_pair: Pair, move_source: Move) -> None:
    """A source that does not write logical WAL is found; the setting and a restart mend it."""
    moved = move_source(credit_pair, [("wal_level", "replica")])
    mend(moved, the(ask(moved), (BREAKS, "source", "wal_level", "is replica")))
    restart(moved)
    assert broken(ask(moved)) == []


def test_slots_that_are_all_taken_are_found(credit_pair: Pair, move_source: Move) -> None:
    """Without a free slot ours cannot be made; a slot that is there already needs no other."""
    moved = move_source(credit_pair, [("wal_level", "logical"), ("max_replication_slots", "1")])
    run_sql(moved.source_dsn, "select pg_create_logical_replication_slot('taken', 'pgoutput')")
    finding = the(ask(moved), (BREAKS, "source", "max_replication_slots", "is 1"))
    assert matching(ask(moved, {"CDC_SOURCE_SLOT": "taken"}), "max_replication_slots", "") == []
    mend(moved, finding)
    restart(moved)
    assert broken(ask(moved)) == []


def test_walsenders_that_are_all_taken_are_found(credit_pair: Pair, move_source: Move) -> None:
    """Without a free walsender no stream can start."""
    moved = move_source(credit_pair, [("wal_level", "logical"), ("max_wal_senders", "1")])
    with psycopg.connect(moved.source_dsn, replication="true", autocommit=True) as other:
        other.execute("IDENTIFY_SYSTEM")
        finding = the(ask(moved), (BREAKS, "source", "max_wal_senders", "is 1"))
    mend(moved, finding)
    restart(moved)
    with psycopg.connect(moved.source_dsn, replication="true", autocommit=True) as other:
        other.execute("IDENTIFY_SYSTEM")
        assert broken(ask(moved)) == []


def test_a_slot_that_runs_out_of_wal_is_a_warning_and_a_lost_one_breaks(
    credit_pair: Pair, move_source: Move
) -> None:
    """Near max_slot_wal_keep_size there is a warning; past it only a new copy helps."""
    limits = [("max_slot_wal_keep_size", "96MB"), ("max_wal_size", "64MB")]
    moved = move_source(credit_pair, [("wal_level", "logical"), *limits])
    init(moved)
    assert ask(moved) == []
    slot = f"slot {moved.slot}"
    switch = "select pg_logical_emit_message(false, 'x', 'x')\nselect pg_switch_wal()\n"
    run_sql(moved.source_dsn, switch * 6)
    find_and_mend(moved, (WARNS, "source", slot, "is lost once"))
    run_sql(moved.source_dsn, switch * 14 + "checkpoint")
    finding = the(ask(moved), (BREAKS, "source", slot, "is lost ("))
    run_sql(moved.target_dsn, finding.mend)
    init(moved)
    assert ask(moved) == []


# Roles


def test_a_role_without_replication_is_found(credit_pair: Pair) -> None:
    """A role that may not stream is found, though it may read everything."""
    plain = plain_role(credit_pair, "source", "in role app_source")
    expected: Expected = (BREAKS, "source", f"role {credit_pair.slot}_plain", "lacks REPLICATION")
    assert broken(find_and_mend(plain, expected, admin=True)) == []


def test_a_role_without_bypassrls_is_found_where_it_matters(credit_pair: Pair) -> None:
    """Row security on a table hides rows from the copy, unless the role passes it by."""
    plain = plain_role(credit_pair, "source", "replication in role pg_read_all_data")
    role = f"role {credit_pair.slot}_plain"
    assert matching(ask(plain), role, "") == []
    load(credit_pair.source_admin_dsn, SUPABASE_EXTRAS)
    expected: Expected = (BREAKS, "source", role, "lacks BYPASSRLS")
    find_and_mend(plain, expected, admin=True)


def test_a_source_role_without_privileges_is_mended_step_by_step(credit_pair: Pair) -> None:
    """A role that may do nothing but stream: each mend is a grant, or the publication itself."""
    plain = plain_role(credit_pair, "source", "replication bypassrls")
    the(ask(plain), (BREAKS, "source", "credit.offers", "lacks select, usage of its schema"))
    publication = f"publication {credit_pair.publication}"
    the(ask(plain), (BREAKS, "source", publication, "may not create it"))
    mend_all(plain)


def test_a_target_role_without_privileges_is_mended_step_by_step(credit_pair: Pair) -> None:
    """A role that owns nothing needs grants, and the owner to disable the triggers."""
    run_sql(
        credit_pair.target_admin_dsn, f"revoke temporary on database {credit_pair.slot} from public"
    )
    plain = plain_role(credit_pair, "target", "")
    found = ask(plain)
    lacks = "lacks select, insert, update, delete, truncate, usage of its schema"
    the(found, (BREAKS, "target", "credit.offers", lacks))
    the(found, (BREAKS, "target", "credit.offers", "offers_set_updated_at; its owner app_target"))
    the(found, (BREAKS, "target", "credit.transactions.id", "its owner app_target"))
    the(found, (BREAKS, "target", f"database {credit_pair.slot}", "may not create the schema cdc"))
    the(found, (BREAKS, "target", f"database {credit_pair.slot}", "temporary tables"))
    mend_all(plain)
    init(plain)
    assert broken(ask(plain)) == []


def test_read_only_sessions_on_the_target_are_found(credit_pair: Pair) -> None:
    """A target that the operator has closed for writing is found before the copy fails."""
    name = credit_pair.slot
    run_sql(credit_pair.target_dsn, f"alter database {name} set default_transaction_read_only = on")
    finding = the(ask(credit_pair), (BREAKS, "target", "role app_target", "read-only sessions"))
    # Even this statement needs a session that may write.
    dsn = f"{credit_pair.target_admin_dsn} options='-c default_transaction_read_only=off'"
    run_sql(dsn, finding.mend)
    assert broken(ask(credit_pair)) == []


def test_a_question_that_may_not_be_asked_is_a_warning(credit_pair: Pair) -> None:
    """Where the server's identity is closed to the role, that is said, and nothing else fails."""
    init(credit_pair)
    revoke = "revoke execute on function pg_control_system() from public"
    run_sql(credit_pair.source_admin_dsn, revoke)
    expected: Expected = (WARNS, "source", "system identifier", "may not be read")
    assert find_and_mend(credit_pair, expected, admin=True) == []


def test_bookkeeping_that_may_not_be_read_is_a_warning(credit_pair: Pair) -> None:
    """Without the checkpoint nothing is said of the slot; that it cannot be written breaks."""
    init(credit_pair)
    plain = plain_role(credit_pair, "target", "")
    found = ask(plain)
    assert matching(found, f"slot {credit_pair.slot}", "") == []
    the(found, (BREAKS, "target", "schema cdc", "may not write"))
    after = find_and_mend(plain, (WARNS, "target", "schema cdc", "may not be read"), admin=True)
    assert matching(after, "schema cdc", "") == []

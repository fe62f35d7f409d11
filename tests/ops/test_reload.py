"""SIGHUP: the daemon goes on with what cdc.toml says now, and loses or doubles no change by it.

All settings stand in the file, secrets too, as they do in the credentials of a service: what the
environment says could not change.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from psycopg.conninfo import make_conninfo

from cdc.demo.server import Server, free_port
from tests.accounts import INSERT, SCHEMA, locked, rows, writing
from tests.databases import fetch, migrate, run_sql, wait_until, waits_for_lock
from tests.pair import Pair, execute, same_rows
from tests.process import STREAMING, Daemon, all_copied, drain, environment, spawn_cdc
from tests.servers import TARGET_ROLE, Versions, require_wal2json, stoppable

# Without a key, a change that comes twice is a row more.
KEYLESS = SCHEMA + (
    "create table credit.booking (account int, amount int);"
    "alter table credit.booking replica identity full;"
)
TARGET_AWAY = "the target is away"
READ = ("going on with other settings", "no setting has changed", "the settings stay as they were")

Sections = dict[str, dict[str, object]]

BOOKING = "insert into credit.booking select %s, 1"


@dataclass(slots=True)
class Service:
    """A daemon and its file."""

    pair: Pair
    sections: Sections
    env: dict[str, str | None]
    daemons: list[Daemon] = field(default_factory=list)

    @property
    def daemon(self) -> Daemon:
        """The daemon that runs."""
        return self.daemons[-1]

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.daemon.log()

    @property
    def streams(self) -> int:
        """Streams that were started so far."""
        return self.log.count(STREAMING)

    def write(self, **changes: dict[str, object]) -> None:
        """Write the file, with other values in some sections."""
        for section, values in changes.items():
            self.sections.setdefault(section, {}).update(values)
        self.pair.settings.write_text(toml(self.sections))

    def reload(self) -> None:
        """Have it read the file, and wait until it has."""
        before = self._read()
        self.daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self._read() > before)

    def change(self, **changes: dict[str, object]) -> None:
        """Write the file, have it read, and wait for the stream that begins."""
        before = self.streams
        self.write(**changes)
        self.reload()
        wait_until(lambda: self.streams > before)

    def _read(self) -> int:
        return sum(self.log.count(said) for said in READ)

    @contextmanager
    def running(self) -> Iterator["Service"]:
        """Run the daemon, past its initial copy."""
        with self.started():
            self.daemon.wait_for_log(STREAMING)
            wait_until(lambda: all_copied(self.pair), 60)
            yield self

    @contextmanager
    def started(self, script: str | None = None) -> Iterator["Service"]:
        """Run the daemon, or Python in place of it."""
        self.write()
        with spawn_cdc(self.pair, "run", env=self.env, script=script) as daemon:
            self.daemons.append(daemon)
            yield self


def toml(sections: Sections) -> str:
    """Give sections as TOML: strings, numbers and lists are written as in JSON."""
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


@pytest.fixture
def service(pair: Pair) -> Service:
    """Two tables, one without a key, and a daemon that takes all its settings from the file."""
    migrate(pair, KEYLESS)
    sections: Sections = {
        "source": {"dsn": pair.source_dsn, "slot": pair.slot, "publication": pair.publication},
        "target": {"dsn": pair.target_dsn},
        "state": {"dir": str(pair.state_dir)},
        "http": {"listen": ""},
    }
    given = [name for name in environment(pair) if name.startswith("CDC_")]
    env: dict[str, str | None] = dict.fromkeys(given)
    return Service(pair, sections, env | {"CDC_CONFIG": str(pair.settings)})


def test_settings_change_under_load(service: Service) -> None:
    """Again and again, each in a stream of its own; in the end all rows are equal, none twice."""
    changes: list[Sections] = [
        {"apply": {"max_rows": 10}},
        {"apply": {"flush_interval": 1}},
        {"apply": {"flush_interval": 0, "max_bytes": 1 << 16}},
        {'tables."credit.account"': {"truncate": "halt"}},
        {"target": {"idle_disconnect": 1}, "snapshot": {"workers": 1}},
        {"source": {"on_slot_lost": "resync"}},
        {"spool": {"max_bytes": 1 << 24}},
        {"apply": {"max_rows": 1000}},
    ]
    with writing(service.pair, BOOKING), service.running():
        for change in changes:
            before = rows(service.pair)
            wait_until(lambda: rows(service.pair) > before)  # noqa: B023
            service.change(**change)
        before = rows(service.pair)
        wait_until(lambda: rows(service.pair) > before)
        assert service.daemon.terminate() == 0, service.log
    drain(service.pair)
    same_rows(service.pair)
    assert '"settings":["apply.max_rows"]' in service.log
    assert '"settings":["tables"]' in service.log
    assert '"level":"error"' not in service.log


def test_a_policy_takes_effect(service: Service) -> None:
    """A delete after the reload is ignored as the file says, one before was not."""
    pair = service.pair
    run_sql(pair.source_dsn, INSERT, 1, 3)
    with service.running():
        run_sql(pair.source_dsn, "delete from credit.account where id = 1")
        wait_until(lambda: rows(pair) == 2)
        ignoring: Sections = {'tables."credit.account"': {"deletes": "ignore"}}
        service.change(**ignoring)
        run_sql(pair.source_dsn, "delete from credit.account where id = 2")
        run_sql(pair.source_dsn, INSERT, 4, 4)
        wait_until(lambda: rows(pair) == 3)
    assert fetch(pair.target_dsn, "select id from credit.account order by 1") == [2, 3, 4]


def test_bursts_begin_and_end(service: Service) -> None:
    """apply.flush_interval holds from the reload on; what was gathered is not lost."""
    pair = service.pair
    with service.running():
        service.change(apply={"flush_interval": 3600})
        (before,) = fetch(pair.source_dsn, "select pg_current_wal_lsn()::text")
        run_sql(pair.source_dsn, INSERT, 1, 10)
        received = (
            "select sent_lsn > %s::pg_lsn from pg_stat_replication r join pg_replication_slots s"
            " on s.active_pid = r.pid where slot_name = %s"
        )
        wait_until(lambda: fetch(pair.source_admin_dsn, received, before, pair.slot) == [True])
        assert rows(pair) == 0
        service.change(apply={"flush_interval": 0})
        wait_until(lambda: rows(pair) == 10)


def test_what_only_tells_needs_no_new_stream(service: Service) -> None:
    """http.max_lag holds at once, and Neon is not woken for it."""
    pair, port = service.pair, free_port()

    def ready() -> int:
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
                return int(answer.status)
        except HTTPError as refusal:
            return refusal.code

    service.write(http={"listen": f"127.0.0.1:{port}", "max_lag": 3600})
    with service.running():
        with locked(pair.target_admin_dsn):
            run_sql(pair.source_dsn, INSERT, 1, 10)
            wait_until(lambda: waits_for_lock(pair.target_admin_dsn))
            assert ready() == 200
            service.write(http={"max_lag": 0.01})
            service.reload()
            wait_until(lambda: ready() == 503)
        wait_until(lambda: rows(pair) == 10)
        run_sql(pair.source_dsn, INSERT, 11, 20)
        wait_until(lambda: rows(pair) == 20)
        assert service.streams == 1


def test_nothing_has_changed(service: Service) -> None:
    """Then the stream goes on as it is."""
    with service.running():
        service.reload()
        assert "no setting has changed" in service.log
        run_sql(service.pair.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(service.pair) == 10)
        assert service.streams == 1


BROKEN = {
    "no TOML": "[source\n",
    "a name that does not exist": '[source]\nslots = "x"\n',
    "a value out of its range": "[apply]\nmax_rows = 0\n",
    "no DSN": '[source]\nslot = "x"\n',
    "a DSN that cannot be read": '[source]\ndsn = "host=\'"\n[target]\ndsn = "host=\'"\n',
    "a secret": '[source]\ndsn = ["hunter2"]\n',
}


@pytest.mark.parametrize("text", [*BROKEN.values(), None], ids=[*BROKEN, "no file"])
def test_a_broken_file_changes_nothing(service: Service, text: str | None) -> None:
    """The daemon says what is wrong with it, goes on, and takes the next one that is right."""
    pair = service.pair
    with service.running():
        if text is None:
            pair.settings.unlink()
        else:
            pair.settings.write_text(text)
        service.reload()
        assert "the settings stay as they were" in service.log
        assert "hunter2" not in service.log
        run_sql(pair.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(pair) == 10)
        assert service.streams == 1
        service.change(apply={"max_rows": 10})
        assert service.daemon.terminate() == 0, service.log


@pytest.mark.parametrize("versions", [Versions(15, 18)], indirect=True, ids=str)
def test_what_contradicts_what_stays_is_refused(service: Service) -> None:
    """A spool needs pgoutput, and the plugin stays what it was: by the file alone all were well."""
    require_wal2json(service.pair.source)
    service.write(source={"plugin": "wal2json"})
    with service.running():
        service.write(source={"plugin": "pgoutput"}, spool={"max_bytes": 1 << 24})
        service.reload()
        assert "the spool needs the output plugin pgoutput" in service.log
        run_sql(service.pair.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(service.pair) == 10)
        assert service.streams == 1


def test_what_needs_a_restart_is_named(service: Service) -> None:
    """It stays as it was, whatever else the file changes."""
    pair, token = service.pair, "sixteen characters"
    with service.running():
        service.write(
            source={"slot": "another", "plugin": "wal2json"},
            state={"dir": str(pair.state_dir / "another")},
            http={"listen": "127.0.0.1:1", "token": token},
        )
        service.reload()
        (said,) = [line for line in service.log.splitlines() if "needs a restart" in line]
        assert json.loads(said)["settings"] == [
            "source.slot",
            "source.plugin",
            "state.dir",
            "http.listen",
            "http.token",
        ]
        assert token not in service.log
        assert service.streams == 1
        service.change(apply={"max_rows": 10})
        run_sql(pair.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(pair) == 10)


@contextmanager
def asking_for_passwords(server: Server, database: str, role: str) -> Iterator[None]:
    """Let the server ask a role for its password, in one database."""
    hba = server.data_dir / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text(f"host {database} {role} all scram-sha-256\n{before}")
    execute(server, "select pg_reload_conf()")
    try:
        yield
    finally:
        hba.write_text(before)
        execute(server, "select pg_reload_conf()")


CUT_TARGET = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    f" where datname = current_database() and usename = '{TARGET_ROLE}'"
)


def test_another_password(service: Service) -> None:
    """Changed on the target, then in the file: what the old one fails at meanwhile ends nothing."""
    pair = service.pair
    target = stoppable(pair.target)
    execute(target, f"alter role {TARGET_ROLE} password 'first'")
    with asking_for_passwords(target, pair.slot, TARGET_ROLE):
        service.write(target={"dsn": make_conninfo(pair.target_dsn, password="first")})
        with service.running():
            with locked(pair.target_admin_dsn):
                run_sql(pair.source_dsn, INSERT, 1, 10)
                wait_until(lambda: waits_for_lock(pair.target_admin_dsn))
                execute(target, f"alter role {TARGET_ROLE} password 'second'")
                service.write(target={"dsn": make_conninfo(pair.target_dsn, password="second")})
                service.reload()
                run_sql(pair.target_admin_dsn, CUT_TARGET)
                service.daemon.wait_for_log("trying again")
            wait_until(lambda: service.streams == 2)
            query = "select count(*) from credit.account"
            wait_until(lambda: fetch(pair.target_admin_dsn, query) == [10])
            assert service.daemon.terminate() == 0, service.log
    assert "password=" not in service.log


def test_while_the_target_is_away(service: Service) -> None:
    """The batch that waits for the target comes again, once."""
    pair = service.pair
    with service.running():
        stoppable(pair.target).stop()
        run_sql(pair.source_dsn, INSERT, 1, 10)
        run_sql(pair.source_dsn, "insert into credit.booking values (1, 1)")
        service.daemon.wait_for_log(TARGET_AWAY)
        service.write(apply={"max_rows": 10})
        service.reload()
        stoppable(pair.target).start()
        wait_until(lambda: rows(pair) == 10, 60)
        assert service.daemon.terminate() == 0, service.log
    drain(pair)
    assert same_rows(pair) == {"account": 10, "booking": 1}


def test_while_the_source_is_away(service: Service) -> None:
    """The daemon goes on trying, with what the file says now."""
    pair = service.pair
    with service.running():
        run_sql(pair.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(pair) == 10)
        stoppable(pair.source).stop()
        service.daemon.wait_for_log("trying again")
        service.write(apply={"max_rows": 10})
        service.reload()
        stoppable(pair.source).start()
        run_sql(pair.source_dsn, INSERT, 11, 20)
        wait_until(lambda: rows(pair) == 20, 60)
        assert service.daemon.terminate() == 0, service.log
    same_rows(pair)


def test_before_there_is_a_stream(service: Service) -> None:
    """A DSN that leads nowhere is mended without a restart."""
    pair = service.pair
    nowhere = make_conninfo(pair.target_dsn, port=free_port())
    service.write(target={"dsn": nowhere})
    with service.started():
        wait_until(lambda: service.log.count("trying again") >= 2)
        service.change(target={"dsn": pair.target_dsn})
        run_sql(pair.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(pair) == 10)


def test_a_reload_ends_the_waiting(service: Service) -> None:
    """Who waits for the next try tries at once: here the first wait were a quarter of an hour."""
    pair = service.pair
    patient = (
        "import cdc.backoff as b; b.FIRST_DELAY_S = b.LONGEST_DELAY_S = 1800;"
        "from cdc.cli import main; main()"
    )
    service.write(target={"dsn": make_conninfo(pair.target_dsn, port=free_port())})
    with service.started(patient):
        service.daemon.wait_for_log("trying again")
        service.change(target={"dsn": pair.target_dsn})
        run_sql(pair.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(pair) == 10)


def test_a_daemon_that_stops_reads_nothing(service: Service) -> None:
    """It has been told to end, and does."""
    pair = service.pair
    with service.running():
        with locked(pair.target_admin_dsn):
            run_sql(pair.source_dsn, INSERT, 1, 10)
            wait_until(lambda: waits_for_lock(pair.target_admin_dsn))
            service.write(apply={"max_rows": 10})
            service.daemon.process.send_signal(signal.SIGTERM)
            service.daemon.process.send_signal(signal.SIGHUP)
        assert service.daemon.process.wait(30) == 0, service.log
        assert not any(said in service.log for said in READ)
    drain(pair)
    same_rows(pair)


def test_while_tables_are_copied(service: Service) -> None:
    """The copy goes on where it was, in the stream that begins."""
    pair = service.pair
    run_sql(pair.source_dsn, INSERT, 1, 20000)
    service.write(snapshot={"chunk_bytes": 1 << 16})
    with service.started():
        with locked(pair.target_admin_dsn):
            wait_until(lambda: waits_for_lock(pair.target_admin_dsn))
            run_sql(pair.source_dsn, INSERT, 20001, 20010)
            service.write(apply={"max_rows": 10})
            service.reload()
        wait_until(lambda: service.streams == 2)
        wait_until(lambda: all_copied(pair), 60)
        wait_until(lambda: rows(pair) == 20010)
        assert service.daemon.terminate() == 0, service.log
    same_rows(pair)


def test_many_reloads_at_once(service: Service) -> None:
    """However fast the signals come, the last file holds, and the daemon lives."""
    pair = service.pair
    with writing(pair, BOOKING), service.running():
        for n in range(1, 30):
            service.write(apply={"max_rows": n})
            service.daemon.process.send_signal(signal.SIGHUP)
        service.change(apply={"max_rows": 1000})
        before = rows(pair)
        wait_until(lambda: rows(pair) > before)
        assert service.daemon.terminate() == 0, service.log
    drain(pair)
    same_rows(pair)

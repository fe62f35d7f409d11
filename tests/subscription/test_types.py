"""Every type's values arrive as the text that the source's own output function writes."""

from collections.abc import Callable

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.databases import fetch
from tests.literals import TYPES, literal, literals
from tests.oracle import make_trio, run
from tests.pair import Pair, execute
from tests.servers import on_every_version


@on_every_version
def test_values_of_every_type(pair: Pair) -> None:
    """Inserted, updated and deleted again: the text on the target is the text on the source."""
    kinds = dict(enumerate(literals(pair).items()))
    columns = ", ".join(f"c{n} {kind}" for n, (kind, _) in kinds.items())
    with make_trio(pair, *TYPES, f"create table credit.t (id int primary key, {columns})") as trio:
        key = 0
        for n, (_, values) in kinds.items():
            for value in values:
                key += 1
                trio.change(f"insert into credit.t (id, c{n}) values ({key}, {literal(value)})")
        trio.change("insert into credit.t (id) values (0)")
        counts = trio.compare()
        assert counts == {"credit.t": key + 1}
        # Every row gets every value that stands beside it, so that rows without NULLs travel too.
        first = ", ".join(f"c{n} = {literal(values[0])}" for n, (_, values) in kinds.items())
        trio.change(f"update credit.t set {first}")
        trio.change("delete from credit.t where id % 2 = 0")
        trio.compare()


# Of extensions, where both servers have them.
EXTENSIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "hstore": {"hstore": ("", '"a"=>"1", "b"=>NULL, "c \\"q\\""=>"\\\\"'), "hstore[]": ("{NULL}",)},
    "citext": {"citext": ("", "MiXed é"), "citext[]": ('{A,"b c"}',)},
    "ltree": {"ltree": ("", "Top.Science.A_1"), "lquery": ("*.a|b@*.!c{1,2}",)},
    "cube": {"cube": ("(1.5, -0), (NaN, 2)",)},
    "isn": {"isbn13": ("978-0-11-000533-1",), "ean13": ("0220356483481",)},
    "seg": {"seg": ("1.0 .. 2.50", "~5.0")},
    "vector": {"vector(3)": ("[1,2.5,-3e-7]",)},
    "postgis": {"geometry": ("POINT(1 2)",)},
}


def test_values_of_extensions_types(pair: Pair) -> None:
    """Types whose oids differ from server to server."""
    extensions = [name for name in EXTENSIONS if all(map(has_extension(name), dsns(pair)))]
    assert "hstore" in extensions, "the servers of these tests have contrib"
    kinds = dict(enumerate(kind for name in extensions for kind in EXTENSIONS[name].items()))
    columns = ", ".join(f"c{n} public.{kind}" for n, (kind, _) in kinds.items())
    # In another order on the copies, so that an oid that travelled would be another type's.
    make = [f"create extension if not exists {name} schema public cascade" for name in extensions]
    run(pair.source_admin_dsn, *make)
    run(pair.target_admin_dsn, *reversed(make))
    table = f"create table credit.t (id int primary key, {columns})"
    with make_trio(pair, *make, table, copies=[*reversed(make), table]) as trio:
        for n, (_, values) in kinds.items():
            for value in values:
                trio.change(
                    f"insert into credit.t (id, c{n}) select count(*), {literal(value)}"
                    " from credit.t"
                )
        first = ", ".join(f"c{n} = {literal(values[0])}" for n, (_, values) in kinds.items())
        assert trio.compare()["credit.t"] > 0
        trio.change(f"update credit.t set {first} where id % 2 = 0")
        trio.compare()


# What a database or a role may have been given, and what would then change texts.
SETTINGS = {
    "datestyle": "SQL, DMY",
    "intervalstyle": "iso_8601",
    "timezone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "xmlbinary": "hex",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    "search_path": "nowhere",
    "row_security": "on",
    "check_function_bodies": "off",
    "client_min_messages": "debug1",
}


@on_every_version
def test_settings_of_databases_and_roles(pair: Pair) -> None:
    """Whatever either side's are, values arrive as they are."""
    sides = ((pair.source, pair.source_dsn), (pair.target, pair.target_dsn))
    for server, dsn in sides:
        user = conninfo_to_dict(dsn)["user"]
        for name, value in SETTINGS.items():
            execute(server, f"alter role {user} in database {pair.slot} set {name} = '{value}'")
    with make_trio(
        pair,
        "create table credit.t (id int primary key, d date, s timestamptz, i interval, b bytea,"
        " f float8, r real, a int[], t text, n numeric)",
    ) as trio:
        trio.change(
            "set local array_nulls = on; set local datestyle = iso;"
            "insert into credit.t select n, date '2026-02-01' + n,"
            " timestamptz '2026-02-01 01:02:03.000004+00' + n * interval '1 day 01:01:01.5',"
            " n * interval '-1 mon 2 days -03:00:00.1',"
            " decode('00ff5c27' || lpad(to_hex(n), 2, '0'), 'hex'), 0.1::float8 + n / 3.0,"
            " 1e-7::real / n, array[n, null], 'back' || chr(92) || n, n / 7.0"
            " from generate_series(1, 60) n"
        )
        trio.change("update credit.t set f = f + 1e-12, t = t || chr(92) where id > 30")
        trio.change("update credit.t set id = -id where id < 10")
        trio.compare()


@pytest.mark.parametrize(
    "name",
    [
        *("plain", "Mixed Case", "select", "with.dot", 'with "quotes"', "it's", "back\\slash"),
        *("per%cent", "$1", "{brace}", "n" * 63, "naïve 🏦", "cdc op", " "),
    ],
)
def test_names_that_need_quotes(pair: Pair, name: str) -> None:
    """Tables and columns of any name."""
    quoted = '"' + name.replace('"', '""') + '"'
    with make_trio(
        pair, f'create table credit.{quoted} ({quoted} int primary key, "b" text, c jsonb)'
    ) as trio:
        trio.change(
            f"insert into credit.{quoted} select n, n, '{{}}' from generate_series(1, 99) n"
        )
        trio.change(f"update credit.{quoted} set b = 'x' where {quoted} > 30")
        trio.change(f"update credit.{quoted} set {quoted} = -1 where {quoted} = 1")
        trio.change(f"delete from credit.{quoted} where {quoted} > 60")
        trio.compare()


def dsns(pair: Pair) -> tuple[str, str]:
    """Give both servers' connection strings."""
    return pair.source_dsn, pair.target_dsn


def has_extension(name: str) -> Callable[[str], bool]:
    """Give what tells whether a server can create an extension."""
    query = "select count(*) from pg_available_extensions where name = %s"
    return lambda dsn: fetch(dsn, query, name) == [1]

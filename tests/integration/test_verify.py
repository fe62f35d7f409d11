"""The comparison of two quiet databases: what counts as the same row, and what as a difference."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.assure.verify.comparison import Report, TableComparison
from cdc.assure.verify.quiet import compare
from cdc.errors import CheckFailed
from cdc.postgres.session import connect
from tests.pair import Pair, make_pair
from tests.servers import SessionServers, Versions, on_every_version

TABLE = "create table credit.t (id int primary key, value text)"

DRAWN_ROWS = st.tuples(st.integers(0, 9), st.sampled_from([None, "", "a", "b", "\\N", "\t"]))


@pytest.fixture(scope="module")
def shared_pair(
    servers: SessionServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Give one pair to all tests here: they differ in a table of one or two rows."""
    with make_pair(servers, Versions(), tmp_path_factory.mktemp("state"), credit=False) as made:
        yield made


@pytest.fixture
def quiet_pair(shared_pair: Pair) -> Pair:
    """Give the pair without the schema that the test before made."""
    for dsn in (shared_pair.source_dsn, shared_pair.target_dsn):
        write(dsn, "drop schema if exists credit cascade")
    return shared_pair


def write(dsn: str, *statements: str) -> None:
    """Run statements on one side."""
    with psycopg.connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement)


def write_both(pair: Pair, *statements: str) -> None:
    """Run statements on both sides, in a schema that is made first."""
    for dsn in (pair.source_dsn, pair.target_dsn):
        write(dsn, "create schema if not exists credit", *statements)


async def compare_pair(
    pair: Pair, schema: str = "credit", report: Report = lambda *_: None
) -> dict[str, TableComparison]:
    """Compare a schema of the pair."""
    async with await connect(pair.source_dsn) as source, await connect(pair.target_dsn) as target:
        return await compare(source, target, [schema], report)


async def compare_table(pair: Pair) -> TableComparison:
    """Compare the only table of the schema."""
    (comparison,) = (await compare_pair(pair)).values()
    return comparison


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("(1, 'a'), (2, 'b')", "(2, 'b'), (1, 'a')", TableComparison(2, 2)),
        ("(1, 'a'), (2, 'b')", "(2, 'b')", TableComparison(2, 1, missing=1)),
        ("(2, 'b')", "(1, 'a'), (2, 'b'), (3, 'c')", TableComparison(1, 3, extra=2)),
        ("(1, 'a'), (2, 'b')", "(1, 'a'), (2, 'B')", TableComparison(2, 2, different=1)),
        ("(1, null)", "(1, '')", TableComparison(1, 1, different=1)),
        ("(1, '\\N'), (2, null)", "(1, null), (2, '\\N')", TableComparison(2, 2, different=2)),
        ("(1, 'a'), (2, 'b')", "(2, 'b'), (3, 'a')", TableComparison(2, 2, missing=1, extra=1)),
    ],
    ids=["equal", "missing", "extra", "different", "null", "written-null", "other-key"],
)
async def test_differences_are_counted(
    quiet_pair: Pair, source: str, target: str, expected: TableComparison
) -> None:
    """A row is missing, extra, or different under its key; the order of insertion is nothing."""
    write_both(quiet_pair, TABLE)
    write(quiet_pair.source_dsn, f"insert into credit.t values {source}")
    write(quiet_pair.target_dsn, f"insert into credit.t values {target}")
    assert await compare_table(quiet_pair) == expected
    assert expected.equal == (expected == TableComparison(2, 2))


@pytest.mark.parametrize(
    ("type_", "source", "target", "equal"),
    [
        ("numeric", "'NaN'", "'NaN'", True),
        ("numeric", "1.0", "1.00", False),
        ("float8", "0.1::float8 + 0.2::float8", "0.3", False),
        ("float8", "'-0'", "0", False),
        ("json", """'{"a": 1}'""", """'{"a":1}'""", False),
        ("character(3)", "'a'", "'a  '", True),
        ("timestamptz", "'2026-01-01 00:00+00'", "'2026-01-01 01:00+01'", True),
        ("text", "e'a\\tb\\n'", "e'a\\tb\\n'", True),
        ("text", "e'\\t'", "'\\t'", False),
        ("text", "'é'", "e'e\\u0301'", False),
    ],
)
async def test_values_are_compared_as_text(
    quiet_pair: Pair, type_: str, source: str, target: str, *, equal: bool
) -> None:
    """Two values are the same when the server writes them alike, to the last digit."""
    write_both(quiet_pair, f"create table credit.t (id int primary key, value {type_})")
    write(quiet_pair.source_dsn, f"insert into credit.t values (1, {source})")
    write(quiet_pair.target_dsn, f"insert into credit.t values (1, {target})")
    assert await compare_table(quiet_pair) == TableComparison(1, 1, different=int(not equal))


async def test_generated_columns_are_compared(quiet_pair: Pair) -> None:
    """A generated column that the target computes in another way is a difference."""
    for dsn, expression in ((quiet_pair.source_dsn, "id + 1"), (quiet_pair.target_dsn, "id + 2")):
        write(
            dsn,
            "create schema credit",
            "create table credit.t"
            f" (id int primary key, next int generated always as ({expression}) stored)",
            "insert into credit.t values (7)",
        )
    assert await compare_table(quiet_pair) == TableComparison(1, 1, different=1)


@pytest.mark.parametrize(
    ("type_", "keys"),
    [
        ("int", ["-1", "0", "9", "10", "100"]),
        ("text", ["'B'", "'a'", "'é'", "'東'", r"e'\t'", r"e'\n'", r"'\'", r"'\t'", r"'\N'", "''"]),
        ("boolean", ["true", "false"]),
        ("inet", ["'10.0.0.1'", "'10.0.0.1/24'", "'9.0.0.1'", "'::1'"]),
        ("character(4)", ["'a'", r"e'a\t'", "'a b'"]),
        ("numeric", ["1", "1.5", "10", "'NaN'", "-3"]),
        ("bytea", [r"'\x00'", r"'\x5c'", r"'\x'", r"'\xff'"]),
        ("text[]", ["'{}'", "'{a,b}'", """'{"a,b"}'""", "'{null}'", """'{""}'"""]),
    ],
)
async def test_keys_of_any_type_meet(quiet_pair: Pair, type_: str, keys: list[str]) -> None:
    """Whichever row the target lacks, it alone is missing: all others find their counterpart."""
    write_both(quiet_pair, f"create table credit.t (id {type_} primary key)")
    rows = len(keys)
    write(quiet_pair.source_dsn, *[f"insert into credit.t values ({key})" for key in keys])
    for lacking in keys:
        others = [f"insert into credit.t values ({key})" for key in keys if key != lacking]
        write(quiet_pair.target_dsn, "truncate credit.t", *others)
        assert await compare_table(quiet_pair) == TableComparison(rows, rows - 1, missing=1)


@pytest.mark.parametrize("versions", [Versions(15, 18)], indirect=True, ids=str)
async def test_collations_may_differ(pair: Pair) -> None:
    """Rows find each other where the two sides sort texts in different languages."""
    write_both(pair)
    with psycopg.connect(pair.source_dsn) as source:
        icu = source.execute("select 1 from pg_collation where collname = 'und-x-icu'").fetchone()
    if icu is None:
        pytest.skip("this PostgreSQL 15 has no ICU collations")
    write(pair.source_dsn, 'create table credit.t (id text collate "und-x-icu" primary key)')
    write(pair.target_dsn, "create table credit.t (id text primary key)")
    write(pair.source_dsn, "insert into credit.t values ('B'), ('a'), ('_'), ('é'), ('Z')")
    write(pair.target_dsn, "insert into credit.t values ('B'), ('a'), ('_'), ('Z')")
    assert await compare_table(pair) == TableComparison(5, 4, missing=1)


async def test_composite_keys_are_compared_part_by_part(quiet_pair: Pair) -> None:
    """The parts of a key are not run together, and stand anywhere in the row."""
    write_both(
        quiet_pair,
        "create table credit.t (value int, b text, a text, primary key (a, b))",
        "insert into credit.t"
        " values (1, 'bc', 'a'), (2, 'c', 'ab'), (3, '', 'abc'), (4, 'abc', '')",
    )
    assert await compare_table(quiet_pair) == TableComparison(4, 4)
    write(
        quiet_pair.target_dsn,
        "update credit.t set value = 0 where a = 'ab'",
        "delete from credit.t where a = 'a'",
        "insert into credit.t values (5, 'a', 'bc')",
    )
    assert await compare_table(quiet_pair) == TableComparison(4, 4, missing=1, extra=1, different=1)


async def test_replica_identity_stands_for_a_key(quiet_pair: Pair) -> None:
    """A table without a primary key is compared by the index of its replica identity."""
    write_both(
        quiet_pair,
        "create table credit.t (value int, code text not null)",
        "create unique index t_code on credit.t (code)",
        "alter table credit.t replica identity using index t_code",
        "insert into credit.t values (1, 'a'), (2, 'b')",
    )
    write(quiet_pair.target_dsn, "update credit.t set value = 3 where code = 'b'")
    assert await compare_table(quiet_pair) == TableComparison(2, 2, different=1)


async def test_rows_without_key_are_counted(quiet_pair: Pair) -> None:
    """Without any key whole rows are compared, each as often as it occurs; NULL is not ''."""
    write_both(quiet_pair, "create table credit.t (a text, b int)")
    write(
        quiet_pair.source_dsn,
        "insert into credit.t values (null, 1), ('', 1), ('x', 1), ('x', 1), ('x', 1)",
    )
    write(
        quiet_pair.target_dsn,
        "insert into credit.t values ('x', 1), ('', 1), ('', 1), ('x', 1), (e'\\t', null)",
    )
    assert await compare_table(quiet_pair) == TableComparison(5, 5, missing=2, extra=2)


async def test_a_key_that_comes_twice_is_extra(quiet_pair: Pair) -> None:
    """Where the target lacks the source's key, a row that came twice is found."""
    write_both(quiet_pair)
    write(quiet_pair.source_dsn, TABLE, "insert into credit.t values (1, 'a'), (2, 'b')")
    write(
        quiet_pair.target_dsn,
        "create table credit.t (value text, id int, more int)",
        "insert into credit.t values ('a', 1), ('a', 1), ('b', 2), ('b', null)",
    )
    assert await compare_table(quiet_pair) == TableComparison(2, 4, extra=2)


async def test_names_may_be_odd(quiet_pair: Pair) -> None:
    """Quotes, spaces, percent signs and braces in names are taken as they are."""
    schema, quoted, table = 'my "Schema"', '"my ""Schema"""', "100% {x} 'of' it"
    for dsn in (quiet_pair.source_dsn, quiet_pair.target_dsn):
        write(
            dsn,
            f"create schema {quoted}",
            f"""create table {quoted}."{table}" ("the ""key"" %s" int primary key)""",
            f"""insert into {quoted}."{table}" values (1)""",
        )
    compared = await compare_pair(quiet_pair, schema)
    assert compared == {f"{schema}.{table}": TableComparison(1, 1)}


async def test_what_is_not_on_both_sides(quiet_pair: Pair) -> None:
    """A table or column that the target lacks is refused by name; what it has beyond is nothing."""
    write_both(quiet_pair)
    with pytest.raises(CheckFailed, match="no table in credit"):
        await compare_pair(quiet_pair)
    write(quiet_pair.source_dsn, TABLE)
    with pytest.raises(CheckFailed, match=r"credit\.t is missing on the target"):
        await compare_pair(quiet_pair)
    write(quiet_pair.target_dsn, "create table credit.t (id int primary key, mine int)")
    with pytest.raises(CheckFailed, match="no column value on the target"):
        await compare_pair(quiet_pair)
    write(
        quiet_pair.target_dsn,
        "alter table credit.t add value text",
        "create table credit.mine as select 1",
    )
    assert await compare_pair(quiet_pair) == {"credit.t": TableComparison()}


@given(st.lists(DRAWN_ROWS, max_size=6), st.lists(DRAWN_ROWS, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_digests_find_what_rows_would(
    shared_pair: Pair, source: list[tuple[int, str | None]], target: list[tuple[int, str | None]]
) -> None:
    """Whatever is on the two sides: the counts are those of looking at each row."""
    for dsn, rows in ((shared_pair.source_dsn, source), (shared_pair.target_dsn, target)):
        with psycopg.connect(dsn) as connection:
            connection.execute("drop schema if exists credit cascade")
            connection.execute("create schema credit")
            connection.execute(TABLE)
            connection.cursor().executemany(
                "insert into credit.t values (%s, %s)", list(dict(rows).items())
            )
    ours, theirs = dict(source), dict(target)
    both = ours.keys() & theirs.keys()
    assert asyncio.run(compare_table(shared_pair)) == TableComparison(
        len(ours),
        len(theirs),
        missing=len(ours.keys() - both),
        extra=len(theirs.keys() - both),
        different=sum(ours[key] != theirs[key] for key in both),
    )


async def test_progress_is_reported(quiet_pair: Pair) -> None:
    """The caller hears of a table's rows while they are compared one by one, and of its end."""
    write_both(
        quiet_pair, TABLE, "insert into credit.t select n, 'x' from generate_series(1, 25000) n"
    )
    write(quiet_pair.target_dsn, "update credit.t set value = 'y'")
    heard: list[tuple[str, int]] = []
    await compare_pair(
        quiet_pair, report=lambda table, counts: heard.append((table, counts.source_rows))
    )
    assert heard == [("credit.t", 10_000), ("credit.t", 20_000), ("credit.t", 25_000)]


@on_every_version
async def test_versions_write_the_same(pair: Pair) -> None:
    """Values of many types are the same text in every pair of versions."""
    write_both(
        pair,
        """
        create table credit.t (
            id text primary key, f float8, r real, n numeric, i interval, t timestamptz, d date,
            b bytea, j jsonb, a text[], x inet, u uuid, g numrange
        )
        """,
        """
        insert into credit.t values
            ('a', 0.1::float8 + 0.2::float8, 1e-7, 'NaN', '-1 mon +2 days -03:04:05.000006',
             'infinity', '4714-11-24 BC', '\\x00ff5c', '{"b": [1.0, null], "a": "\\u6771"}',
             '{a,"b c",null,"null",""}', '10.0.0.1/8', gen_random_uuid(), '(1.50,]'),
            ('_', '-0', 'infinity', 1e300, '1 year', '2026-01-01 00:00:00.000001+05', '-infinity',
             '', 'null', '{}', '::1', null, 'empty')
        """,
        "update credit.t set u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' where id = 'a'",
    )
    assert await compare_table(pair) == TableComparison(2, 2)

"""Tables without a key, under REPLICA IDENTITY FULL: the whole old row finds the row."""

import psycopg

from tests.databases import migrate
from tests.pair import Pair, same_rows
from tests.process import drain, ok
from tests.servers import on_every_version

TABLE = """
create schema credit;
create table credit.entry (
  n numeric, f float8, t text, j json, a numeric[], b boolean, c char(5), p point
);
alter table credit.entry replica identity full;
"""

ROWS = r"""
insert into credit.entry (n, f, t, j, a, b, c, p)
select v.n, v.f, v.t, v.j, v.a, v.b, v.c, v.p
  from (values
    (1.0::numeric, 0.1::float8, 'a', '{"k": 1}'::json, '{1.0,NULL}'::numeric[], true, 'x',
     point '(1,2)'),
    (1.00, 0.1, 'a', '{"k": 1}', '{1.0,NULL}', true, 'x', '(1,2)'),
    (1.0, 'NaN', e'tab\tand\\', '{ "k": 1}', '{}', false, 'y ', '(-0,2)'),
    (null, null, null, null, null, null, null, null)
  ) v(n, f, t, j, a, b, c, p), generate_series(1, 3)
"""


@on_every_version
def test_changes_of_rows_without_a_key(pair: Pair) -> None:
    """Duplicates, NULLs, values equal but for their text, types without equality: row for row."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn) as source:
        source.execute(ROWS)
        change_one(source, "update credit.entry set t = 'changed'", "n = 1.00 and scale(n) = 2")
        change_one(source, "delete from credit.entry", "n = 1.0 and scale(n) = 1 and t = 'a'")
        change_one(source, "update credit.entry set n = 7, j = null", "t is null and n is null")
        change_one(source, "delete from credit.entry", "f = 'NaN'")
        source.execute(ROWS)
        source.execute("update credit.entry set c = 'z', a = array[1.10, null] where b")
    drain(pair)
    same_rows(pair)


def test_a_value_in_toast_that_stays(pair: Pair) -> None:
    """The old row carries the values that the statement left alone, out of line ones too."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn) as source:
        for n in (1, 2):
            source.execute(
                "insert into credit.entry (n, t) select %s::int,"
                " (select string_agg(md5(i::text), '') from generate_series(1, 2000) i)",
                (n,),
            )
    with psycopg.connect(pair.source_dsn) as source:
        source.execute("update credit.entry set f = 2 where n = 2")
        source.execute("delete from credit.entry where n = 1")
    drain(pair)
    same_rows(pair)


def change_one(source: psycopg.Connection[tuple[object, ...]], what: str, where: str) -> None:
    """Change one of the rows that a condition finds, and leave its duplicates."""
    row = f"(select ctid from credit.entry where {where} limit 1)"
    assert source.execute(f"{what} where ctid = {row}".encode()).rowcount == 1


def prepare(pair: Pair) -> None:
    """Make the table on both sides, and the pair ready to stream."""
    migrate(pair, TABLE)
    ok(pair, "init")

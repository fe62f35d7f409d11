"""Values that are stored out of line, and not sent where a statement leaves them alone."""

import pytest

from tests.oracle import make_trio
from tests.pair import Pair
from tests.servers import on_every_version

BIG = "(select string_agg(md5(i::text || {seed}), '') from generate_series(1, 300) i)"
OUT_OF_LINE = (
    "alter table credit.t alter body set storage external, alter extra set storage external"
)


def big(seed: str = "''") -> str:
    """Give an expression for a text that has to be stored out of line."""
    return BIG.format(seed=seed)


@pytest.mark.parametrize("identity", ["default", "full", "using index other"])
def test_with_and_without_the_value_earlier_in_the_batch(pair: Pair, identity: str) -> None:
    """Changed, moved to another key, deleted and inserted again, in one transaction and in many."""
    with make_trio(
        pair,
        "create table credit.t (id int primary key, n int not null, body text, extra text)",
        "create unique index other on credit.t (n)",
        OUT_OF_LINE,
        f"alter table credit.t replica identity {identity}",
    ) as trio:
        bodies = f"{big('n')}, {big('-n')}"
        trio.change(f"insert into credit.t select n, n, {bodies} from generate_series(1, 40) n")
        trio.compare()
        # Nothing of these values is in the batch.
        trio.commit_each(
            "update credit.t set n = n + 1000 where id <= 30",
            "update credit.t set id = id + 1000 where id between 10 and 20",
            "update credit.t set extra = null where id between 15 and 25",
            f"update credit.t set body = {big('id')} where id % 4 = 0",
        )
        # All of these are: inserted, or written, before they are left alone.
        trio.change(
            f"insert into credit.t values (1, 0, 'x', {big()}) on conflict (id) do nothing",
            f"insert into credit.t values (500, 500, {big()}, {big('1')})",
            "update credit.t set n = 501 where id = 500",
            "update credit.t set id = 501 where id = 500",
            "update credit.t set extra = 'short', n = 502 where id = 501",
            f"update credit.t set extra = {big('2')} where id = 501",
            "update credit.t set n = 503 where id = 501",
            "delete from credit.t where id = 2",
            f"insert into credit.t values (2, 2, {big('3')}, null)",
            "update credit.t set n = 9999 where id = 2",
            "update credit.t set id = -3, n = -3 where id = 3",
            "update credit.t set id = 3 where id = -3",
            "delete from credit.t where id = 501",
        )
        trio.compare()


@on_every_version
def test_in_a_column_of_the_key(pair: Pair) -> None:
    """The key itself is out of line: it is sent where it changed, and found where it did not."""
    with make_trio(
        pair,
        "create table credit.t (id text primary key, n int, body text, extra text)",
        OUT_OF_LINE,
        "alter table credit.t alter id set storage external",
    ) as trio:
        key = "repeat(md5(n::text), 70)"
        trio.change(
            f"insert into credit.t select {key}, n, {big('n')}, 'x' from generate_series(1, 40) n"
        )
        trio.compare()
        trio.commit_each(
            "update credit.t set n = n + 1",
            "update credit.t set id = 'short ' || n where n % 5 = 0",
            "update credit.t set body = 'short' where n % 3 = 0",
            f"update credit.t set id = {key} || '!' where n between 10 and 14",
            "delete from credit.t where n > 35",
        )
        trio.change(
            "update credit.t set extra = 'y' where n = 20",
            "update credit.t set id = id || 'z', extra = 'z' where n = 20",
            "update credit.t set n = -20 where n = 20",
        )
        trio.compare()


def test_of_every_kind_of_type(pair: Pair) -> None:
    """Arrays, json, bytea, ranges, composites and domains, whichever of them stays."""
    kinds = {
        "text[]": "array_fill({t}, array[3])",
        "jsonb": "to_jsonb({t})",
        "json": "to_json({t})",
        "bytea": "decode({t}, 'hex')",
        "credit.pair": "row(1, {t})::credit.pair",
        "credit.long": "{t}",
        "tsvector": "to_tsvector('simple', regexp_replace({t}, '(....)', '\\1 ', 'g'))",
        "numeric": "('1' || translate({t}, 'abcdef', '123456'))::numeric",
        "bit varying": "('x' || {t})::bit(9600)",
        "numrange": "numrange(0, ('1' || translate({t}, 'abcdef', '123456'))::numeric)",
    }
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(kinds))
    values = ", ".join(value.format(t=big("n")) for value in kinds.values())
    with make_trio(
        pair,
        "create type credit.pair as (n int, t text)",
        "create domain credit.long as text check (length(value) > 100)",
        f"create table credit.t (id int primary key, n int, {columns})",
    ) as trio:
        trio.change(f"insert into credit.t select n, n, {values} from generate_series(1, 40) n")
        trio.compare()
        trio.commit_each(
            "update credit.t set n = n + 1",
            "update credit.t set id = -id where id % 3 = 0",
            *(f"update credit.t set c{n} = null where id % 10 = {n}" for n in range(len(kinds))),
        )
        trio.compare()

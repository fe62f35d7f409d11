"""Keys: of every type, in the manner of 001_rep_changes.pl and its neighbours."""

from tests.literals import TYPES, literal, literals
from tests.oracle import make_trio, run
from tests.pair import Pair

# Types that have no order, so that they can be no key.
NO_KEYS = {
    *("json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle", "jsonpath"),
    *("aclitem[]", "refcursor", "xid", "pg_snapshot"),
}

# What an index takes, with room for the others.
LONGEST_KEY = 1000

# An equality that is not in pg_catalog, or that needs to be told the type.
KEYS_OF_EXTENSIONS = {
    "public.ltree": ("a.b", "a"),
    "public.citext": ("MiXed", "mixed é"),
    "public.hstore": ('"a"=>"1"', ""),
    "public.citext[]": ("{A,b}", "{}"),
    "credit.path": ("a.b", "c"),
}
KEY_TYPES = "create domain credit.path as public.ltree"


def test_keys_of_every_type(pair: Pair) -> None:
    """A row is found by its key, whatever its type: one by one, in sets, and under a new key."""
    contrib = ("ltree", "citext", "hstore")
    make = [f"create extension if not exists {name} schema public" for name in contrib]
    for dsn in (pair.source_admin_dsn, pair.target_admin_dsn):
        run(dsn, *make)
    known = {
        kind: values
        for kind, values in (literals(pair) | KEYS_OF_EXTENSIONS).items()
        if kind not in NO_KEYS and max(map(len, values)) < LONGEST_KEY
    }
    tables = {f"credit.t_{n}": kind for n, kind in enumerate(known)}
    create = [
        f"create table {table} (id {kind}, n int, v text, primary key (id, n))"
        for table, kind in tables.items()
    ]
    definitions = (*TYPES, KEY_TYPES, *create)
    with make_trio(pair, *definitions, copies=[*make, *definitions]) as trio:
        for count in (2, 30):
            for table, kind in tables.items():
                first, last = known[kind][0], known[kind][-1]
                for value in dict.fromkeys(known[kind]):
                    trio.change(
                        f"insert into {table} select {literal(value)}, {count} * 100 + n, 'v'"
                        f" from generate_series(1, {count}) n"
                    )
                trio.change(
                    f"update {table} set v = 'w'",
                    f"update {table} set n = -n where n % 5 = 1",
                    f"update {table} set id = {literal(first)}, n = n + 10000"
                    f" where id::text = {literal(last)}::{kind}::text and n % 5 = 2",
                    f"delete from {table} where n % 5 = 4",
                )
            trio.compare()


def test_keys_of_several_columns_that_go_in_a_circle(pair: Pair) -> None:
    """Two rows swap a part of their keys, three pass theirs on, inside a transaction and across."""
    with make_trio(
        pair,
        "create table credit.t (a int, b text, v int, body text, primary key (b, a))",
        "create table credit.deferred (a int, b text, v int, id int primary key,"
        " unique (a, b) deferrable initially deferred)",
    ) as trio:
        big = "(select string_agg(md5(i::text), '') from generate_series(1, 300) i)"
        trio.change(
            f"insert into credit.t select n, 'k', n, {big} from generate_series(1, 60) n",
            "insert into credit.deferred select n, 'k', n, n from generate_series(1, 60) n",
        )
        trio.change(
            "update credit.t set a = -1 where a = 1",
            "update credit.t set a = 1 where a = 2",
            "update credit.t set a = 2 where a = -1",
            "update credit.t set b = 'tmp', v = 0 where a = 10",
            "update credit.t set a = 10 where a = 11",
            "update credit.t set a = 11 where a = 12",
            "update credit.t set a = 12, b = 'k' where b = 'tmp'",
            "update credit.deferred set a = 61 - a",
            "update credit.deferred set v = v + 1 where a > 30",
        )
        trio.commit_each(
            "update credit.t set a = a + 1000",
            "update credit.t set b = 'm' where a % 3 = 0",
            "update credit.deferred set a = a % 60 + 1",
        )
        trio.change(
            "delete from credit.t where a = 1020",
            "update credit.t set a = 1020 where a = 1021",
            "insert into credit.t values (1021, 'k', 1, 'new')",
        )
        assert trio.compare() == {"credit.t": 60, "credit.deferred": 60}

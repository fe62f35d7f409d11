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

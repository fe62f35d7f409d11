"""Tables of bookings by themselves: as many as a comparison asks for, referring to nothing.

They are as credit.transactions is, with all of its indexes and without its foreign key: a copy by
psql would check that one, row for row, and be slower for it.
"""

from collections.abc import Sequence

from tests.bench.workloads import BOOKINGS


def names(count: int) -> list[str]:
    """Name so many tables."""
    return [f"credit.bookings_{n}" for n in range(1, count + 1)]


def tables(count: int) -> Sequence[str]:
    """Give the statements that make so many tables."""
    like = "(like credit.transactions including all)"
    return [f"create table {name} {like}" for name in names(count)]


def others_dropped() -> str:
    """Give the statement that drops the credit schema's own tables: these are all that is left."""
    return """
        do $$ begin
            execute (
                select 'drop table ' || string_agg(oid::regclass::text, ', ') from pg_class
                 where relnamespace = 'credit'::regnamespace and relkind = 'r'
                   and relname not like 'bookings%'
            );
        end $$
    """


def rows(count: int, of_tables: int) -> Sequence[str]:
    """Give the statements that fill them, all about the same."""
    each = count // of_tables
    return [insert(name, "1", str(each)) for name in names(of_tables)]


def insert(table: str, first: str, last: str) -> str:
    """Give the insert of the bookings with these numbers."""
    into = BOOKINGS.replace("credit.transactions", table, 1)
    return into.format(first=first, last=last)

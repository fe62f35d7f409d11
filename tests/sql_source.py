"""Operations on a real source: each is SQL that does it or, where a constraint forbids it, nothing.

A toasted value is really stored out of line. What a model does row by row is one statement here
where one can do it, so that the server's own order and its cascades are what is copied.
"""

from collections import Counter
from typing import TypeAlias

from psycopg import Connection, pq

from tests.operations import MANY, TABLES, TEMPORARY, TOASTED, Operation, Shape

Rows: TypeAlias = dict[str, Counter[str]]

# Longer than a page holds four of, and never compressed: stored as TOAST.
_BODY_BYTES = 2100

TAKE = "take"
"""Content of the logical message that marks where a batch ends."""

SCHEMA = """
create schema credit;
create table credit.single (
  id int primary key, unit int unique,
  link int references credit.single on delete cascade deferrable,
  note text, body text);
create table credit.composite (
  a int, body text, b int, note text, unit int unique deferrable,
  link int references credit.single on delete cascade on update cascade deferrable,
  primary key (a, b));
create table credit.full (
  note text, body text, id int primary key, unit int unique,
  link int references credit.single on delete set null deferrable initially deferred);
create table credit.number (note text, body text, id numeric primary key, unit int unique);
create table credit.bag (
  note text, body text, id int,
  link numeric references credit.number deferrable);
alter table credit.full replica identity full;
alter table credit.bag replica identity full;
""" + "".join(
    f"alter table credit.{shape.name} alter column {TOASTED} set storage external;\n"
    for shape in TABLES
)

# On the source alone. One round trip for a statement that may fail, and the transaction goes on.
ATTEMPT = """
create schema test;
create function test.attempt(what text) returns void language plpgsql as $$
begin
  execute what;
exception when integrity_constraint_violation or object_in_use or feature_not_supported then
end $$;
"""

_READ = " union all ".join(
    f"select '{shape.name}', format('%s', t) from credit.{shape.name} t" for shape in TABLES
)


_CLEAR = f"truncate {', '.join(f'credit.{shape.name}' for shape in TABLES)};" + "".join(
    f"alter table credit.{shape.name} replica identity {'full' if shape.is_full else 'default'};"
    for shape in TABLES
)


_LET_GO = """
update credit.full f set link = null where link is not null
   and not exists (select from credit.single where id = f.link)
"""


def read_rows(connection: Connection) -> Rows:
    """Return the rows of all tables as text, each with how often it is there."""
    rows: Rows = {shape.name: Counter() for shape in TABLES}
    for name, row in connection.execute(_READ):
        rows[name][row] += 1
    return rows


class SqlSource:
    """A connection that does what operations say, in transactions as they say."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._savepoints = 0
        self._number = 0
        self.transactions = 0
        """Number of those that were committed."""

    @property
    def in_transaction(self) -> bool:
        """A transaction is open."""
        return self._connection.info.transaction_status != pq.TransactionStatus.IDLE

    def run(self, operation: Operation) -> None:
        """Do what the operation says, as far as rows and constraints allow it."""
        self._number += 1
        match operation.kind:
            case "commit":
                self.commit()
            case "rollback":
                self._rollback(whole=operation.null)
            case "savepoint":
                self._begin()
                self._savepoints += 1
                self._connection.execute(f"savepoint s{self._savepoints}")
            case "take":
                inside = str(self.in_transaction).lower()
                self._connection.execute(
                    f"select pg_logical_emit_message({inside}, 'test', '{TAKE}')"
                )
            case _:
                if statements := self._statements(TABLES[operation.table], operation):
                    self._begin()
                    self._connection.execute("select test.attempt(%s)", (statements,))

    def clear(self) -> None:
        """Begin an example: no rows, and the replica identities of the schema."""
        self._connection.execute(_CLEAR)

    def commit(self) -> None:
        """Commit, if a transaction is open; what refers to nothing at last lets go of it."""
        if self.in_transaction:
            self._connection.execute(_LET_GO)
            self._connection.execute("commit")
            self.transactions += 1
            self._savepoints = 0

    def _begin(self) -> None:
        if not self.in_transaction:
            self._connection.execute("begin")

    def _rollback(self, *, whole: bool) -> None:
        if self._savepoints:
            self._connection.execute(f"rollback to s{self._savepoints}")
            self._connection.execute(f"release s{self._savepoints}")
            self._savepoints -= 1
        elif whole and self.in_transaction:
            self._connection.execute("rollback")

    def _statements(self, shape: Shape, operation: Operation) -> str:  # noqa: PLR0911  # one a kind
        row, other, keep = operation.row, operation.other, operation.keep
        table = f"credit.{shape.name}"
        match operation.kind:
            case "delete":
                return f"delete from {table} where {_at(shape, row)}"
            case "delete_many":
                return f"delete from {table} where {keep} or {_number(shape)} >= {MANY.start}"
            case "truncate":
                tables = {table, f"credit.{TABLES[row].name}"}
                return f"truncate {', '.join(sorted(tables))} {'cascade' if keep else ''}"
            case "trade" if "unit" in shape.columns and row != other:
                return self._trade(shape, row, other)
            case "reshape" if shape.key:
                # Whether old rows are sent whole is a part of the shape that leaves no trace.
                identity = "full" if operation.null != shape.is_full else "default"
                return f"alter table {table} replica identity {identity}"
            case "announce":
                return f"alter table {table} set (fillfactor = {50 + self._number % 50})"
        return self._writes(shape, operation)

    def _writes(self, shape: Shape, operation: Operation) -> str:  # noqa: PLR0911  # one a kind
        row, other, keep = operation.row, operation.other, operation.keep
        match operation.kind:
            case "insert":
                return self._insert(shape, operation, row, row)
            case "insert_many":
                return self._insert(shape, operation, MANY.start, MANY.stop - 1)
            case "update":
                return self._update(shape, operation, _at(shape, row))
            case "update_many":
                return self._update(shape, operation, f"{_number(shape)} >= {MANY.start}")
            case "reinsert":
                again = self._insert(shape, operation, row, row)
                return f"delete from credit.{shape.name} where {_at(shape, row)}; {again}"
            case "rekey" if shape.key:
                return self._rekey(shape, operation, row, other, keep=keep)
            case "swap" if shape.key and row != other:
                ways = ((row, TEMPORARY, keep), (other, row, keep), (TEMPORARY, other, True))
                return ";".join(
                    self._rekey(shape, operation, at, to, keep=alone) for at, to, alone in ways
                )
        return ""

    def _insert(self, shape: Shape, operation: Operation, first: int, last: int) -> str:
        values = self._values(shape, operation, "n")
        if "unit" in shape.columns:
            values["unit"] = "n"
        if "link" in shape.columns:
            values["link"] = _link(shape, operation) if operation.keep else "null"
            if shape.name == "single" and first < last:
                values["link"] = f"nullif(n - 1, {first - 1})"  # a tree by one statement
        values |= _key(shape, "n", long=operation.null)
        keys = ", ".join(shape.key)
        return (
            f"insert into credit.{shape.name} ({', '.join(values)})"
            f" select {', '.join(values.values())} from generate_series({first}, {last}) n"
            f" {f'on conflict ({keys}) do nothing' if keys else ''}"
        )

    def _values(self, shape: Shape, operation: Operation, row: str) -> dict[str, str]:
        """Values for an insert or update; without a key they repeat, so that rows are equal."""
        number = self._number if shape.key else operation.other
        body = f"rpad('body {number} ', {_BODY_BYTES}, 'x')"
        if operation.kind.endswith("_many"):
            body = f"case when {row} % 2 = 0 then {body} end"
        is_null = operation.null and shape.key
        return {"note": f"'note {number}'", TOASTED: "null" if is_null else body}

    def _update(self, shape: Shape, operation: Operation, condition: str) -> str:
        values = self._values(shape, operation, _number(shape))
        if operation.keep:
            del values[TOASTED]
        if "link" in shape.columns and operation.kind == "update":
            values["link"] = "null" if operation.null else _link(shape, operation)
        sets = ", ".join(f"{name} = {value}" for name, value in values.items())
        return f"update credit.{shape.name} set {sets} where {condition}"

    def _rekey(self, shape: Shape, operation: Operation, row: int, to: int, *, keep: bool) -> str:
        values = self._values(shape, operation, str(to)) | _key(shape, str(to), long=operation.null)
        if keep:
            del values[TOASTED]
        sets = ", ".join(f"{name} = {value}" for name, value in values.items())
        return f"update credit.{shape.name} set {sets} where {_at(shape, row)}"

    def _trade(self, shape: Shape, row: int, other: int) -> str:
        """Swap two rows' unique values: at once where the constraint can wait, else by NULL."""
        table, one, two = f"credit.{shape.name}", _at(shape, row), _at(shape, other)
        found = self._connection.execute(
            f"select sum(unit) filter (where {one}), sum(unit) filter (where {two}), count(*)"
            f" from {table} where {one} or {two}"
        ).fetchone()
        assert found is not None
        unit, unit_of_other = ("null" if value is None else str(value) for value in found[:2])
        if found[2] != 2:
            return ""
        if shape.name == "composite":
            swapped = f"case when {one} then {unit_of_other}::int else {unit} end"
            return f"update {table} set unit = {swapped} where {one} or {two}"
        return (
            f"update {table} set unit = null where {one};"
            f" update {table} set unit = {unit} where {two};"
            f" update {table} set unit = {unit_of_other} where {one}"
        )


def _number(shape: Shape) -> str:
    """The number of a row, by its key."""
    return {"composite": "(a * 2 + b)", "number": "trunc(id)"}.get(shape.name, "id")


def _at(shape: Shape, row: int) -> str:
    """The condition for one row: where there is no key, not the one that is found first."""
    if shape.key:
        return f"{_number(shape)} = {row}"
    return f"ctid = (select max(ctid) from credit.{shape.name} where id = {row})"


def _link(shape: Shape, operation: Operation) -> str:
    """The row that is referred to; in the bag, written in one way or another."""
    if shape.name == "bag":
        return f"{operation.other}::numeric(6, {1 + (operation.null or not operation.keep)})"
    return str(operation.other)


def _key(shape: Shape, row: str, *, long: bool) -> dict[str, str]:
    match shape.name:
        case "composite":
            return {"a": f"{row} / 2", "b": f"{row} % 2"}
        case "number":
            return {"id": f"{row}::numeric(6, {2 if long else 1})"}
    return {"id": row}

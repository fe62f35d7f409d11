"""Lines as wal2json, format version 2, writes them with the options that we ask for.

Written from its README and from what 2.5 was seen to send, for tests alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cdc.wire.layout import Shape, ShapeColumn
from cdc.wire.messages import Value

STAMP = "2026-11-27 05:55:06.35782+00"
STAMP_US = 849_074_106_357_820

BOOLEAN, BYTEA, INTEGER, TEXT, NUMERIC = 16, 17, 23, 25, 1700
BARE = {20, 21, INTEGER, 26, 700, 701, NUMERIC}
NAMES = {BOOLEAN: "boolean", BYTEA: "bytea", INTEGER: "integer", TEXT: "text", NUMERIC: "numeric"}


@dataclass(frozen=True, slots=True)
class Sent:
    """A column of a line; its value as the text that the output function writes."""

    name: str
    value: Value
    oid: int = TEXT
    number: int = 1
    type: str = ""

    def encode(self, *, with_position: bool = True) -> str:
        """Give the column as an object of the line."""
        name = json.dumps(self.type or NAMES.get(self.oid, "text"))
        position = f',"position":{self.number}' if with_position else ""
        return (
            f'{{"name":{quote(self.name)},"type":{name},"typeoid":{self.oid},'
            f'"value":{encode_value(self.value, self.oid)}{position}}}'
        )


def encode_value(value: Value, oid: int) -> str:
    """Give a value as JSON."""
    if value is None:
        return "null"
    if oid == BOOLEAN:
        return "true" if value == b"t" else "false"
    text = value.decode()
    if oid in BARE:
        return text
    return quote(text.removeprefix("\\x") if oid == BYTEA else text)


def quote(text: str) -> str:
    """Give a JSON string: all but control characters, quotes and backslashes stand for itself."""
    return json.dumps(text, ensure_ascii=False)


def change(
    action: str,
    columns: Sequence[Sent] | None = None,
    identity: Sequence[Sent] | None = None,
    pk: Sequence[str] = ("id",),
    *,
    table: str = "t",
) -> bytes:
    """Give the line of a change of `credit.t`."""
    line = (
        f'{{"action":"{action}","timestamp":"{STAMP}","lsn":"0/152FF88","schema":"credit",'
        f'"table":{quote(table)}'
    )
    if columns is not None:
        line += ',"columns":[' + ",".join(column.encode() for column in columns) + "]"
    if identity is not None:
        encoded = (column.encode(with_position=False) for column in identity)
        line += ',"identity":[' + ",".join(encoded) + "]"
    if action != "T":
        keys = (f'{{"name":{quote(name)},"type":"text","typeoid":25}}' for name in pk)
        line += ',"pk":[' + ",".join(keys) + "]"
    return (line + "}").encode()


def begin(lsn: str = "0/100") -> bytes:
    """Give the line of a Begin."""
    line = f'{{"action":"B","timestamp":"{STAMP}","lsn":"{lsn}","nextlsn":"FFFFFFFF/FFFFFFFF"}}'
    return line.encode()


def commit(lsn: str = "0/100", end: str = "0/130") -> bytes:
    """Give the line of a Commit."""
    return f'{{"action":"C","timestamp":"{STAMP}","lsn":"{lsn}","nextlsn":"{end}"}}'.encode()


def message(content: str, *, transactional: bool = True) -> bytes:
    """Give the line of a logical message."""
    flag = "true" if transactional else "false"
    stamp = f'"{STAMP}"' if transactional else "null"
    return (
        f'{{"action":"M","timestamp":{stamp},"lsn":"0/90","transactional":{flag},'
        f'"prefix":"cdc","content":{quote(content)}}}'.encode()
    )


def shape_column(
    name: str,
    number: int,
    *,
    oid: int = TEXT,
    key: bool = False,
    toastable: bool = False,
    generated: bool = False,
) -> ShapeColumn:
    """Give a column as the catalog has it."""
    return ShapeColumn(name, number, key, oid, -1, toastable, generated)


def shape(*columns: ShapeColumn, identity: str = "d") -> Shape:
    """Give a table as the catalog has it."""
    return Shape(identity, partitioned=False, columns=columns)

"""Messages of pgoutput as a real server sent them, in order, each with what it means."""

from cdc.lsn import Lsn
from cdc.wire.messages import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    Truncate,
    Type,
    Update,
)

# What PostgreSQL 18.6 sent (pg_logical_slot_peek_binary_changes) for a transaction on
#   credit.t (id int primary key, body text, s credit.status)                with TOAST in body
#   credit.f (id int, k int, v numeric(6,2), primary key (k, id))            replica identity full
# but for Origin, which needs a third server.
SENT: dict[str, tuple[str, Message]] = {
    "begin": (
        "42000000000173e030000303f45be585c0000002f8",
        Begin(Lsn(0x173E030), 848772978804160, 760),
    ),
    "origin": ("4f000000000173e0306e6f64655f6100", Origin(Lsn(0x173E030), "node_a")),
    "type": ("59000040036372656469740073746174757300", Type(16387, "credit", "status")),
    "relation": (
        (
            "52000040076372656469740074006400030169640000000017ffffffff00626f64790000000019ffffffff"
            "00730000004003ffffffff"
        ),
        Relation(
            16391,
            "credit",
            "t",
            "d",
            (
                Column("id", True, 23, -1),
                Column("body", False, 25, -1),
                Column("s", False, 16387, -1),
            ),
        ),
    ),
    "relation with replica identity full": (
        (
            "52000040106372656469740066006600030169640000000017ffffffff016b0000000017ffffffff"
            "017600000006a400060006"
        ),
        Relation(
            16400,
            "credit",
            "f",
            "f",
            (
                Column("id", True, 23, -1),
                Column("k", True, 23, -1),
                Column("v", True, 1700, 393222),
            ),
        ),
    ),
    "insert with a null": (
        "49000040074e00037400000001326e740000000161",
        Insert(16391, (b"2", None, b"a")),
    ),
    "insert with an empty string": (
        "49000040074e00037400000001337400000000740000000161",
        Insert(16391, (b"3", b"", b"a")),
    ),
    "update that left a TOAST value alone": (
        "55000040074e000374000000013175740000000162",
        Update(16391, None, False, (b"1", UNCHANGED, b"b")),
    ),
    "update of the key": (
        "55000040074b00037400000001326e6e4e00037400000001346e740000000161",
        Update(16391, (b"2", None, None), False, (b"4", None, b"a")),
    ),
    "update with the old row": (
        (
            "55000040104f00037400000001317400000001327400000004312e35304e00037400000001317400000001"
            "327400000004322e3235"
        ),
        Update(16400, (b"1", b"2", b"1.50"), True, (b"1", b"2", b"2.25")),
    ),
    "delete by key": ("44000040074b00037400000001336e6e", Delete(16391, (b"3", None, None), False)),
    "delete with the old row": (
        "44000040104f00037400000001317400000001327400000004322e3235",
        Delete(16400, (b"1", b"2", b"2.25"), True),
    ),
    "truncate": ("5400000002030000400700004010", Truncate((16391, 16400), True, True)),
    "logical message": (
        "4d01000000000173cf0063646300000000046d61726b",
        LogicalMessage(True, Lsn(0x173CF00), "cdc", b"mark"),
    ),
    "commit": (
        "4300000000000173e030000000000173e238000303f45be585c0",
        Commit(Lsn(0x173E030), Lsn(0x173E238), 848772978804160),
    ),
}

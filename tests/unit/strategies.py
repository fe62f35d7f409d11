"""Hypothesis strategies: messages of every kind, of any content that their format can hold."""

from hypothesis import strategies as st

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
    Row,
    Truncate,
    Type,
    Update,
    Value,
)

lsns: st.SearchStrategy[Lsn] = st.integers(0, 2**64 - 1).map(Lsn)
times = st.integers(-(2**63), 2**63 - 1)
oids = st.integers(0, 2**32 - 1)

# An identifier may hold anything but NUL, and is valid UTF-8.
names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8
)

values: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.just(UNCHANGED), st.just(b""), st.binary(max_size=6)
)
rows: st.SearchStrategy[Row] = st.lists(values, max_size=4).map(tuple)

columns = st.builds(Column, names, st.booleans(), oids, st.integers(-1, 2**31 - 1))

inserts = st.builds(Insert, oids, rows)
# Without an old tuple there is nothing that could be full.
updates = st.one_of(
    st.builds(Update, oids, st.none(), st.just(value=False), rows),
    st.builds(Update, oids, rows, st.booleans(), rows),
)
deletes = st.builds(Delete, oids, rows, st.booleans())
relations = st.builds(
    Relation, oids, names, names, st.sampled_from("dnfi"), st.lists(columns, max_size=3).map(tuple)
)

KINDS: dict[str, st.SearchStrategy[Message]] = {
    "begin": st.builds(Begin, lsns, times, oids),
    "commit": st.builds(Commit, lsns, lsns, times),
    "origin": st.builds(Origin, lsns, names),
    "relation": relations,
    "type": st.builds(Type, oids, names, names),
    "insert": inserts,
    "update": updates,
    "delete": deletes,
    "truncate": st.builds(
        Truncate, st.lists(oids, min_size=1, max_size=3).map(tuple), st.booleans(), st.booleans()
    ),
    "logical message": st.builds(LogicalMessage, st.booleans(), lsns, names, st.binary(max_size=6)),
}
messages: st.SearchStrategy[Message] = st.one_of(*KINDS.values())

"""Messages that are well formed and make no sense: ProtocolError, and never another exception."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.changes.batch import BatchBuilder
from cdc.changes.relations import RelationCache
from cdc.errors import ChangeRefused, ProtocolError
from cdc.lsn import Lsn
from cdc.wire.messages import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    Message,
    Relation,
    Row,
    Truncate,
    Update,
    Value,
)
from tests.unit.shapes import relation
from tests.unit.strategies import messages as any_messages

ACCOUNTS = relation(1, "accounts", ["id", "note"])
BEGIN = Begin(Lsn(90), 7, 1)
COMMIT = Commit(Lsn(90), Lsn(100), 7)
INSERT = Insert(1, (b"1", b"x"))


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([BEGIN, BEGIN], id="a transaction inside another"),
        pytest.param([COMMIT], id="a commit of nothing"),
        pytest.param([BEGIN, COMMIT, COMMIT], id="a second commit"),
        pytest.param([ACCOUNTS, INSERT], id="a change before any transaction"),
        pytest.param([ACCOUNTS, Truncate((1,), False, False)], id="a truncate outside of one"),
        pytest.param([BEGIN, INSERT], id="a relation that was never sent"),
        pytest.param([BEGIN, Truncate((1,), False, False)], id="a truncate of an unknown relation"),
        pytest.param([BEGIN, ACCOUNTS, Insert(1, (b"1",))], id="a row too narrow"),
        pytest.param([BEGIN, ACCOUNTS, Delete(1, (b"1",) * 3, False)], id="an old row too wide"),
        pytest.param(
            [BEGIN, ACCOUNTS, Update(1, (b"1",), False, (b"1", b"x"))],
            id="an old row narrower than the new one",
        ),
    ],
)
def test_a_message_out_of_place_is_refused(messages: list[Message]) -> None:
    """What the protocol does not allow raises ProtocolError where it stands."""
    builder = BatchBuilder(RelationCache({}))
    for message in messages[:-1]:
        builder.add(message, 10)
    with pytest.raises(ProtocolError):
        builder.add(messages[-1], 10)


# Few ids, names, widths and values, so that messages meet: the wrong ones as often as the right.
ids = st.integers(1, 3)
values: st.SearchStrategy[Value] = st.sampled_from([None, UNCHANGED, b"1", b"2"])
rows: st.SearchStrategy[Row] = st.one_of(
    st.lists(values, min_size=2, max_size=2), st.lists(values, max_size=3)
).map(tuple)
columns = st.builds(
    Column, st.sampled_from(["id", "note"]), st.booleans(), st.just(25), st.just(-1)
)
relations = st.builds(
    Relation,
    ids,
    st.just("credit"),
    st.sampled_from(["accounts", "shares"]),
    st.sampled_from("dnfi"),
    st.one_of(st.lists(columns, min_size=2, max_size=2), st.lists(columns, max_size=3)).map(tuple),
)
nonsense: st.SearchStrategy[Message] = st.one_of(
    st.just(BEGIN),
    st.just(COMMIT),
    relations,
    st.builds(Insert, ids, rows),
    st.builds(Update, ids, st.none() | rows, st.booleans(), rows),
    st.builds(Delete, ids, rows, st.booleans()),
    st.builds(Truncate, st.lists(ids, max_size=2).map(tuple), st.booleans(), st.booleans()),
    any_messages,
)


@given(st.booleans(), st.lists(nonsense, max_size=15))
def test_any_messages_are_folded_or_refused(sensible: bool, messages: list[Message]) -> None:  # noqa: FBT001
    """No sequence of messages raises anything but ProtocolError, or ChangeRefused for no key."""
    builder = BatchBuilder(RelationCache({("credit", "accounts"): ("id",)}))
    if sensible:
        messages = [BEGIN, ACCOUNTS, relation(2, "shares", ["id", "note"]), *messages]
    with contextlib.suppress(ProtocolError, ChangeRefused):
        for message in messages:
            builder.add(message, 10)
    builder.take()

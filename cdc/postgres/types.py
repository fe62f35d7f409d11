"""Does a column take every value of another as it is? Asked of built-in types, by oid and modifier.

A type that is narrower rounds, cuts or shifts some values without an error: numeric(10,2) rounds,
timestamp(0) too, timestamp without time zone drops the zone. Types of users have other oids on
other servers, so that nothing can be said of them here.
"""

from cdc.wire.messages import UNKNOWN_TYPE

# Oids from here on are given out by the server (transam.h, FirstNormalObjectId).
_FIRST_USER_OID = 16384

_NO_MODIFIER = -1
_VARIABLE_HEADER = 4

_NUMERIC = {1700, 1231}
# Length of varchar and bit varying, digits of a second of time, timetz, timestamp, timestamptz;
# and their arrays. char(n) is not among them: it pads.
_LENGTHS = {1043, 1562, 1083, 1266, 1114, 1184, 1015, 1563, 1183, 1270, 1115, 1185}

_SMALLINT, _INTEGER, _BIGINT, _TEXT, _VARCHAR, _ANY_NUMERIC = 21, 23, 20, 25, 1043, 1700
_WIDER = {
    (_SMALLINT, _INTEGER),
    (_SMALLINT, _BIGINT),
    (_INTEGER, _BIGINT),
    (_SMALLINT, _ANY_NUMERIC),
    (_INTEGER, _ANY_NUMERIC),
    (_BIGINT, _ANY_NUMERIC),
    (_VARCHAR, _TEXT),
    (_TEXT, _VARCHAR),
}


def holds(
    type_oid: int, modifier: int, *, source_type_oid: int, source_modifier: int
) -> bool | None:
    """Tell whether a type takes every value of the source's type as it is; None: unknown."""
    if source_type_oid == UNKNOWN_TYPE or max(type_oid, source_type_oid) >= _FIRST_USER_OID:
        return None
    if type_oid != source_type_oid:
        return (source_type_oid, type_oid) in _WIDER and modifier == _NO_MODIFIER
    return modifier in {_NO_MODIFIER, source_modifier} or (
        source_modifier != _NO_MODIFIER and _is_wider(type_oid, modifier, source_modifier)
    )


def _is_wider(type_oid: int, modifier: int, source_modifier: int) -> bool:
    if type_oid in _NUMERIC:
        (precision, scale), (needed, needed_scale) = map(_digits, (modifier, source_modifier))
        return scale >= needed_scale and precision - scale >= needed - needed_scale
    return type_oid in _LENGTHS and modifier >= source_modifier


def _digits(modifier: int) -> tuple[int, int]:
    """Return precision and scale of a numeric's modifier; the scale has a sign since 15."""
    bits = modifier - _VARIABLE_HEADER
    return bits >> 16 & 0xFFFF, ((bits & 0x7FF) ^ 0x400) - 0x400

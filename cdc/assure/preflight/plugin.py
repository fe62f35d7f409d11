"""Checks of wal2json: may the source load it, and what would it lose or not go by.

Whether it is installed only the attempt to make a slot shows. pgoutput needs none of these: it is
part of the server.
"""

from collections.abc import Iterator

from cdc.assure.preflight.facts import Facts
from cdc.assure.preflight.findings import Finding, breaks, warns
from cdc.postgres.names import quoted
from cdc.source.plugin import AS_STRING_VERSION, allow

# JSON has no word for some of their values. Domains and arrays over them travel as strings.
_SPECIAL = {700: "NaN and Infinity", 701: "NaN and Infinity", 1700: "NaN"}
_NUMERIC, _NO_MODIFIER = 1700, -1


def check_plugin_allowed(facts: Facts) -> Iterator[Finding]:
    """Find a source that does not load the plugin; older minor releases load any."""
    server = facts.source.server
    if facts.source.plugin.secret:
        yield warns(
            "source",
            "output_plugin_libraries",
            f"may not be read by role {server.role}: whether wal2json may be loaded is only found"
            " out when the slot is made",
            f"grant pg_read_all_settings to {quoted(server.role)};",
        )
    allowed = facts.source.plugin.allowed
    if allowed is None or "wal2json" in (name.strip(' "') for name in allowed.split(",")):
        return
    yield breaks(
        "source",
        "output_plugin_libraries",
        f"is {allowed!r}, so that wal2json may not be loaded",
        allow("wal2json", allowed),
    )


def check_encoding(facts: Facts) -> Iterator[Finding]:
    """Find a database in another encoding: wal2json sends texts as they are stored."""
    encoding = facts.source.plugin.encoding
    if encoding != "UTF8":
        yield breaks(
            "source",
            f"database {facts.source.server.database}",
            f"is in {encoding}, which wal2json does not convert to UTF8",
            "export CDC_SOURCE_PLUGIN=pgoutput",
        )


def check_special_numbers(facts: Facts) -> Iterator[Finding]:
    """Find columns with values that wal2json before 2.6 sends as null."""
    if facts.source.server.version >= AS_STRING_VERSION:
        return
    for table in facts.copied():
        for column in table.columns:
            special = _SPECIAL.get(column.type_oid)
            if special is None or column.generated:
                continue
            if column.type_oid == _NUMERIC and column.type_modifier == _NO_MODIFIER:
                special = "NaN and Infinity"
            yield warns(
                "source",
                f"{table}.{column.name}",
                f"is {column.type}: wal2json before 2.6 sends {special} as null",
                "export CDC_SOURCE_PLUGIN=pgoutput  # unless wal2json is 2.6 or newer, or the"
                " column never holds them",
            )


def check_unused_publication(facts: Facts) -> Iterator[Finding]:
    """Find a publication of our name that limits what is copied: wal2json does not look at it."""
    publication = facts.source.publication
    if publication is None:
        return
    copied = {table.qualified_name: table for table in facts.copied()}
    published = {part.qualified_name: part for part in publication.tables}
    limited = [
        str(table)
        for name, table in copied.items()
        if name not in published
        or published[name].row_filter
        or {c.name for c in table.columns if not c.generated} - set(published[name].columns)
    ]
    if limited or not publication.publishes_all or publication.via_root:
        what = f": {', '.join(limited)}" if limited else ""
        yield warns(
            "source",
            f"publication {publication.name}",
            f"leaves out changes{what}; wal2json goes by CDC_SOURCE_SCHEMAS alone, and copies all"
            " rows and columns",
            "export CDC_SOURCE_PLUGIN=pgoutput",
        )


CHECKS = (
    check_plugin_allowed,
    check_encoding,
    check_special_numbers,
    check_unused_publication,
)

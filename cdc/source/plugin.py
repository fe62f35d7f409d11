"""The output plugins: what each is asked for, and what a source says that does not load one.

pgoutput is the server's own. wal2json has to be installed, and from the minor releases of August
2026 on (15.19, 16.15, 17.11, 18.6) to be allowed: `output_plugin_libraries`. It knows nothing of
publications: the tables are named by their schemas, those to come included.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

import psycopg

from cdc.errors import CheckFailed
from cdc.postgres.names import quoted
from cdc.settings import SourceSettings

Options: TypeAlias = dict[str, str]

PREFIX = "cdc"
"""Of the logical messages that are ours."""

# PostgreSQL 17 and newer can only be served by a wal2json (2.6) that knows this.
AS_STRING = "numeric-data-types-as-string"
AS_STRING_VERSION = 170000


def stream_options(source: SourceSettings) -> Iterator[Options]:
    """Yield what to ask for; where a plugin does not know an option, the next is to be tried."""
    if source.plugin == "pgoutput":
        yield _publication(source) | {"messages": "true"}
        return
    options = _tables(source) | {
        "include-lsn": "true",
        "include-timestamp": "true",
        "include-transaction": "true",
        "include-types": "true",
        "include-type-oids": "true",
        "include-column-positions": "true",
        "include-pk": "true",
        "add-msg-prefixes": PREFIX,
    }
    # NaN and Infinity are null without it, and 2.5 refuses options that it does not know.
    yield options | {AS_STRING: "true"}
    yield options


def peek_options(source: SourceSettings) -> Options:
    """Return what shows changes of our tables and nothing else."""
    if source.plugin == "pgoutput":
        return _publication(source)
    # No message has this prefix.
    return _tables(source) | {"include-transaction": "false", "add-msg-prefixes": "-"}


def _publication(source: SourceSettings) -> Options:
    return {"proto_version": "1", "publication_names": quoted(source.publication)}


def _tables(source: SourceSettings) -> Options:
    schemas = ",".join(f"{_escaped(schema)}.*" for schema in source.schemas)
    return {"format-version": "2", "add-tables": schemas}


def _escaped(name: str) -> str:
    """Return a name as wal2json reads it: a backslash before whatever could have a meaning."""
    return re.sub(r"([^A-Za-z0-9_])", r"\\\1", name)


def refusal(error: psycopg.Error, plugin: str) -> CheckFailed | None:
    """Return what a source means that does not load a plugin, or None if that is not the error."""
    if isinstance(error, psycopg.errors.UndefinedFile):
        return CheckFailed(
            f"the output plugin {plugin} is not installed on the source",
            hint=f"install it there (Debian: postgresql-…-{plugin}), or use the server's own:"
            " CDC_SOURCE_PLUGIN=pgoutput",
        )
    # One of the few things that a server says in so many words only.
    said = error.diag.message_primary or ""
    if isinstance(error, psycopg.errors.InsufficientPrivilege) and "output plugin" in said:
        return CheckFailed(
            f"the source does not allow the output plugin {plugin}: it is not in"
            " output_plugin_libraries",
            hint=f"{allow(plugin)} as a superuser; or use the server's own:"
            " CDC_SOURCE_PLUGIN=pgoutput",
        )
    return None


def allow(plugin: str, allowed: str = "pgoutput, test_decoding") -> str:
    """Return the statements that add a plugin to those that a source allows."""
    return (
        f"alter system set output_plugin_libraries = {allowed}, {plugin};\nselect pg_reload_conf();"
    )

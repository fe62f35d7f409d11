"""What each output plugin is asked for, and what its refusal means."""

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdc.backoff import Verdict, judge
from cdc.settings import SourceSettings
from cdc.source.plugin import peek_options, refusal, stream_options
from tests.unit.strategies import names


def options(**given: object) -> list[dict[str, str]]:
    """Give what is asked for, one after the other."""
    return list(stream_options(SourceSettings.model_validate(given)))


def test_pgoutput_goes_by_the_publication() -> None:
    """Protocol 1, with logical messages; a look ahead does without these."""
    asked = {"proto_version": "1", "publication_names": '"p"'}
    assert options(publication="p") == [asked | {"messages": "true"}]
    assert peek_options(SourceSettings(publication="p")) == asked


def test_wal2json_is_asked_for_numbers_as_strings_first() -> None:
    """2.5 does not know that and refuses; without it, NaN and Infinity are null."""
    first, second = options(plugin="wal2json", schemas=["credit", "b"])
    assert first == second | {"numeric-data-types-as-string": "true"}
    assert second["add-tables"] == "credit.*,b.*"
    assert second["add-msg-prefixes"] == "cdc"
    assert second["format-version"] == "2"


@given(st.lists(names, min_size=1, max_size=3))
@example(["*", "a.b", "a,b", "a b", "\\", 'q"', "é", "x\ty"])
def test_any_schemas_name_is_read_as_it_is(schemas: list[str]) -> None:
    """wal2json splits at commas and the dot, skips blanks, and takes a backslash for an escape."""
    (_, asked) = options(plugin="wal2json", schemas=schemas)
    assert [part for part, _ in read_as_wal2json(asked["add-tables"])] == schemas
    assert all(table == "*" for _, table in read_as_wal2json(asked["add-tables"]))


def read_as_wal2json(text: str) -> list[tuple[str, str]]:
    """Split a list of tables, with escapes resolved; a bare `*` stays what it is."""
    tables, parts, escaped = [], [""], False
    for character in text:
        if escaped or character not in {"\\", ",", "."}:
            assert escaped or not character.isspace()
            assert escaped or character != "*" or parts[-1] == ""
            parts[-1] += character
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ".":
            parts.append("")
        else:
            tables.append((parts[0], parts[1]))
            parts = [""]
    return [*tables, (parts[0], parts[1])]


def test_another_error_is_no_refusal() -> None:
    """A role that may not replicate, say."""
    assert refusal(psycopg.errors.InsufficientPrivilege("must be superuser"), "wal2json") is None


@pytest.mark.parametrize("error", [psycopg.errors.UndefinedFile("could not access file")])
def test_a_library_that_is_missing_is_not_waited_for(error: psycopg.Error) -> None:
    """It will be missing in a minute too."""
    refused = refusal(error, "wal2json")
    assert refused is not None
    assert "not installed" in refused.message
    assert "CDC_SOURCE_PLUGIN=pgoutput" in refused.hint
    assert judge(refused) is Verdict.HALT
    assert judge(error) is Verdict.HALT

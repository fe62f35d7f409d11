"""The statement that empties tables."""

from cdc.target.action import Execute
from cdc.target.truncation import truncate
from tests.unit.shapes import catalog_table

TABLES = (catalog_table("Lines", ["id"]), catalog_table("it's", ["id"]))
NAMES = """truncate only "credit"."Lines", only "credit"."it's\""""


def test_tables_are_emptied_by_one_statement() -> None:
    """Tables that reference each other cannot be truncated one after the other."""
    assert truncate(TABLES, restart_identity=False) == Execute(NAMES.encode())
    restarted = f"{NAMES} restart identity".encode()
    assert truncate(TABLES, restart_identity=True) == Execute(restarted)


def test_what_waits_on_these_tables_is_checked_first() -> None:
    """One block makes the checks of the named tables and empties them; a quote ends no literal."""
    block = truncate(TABLES, restart_identity=False, deferrable=True).sql.decode()
    assert block.startswith("do 'declare")
    body = block[len("do '") : -1].replace("''", "'")
    assert body.count("""array['"credit"."Lines"'::regclass, '"credit"."it''s"'::regclass]""") == 2
    assert body.index("immediate") < body.index("deferred") < body.index(NAMES)
    assert body.index(NAMES) < body.index('delete from only "credit"."Lines"')


def test_a_delete_is_no_truncation_that_restarts_sequences() -> None:
    """Where checks fail and sequences were to be restarted, the change is refused."""
    block = truncate(TABLES, restart_identity=True, deferrable=True).sql.decode()
    assert "delete" not in block
    assert "then\n  raise;" in block

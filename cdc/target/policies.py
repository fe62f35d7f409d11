"""The policies of single tables, as the settings say."""

from cdc.changes.policy import Policy
from cdc.changes.relations import QualifiedName
from cdc.settings import Settings, parse_table_name


def policies(settings: Settings) -> dict[QualifiedName, Policy]:
    """Return what the settings say of single tables, by name."""
    return {
        parse_table_name(name): Policy(table.deletes, table.truncate, table.deleted_at)
        for name, table in settings.tables.items()
    }

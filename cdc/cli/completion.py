"""What TAB offers beyond verbs and options: from the settings alone, no database is ever asked."""

from pathlib import Path

import typer

from cdc.errors import SettingsError
from cdc.settings import load_settings


def configured_tables(context: typer.Context, incomplete: str) -> list[str]:
    """Return the tables that the settings name; none where these cannot be read."""
    config = context.find_root().params.get("config_file")
    try:
        tables = load_settings(Path(config) if config else None).settings.tables
    except SettingsError:
        return []
    return [table for table in tables if table.startswith(incomplete)]

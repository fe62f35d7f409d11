"""New settings for a daemon that runs: what it goes on with, and what stays until a restart.

What is refused is refused before anything has stopped: a daemon that works is not ended by a file
that was saved half-way.
"""

from pydantic import BaseModel

from cdc.postgres.session import conninfo
from cdc.settings import Settings
from cdc.sync.spool import choice

# What a running daemon is known by: to its source, on its disk, and to those who ask it.
NEEDS_RESTART = frozenset(
    {"source.slot", "source.plugin", "state.dir", "http.listen", "http.token"}
)

# Read each time that something is told: no stream has to begin anew for them.
_BESIDE_STREAM = ("http.", "alerts.")


def require_usable(settings: Settings) -> None:
    """Raise SettingsError where no stream could begin with these."""
    conninfo(settings.source.require_dsn(), application_name="cdc", side="source")
    conninfo(settings.target.require_dsn(), application_name="cdc", side="target")
    choice.require_spoolable(settings)


def changed(before: Settings, after: Settings) -> list[str]:
    """Return the names of the settings that differ; the tables are one."""
    names: list[str] = []
    for section in type(before).model_fields:
        one, other = getattr(before, section), getattr(after, section)
        if isinstance(one, BaseModel):
            fields = type(one).model_fields
            names += [f"{section}.{f}" for f in fields if getattr(one, f) != getattr(other, f)]
        elif one != other:
            names.append(section)
    return names


def concerns_stream(names: list[str]) -> bool:
    """Tell whether the stream has to begin anew for any of these to hold."""
    return any(not name.startswith(_BESIDE_STREAM) for name in names)


def keep(before: Settings, given: Settings) -> Settings:
    """Return the settings given, but for those that only a restart can change."""
    source, http = before.source, before.http
    return given.model_copy(
        update={
            "source": given.source.model_copy(
                update={"slot": source.slot, "plugin": source.plugin}
            ),
            "state": before.state,
            "http": given.http.model_copy(update={"listen": http.listen, "token": http.token}),
        }
    )

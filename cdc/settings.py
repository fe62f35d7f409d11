"""Every setting, once: its name, default, unit and reason. Nothing reads the environment elsewhere.

A value comes, in this order, from the environment (`CDC_SECTION_NAME`), from a file per secret in
`$CREDENTIALS_DIRECTORY` (`source.dsn` and all other secrets), from `cdc.toml` (`--config`,
`CDC_CONFIG`), else from the default here. A name that does not exist is an error, in the file and
in the environment: a misspelt limit must not be a limit that does not hold.
"""

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

import pydantic_settings
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from cdc.errors import SettingsError
from cdc.wording import explained


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Side(_Section):
    dsn: SecretStr | None = None

    def require_dsn(self) -> str:
        """Return the DSN, or raise SettingsError where there is none."""
        if self.dsn is None or not self.dsn.get_secret_value():
            side = type(self).__name__.removesuffix("Settings").lower()
            raise SettingsError(
                f"the {side}'s DSN is not set",
                hint=f"export CDC_{side.upper()}_DSN=postgresql://user:password@host:5432/database,"
                f" under systemd give the credential {side}.dsn (`cdc config show` lists all)",
            )
        return self.dsn.get_secret_value()


class SourceSettings(_Side):
    """The Supabase side."""

    dsn: SecretStr | None = Field(None, description="direct connection, never a pooler")
    schemas: list[str] = Field(["credit"], min_length=1, description="schemas to copy")
    slot: str = Field(
        "cdc_credit", pattern="^[a-z0-9_]{1,63}$", description="replication slot; one per daemon"
    )
    publication: str = Field("cdc_credit", min_length=1, description="publication to stream")
    plugin: Literal["pgoutput", "wal2json"] = Field(
        "pgoutput", description="output plugin of the slot: `pgoutput`, or `wal2json`"
    )
    on_slot_lost: Literal["halt", "resync"] = Field(
        "halt",
        description="when the slot is lost or a side was restored: the daemon ends with 78, or"
        " makes a new slot and copies all tables again",
    )


class TargetSettings(_Side):
    """The Neon side."""

    dsn: SecretStr | None = Field(None, description="direct endpoint, not -pooler")
    idle_disconnect: float = Field(
        30,
        gt=0,
        description="seconds without changes after which the session is closed: Neon sleeps",
    )


class ApplySettings(_Section):
    """How changes are gathered and written."""

    max_rows: int = Field(
        100_000, ge=1, description="changes in a batch at most, whole transactions"
    )
    max_bytes: int = Field(
        16 << 20, ge=1 << 16, description="bytes received for a batch at most; bounds the memory"
    )

    flush_interval: float = Field(
        0,
        ge=0,
        description="seconds to gather changes before they are applied in one burst, so that Neon"
        " sleeps in between; 0: at once",
    )
    on_error: Literal["halt", "quarantine"] = Field(
        "halt",
        description="what is done about a change that the target refuses: the daemon ends with 78,"
        " or the change waits in `cdc.quarantine` while others go on",
    )


class SnapshotSettings(_Section):
    """Copies of tables."""

    workers: int = Field(2, ge=1, le=32, description="chunks copied at once")
    chunk_bytes: int = Field(
        32 << 20,
        ge=1 << 13,
        description="bytes of a table in one chunk, about; the stream stands still for it",
    )


class SpoolSettings(_Section):
    """What is queued on the daemon's own disk while the target is away."""

    max_bytes: int = Field(
        0,
        ge=0,
        description="bytes of changes queued on the daemon's own disk, in `state.dir`, while the"
        " target is away; 0: the source's WAL keeps them",
    )
    after: float = Field(
        10, gt=0, description="seconds that the target is away before changes are queued"
    )
    key: SecretStr | None = Field(
        None, min_length=16, description="encrypts what is queued (AES-256-GCM); keep it as well"
    )


class HttpSettings(_Section):
    """What the daemon tells of itself."""

    listen: str = Field(
        "127.0.0.1:9464",
        pattern=r"^((\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):\d{1,5})?$",
        description="host and port of metrics, health and status page; empty: none",
    )
    token: SecretStr | None = Field(
        None,
        min_length=16,
        description="asked of each request (Bearer, or the password of Basic); needed where"
        " `listen` is not loopback",
    )
    max_lag: float = Field(
        60, gt=0, description="seconds behind the source from which `/readyz` says no"
    )


def _web_address(given: SecretStr) -> SecretStr | None:
    """Return an address of the web, None for an empty text; raise ValueError for any other."""
    text = given.get_secret_value()
    if not text:
        return None
    try:
        parts = urlsplit(text)
        is_one = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # whose words quote a part of it
        is_one = False
    if not is_one:
        raise ValueError("write it as https://host/path")
    return given


class AlertSettings(_Section):
    """Who is told when something is wrong."""

    url: Annotated[SecretStr, AfterValidator(_web_address)] | None = Field(
        None, description="webhook that alerts are sent to, as JSON"
    )
    key: SecretStr | None = Field(
        None, min_length=16, description="signs each alert (HMAC-SHA256 of its time and body)"
    )
    max_lag: float = Field(
        300, gt=0, description="seconds behind the source from which an alert is sent"
    )


class TableSettings(_Section):
    """What the target keeps of one table's deletes and truncates."""

    deletes: Literal["replicate", "soft", "ignore"] = Field(
        "replicate",
        description="`soft` marks the row as deleted instead, `ignore` leaves it as it is",
    )
    truncate: Literal["replicate", "ignore", "halt"] = Field(
        "replicate", description="`ignore` leaves the rows, `halt` ends the daemon with 78"
    )
    deleted_at: str = Field(
        "deleted_at",
        min_length=1,
        description="column of the target that `soft` sets, timestamp with time zone",
    )


QualifiedName: TypeAlias = tuple[str, str]

_NAME = re.compile(r"""((?:"(?:[^"]|"")+"|[^".]+))\.((?:"(?:[^"]|"")+"|[^".]+))""")


def parse_table_name(text: str) -> QualifiedName:
    """Return schema and name of `credit.offers`, each quoted as in SQL where it has to be."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise ValueError("write it as schema.table, a part with a dot or quotes in double quotes")
    schema, name = (
        part[1:-1].replace('""', '"') if part.startswith('"') else part for part in match.groups()
    )
    return schema, name


TableName = Annotated[str, AfterValidator(lambda text: parse_table_name(text) and text)]


class StateSettings(_Section):
    """What the daemon keeps on its own disk."""

    dir: Path | None = Field(
        None, description="default: $STATE_DIRECTORY, else ~/.local/state/cdc; keep it"
    )


class Settings(BaseSettings):
    """All settings, by section."""

    model_config = SettingsConfigDict(
        env_prefix="CDC_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        extra="forbid",
        frozen=True,
    )

    source: SourceSettings = SourceSettings()
    target: TargetSettings = TargetSettings()
    apply: ApplySettings = ApplySettings()
    snapshot: SnapshotSettings = SnapshotSettings()
    state: StateSettings = StateSettings()
    spool: SpoolSettings = SpoolSettings()
    http: HttpSettings = HttpSettings()
    alerts: AlertSettings = AlertSettings()
    tables: dict[TableName, TableSettings] = {}

    @property
    def state_dir(self) -> Path:
        """The state directory in force."""
        if self.state.dir is not None:
            return self.state.dir
        given = os.environ.get("STATE_DIRECTORY")
        return Path(given) if given else Path.home() / ".local" / "state" / "cdc"


_CONFIG = "CDC_CONFIG"


@dataclass(slots=True, frozen=True)
class Setting:
    """A setting in force, for people: a secret shows as asterisks."""

    name: str
    value: str
    origin: str
    """environment, credentials, the configuration file's path, or default."""
    environment: str
    """The variable that sets it; empty where only the file can."""


@dataclass(slots=True, frozen=True)
class LoadedSettings:
    """The settings in force, and where each of those given came from."""

    settings: Settings
    origins: dict[str, str]

    def each(self) -> Iterator[Setting]:
        """Yield every setting; of tables those that have any."""
        for section_name in type(self.settings).model_fields:
            section = getattr(self.settings, section_name)
            for field in type(section).model_fields if section_name != "tables" else ():
                name = f"{section_name}.{field}"
                value = getattr(section, field)
                if name == "state.dir":
                    value = self.settings.state_dir
                shown = "" if value is None else str(value)
                variable = f"CDC_{section_name}_{field}".upper()
                yield Setting(name, shown, self.origins.get(name, "default"), variable)
        for table, policy in self.settings.tables.items():
            for field in TableSettings.model_fields:
                given = field in policy.model_fields_set
                origin = self.origins[f"tables.{table}"] if given else "default"
                quote = "'" if '"' in table else '"'
                name = f"tables.{quote}{table}{quote}.{field}"
                yield Setting(name, getattr(policy, field), origin, "")


# What the patterns above mean.
_FORMS = {
    "source.slot": "a-z, 0-9 and _, at most 63 of them",
    "http.listen": "host and port, such as 127.0.0.1:9464, or empty",
}

_Values = dict[str, dict[str, object]]

_SECRETS = (
    ("source", "dsn"),
    ("target", "dsn"),
    ("spool", "key"),
    ("http", "token"),
    ("alerts", "url"),
    ("alerts", "key"),
)


def load_settings(config: Path | None = None) -> LoadedSettings:
    """Read the settings from where they are; raise SettingsError with all that is wrong."""
    given = os.environ.get(_CONFIG)
    path = config or (Path(given) if given else None)
    layers: list[tuple[str, _Values]] = []
    if path is not None:
        layers.append((str(path), _read_file(path)))
    layers.append(("credentials", _read_credentials()))
    layers.append(("environment", _read_environment()))
    merged: _Values = {}
    origins: dict[str, str] = {}
    for origin, values in layers:
        for section, fields in values.items():
            if not isinstance(fields, dict):
                raise SettingsError(
                    f"{origin}: {section} is no section", hint="write [section] and name = value"
                )
            merged.setdefault(section, {}).update(fields)
            origins.update({f"{section}.{name}": origin for name in fields})
    try:
        return LoadedSettings(Settings.model_validate(merged), origins)
    except ValidationError as ex:
        problem = explained(ex, origins, _FORMS)
        raise SettingsError(problem, hint="docs/settings.md has all settings") from None


def _read_file(path: Path) -> _Values:
    try:
        return tomllib.loads(path.read_text())
    except OSError as ex:
        raise SettingsError(
            f"cannot read {path}: {ex.strerror}", hint="give the file with --config or CDC_CONFIG"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8", hint="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as ex:
        raise SettingsError(
            f"{path}: {ex}", hint="the file is TOML: [section], name = value"
        ) from ex


def _read_credentials() -> _Values:
    """Read a file per setting, as systemd's LoadCredential= lays them out."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    values: _Values = {}
    for section, name in _SECRETS if folder else ():
        file = Path(folder or "") / f"{section}.{name}"
        try:
            secret = file.read_text().strip()
        except FileNotFoundError:
            continue
        except OSError as ex:
            raise SettingsError(
                f"cannot read the credential {file}: {ex.strerror}",
                hint="who runs cdc has to be able to read it; under systemd, see"
                f" LoadCredential={section}.{name} in the unit file",
            ) from None
        except UnicodeDecodeError:
            raise SettingsError(
                f"the credential {file} is not UTF-8", hint="save it as UTF-8"
            ) from None
        values.setdefault(section, {})[name] = secret
    return values


def _read_environment() -> _Values:
    sections = tuple(f"CDC_{name.upper()}_" for name in Settings.model_fields if name != "tables")
    for name in os.environ:
        upper = name.upper()  # a section may be given in lower case too
        if upper.startswith("CDC_") and upper != _CONFIG and not upper.startswith(sections):
            raise SettingsError(
                f"{name} is not a setting", hint="docs/settings.md has all settings"
            )
    try:
        values: _Values = EnvSettingsSource(Settings)()
    except pydantic_settings.SettingsError:
        # The only one that is more than a text or a number.
        raise SettingsError(
            "CDC_SOURCE_SCHEMAS (source.schemas) has to be a list",
            hint="""write it as JSON: CDC_SOURCE_SCHEMAS='["credit"]'""",
        ) from None
    return values

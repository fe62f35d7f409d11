"""The reference of the settings, made from their model: `docs/settings.md`.

    python -m tests.reference    # writes the page; `make docs` does the same

A unit test holds the page and the model together, and the README's shorter table with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cdc.settings import Settings, TableSettings
from tests.servers import CHECKOUT

PAGE = CHECKOUT / "docs" / "settings.md"

HEAD = """\
# Settings

Made from `cdc/settings.py` by `make docs`.

A value comes, in this order, from

1. its environment variable;
2. for a secret (`source.dsn`, `target.dsn`, `spool.key`, `http.token`, `alerts.url`, `alerts.key`)
   a file of that name in `$CREDENTIALS_DIRECTORY`, where systemd's `LoadCredential=` puts them;
3. a TOML file, named by `cdc --config FILE` or `CDC_CONFIG`: `apply.max_rows` is `max_rows` in the
   section `[apply]`;
4. the default.

A name that does not exist, or a value that is not allowed, is an error (exit 78): a misspelt limit
must not be one that does not hold. `cdc config show` tells what is in force and where it came from;
secrets show as asterisks. SIGHUP has a running daemon read them again; what only a
restart changes (`source.slot`, `source.plugin`, `state.dir`, `http.listen`, `http.token`) it names.
"""

TABLES = """\
These stand in the file alone, for each table that is not to be copied as it is. The column is the
target's, and `cdc check` says how to add it. A row that comes again under the same key is no longer
marked.

```toml
[tables."credit.offers"]
deletes = "soft"
truncate = "ignore"
```
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is said of one setting."""

    name: str
    variable: str
    default: str
    allowed: str
    text: str

    @property
    def short(self) -> str:
        """The line of it in the README."""
        return f"| {self.name} | {self.variable} | {self.default} | {self.text} |"

    @property
    def full(self) -> str:
        """The line of it on the page; its section is in the heading."""
        variable = f"`{self.variable}`" if self.variable else ""
        name = self.name.rpartition(".")[2]
        return f"| `{name}` | {variable} | {self.default} | {self.allowed} | {self.text} |"


def page() -> str:
    """Give the whole page."""
    parts = [HEAD]
    for section, field in Settings.model_fields.items():
        model = _model(section, field)
        of_tables = model is TableSettings
        heading = 'tables."schema.table"' if of_tables else section
        lines = [
            f"## {heading}",
            "",
            str(model.__doc__),
            "",
            "| setting | environment | default | allowed | |",
            "|---|---|---|---|---|",
            *(entry.full for entry in _entries(section, model)),
            "",
        ]
        parts.append("\n".join(lines))
        if of_tables:
            parts.append(TABLES)
    return "\n".join(parts)


def entries() -> Iterator[Entry]:
    """Yield all settings."""
    for section, field in Settings.model_fields.items():
        yield from _entries(section, _model(section, field))


def _model(section: str, field: FieldInfo) -> type[BaseModel]:
    model = TableSettings if section == "tables" else field.annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return model


def _entries(section: str, model: type[BaseModel]) -> Iterator[Entry]:
    of_tables = model is TableSettings
    for name, field in model.model_fields.items():
        yield Entry(
            name=f'tables."credit.x".{name}' if of_tables else f"{section}.{name}",
            variable="" if of_tables else f"CDC_{section}_{name}".upper(),
            default="" if field.default is None else f"`{field.default}`",
            allowed=_allowed(field),
            text=str(field.description),
        )


def _allowed(field: FieldInfo) -> str:
    """Say what values there are, where the model limits them."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    limits = []
    for limit in field.metadata:
        match limit:
            case Ge(least):
                limits.append(f"at least {least}")
            case Gt(bound):
                limits.append(f"more than {bound}")
            case Le(most):
                limits.append(f"at most {most}")
            case MinLen(1):
                limits.append("not empty")
            case MinLen(length):
                limits.append(f"at least {length} characters")
            case _ if pattern := getattr(limit, "pattern", None):
                limits.append(f"`{pattern}`")
    return ", ".join(limits)


if __name__ == "__main__":
    PAGE.write_text(page())

"""The verbs, in the order of their help, each imported when it is asked for.

To import all of them is a third of what a command costs that only asks something.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import cast

import typer
from typer._click import Command, Context, Parameter  # what TyperGroup's methods are declared with
from typer.core import TyperGroup
from typer.main import get_command, get_group

from cdc.cli.usage import leave_out, leave_out_of

_VERBS = (
    "demo",
    "check",
    "init",
    "run",
    "lag",
    "resync",
    "verify",
    "status",
    "explain",
    "slot",
    "failover",
    "quarantine",
    "alert",
    "config",
)


class _Imported(Mapping[str, Command]):
    """Verbs by name. The module of that name has a function of it, or an `app` with verbs below."""

    def __getitem__(self, name: str) -> Command:
        if name not in _VERBS:
            raise KeyError(name)
        module = import_module(f"cdc.cli.{name}")
        group: typer.Typer | None = getattr(module, "app", None)
        if group is not None:
            found: Command = get_group(group)
        else:
            alone = typer.Typer(add_completion=False)
            alone.command()(getattr(module, name))
            found = get_command(alone)
        found.name = name
        leave_out_of(found)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_VERBS)

    def __len__(self) -> int:
        return len(_VERBS)


class Verbs(TyperGroup):
    """The command that has the verbs."""

    def __init__(self, **named: object) -> None:
        """Take what typer says, but for the verbs."""
        super().__init__(**named)  # type: ignore[arg-type]  # typer's, as they come
        self.commands = cast("MutableMapping[str, Command]", _Imported())

    def get_params(self, ctx: Context) -> list[Parameter]:
        """Return the options of `cdc` itself."""
        parameters = super().get_params(ctx)
        leave_out(parameters)
        return parameters

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002  # nothing is hidden
        """Return the names; no verb is imported for them."""
        return list(_VERBS)

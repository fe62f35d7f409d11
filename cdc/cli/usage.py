"""Help without `<bool>`, which typer writes beside each flag: a flag takes nothing."""

from collections.abc import Iterable

import typer
from typer._click import Command, Parameter
from typer.core import TyperGroup, TyperOption

HELP = ["-h", "--help"]


def leave_out(parameters: Iterable[Parameter]) -> None:
    """Let flags have nothing beside them."""
    for parameter in parameters:
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""


def leave_out_of(command: Command) -> None:
    """Let the flags of a command, and of those below it, have nothing beside them."""
    leave_out(command.get_params(typer.Context(command, help_option_names=HELP)))
    for below in command.commands.values() if isinstance(command, TyperGroup) else ():
        leave_out_of(below)

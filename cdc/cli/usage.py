"""Help without `<bool>`, which typer writes beside each flag: a flag takes nothing."""

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command


def command(app: typer.Typer, help_option_names: list[str]) -> TyperGroup:
    """Return the command line of an app."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    _leave_out(group, help_option_names)
    return group


def _leave_out(command: TyperCommand | TyperGroup, help_option_names: list[str]) -> None:
    context = typer.Context(command, help_option_names=help_option_names)
    for parameter in command.get_params(context):
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""
    for below in command.commands.values() if isinstance(command, TyperGroup) else ():
        assert isinstance(below, TyperCommand | TyperGroup)
        _leave_out(below, help_option_names)

"""The command line: one file per verb, each parses, builds, calls and prints. No logic here.

Exit codes: 0 done; 1 the question was answered "no"; 2 usage; 75 a database stayed away (may be
tried again); 78 an operator is needed. Results go to stdout, all else to stderr.
"""

import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from cdc import __version__
from cdc.backoff import Verdict, described, judge, untrusted
from cdc.cli import (
    alert,
    check,
    config,
    demo,
    explain,
    failover,
    init,
    lag,
    quarantine,
    resync,
    run,
    slot,
    status,
)
from cdc.errors import CdcError, NeedsOperator, Unavailable
from cdc.observe.logs import set_up_logging

# Classes of SQLSTATE whose messages may quote a value: data, constraints, what functions raise.
_QUOTES_VALUES = {"22", "23", "44", "P0"}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"cdc {__version__}")
        raise typer.Exit


@app.callback()
def cdc(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", envvar="CDC_CONFIG", help="A cdc.toml with settings."),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep a Neon Postgres equal to a Supabase Postgres.

    First time: export CDC_SOURCE_DSN and CDC_TARGET_DSN, then `cdc check`, `cdc init`, `cdc run`.
    Just looking: `cdc demo` does all of it with two servers of its own.
    """
    context.obj = config_file


app.command()(demo.demo)
app.command()(check.check)
app.command()(init.init)
app.command()(run.run)
app.command()(lag.lag)
app.command()(resync.resync)
app.command()(status.status)
app.add_typer(explain.app, name="explain")
app.add_typer(slot.app, name="slot")
app.add_typer(failover.app, name="failover")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(alert.app, name="alert")
app.add_typer(config.app, name="config")


def main() -> None:
    """Run the command line and end the process with the contract's exit code."""
    set_up_logging()
    try:
        # By its name, however it was started: completion goes by it.
        app(prog_name="cdc")
    except CdcError as ex:
        _fail(ex)
    except psycopg.Error as ex:
        _fail(_unforeseen(ex))
    except OSError as ex:
        _fail(NeedsOperator(f"{ex.strerror or ex}: {ex.filename or 'no file'}"))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as ex:  # noqa: BLE001  # the last place that can keep a value out of the log
        typer.echo("".join(traceback.format_tb(ex.__traceback__)), err=True)
        problem = f"a fault of cdc itself: {type(ex).__name__}"
        _fail(NeedsOperator(problem, hint="please report it with the lines above"))


def _unforeseen(error: psycopg.Error) -> CdcError:
    """Return what may be said of a database's error that no code has put into words.

    Not its message where that could quote a value: a refused row, or a text that is no number.
    """
    to_do = untrusted(error)
    away = judge(error) is Verdict.RETRY and to_do is None
    kind = Unavailable if away else NeedsOperator
    reason = described(error)
    if error.sqlstate is None:
        reason = str(error).strip().splitlines()[0]
    elif error.sqlstate[:2] not in _QUOTES_VALUES:
        reason = f"{reason}: {error.diag.message_primary}"
    if kind is Unavailable:
        return kind(reason, hint="try again: is it up, and does it let this machine's address in?")
    return kind(reason, hint=to_do or "`cdc check` looks at both databases")


def _fail(error: CdcError) -> None:
    typer.secho(f"cdc: {error.message}", fg="red", err=True)
    if error.hint:
        typer.echo(f"     {error.hint}", err=True)
    sys.exit(error.exit_code)

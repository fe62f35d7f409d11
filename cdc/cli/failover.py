"""`cdc failover`: let the target take over."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cdc.assure.failover.drill import Drill
from cdc.assure.failover.drill import drill as rehearse
from cdc.assure.failover.findings import Finding, Severity
from cdc.assure.failover.look import Look, look
from cdc.assure.failover.promotion import Promotion, Refused, validate_all
from cdc.assure.failover.promotion import promote as carry_out
from cdc.cli.output import print_json, settings
from cdc.settings import Settings
from cdc.sizes import readable_bytes, readable_seconds
from cdc.sync.covered import covered_here

app = typer.Typer(no_args_is_help=True, help="Let the target take over: check, promote, drill.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_COLOURS = {Severity.BREAKS: "red", Severity.LOSES: "red", Severity.WARNS: "yellow"}


@app.command()
def check(context: typer.Context, json: Json = False) -> None:
    """Say whether the target could take over now, and what would be lost; changes nothing.

    The source may be dead: it is given five seconds to answer. Exits 0 if the target could take
    over, 1 if it cannot, or if something would be lost that can still be had. It connects to the
    target, so a sleeping Neon wakes up.
    """
    seen = asyncio.run(look(settings(context), covered_here, promoting=False))
    ready = seen.ready or seen.promoted_at is not None
    if json:
        print_json({"ok": ready, **_seen(seen), "findings": seen.findings})
    else:
        _print_findings(seen.findings)
        _print_state(seen)
        for line in seen.to_do:
            typer.echo(f"        {line}")
    if not ready:
        raise typer.Exit(1)


@app.command()
def promote(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Accept what would be lost; it is listed first.")
    ] = False,
    json: Json = False,
) -> None:
    """Have applications write to the target from now on: it is no copy any more.

    In one transaction: no daemon writes to it any more, triggers and rules fire again, identity
    columns and foreign keys are what they were, sequences go on behind the rows. Killed at any
    moment, it is wholly done or not at all; run again, it says that it is done.

    Refused with exit 1 while something would be lost that can still be had: while the source has
    commits that the target lacks, say, or somebody writes there.
    """
    given = settings(context)
    if not yes and not sys.stdin.isatty():
        raise typer.BadParameter("without a terminal nobody can be asked: give --yes")
    seen = asyncio.run(look(given, covered_here, promoting=True))
    if seen.promoted_at is None:
        _ask(seen, yes=yes, force=force, json=json)
    try:
        result = asyncio.run(carry_out(given, seen, covered_here, force=force))
    except Refused as ex:
        _refuse(ex.findings, json=json)
    if not result.before:
        _tell(given, result)
    if not json:
        _print_promotion(result)
    result.unvalidated = asyncio.run(validate_all(given))
    if json:
        print_json(result)
    else:
        _print_unvalidated(result.unvalidated)


@app.command()
def drill(context: typer.Context, json: Json = False) -> None:
    """Rehearse a promotion for real, in a transaction that is rolled back; exit 1 if it would fail.

    The daemon goes on; a batch may wait for some hundredths of a second. Where tables are locked,
    it says by whom. The ledger keeps the outcome.
    """
    result = asyncio.run(rehearse(settings(context), covered_here))
    if json:
        print_json(
            {
                "ok": result.ok,
                "seconds": result.seconds,
                "locked_seconds": result.locked_seconds,
                "tries": result.tries,
                "problem": result.problem or None,
                "hint": result.hint or None,
                "done": result.done,
                **_seen(result.look),
                "findings": result.look.findings,
            }
        )
    else:
        _print_drill(result)
    if not result.ok:
        raise typer.Exit(1)


def _seen(seen: Look) -> dict[str, object]:
    """Give what JSON says of both sides."""
    checkpoint, source = seen.facts.target.checkpoint, seen.facts.source
    lag = source.lag
    return {
        "promoted_at": seen.promoted_at,
        "checkpoint_lsn": checkpoint.lsn_text if checkpoint else None,
        "commit_time": checkpoint.commit_time if checkpoint else None,
        "commit_age_seconds": checkpoint.commit_age_s if checkpoint else None,
        "source": source.answer.value,
        "caught_up": source.caught_up,
        "lag_bytes": lag.lag_bytes if lag else None,
        "lag_seconds": lag.lag_seconds if lag else None,
        "to_do": seen.to_do,
    }


def _committed(time: str | None) -> str:
    """Say when what the target holds was committed on the source."""
    return "as of the initial copy" if time is None else f"committed {time}"


def _print_findings(findings: Sequence[Finding], *, err: bool = False) -> None:
    for finding in findings:
        word = f"{finding.severity.value:<6}"
        typer.secho(word, fg=_COLOURS[finding.severity], nl=False, err=err)
        typer.echo(f"  {finding}", err=err)
        for line in finding.mend.splitlines():
            typer.echo(f"        {line}", err=err)


def _print_state(seen: Look, *, err: bool = False) -> None:
    checkpoint = seen.facts.target.checkpoint
    if seen.promoted_at is not None:
        typer.secho(f"promoted at {seen.promoted_at}: it is no copy any more", fg="green", err=err)
    elif checkpoint is not None:
        age = readable_seconds(checkpoint.commit_age_s)
        ago = "" if checkpoint.commit_time is None else f" ({age} ago)"
        upto = f"{checkpoint.lsn_text}, {_committed(checkpoint.commit_time)}{ago}"
        word = "ok: the target could take over" if seen.ready else "no: the target is"
        typer.secho(f"{word}, at {upto}", fg="green" if seen.ready else "red", err=err)


def _ask(seen: Look, *, yes: bool, force: bool, json: bool) -> None:
    """Show what is at stake, refuse what cannot be, and ask."""
    refused = [f for f in seen.findings if f.severity is Severity.BREAKS]
    losing = [f for f in seen.findings if f.severity is Severity.LOSES]
    if refused or (losing and not force):
        _refuse([*refused, *losing], json=json)
    _print_findings(seen.findings, err=True)
    if yes:
        return
    _print_state(seen, err=True)
    losses = f" {len(losing)} losses are accepted." if losing else ""
    typer.confirm(
        f"From now on applications write to the target, and nothing of the source comes any more."
        f"{losses} Is it certain that nobody writes to the source, and shall it be done?",
        abort=True,
        err=True,
    )


def _refuse(findings: Sequence[Finding], *, json: bool) -> None:
    if json:
        print_json({"refused": findings})
    else:
        _print_findings(findings)
        can = all(finding.severity is Severity.LOSES for finding in findings)
        accept = "; --force accepts the losses" if can else ""
        typer.secho(f"refused, and nothing has changed{accept}", fg="red")
    raise typer.Exit(1)


def _tell(given: Settings, result: Promotion) -> None:
    """Tell who gets the alerts; that nobody can be reached is no reason to fail."""
    from cdc.observe.alerting import tell_failover  # noqa: PLC0415  # of each start 60 ms

    detail = f"up to {result.lsn}, {_committed(result.commit_time)}"
    outcome = asyncio.run(tell_failover(given, detail))
    if outcome is not None and not outcome.arrived:
        typer.secho(f"alerts.url could not be told: {outcome.said}", fg="yellow", err=True)


def _print_promotion(result: Promotion) -> None:
    for line in result.done:
        typer.echo(f"  {line}")
    upto = f"up to {result.lsn}, {_committed(result.commit_time)}"
    if result.before:
        typer.secho(f"promoted already, at {result.promoted_at}: {upto}", fg="green")
    else:
        typer.secho(f"promoted in {readable_seconds(result.seconds)}: {upto}", fg="green")
    for lost in result.accepted:
        typer.secho(f"  lost: {lost}", fg="yellow")
    typer.echo("next: point the applications at the target, with the privileges they need there;")
    typer.echo("      stop the daemon for good: systemctl disable --now cdc;")
    typer.echo("      if the source lives on, let go of the WAL that it keeps: cdc slot drop")
    sys.stdout.flush()


def _print_unvalidated(statements: Sequence[str]) -> None:
    """Say what is left to be done about foreign keys."""
    if statements:
        typer.echo("foreign keys of which not all rows are known to keep them; on the target:")
    for statement in statements:
        typer.echo(f"      {statement}")


def _print_drill(result: Drill) -> None:
    _print_findings(result.look.findings)
    for line in result.done if result.ok else ():
        typer.echo(f"        {line}")
    lag = result.look.facts.source.lag
    if result.look.promoted_at is not None:
        _print_state(result.look)
    elif result.ok:
        behind = f"{readable_bytes(lag.lag_bytes)} of WAL" if lag else "what the source has since"
        typer.secho(
            f"ok: it would have taken {result.seconds:.2f} s, tables locked for"
            f" {result.locked_seconds:.2f} s; lost: {behind}",
            fg="green",
        )
    else:
        typer.secho(
            f"a promotion would fail{': ' * bool(result.problem)}{result.problem}", fg="red"
        )
        if result.hint:
            typer.echo(f"        {result.hint}")

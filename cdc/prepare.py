"""What has to be before a stream starts: both sides are checked, then what is missing is made."""

from cdc.assure.preflight import preflight
from cdc.assure.preflight.facts import Intent
from cdc.assure.preflight.findings import Severity
from cdc.errors import CheckFailed
from cdc.settings import Settings
from cdc.sync.initialize import initialize


async def prepare(settings: Settings, *, snapshot: bool) -> None:
    """Check both sides, then initialize what is missing; raise CheckFailed with all findings."""
    intent = Intent.COPY if snapshot else Intent.TAKE_OVER
    # A position that is lost is found by the start of the stream, which puts it into the ledger.
    warned = settings.source.model_copy(update={"on_slot_lost": "resync"})
    findings = await preflight(settings.model_copy(update={"source": warned}), intent=intent)
    breaking = [finding for finding in findings if finding.severity is Severity.BREAKS]
    if breaking:
        raise CheckFailed(
            "; ".join(f"{finding.subject}: {finding.problem}" for finding in breaking),
            hint=breaking[0].mend if len(breaking) == 1 else "`cdc check` shows how to mend each",
        )
    await initialize(settings, snapshot=snapshot)

"""Explains a lag: which stage holds the pipeline back, and what to do about it.

    the source, several looks ─► is anything behind? ─► a verdict? ─► the target, if not ─► findings

The source is asked first. The target is connected to only where something is behind and the source
does not say why: else a Neon that sleeps stays asleep. Nothing is changed on either side.
"""

from collections.abc import Callable
from dataclasses import replace

from cdc.assure.explain.facts import Facts
from cdc.assure.explain.findings import Explanation, Finding, Stage
from cdc.assure.explain.on_source import judge_source
from cdc.assure.explain.on_target import judge_target
from cdc.assure.explain.remarks import remarks
from cdc.assure.explain.source import load_source
from cdc.assure.explain.target import load_target
from cdc.postgres.session import connect
from cdc.settings import Settings
from cdc.sizes import readable_bytes, readable_seconds

_NAME = "cdc explain"


async def explain_lag(settings: Settings, *, looking: Callable[[str], None]) -> Explanation:
    """Ask the source, the target if need be, and return what was found.

    `looking` hears which side is looked at, where that takes a while.
    """
    async with await connect(settings.source.require_dsn(), application_name=_NAME) as source:
        facts = Facts(await load_source(source, settings, lambda: looking("source")))
    if needs_target(facts):
        looking("target")
        facts = replace(facts, target=await load_target(settings, _NAME))
    return explain(facts)


def needs_target(facts: Facts) -> bool:
    """Tell whether something is behind, and the source does not say why."""
    return facts.source.stands_behind and judge_source(facts.source) is None


def explain(facts: Facts) -> Explanation:
    """Return the verdict, and what else there is to know."""
    verdict = _verdict(facts)
    others = [finding for finding in remarks(facts) if finding.stage is not verdict.stage]
    return Explanation(
        behind=facts.source.stands_behind,
        verdict=verdict.stage,
        asked_target=facts.target is not None,
        lag=facts.source.lag,
        findings=[verdict, *others],
    )


def _verdict(facts: Facts) -> Finding:
    source, target = facts.source, facts.target
    if not source.stands_behind:
        return _level(facts)
    verdict = judge_source(source)
    if verdict is None and target is not None:
        verdict = judge_target(source, target)
    if verdict is not None:
        return verdict
    assert source.lag is not None
    return Finding(
        Stage.UNKNOWN,
        f"{readable_bytes(source.lag.lag_bytes)} are behind, and nobody is seen to hold them back",
        "read the daemon's log, and run `cdc explain lag` again",
    )


def _level(facts: Facts) -> Finding:
    looks = facts.source.looks
    if len(looks) == 1:
        return Finding(Stage.NONE, "nothing is behind", "")
    seconds = looks[-1].at_s - looks[0].at_s
    return Finding(
        Stage.NONE,
        f"nothing is held back: what was written {readable_seconds(seconds)} ago is confirmed",
        "",
    )

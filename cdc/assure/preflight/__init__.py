"""Preflight: everything about the two databases that would break the copy, before it breaks.

    the DSNs ─► both sessions ─► is it one database? ─► facts of both sides ─► checks ─► findings

A stage that finds something ends the preflight there: behind a pooler nothing can be asked, and of
one database twice, or of a server that is too old, the later answers would mislead.

Promises to change nothing: no statement that writes, on sessions that are read-only. A failed
connection is raised as psycopg raises it, it is not a finding; a DSN that is not set or cannot be
read raises SettingsError, and a table that somebody keeps locked Unavailable.
"""

import secrets
from dataclasses import replace

from psycopg.conninfo import conninfo_to_dict

from cdc.assure.preflight import (
    constraints,
    definitions,
    encryption,
    permissions,
    plugin,
    policies,
    publishing,
    streaming,
)
from cdc.assure.preflight.dsn import export_dsn
from cdc.assure.preflight.facts import Facts, Intent
from cdc.assure.preflight.findings import Finding, Severity, breaks
from cdc.assure.preflight.loading import load_source, load_target
from cdc.postgres.patience import Waiting, patience
from cdc.postgres.session import Connection, Side, connect, conninfo, endpoint
from cdc.settings import Settings
from cdc.target.connection import connect_target

# What these find on the target concerns single tables.
_CHECKS_OF_TABLES = (*definitions.CHECKS, *constraints.CHECKS, *policies.CHECKS)
_CHECKS = (
    publishing.check_schemas,
    encryption.check_encryption,
    *streaming.CHECKS,
    *_CHECKS_OF_TABLES,
    *permissions.CHECKS,
)
_CHECKS_BY_PLUGIN = {"pgoutput": publishing.CHECKS, "wal2json": plugin.CHECKS}

_NAME = "cdc check"

# FOR TABLES IN SCHEMA, column lists and row filters are of 15, Supabase's oldest.
OLDEST_SOURCE = 150000


async def preflight(settings: Settings, *, intent: Intent = Intent.ASK) -> list[Finding]:
    """Return what is wrong with the pair; nothing if it may be copied, or goes on being copied."""
    source_dsn, target_dsn = settings.source.require_dsn(), settings.target.require_dsn()
    pooled = [*check_pooled("source", source_dsn), *check_pooled("target", target_dsn)]
    if pooled:
        return pooled
    async with (
        await connect(source_dsn, application_name=_NAME) as source,
        await connect_target(target_dsn, application_name=_NAME) as target,
        patience(
            Waiting("source", source, source_dsn),
            Waiting("target", target, target_dsn),
        ),
    ):
        if await _is_one_database(source, target):
            return [
                breaks(
                    "both",
                    "CDC_TARGET_DSN",
                    f"names the database that CDC_SOURCE_DSN names: {endpoint(source_dsn)}",
                    "export CDC_TARGET_DSN=…  # of the database to copy to",
                )
            ]
        too_old = check_source_version(source.info.server_version)
        if too_old:
            return too_old
        facts = Facts(
            settings,
            intent,
            await load_source(source, settings),
            await load_target(target, settings),
        )
    promoted = check_promoted(facts)
    if promoted:
        return promoted
    checks = (*_CHECKS_BY_PLUGIN[settings.source.plugin], *_CHECKS)
    findings = [finding for check in checks for finding in check(facts)]
    if not facts.forgives:
        return findings
    of_tables = [finding for check in _CHECKS_OF_TABLES for finding in check(facts)]
    return [_forgiven(finding) if finding in of_tables else finding for finding in findings]


def _forgiven(finding: Finding) -> Finding:
    """Return what a finding is where changes that the target refuses do not end the daemon."""
    if finding.severity is Severity.WARNS or finding.side == "source":
        return finding
    problem = f"{finding.problem} (the changes that it refuses go into quarantine)"
    return replace(finding, severity=Severity.WARNS, problem=problem)


async def _is_one_database(source: Connection, target: Connection) -> bool:
    """Tell whether both sessions are in the same database, however it was named.

    An advisory lock is a database's own, takes no privilege, and goes with its session.
    """
    lock = "select pg_try_advisory_lock(%s)"
    key = secrets.randbits(62)
    await source.execute(lock, (key,))
    row = await (await target.execute(lock, (key,))).fetchone()
    return row is not None and not row[0]


def check_promoted(facts: Facts) -> list[Finding]:
    """Find a target that applications write to: whatever else is found would mislead."""
    checkpoint = facts.target.bookkeeping.checkpoint
    if checkpoint is None or checkpoint.promoted_at is None:
        return []
    return [
        breaks(
            "target",
            f"slot {facts.slot}",
            f"was promoted at {checkpoint.promoted_at}: applications write there, and nothing of"
            " the source is written to it any more",
            "# stop the daemon for good (systemctl disable --now cdc); the way back is in"
            " docs/operating.md, “Failover”",
        )
    ]


def check_source_version(version: int) -> list[Finding]:
    """Find a source that is too old, by its server_version_num."""
    if version >= OLDEST_SOURCE:
        return []
    return [
        breaks(
            "source",
            "server version",
            f"is {version // 10_000}, and the oldest that can be copied from is"
            f" {OLDEST_SOURCE // 10_000}",
            "# upgrade the source: Supabase dashboard, Project Settings, Infrastructure",
        )
    ]


def check_pooled(side: Side, dsn: str) -> list[Finding]:
    """Find a pooler's endpoint by its name or port: no session there is ours alone."""
    given = conninfo_to_dict(conninfo(dsn, application_name=_NAME, side=side))
    hosts = str(given.get("host") or "").split(",")
    ports = str(given.get("port") or 5432).split(",")
    for n, host in enumerate(hosts):
        port = ports[min(n, len(ports) - 1)]
        label, dot, domain = host.partition(".")
        user = str(given.get("user") or "")
        if host.endswith(".pooler.supabase.com"):
            # Supavisor tells tenants apart by the user's name: postgres.PROJECT.
            user, _, project = user.partition(".")
            pooler, direct = "Supavisor", f"db.{project or 'PROJECT'}.supabase.co"
            port = "5432"
        elif port == "6543":
            pooler, direct, port = "Supabase's pooler (port 6543)", host, "5432"
        elif "-pooler" in label:
            pooler, direct = "Neon's pooler", label.replace("-pooler", "") + dot + domain
        else:
            continue
        return [
            breaks(
                side,
                f"CDC_{side.upper()}_DSN",
                f"goes through {pooler}, which keeps neither settings nor replication: the direct"
                " endpoint is needed",
                export_dsn(side, user, f"{direct}:{port}", given),
            )
        ]
    return []

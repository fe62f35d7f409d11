"""What an operator does with changes in quarantine: look, try again, skip.

Trying again applies an entry as the daemon would have, in the order in which the entries came in,
each by itself; at last those that are left together, since two rows may refer to each other. An
entry whose row waits for an earlier one is not tried before that one is applied or skipped.

All of it is one transaction under the table's lock. The daemon goes on meanwhile, and waits only
where it has to put a change into the quarantine itself (`cdc.wait_behind`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import psycopg

from cdc.changes.change import Change
from cdc.changes.fold import Truncation
from cdc.changes.held import Held
from cdc.errors import ChangeRefused, CheckFailed
from cdc.lsn import Lsn, parse_lsn
from cdc.postgres.catalog import Catalog
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.row import row_reader
from cdc.target.action import CHECK, DEFER
from cdc.target.checkpoint import keep_copy
from cdc.target.ledger import record
from cdc.target.plan import Planner
from cdc.target.quarantine import Entry, load_entries
from cdc.target.refusal import refusal
from cdc.target.replay import Replay
from cdc.target.session import connect_for_writing, run
from cdc.target.tables import prepare_tables

# The daemon holds the lock for as long as a transaction that puts something in.
_LOCK = "set local lock_timeout = '10s'; lock table cdc.quarantine in share row exclusive mode"


@dataclass(slots=True, frozen=True)
class Attempt:
    """What came of trying an entry again."""

    entry: Entry
    problem: str | None
    """Why it stays; None: it is applied."""


async def list_entries(settings: Settings, *, resolved: bool) -> list[Entry]:
    """Return what is in quarantine; with `resolved` also what once was."""
    async with await connect_for_writing(settings.target.require_dsn()) as target:
        return await load_entries(target, settings.source.slot, resolved=resolved)


def waits_for(entry: Entry, entries: Sequence[Entry]) -> int | None:
    """Return the first earlier open entry that an entry has to wait for."""
    for earlier in entries:
        if earlier.id >= entry.id:
            break
        if earlier.resolved_at is None and earlier.table.name == entry.table.name:
            held = Held()
            earlier.hold(held)
            if _waits(entry, held):
                return earlier.id
    return None


def _waits(entry: Entry, held: Held) -> bool:
    if isinstance(entry.change, Truncation):
        return entry.table.name in held.tables
    return held.waits(entry.change)


async def retry(settings: Settings, ids: Sequence[int]) -> list[Attempt]:
    """Try entries again, all that are open if no `ids` are given; return what came of each."""
    slot = settings.source.slot
    async with await connect_for_writing(settings.target.require_dsn()) as target:
        entries = await load_entries(target, slot)
        _require(ids, entries)
        catalog = await _prepare(target, slot, entries)
        async with target.transaction():
            await target.execute(_LOCK)
            entries = await load_entries(target, slot)
            chosen = {entry.id for entry in entries if not ids or entry.id in ids}
            read_row = row_reader(settings.source.require_dsn())
            planner = Planner(catalog, {entry.table.name for entry in entries})
            replay = Replay(target, planner, slot, Held(), quarantine=False, read_row=read_row)
            attempts = await _Retrial(target, replay, entries).run(chosen)
            await keep_copy(target, slot)
            return attempts


async def skip(settings: Settings, ids: Sequence[int]) -> list[Entry]:
    """Give changes up for good, with a note in the ledger; return them."""
    slot = settings.source.slot
    async with (
        await connect_for_writing(settings.target.require_dsn()) as target,
        target.transaction(),
    ):
        await target.execute(_LOCK)
        entries = await load_entries(target, slot)
        _require(ids, entries)
        skipped = [entry for entry in entries if entry.id in ids]
        for entry in skipped:
            await _resolve(target, entry, "skipped")
            detail = f"{entry.operation} of {entry.table}, entry {entry.id}, LSN {entry.lsn}"
            await record(target, slot, "change skipped", detail)
        return skipped


def _require(ids: Sequence[int], entries: Sequence[Entry]) -> None:
    unknown = sorted(set(ids) - {entry.id for entry in entries})
    if unknown:
        raise CheckFailed(
            f"no open entry {', '.join(map(str, unknown))} is in quarantine",
            hint="`cdc quarantine list` shows those that there are",
        )


async def _prepare(target: Connection, slot: str, entries: Sequence[Entry]) -> Catalog:
    """Read the tables' definitions as they are now; make the tables take rows as they are."""
    names = {entry.table.name for entry in entries}
    schemas = sorted({schema for schema, _ in names})
    catalog = await load_catalog(target, schemas)
    if await prepare_tables(target, slot, catalog, names):
        catalog = await load_catalog(target, schemas)
    return catalog


def _statement(entry: Entry) -> tuple[str, int]:
    """Return what entries have in common that only work together: tables truncated at once."""
    return (entry.lsn, 0) if entry.operation == "truncate" else (entry.lsn, entry.id)


def _changes(entries: Sequence[Entry]) -> Iterator[tuple[Lsn, Change | Truncation]]:
    """Yield what to apply, tables that were truncated together as one change."""
    for (lsn, _), group in groupby(entries, _statement):
        changes = [entry.change for entry in group]
        if isinstance(changes[0], Truncation):
            tables = tuple(table for change in changes for table in change.tables)
            yield parse_lsn(lsn), Truncation(tables, restart_identity=False)
        else:
            yield parse_lsn(lsn), changes[0]


async def _resolve(target: Connection, entry: Entry, resolution: str) -> None:
    await target.execute(
        "update cdc.quarantine set resolved_at = clock_timestamp(), resolution = %s where id = %s",
        (resolution, entry.id),
    )


class _Retrial:
    """Entries tried again, inside the transaction that is open."""

    def __init__(self, target: Connection, replay: Replay, entries: Sequence[Entry]) -> None:
        self._target = target
        self._replay = replay
        self._entries = entries

    async def run(self, chosen: set[int]) -> list[Attempt]:
        """Try the chosen entries until no more of them can be applied."""
        problems: dict[int, str | None] = {}
        while True:
            applied = await self._pass(chosen, problems)
            if not applied and not await self._together(chosen, problems):
                break
        for entry in self._entries:
            if entry.id in chosen and (problem := problems[entry.id]) is not None:
                await self._target.execute(
                    "update cdc.quarantine set reason = %s where id = %s and reason is not null",
                    (problem, entry.id),
                )
        return [Attempt(e, problems[e.id]) for e in self._entries if e.id in chosen]

    async def _pass(self, chosen: set[int], problems: dict[int, str | None]) -> int:
        """Try what is left, each change by itself; return how many entries were applied."""
        held, holders, applied = Held(), list[Entry](), 0
        open_entries = [e for e in self._entries if problems.get(e.id, "not tried") is not None]
        for _, group in groupby(open_entries, _statement):
            entries = list(group)
            ready = [e for e in entries if e.id in chosen and not _waits(e, held)]
            problem = await self._try(ready) if ready else None
            for entry in entries:
                if entry in ready:
                    problems[entry.id] = problem
                    applied += problem is None
                elif entry.id in chosen:
                    problems[entry.id] = f"waits for entry {waits_for(entry, holders)}"
                if entry not in ready or problem is not None:
                    entry.hold(held)
                    holders.append(entry)
        return applied

    async def _together(self, chosen: set[int], problems: dict[int, str | None]) -> bool:
        """Try all that is left at once, constraints checked at the end."""
        left, held = list[Entry](), Held()
        for entry in self._entries:
            if entry.id in problems and problems[entry.id] is None:
                continue
            if entry.id not in chosen or _waits(entry, held):
                entry.hold(held)
            else:
                left.append(entry)
        if len(left) < 2 or await self._try(left) is not None:  # noqa: PLR2004  # one was tried
            return False
        problems.update(dict.fromkeys((entry.id for entry in left), None))
        return True

    async def _try(self, entries: Sequence[Entry]) -> str | None:
        """Apply entries under a savepoint; return why the target refuses that, or None."""
        last = parse_lsn(entries[-1].lsn)
        try:
            async with self._target.transaction():
                await run(self._target, [DEFER])
                for lsn, change in _changes(entries):
                    await self._replay.run([change], lsn)
                await self._check(last)
                for entry in entries:
                    await _resolve(self._target, entry, "applied")
        except ChangeRefused as ex:
            return ex.message
        return None

    async def _check(self, lsn: Lsn) -> None:
        try:
            await run(self._target, [CHECK])
        except psycopg.errors.IntegrityError as ex:
            raise refusal(ex, None, lsn) from ex

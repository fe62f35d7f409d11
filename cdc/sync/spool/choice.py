"""Straight or by way of the spool? What is asked at the beginning of each turn.

A daemon that starts while the target is away may only queue what comes from a slot that it has
streamed from before: so the first stream leaves an empty spool behind, and a new slot removes it.
"""

from collections.abc import Iterator

from cdc.errors import SettingsError
from cdc.lsn import Lsn
from cdc.settings import Settings
from cdc.source.slot import Slot
from cdc.sync.spool.file import create_file, identity_in, store_path
from cdc.sync.spool.store import Store
from cdc.target.checkpoint import SlotIdentity


def require_spoolable(settings: Settings) -> None:
    """Raise SettingsError where the spool is on and cannot be."""
    if settings.spool.max_bytes and settings.source.plugin != "pgoutput":
        raise SettingsError(
            "the spool needs the output plugin pgoutput: wal2json is understood with a look at the"
            " source's catalog, which is another when the changes are replayed",
            hint="set CDC_SPOOL_MAX_BYTES=0, or use a slot of pgoutput (CDC_SOURCE_PLUGIN)",
        )


def away_s(settings: Settings) -> float | None:
    """Return after how long an absent target ends a turn, so that the next one queues."""
    return settings.spool.after if settings.spool.max_bytes else None


def open_spool(settings: Settings, identity: SlotIdentity) -> Store | None:
    """Open the slot's spool; None where there never was one. One that is off may hold changes."""
    path = store_path(settings.state_dir, identity)
    return Store(path, identity, _key(settings)) if path.exists() else None


def stores(settings: Settings) -> Iterator[Store]:
    """Open each spool of the slot's name, without the source to say which is the one."""
    for path in settings.state_dir.glob(f"*-{settings.source.slot}.spool"):
        yield Store(path, identity_in(path), _key(settings))


def by_spool(store: Store, slot: Slot | None, settings: Settings, *, away: bool) -> bool:
    """Tell whether the turn goes by way of the spool."""
    if store.empty:
        return away and settings.spool.max_bytes > 0
    # Else what it holds is from before what was streamed since: the checkpoint will tell.
    return slot is None or slot.confirmed is None or slot.confirmed <= store.held.upto


def leave_empty(store: Store | None, settings: Settings, identity: SlotIdentity, at: Lsn) -> None:
    """Have an empty spool while the stream goes straight to a target that stands at `at`."""
    if store is not None:
        if not store.empty:
            store.clear(at)
    elif settings.spool.max_bytes:
        path = store_path(settings.state_dir, identity)
        create_file(path, identity, _key(settings), at)


def discard(settings: Settings, identity: SlotIdentity) -> None:
    """Remove what an older slot of the same name may have left: the copy under way has it all."""
    path = store_path(settings.state_dir, identity)
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _key(settings: Settings) -> str | None:
    key = settings.spool.key
    return None if key is None else key.get_secret_value()

"""Straight or by way of the spool? What the daemon asks at the beginning of each turn.

By way of the spool while there is something in it, and after the target was found away. A daemon
that starts while the target is away may only queue what comes after a slot that it has streamed
from before: so the first stream leaves an empty spool behind.
"""

from cdc.errors import SettingsError
from cdc.lsn import Lsn
from cdc.settings import Settings
from cdc.source.slot import Slot
from cdc.sync.position import Held
from cdc.sync.spool.file import create_file, store_path
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
    key = settings.spool.key
    secret = None if key is None else key.get_secret_value()
    return Store(path, identity, secret) if path.exists() else None


def by_spool(store: Store | None, slot: Slot | None, settings: Settings, *, away: bool) -> bool:
    """Tell whether the turn goes by way of the spool."""
    if store is None:
        return False
    if store.empty:
        return away and settings.spool.max_bytes > 0
    # Else what it holds is from before what was streamed since: the checkpoint will tell.
    return slot is None or slot.confirmed is None or slot.confirmed <= store.held.upto


def held_by(store: Store | None) -> Held | None:
    """Return what the spool stands for."""
    return None if store is None else store.held


def leave_empty(store: Store | None, settings: Settings, identity: SlotIdentity, at: Lsn) -> None:
    """Have an empty spool while the stream goes straight to a target that stands at `at`."""
    if store is not None:
        if not store.empty:
            store.clear(at)
    elif settings.spool.max_bytes:
        key = settings.spool.key
        secret = None if key is None else key.get_secret_value()
        create_file(store_path(settings.state_dir, identity), identity, secret, at)

"""Up to where nothing is missing on the target, as far as it and this machine's disk know."""

from cdc.errors import PositionLost
from cdc.lsn import Lsn
from cdc.settings import Settings
from cdc.sync.position import IdleFile, covered
from cdc.target.checkpoint import Checkpoint


def covered_here(settings: Settings, checkpoint: Checkpoint) -> Lsn:
    """Return it for a target that stands at a checkpoint; what is in the spool is not there."""
    assert checkpoint.lsn is not None
    try:
        pair = IdleFile(settings.state_dir, checkpoint.identity).load()
    except PositionLost:  # the file is broken: it says nothing
        pair = None
    return covered(checkpoint.lsn, pair, None)

"""Changes queued on the daemon's own disk while the target is away.

A second slot, so to speak, that stands between the source's and the target:

    source ─► stream ─► writer ─► store (fsync) ─► stream of the spool ─► pipeline ─► target
                 ▲         │                             ▲                    │
                 └ confirmed: what is in the store       └ forgotten: what the target has committed

Nothing of it is there in normal operation: a turn of the daemon either streams straight to the
target, or goes through the spool until that is empty again.
"""

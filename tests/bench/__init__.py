"""Measurements on two real servers with the daemon as a real process: `make bench`.

Not tests: a bench takes minutes, prints figures and asserts no timing. It does assert that what it
measured was right, so that no figure is ever that of a wrong copy.

    workloads ─► contest ─► contestants, each in a lane of the arena ─► drain ─► figures
    figures ─► report, plot

`latency`, `wan`, `snapshot` and `growth` ask other questions of the same arena; `large` and `value`
look at the daemon alone, in the `rig`.
"""

"""Rows for the credit schema: `load` fills its tables, `Workload` writes to them while it is on.

    load ── Workload ── everyday, key_changes ── rows ── writer ── values

For the demo, the tests and the benches. Both need a role that may write the tables of the credit
schema, on the source, and touch nothing else there.
"""

from cdc.demo.workload.live import Workload
from cdc.demo.workload.loading import load

__all__ = ["Workload", "load"]

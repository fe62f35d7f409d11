"""cdc keeps a Neon Postgres equal to the `credit` schema of a Supabase Postgres.

How a row travels, and the file that each step lives in:

     source                            the daemon                                   target
    WAL → slot ─► source/stream ─► wire/replication ─► wire/pgoutput ─► changes/batch, fold
            ▲                       frames         or wire/wal2json     net change per row
            │                                         messages               │
            │                                 target/plan, target/statements ▼ SQL + COPY
            └── standby status ◄── progress ◄── target/checkpoint ◄── target/apply ─► tables
                update               LSNs        same transaction

Imports point one way, and `make check` keeps it so. `wire`, `changes`, `errors`, `lsn` and
`progress` are pure; `postgres` is what both servers have in common; `source` and `target` do not
know each other; `sync` conducts them; `assure` answers questions about the pair; `daemon` keeps it
alive; `demo` shows it; `cli` only parses, calls and prints.
"""

__version__ = "0.1.0"

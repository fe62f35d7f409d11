"""Lines of wal2json 2.5 as PostgreSQL 15.18 sent them, in order, for one transaction.

    credit.t (id int primary key, body text, s credit.status, n numeric(6,2), b bool, raw bytea,
              twice int generated always as (id * 2) stored)
    credit.f (id int, k "char", primary key (k, id))                        replica identity full

With body in TOAST (cut here to what tells it from others), and NaN in n, which came as null.
"""

from pathlib import Path

LINES = Path(__file__).with_name("wal2json-2.5.jsonl").read_bytes().splitlines()

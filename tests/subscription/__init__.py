"""Behaviours as in PostgreSQL's own src/test/subscription, a native subscription as the oracle."""

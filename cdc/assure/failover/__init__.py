"""Failover: the target takes over where the source is lost, or is left on purpose.

    look (both sides, writes nothing) ─► findings ─► promotion, or a drill of it

A target that was a copy has to become a database that applications write to: what its tables do by
themselves (triggers, rules, identity columns, actions of foreign keys) was taken from them, and is
given back; sequences go on where rows have come to; and no daemon may write to it any more.

It does not make the source again what the target has become: the way back is a new copy.
"""

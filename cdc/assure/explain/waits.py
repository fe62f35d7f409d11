"""Wait events of a walsender, in lower case: servers before 17 write some of them otherwise."""

UNREAD = "walsenderwritedata"
"""It has something to send, and whoever is to read it does not."""

IDLE = frozenset({"walsenderwaitforwal", "walsendermain"})
"""It has sent all that there is."""

STANDBY = "waitforstandbyconfirmation"
"""It may not send what a standby of synchronized_standby_slots has not got yet."""

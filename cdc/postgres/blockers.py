"""How a message speaks of sessions: who they are, what they do, how they are ended. Pure."""

from collections.abc import Sequence

from cdc.postgres.activity import Session
from cdc.postgres.session import Side
from cdc.sizes import readable_seconds

_SHOWN = 3


def described(session: Session) -> str:
    """Return who a session is, since when, and what it ran, if our role may know that."""
    if not session.pid:
        return "a prepared transaction"
    who = f"PID {session.pid} ({session.application or 'unnamed'}, user {session.user or 'none'}"
    if session.hidden:
        return f"{who}; what it does is hidden from our role, which lacks pg_read_all_stats)"
    doing = [session.state or "unknown"]
    if session.transaction_s is not None:
        doing.append(f"transaction open for {readable_seconds(session.transaction_s)}")
    if session.waits_for_lock:
        doing.append("waits for a lock itself")
    if session.statement:
        ran = "runs" if session.state == "active" else "last ran"
        doing.append(f"{ran} `{session.statement}`")
    return f"{who}, {', '.join(doing)})"


def blockers_of(sessions: Sequence[Session]) -> str:
    """Return who all of them are, if they are few."""
    shown = "; ".join(described(session) for session in sessions[:_SHOWN])
    more = len(sessions) - _SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown or "somebody who is gone by now"


def end_of(sessions: Sequence[Session], side: Side) -> str:
    """Return what ends them; what they have not committed is rolled back."""
    pids = [session.pid for session in sessions if session.pid]
    if not pids:
        return (
            f"select gid, prepared from pg_prepared_xacts;  -- on the {side}; then"  # noqa: S608  # by hand
            " COMMIT PREPARED or ROLLBACK PREPARED"
        )
    calls = ", ".join(f"pg_terminate_backend({pid})" for pid in pids[:_SHOWN])
    return f"select {calls};  -- on the {side}, if its transaction may be lost; or wait for its end"

"""How long a message of ours takes from the source's WAL until all before it is on the target."""

from cdc.heartbeat import Heartbeat
from cdc.lsn import Lsn


def test_a_heartbeat_that_arrives() -> None:
    """It has taken from its being sent until the target had all before it."""
    heartbeat = Heartbeat()
    assert heartbeat.send(10.0)
    heartbeat.sent(Lsn(100))
    assert heartbeat.arrive(Lsn(100), 10.1) is None
    assert heartbeat.arrive(Lsn(101), 10.5) == 0.5
    assert (heartbeat.duration_s, heartbeat.age_s(11)) == (0.5, 0)


def test_one_at_a_time() -> None:
    """While one is under way no other is sent, and its age grows."""
    heartbeat = Heartbeat()
    assert heartbeat.send(10.0)
    heartbeat.sent(Lsn(100))
    assert not heartbeat.send(20.0)
    assert heartbeat.age_s(25.0) == 15.0


def test_one_whose_place_is_not_known_yet() -> None:
    """Nothing arrives before its LSN is known, however far the target is."""
    heartbeat = Heartbeat()
    heartbeat.send(10.0)
    assert heartbeat.arrive(Lsn(1000), 11.0) is None
    heartbeat.sent(Lsn(100))
    assert heartbeat.arrive(Lsn(1000), 12.0) == 2.0


def test_the_end_of_a_stream() -> None:
    """What was under way is given up; what the one before has taken is still known."""
    heartbeat = Heartbeat()
    heartbeat.send(1.0)
    heartbeat.sent(Lsn(1))
    heartbeat.arrive(Lsn(2), 2.0)
    heartbeat.send(3.0)
    heartbeat.forget()
    assert (heartbeat.age_s(9.0), heartbeat.duration_s) == (0.0, 1.0)
    assert heartbeat.send(10.0)

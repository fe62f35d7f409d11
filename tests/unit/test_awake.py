"""How long a target was kept awake, and how often it was woken: by what was asked of it, when."""

from cdc.awake import SUSPENDED_AFTER_S, Wakefulness


def ask(awake: Wakefulness, begin: float, end: float) -> None:
    """Ask something that takes from one time to another."""
    awake.begin(begin)
    awake.end(end)


def test_nobody_asked() -> None:
    """A target that nobody asked was not awake for us."""
    awake = Wakefulness()
    assert (awake.wake_ups, awake.seconds(1e6)) == (0, 0)


def test_a_question_and_the_while_until_it_is_suspended() -> None:
    """One question costs its own time, and the idle time after which Neon suspends."""
    awake = Wakefulness()
    ask(awake, 100, 102)
    assert awake.seconds(110) == 10
    assert awake.seconds(1e6) == 2 + SUSPENDED_AFTER_S
    assert awake.wake_ups == 1


def test_questions_close_to_each_other() -> None:
    """While the target would not have been suspended in between, it was awake all the time."""
    awake = Wakefulness()
    for minute in range(10):
        ask(awake, minute * 60, minute * 60 + 1)
    assert (awake.wake_ups, awake.seconds(541)) == (1, 541)


def test_questions_far_from_each_other() -> None:
    """Each burst wakes it anew, and costs its idle time again."""
    awake = Wakefulness()
    for burst in range(4):
        ask(awake, burst * 900, burst * 900 + 60)
    assert (awake.wake_ups, awake.seconds(1e6)) == (4, 4 * (60 + SUSPENDED_AFTER_S))


def test_questions_at_the_same_time() -> None:
    """Several sessions keep one target awake, not several."""
    awake = Wakefulness()
    awake.begin(0)
    ask(awake, 1, 5)
    awake.end(10)
    assert awake.seconds(10) == 10


def test_a_question_that_takes_longer_than_the_idle_time() -> None:
    """While it is being answered, the target is awake."""
    awake = Wakefulness()
    awake.begin(0)
    assert awake.seconds(1000) == 1000
    ask(awake, 1000, 1001)
    awake.end(2000)
    assert (awake.wake_ups, awake.seconds(2000)) == (1, 2000)

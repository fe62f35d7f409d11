"""Alerts on their way: in order, tried again, never more than there is room for, the last word."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from cdc.observe.alerts import Alert, Status
from cdc.observe.conditions import LAGGING, Condition, Severity
from cdc.observe.delivery import Delivery
from cdc.observe.webhook import message
from cdc.settings import AlertSettings
from tests.databases import wait_until
from tests.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes all that comes."""
    with receiving() as opened:
        yield opened


class Daemon:
    """What a delivery needs of one."""

    def __init__(self, receiver: Receiver) -> None:
        self.url: str | None = receiver.url
        self.arrived: list[str] = []
        self.delivery = Delivery(self.settings, lambda alert: self.arrived.append(alert.incident))

    def settings(self) -> AlertSettings:
        """Give the settings of now."""
        return AlertSettings(url=None if self.url is None else SecretStr(self.url))

    def put(self, *names: str) -> None:
        """Have alerts sent, each of an incident of its own."""
        condition = Condition(LAGGING, Severity.WARNING)
        for name in names:
            alert = Alert(name, 1, Status.FIRING, condition, began_at_s=0, lasted_s=0)
            self.delivery.put(message(alert, "cdc_credit", 0))


def came(receiver: Receiver) -> list[str]:
    """Give the incidents that the receiver was told of, in order."""
    return [request.content["incident"] for request in receiver.requests]


async def run_until(daemon: Daemon, receiver: Receiver, requests: int) -> None:
    """Deliver until so many requests have come."""
    task = asyncio.create_task(daemon.delivery.run())
    await asyncio.to_thread(wait_until, lambda: len(receiver.requests) >= requests)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_in_order(receiver: Receiver) -> None:
    """One that fails holds back those after it until it has arrived."""
    daemon = Daemon(receiver)
    receiver.answers = [503]
    daemon.put("a", "b", "c")
    await run_until(daemon, receiver, 4)
    assert came(receiver) == ["a", "a", "b", "c"]
    await daemon.delivery.close(5)
    assert daemon.arrived[:2] == ["a", "b"]


async def test_one_that_is_refused_holds_nothing_back(receiver: Receiver) -> None:
    """It is given up at once."""
    daemon = Daemon(receiver)
    receiver.answers = [400]
    daemon.put("a", "b")
    await daemon.delivery.close(5)
    assert sorted(came(receiver)) == ["a", "b"]
    assert daemon.arrived == ["a"], "the newest was tried first, and refused"


async def test_the_last_word_comes_first(receiver: Receiver) -> None:
    """At the end the newest is sent first; what was under way is sent again."""
    daemon = Daemon(receiver)
    receiver.awake.clear()
    daemon.put("a", "b", "c")
    await run_until(daemon, receiver, 1)
    receiver.awake.set()
    await daemon.delivery.close(5)
    assert came(receiver) == ["a", "c", "b", "a"]
    assert daemon.arrived == ["c", "b", "a"]


async def test_no_more_than_there_is_room_for(receiver: Receiver) -> None:
    """While a receiver is away for long, the oldest are given up."""
    daemon = Daemon(receiver)
    daemon.put(*map(str, range(53)))
    await daemon.delivery.close(60)
    assert daemon.arrived == [str(number) for number in range(52, 2, -1)]


async def test_the_end_does_not_wait_for_ever(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver that hangs is not waited for; what did not arrive is named."""
    daemon = Daemon(receiver)
    receiver.awake.clear()
    daemon.put("a", "b")
    await daemon.delivery.close(0.1)
    assert daemon.arrived == []
    assert [record.__dict__["id"] for record in caplog.records] == ["a-1", "b-1"]


async def test_nobody_to_send_it_to_any_more(receiver: Receiver) -> None:
    """The URL was taken away meanwhile."""
    daemon = Daemon(receiver)
    daemon.put("a")
    daemon.url = None
    await daemon.delivery.close(5)
    assert (receiver.requests, daemon.arrived) == ([], [])

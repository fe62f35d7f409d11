"""What is sent of an alert, how it is signed, and what is made of a receiver's answer."""

import json
import re
from dataclasses import replace

import pytest
from pydantic import SecretStr

from cdc.observe.alerts import Alert, Status
from cdc.observe.conditions import LAGGING, Condition, Severity
from cdc.observe.webhook import Outcome, Sender, message, signed
from cdc.settings import AlertSettings
from tests.receiver import SECRET, Receiver, is_genuine, receiving
from tests.servers import CHECKOUT

KEY = "a key of more than sixteen letters"
PAGE = (CHECKOUT / "docs" / "alerts.md").read_text()


def alert(detail: str = "301 s behind") -> Alert:
    """An alert of a daemon that lags."""
    condition = Condition(LAGGING, Severity.WARNING, detail, "`cdc lag`")
    return Alert("abc", 2, Status.FIRING, condition, began_at_s=0, lasted_s=61.04)


def sent(detail: str = "301 s behind") -> dict[str, object]:
    """What is sent of it."""
    content: dict[str, object] = json.loads(message(alert(detail), "cdc_credit", 1e9).body)
    return content


async def tried(receiver: Receiver, key: str | None = None) -> Outcome:
    """What comes of one try."""
    settings = AlertSettings(
        url=SecretStr(receiver.url), key=None if key is None else SecretStr(key)
    )
    sender = Sender()
    try:
        return await sender.post(settings, message(alert(), "cdc_credit", 1e9).body)
    finally:
        await sender.close()


def test_what_is_sent() -> None:
    """Who, what, since when and what to do; no more than the page says, and in that order."""
    content = sent()
    assert content | {"hostname": "", "version": "", "text": ""} == {
        "id": "abc-2",
        "incident": "abc",
        "alert": "lagging",
        "status": "firing",
        "severity": "warning",
        "slot": "cdc_credit",
        "what": LAGGING.what,
        "detail": "301 s behind",
        "next": "`cdc lag`",
        "lastedSeconds": 61.0,
        "time": "2001-09-09T01:46:40.000+00:00",
        "hostname": "",
        "version": "",
        "text": "",
    }
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert list(json.loads(shown)) == list(content)


def test_a_text_for_people() -> None:
    """A chat that shows `text` alone shows all there is to know, and takes nothing for a link."""
    text = str(sent("behind <!channel> & more")["text"])
    first, *others = text.splitlines()
    assert first.startswith("[firing · warning] cdc cdc_credit on ")
    assert first.endswith(LAGGING.what)
    assert others == ["behind &lt;!channel&gt; &amp; more", "Next: `cdc lag`"]


def test_a_text_about_the_end() -> None:
    """Who reads it has nothing to do any more."""
    resolved = replace(alert(), status=Status.RESOLVED)
    text = json.loads(message(resolved, "cdc_credit", 1e9).body)["text"]
    first, *others = text.splitlines()
    assert first.startswith("[resolved · warning] cdc cdc_credit on ")
    assert others == ["That is over; it lasted 61 s."]


def test_a_problem_that_is_too_long() -> None:
    """A receiver would refuse what names each table of a large schema."""
    assert len(str(sent("x" * 100_000)["detail"])) == 2001


# Signed


async def test_the_page_says_how_to_verify() -> None:
    """Its recipe takes what came over the wire, and nothing that was changed on the way."""
    with receiving() as receiver:
        assert (await tried(receiver, KEY)).arrived
    (request,) = receiver.requests
    headers, body, key = request.headers, request.body, KEY.encode()
    assert is_genuine(headers, body, key)
    assert not is_genuine(headers, body + b" ", key)
    assert not is_genuine(headers, body, b"another key")
    later = str(int(headers["Cdc-Timestamp"]) + 1)
    assert not is_genuine(headers | {"Cdc-Timestamp": later}, body, key)


def test_an_old_one_is_refused() -> None:
    """What somebody has recorded and sends again."""
    assert not is_genuine(signed(b"{}", KEY, 1e9), b"{}", KEY.encode())


async def test_without_a_key_nothing_is_signed() -> None:
    """No header pretends to be a proof."""
    with receiving() as receiver:
        assert (await tried(receiver)).arrived
    assert not [name for name in receiver.requests[0].headers if name.lower().startswith("cdc-")]
    assert receiver.requests[0].headers["Content-Type"] == "application/json"


# Answers


@pytest.mark.parametrize(
    ("status", "arrived", "hopeless"),
    [
        (200, True, False),
        (204, True, False),
        (301, False, True),
        (400, False, True),
        (404, False, True),
        (410, False, True),
        (429, False, False),
        (500, False, False),
        (503, False, False),
    ],
)
async def test_what_is_made_of_an_answer(status: int, *, arrived: bool, hopeless: bool) -> None:
    """2xx has arrived, 429 and 5xx are tried again, all others are final."""
    with receiving() as receiver:
        receiver.answers = [status]
        outcome = await tried(receiver)
    assert (outcome.arrived, outcome.hopeless) == (arrived, hopeless)
    assert f"the receiver answered {status}" in outcome.said
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("asked", "wait_s"),
    [
        ("7", 7),
        ("0", 0),
        ("86400", 300),
        ("soon", 0),
        ("-5", 0),
        ("²", 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 300),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Mon, 01 Jan 99999999999999 00:00:00 GMT", 0),
    ],
)
async def test_a_receiver_may_ask_to_wait(asked: str, wait_s: float) -> None:
    """Seconds or a date, for five minutes at most."""
    with receiving() as receiver:
        receiver.answers, receiver.headers = [429], {"Retry-After": asked}
        outcome = await tried(receiver)
    assert outcome.wait_s == wait_s


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://127.0.0.1:9/{SECRET}", "Connection refused"),
        (f"http://{SECRET}.invalid/x", "name cannot be resolved"),
        (f"https://user:{SECRET}@127.0.0.1:9/x", "Connection refused"),
        (f"http://127.0.0.1:9/{SECRET}\x00", "no URL"),
        (f"http://{SECRET * 30}/", "re"),
    ],
)
async def test_no_answer(url: str, said: str) -> None:
    """Why nothing came back is told without the URL."""
    outcome = await tried(Receiver(url=url))
    assert not outcome.arrived
    assert said in outcome.said
    assert SECRET.lower() not in outcome.said.lower()


async def test_a_receiver_that_speaks_no_tls() -> None:
    """The reason is told, and the URL is not."""
    with receiving() as receiver:
        receiver.url = receiver.url.replace("http:", "https:")
        outcome = await tried(receiver)
    assert not outcome.arrived
    assert not outcome.hopeless
    assert "TLS" in outcome.said
    assert SECRET not in outcome.said


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "HTTPS_PROXY"])
async def test_an_environment_that_is_wrong(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is worth another try: nobody knows what the file is there for."""
    monkeypatch.setenv(variable, f"/nowhere/{SECRET}")
    outcome = await tried(Receiver(url="https://127.0.0.1:9/"))
    assert (outcome.arrived, outcome.hopeless) == (False, False)
    assert SECRET not in outcome.said

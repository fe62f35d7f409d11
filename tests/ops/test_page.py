"""The status page of a daemon that copies between two databases, as a browser shows it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from playwright.sync_api import Browser, expect

from tests.accounts import INSERT, SCHEMA
from tests.databases import migrate, run_sql
from tests.ops.browser import cell, open_page
from tests.pair import Pair
from tests.process import Daemon, ok, run_cdc, streaming
from tests.servers import stoppable
from tests.serving import free_port

# What the browser itself says when nobody answers.
REFUSED = "Failed to load resource: net::ERR_CONNECTION_REFUSED"


@contextmanager
def listening(pair: Pair, listen: str, *, max_lag_s: int = 60) -> Iterator[Daemon]:
    """Run a daemon with a page."""
    with streaming(pair, {"CDC_HTTP_LISTEN": listen, "CDC_HTTP_MAX_LAG": str(max_lag_s)}) as daemon:
        yield daemon


def test_it_shows_what_flows(browser: Browser, pair: Pair) -> None:
    """In sync; numbers grow with what is written; the hour is drawn; nobody else is asked."""
    migrate(pair, SCHEMA)
    listen = f"127.0.0.1:{free_port()}"
    with listening(pair, listen):
        watched = open_page(browser, f"http://{listen}/")
        page = watched.page
        expect(page.get_by_role("status")).to_have_text("In sync")
        expect(page).to_have_title(f"In sync · {pair.slot}")
        assert cell(page, "credit.account", "Changes") == "0"
        for first in (1, 101):
            run_sql(pair.source_dsn, INSERT, first, first + 99)
            row = page.get_by_role("row").filter(has_text="account")
            expect(row.locator("td[data-label=Inserted]")).to_have_text(str(first + 99))
        assert cell(page, "credit.account", "Changes") == "200"
        expect(row.locator("td[data-label=Last]")).to_have_text(re.compile("just now|s ago"))
        expect(page.locator("#lag-plot path.line")).to_be_attached()
        expect(page.get_by_role("img", name=re.compile("Lag, last hour.*Now 0 s"))).to_be_visible()
        assert (watched.complaints, watched.hosts) == ([], {listen})


def test_it_follows_a_target_that_goes_and_comes_back(browser: Browser, pair: Pair) -> None:
    """Behind a target that is away the copy is stalled; once that is back it is in sync again."""
    migrate(pair, SCHEMA)
    target, listen = stoppable(pair.target), f"127.0.0.1:{free_port()}"
    with listening(pair, listen, max_lag_s=1):
        page = open_page(browser, f"http://{listen}/").page
        expect(page.get_by_role("status")).to_have_text("In sync")
        target.stop()
        run_sql(pair.source_dsn, INSERT, 1, 10)
        expect(page.get_by_role("status")).to_have_text("Stalled")
        expect(page.locator("#detail")).to_contain_text("target does not answer")
        expect(page.locator("#next")).to_have_text("Next: cdc check")
        expect(page.locator("#target-pill")).to_have_text("unhealthy")
        icon = page.locator("#icon").get_attribute("href")
        target.start()
        expect(page.get_by_role("status")).to_have_text("In sync", timeout=60_000)
        expect(page.locator("#target-pill")).to_have_text("healthy")
        assert page.locator("#icon").get_attribute("href") != icon


def test_it_follows_lag(browser: Browser, pair: Pair) -> None:
    """While a lock on the target is in the way, the lag grows past the limit, and then goes."""
    migrate(pair, SCHEMA)
    listen = f"127.0.0.1:{free_port()}"
    with listening(pair, listen, max_lag_s=1):
        page = open_page(browser, f"http://{listen}/").page
        with psycopg.connect(pair.target_dsn) as blocking:
            blocking.execute("lock table credit.account")
            run_sql(pair.source_dsn, INSERT, 1, 10)
            expect(page.get_by_role("status")).to_have_text("Lagging")
            expect(page.locator("#lag")).not_to_have_text("0 s")
        expect(page.get_by_role("status")).to_have_text("In sync")
        expect(page.locator("#lag")).to_have_text("0 s")


def test_it_follows_verifications(browser: Browser, pair: Pair) -> None:
    """Never, equal, rows that differ and in which table, equal again: as `cdc verify` finds it."""
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, INSERT, 1, 1000)
    listen = f"127.0.0.1:{free_port()}"
    with listening(pair, listen):
        watched = open_page(browser, f"http://{listen}/")
        page = watched.page
        result, text = page.locator("#verified-pill"), page.locator("#verified-text")
        expect(result).to_have_text("never")
        expect(page.locator("#verified-next")).to_have_text("Next: cdc verify")
        lsn = json.loads(ok(pair, "verify", "--json").stdout)["lsn"]
        expect(result).to_have_text("equal")
        expect(text).to_have_text(re.compile(rf"^1,000 rows of 1 table, at {lsn}, .*(ago|now)\.$"))
        expect(page.locator("#verified-next")).to_be_hidden()
        run_sql(pair.target_dsn, "update credit.account set balance = 31337 where id = 5")
        assert run_cdc(pair, "verify").returncode == 1
        expect(result).to_have_text("rows differ")
        expect(result).to_have_class("pill bad")
        expect(text).to_contain_text(" Differing: credit.account.")
        heed = page.get_by_role("list", name="To be heeded")
        expect(heed).to_contain_text("credit.account differs at ")
        expect(heed).to_contain_text("Next: cdc verify --repair")
        assert run_cdc(pair, "verify", "--repair", "credit.account").returncode == 0
        expect(result).to_have_text("equal")
        expect(text).to_contain_text("1,000 rows of 1 table that was asked for, at ")
        expect(heed).to_be_hidden()
        assert "31337" not in page.content()
        assert watched.complaints == []


def test_it_says_why_the_daemon_halted(browser: Browser, pair: Pair) -> None:
    """The reason and what to run next, without a value; both still when the daemon is gone."""
    migrate(pair, SCHEMA)
    ok(pair, "init")
    run_sql(pair.target_dsn, "alter table credit.account add check (balance < 1000)")
    listen = f"127.0.0.1:{free_port()}"
    with listening(pair, listen) as daemon:
        page = open_page(browser, f"http://{listen}/").page
        run_sql(pair.source_dsn, "insert into credit.account values (1, 31337)")
        expect(page.get_by_role("status")).to_have_text("Halted")
        expect(page.locator("#detail")).to_contain_text("credit.account")
        told = page.locator("#next").inner_text()
        assert daemon.process.wait(10) == 78
        expect(page.get_by_role("status")).to_have_text("No answer")
        expect(page.locator("#detail")).to_contain_text("The last that it said: halted")
        assert page.locator("#next").inner_text() == told != "Next: cdc status"
        assert "31337" not in page.content()


def test_it_outlives_the_daemon(browser: Browser, pair: Pair) -> None:
    """While nobody answers it says so, keeps what it knew, and goes on by itself afterwards."""
    migrate(pair, SCHEMA)
    listen = f"127.0.0.1:{free_port()}"
    with listening(pair, listen) as daemon:
        watched = open_page(browser, f"http://{listen}/")
        page = watched.page
        expect(page.get_by_role("status")).to_have_text("In sync")
        assert daemon.terminate() == 0
    expect(page.get_by_role("status")).to_have_text("No answer")
    expect(page.locator("#detail")).to_contain_text("has not answered since")
    expect(page).to_have_title(f"No answer · {pair.slot}")
    expect(page.locator("body")).to_have_class("stale")
    expect(page.get_by_role("rowheader", name="credit.account")).to_be_visible()
    expect(page.locator("#clock")).to_have_text(re.compile(r"updated \d+ s ago"))
    with listening(pair, listen):
        expect(page.get_by_role("status")).to_have_text("In sync")
        expect(page.locator("body")).not_to_have_class("stale")
        assert {*watched.complaints} == {REFUSED}

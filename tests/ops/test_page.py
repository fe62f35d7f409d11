"""The status page, as a browser shows it: of a daemon with two real databases, and of any state.

What a daemon shows by itself is looked at on a pair. States that are hard to bring about are told
to the page as `glance` tells them, of vitals that are in that state.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import psycopg
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from cdc.demo.server import free_port
from cdc.lsn import Lsn
from cdc.observe.glance import glance
from cdc.observe.history import History
from cdc.progress import CopyProgress
from cdc.vitals import Phase, Vitals
from tests.databases import migrate, run_sql
from tests.ops.browser import CHROMIUM, Watched, chromium, open_page
from tests.pair import Pair, make_pair
from tests.process import Daemon, streaming
from tests.servers import SessionServers, Versions, stoppable
from tests.unit.daemon import END, MAX_LAG_S, NOW, caught_up, fall_behind, later

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="no browser: apt install chromium")

EVIL = "<script>document.title='taken'</script><b>x</b>"
SCHEMA = f"""
create schema credit;
create table credit.payment (id int primary key, note text);
create table credit."{EVIL}" (id int primary key);
"""
PAY = "insert into credit.payment select n, 'paid' from generate_series(%s::int, %s::int) n"

# Longer than the page waits between two questions, and a sample is away from the next.
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)

# What the browser itself says when nobody answers.
REFUSED = "Failed to load resource: net::ERR_CONNECTION_REFUSED"


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    """One browser for all tests of this module."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(started: Browser) -> Iterator[Browser]:
    """The browser without any page; each that is opened has a profile of its own."""
    yield started
    for context in started.contexts:
        context.close()


@pytest.fixture(scope="module")
def listen() -> str:
    """Where the daemon of this module serves."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def shared(
    servers: SessionServers, tmp_path_factory: pytest.TempPathFactory, listen: str
) -> Iterator[str]:
    """The page of a daemon that is looked at, and left as it is."""
    folder = tmp_path_factory.mktemp("page") / "state"
    with make_pair(servers, Versions(), folder, credit=False) as pair:
        migrate(pair, SCHEMA)
        with streaming(pair, {"CDC_HTTP_LISTEN": listen}):
            yield f"http://{listen}/"


@contextmanager
def serving(pair: Pair, listen: str, *, max_lag_s: int = 60) -> Iterator[Daemon]:
    """Run a daemon with a page."""
    with streaming(pair, {"CDC_HTTP_LISTEN": listen, "CDC_HTTP_MAX_LAG": str(max_lag_s)}) as daemon:
        yield daemon


def look(browser: Browser, url: str, vitals: Vitals, *, width: int = 1280) -> Watched:
    """Show what `vitals` say instead of what the daemon at the address does."""
    history = History()
    for n in range(20):
        history.look(vitals, later(5 * n - 100))
    told = glance(vitals, history, NOW, MAX_LAG_S)

    def answer(route: Route) -> None:
        route.fulfill(body=told, content_type="application/json")

    context = browser.new_context(viewport={"width": width, "height": 900})
    watched = Watched(context.new_page())
    watched.page.route("**/api/glance", answer)
    watched.open(url)
    return watched


def cell(page: Page, table: str, column: str) -> str:
    """Give what the page says of a table."""
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=table, exact=True))
    return row.locator(f"td[data-label={column}]").inner_text()


def test_it_shows_what_flows(browser: Browser, pair: Pair) -> None:
    """In sync; numbers grow with what is written; the hour is drawn; nobody else is asked."""
    migrate(pair, SCHEMA)
    listen = f"127.0.0.1:{free_port()}"
    with serving(pair, listen):
        watched = open_page(browser, f"http://{listen}/")
        page = watched.page
        expect(page.get_by_role("status")).to_have_text("In sync")
        expect(page).to_have_title(f"In sync · {pair.slot}")
        assert cell(page, "credit.payment", "Changes") == "0"
        for first in (1, 101):
            run_sql(pair.source_dsn, PAY, first, first + 99)
            row = page.get_by_role("row").filter(has_text="payment")
            expect(row.locator("td[data-label=Inserted]")).to_have_text(str(first + 99))
        assert cell(page, "credit.payment", "Changes") == "200"
        expect(row.locator("td[data-label=Last]")).to_have_text(re.compile("just now|s ago"))
        expect(page.locator("#lag-plot path.line")).to_be_attached()
        expect(page.get_by_role("img", name=re.compile("Lag, last hour.*Now 0 s"))).to_be_visible()
        assert (watched.complaints, watched.hosts) == ([], {listen})


def test_it_follows_a_target_that_goes_and_comes_back(browser: Browser, pair: Pair) -> None:
    """Behind a target that is away the copy is stalled; once that is back it is in sync again."""
    migrate(pair, SCHEMA)
    target, listen = stoppable(pair.target), f"127.0.0.1:{free_port()}"
    with serving(pair, listen, max_lag_s=1):
        page = open_page(browser, f"http://{listen}/").page
        expect(page.get_by_role("status")).to_have_text("In sync")
        target.stop()
        run_sql(pair.source_dsn, PAY, 1, 10)
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
    with serving(pair, listen, max_lag_s=1):
        page = open_page(browser, f"http://{listen}/").page
        with psycopg.connect(pair.target_dsn) as blocking:
            blocking.execute("lock table credit.payment")
            run_sql(pair.source_dsn, PAY, 1, 10)
            expect(page.get_by_role("status")).to_have_text("Lagging")
            expect(page.locator("#lag")).not_to_have_text("0 s")
        expect(page.get_by_role("status")).to_have_text("In sync")
        expect(page.locator("#lag")).to_have_text("0 s")


def test_it_outlives_the_daemon(browser: Browser, pair: Pair) -> None:
    """While nobody answers it says so, keeps what it knew, and goes on by itself afterwards."""
    migrate(pair, SCHEMA)
    listen = f"127.0.0.1:{free_port()}"
    with serving(pair, listen) as daemon:
        watched = open_page(browser, f"http://{listen}/")
        page = watched.page
        expect(page.get_by_role("status")).to_have_text("In sync")
        assert daemon.terminate() == 0
    expect(page.get_by_role("status")).to_have_text("No answer")
    expect(page.locator("#detail")).to_contain_text("has not answered since")
    expect(page).to_have_title(f"No answer · {pair.slot}")
    expect(page.locator("body")).to_have_class("stale")
    expect(page.get_by_role("rowheader", name="credit.payment")).to_be_visible()
    expect(page.locator("#clock")).to_have_text(re.compile(r"updated \d+ s ago"))
    with serving(pair, listen):
        expect(page.get_by_role("status")).to_have_text("In sync")
        expect(page.locator("body")).not_to_have_class("stale")
        assert {*watched.complaints} == {REFUSED}


def test_a_name_is_text(browser: Browser, shared: str) -> None:
    """A table may be called what it wants: its name is shown, never run."""
    page = open_page(browser, shared).page
    expect(page.get_by_role("rowheader", name=f"credit.{EVIL}", exact=True)).to_be_visible()
    assert page.locator("#rows b, #rows script").count() == 0
    assert "taken" not in page.title()


def test_light_and_dark(browser: Browser, shared: str) -> None:
    """It follows the system's choice of colours, while it is open too."""
    page = open_page(browser, shared).page
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(244, 245, 248)", "rgb(14, 18, 24)"]


def test_a_phone_scrolls_in_one_direction(browser: Browser, shared: str) -> None:
    """At 360 pixels nothing is wider than the screen, whatever a table is called."""
    vitals = caught_up()
    vitals.rows = {("credit", "a_table_with_a_name_of_" + "very_" * 8): 123_456_789_012}
    vitals.counts.quarantined = 5
    vitals.copy = CopyProgress(3, 1, 10, 4, 1_000_000_000, 20_000_000, 5_000_000_000)
    vitals.phase, vitals.problem = Phase.HALTED, "a_word_without_any_space_in_it_" * 8
    for page in (
        open_page(browser, shared, width=360).page,
        look(browser, shared, vitals, width=360).page,
    ):
        page.get_by_text("The last hour as a table").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_keyboard_reaches_everything(browser: Browser, shared: str) -> None:
    """Tab goes through all that can be done, and shows where it is; Enter does it."""
    page = open_page(browser, shared).page
    hour = "The last hour as a table, minute by minute"
    reached: list[str] = []
    page.keyboard.press("Tab")
    while (focused := page.locator("body :focus")).count():
        reached.append(focused.get_attribute("aria-label") or focused.inner_text())
        assert "3px" in focused.evaluate("(node) => getComputedStyle(node).outline"), reached
        if reached[-1] == hour:
            page.keyboard.press("Enter")
        page.keyboard.press("Tab")
    columns = ["Table", "Rows", "Changes", "Inserted", "Updated", "Deleted", "Last change"]
    assert reached == ["Pause updates", hour, "The last hour, minute by minute", *columns]


def test_tables_are_sorted_by_any_column(browser: Browser, shared: str) -> None:
    """The largest first, then the smallest; what is not known comes last either way."""
    vitals = caught_up()
    vitals.rows = {("credit", "a"): 5, ("credit", "b"): 1_000, ("credit", "c"): None}
    page = look(browser, shared, vitals).page
    names = page.get_by_role("rowheader")
    expect(names).to_have_text(["credit.a", "credit.b", "credit.c"])
    heading = page.get_by_role("columnheader", name="Rows")
    heading.get_by_role("button").focus()
    for order, expected in (("descending", "bac"), ("ascending", "abc")):
        page.keyboard.press("Enter")
        expect(heading).to_have_attribute("aria-sort", order)
        expect(names).to_have_text([f"credit.{name}" for name in expected])
    assert cell(page, "credit.b", "Rows") == "1,000"
    assert cell(page, "credit.c", "Rows") == "\N{EN DASH}"


ANIMATION = "(line) => getComputedStyle(line).animationName"
VIOLATIONS = (
    "axe.run().then(({violations}) => violations.map((v) => [v.id, ...v.nodes.map((n) => n.html)]))"
)

STATES = ("idle", "asleep", "budget", "copying", "halted")


def state(name: str) -> Vitals:
    """Give the vitals of a daemon in a state that has a look of its own."""
    vitals = caught_up()
    vitals.rows = {("credit", "payment"): 12_345}
    if name == "asleep":
        vitals.target.begin(NOW.at_s - 3000)
        vitals.target.end(NOW.at_s - 2000)
    elif name == "budget":
        fall_behind(vitals, 90)
        vitals.wal.look(NOW.at_s + 10, Lsn(END + 1_000_000), 84_000_000, 16_000_000)
        vitals.counts.quarantined, vitals.counts.open_entries = 3, 1
    elif name == "copying":
        vitals.copy = CopyProgress(3, 1, 10, 4, 1_000, 20_000, 4_000)
    elif name == "halted":
        vitals.phase, vitals.problem = Phase.HALTED, "the target refuses a change"
        vitals.hint = "cdc quarantine list"
    return vitals


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("idle", ["status: In sync", 'heading "Slot and WAL budget"', "no limit is set"]),
        ("asleep", ["status: In sync", "asleep", "left alone, may sleep"]),
        ("budget", ['list "To be heeded"', 'meter "Slot and WAL budget"', "84 %", "3 rows"]),
        ("copying", ["status: Copying tables", 'progressbar "Tables are being copied"', "25 %"]),
        ("halted", ["status: Halted", "The target refuses a change.", "cdc quarantine list"]),
    ],
)
def test_each_state_is_told_to_who_does_not_see(
    browser: Browser, shared: str, name: str, roles: list[str]
) -> None:
    """What the colours say is said in words, with the roles that a screen reader knows."""
    watched = look(browser, shared, state(name))
    said = watched.page.locator("main").aria_snapshot()
    assert [role for role in roles if role not in said] == [], said
    assert watched.complaints == []


@pytest.mark.parametrize("name", STATES)
def test_it_is_accessible(browser: Browser, shared: str, name: str) -> None:
    """By axe's rules, contrasts too: in each state, wide and narrow, in light and dark."""
    page = look(browser, shared, state(name)).page
    page.get_by_text("The last hour as a table").click()
    assert [found for found in _violations(page) if found[1]] == []


def test_it_is_accessible_without_the_daemon(browser: Browser, shared: str) -> None:
    """What is shown of a daemon that does not answer any more can be read all the same."""
    page = look(browser, shared, state("budget")).page
    page.unroute_all()
    page.route("**/api/glance", lambda route: route.abort())
    expect(page.get_by_role("status")).to_have_text("No answer")
    assert [found for found in _violations(page) if found[1]] == []


def _violations(page: Page) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield what axe finds, by how the page is looked at."""
    page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text())
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        yield f"light, {width}", page.evaluate(VIOLATIONS)
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        yield f"dark, {width}", page.evaluate(VIOLATIONS)


def test_it_rests_when_asked_to_and_when_nobody_sees_it(browser: Browser, shared: str) -> None:
    """Paused or hidden it asks nothing; then it goes on."""
    watched = open_page(browser, shared)
    page, pause = watched.page, watched.page.get_by_role("button", name="Pause updates")
    for rest, resume in (
        (pause.click, pause.click),
        (lambda: _hide(page, hidden=True), lambda: _hide(page, hidden=False)),
    ):
        rest()
        page.wait_for_timeout(500)  # for an answer that was on its way
        asked = watched.requests
        page.wait_for_timeout(5_000)
        assert watched.requests == asked
        resume()
        with page.expect_response("**/api/glance"):
            pass


def _hide(page: Page, *, hidden: bool) -> None:
    page.evaluate(
        "(value) => {"
        " Object.defineProperty(document, 'hidden', { value, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def test_nothing_moves_where_that_is_not_wanted(browser: Browser, shared: str) -> None:
    """The flow is animated, unless the system asks for less motion."""
    page = open_page(browser, shared).page
    names = []
    for motion in ("no-preference", "reduce"):
        page.emulate_media(reduced_motion="reduce" if motion == "reduce" else "no-preference")
        names.append(page.locator(".flows line").first.evaluate(ANIMATION))
    assert names == ["run", "none"]

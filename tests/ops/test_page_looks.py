"""How the status page looks and is used: in any state, on any screen, without a mouse, unseen.

The page is a real daemon's. States that are hard to bring about are told to it as `glance` tells
them, of vitals that are in that state.
"""

from collections.abc import Iterator
from importlib import resources

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from cdc.lsn import Lsn
from cdc.observe.glance import glance
from cdc.observe.history import History
from cdc.progress import CopyProgress
from cdc.verified import Verified
from cdc.vitals import Phase, Vitals
from tests.databases import migrate
from tests.ops.browser import Watched, cell, open_page
from tests.pair import make_pair
from tests.servers import SessionServers, Versions
from tests.serving import LOOPBACK, serving
from tests.unit.daemon import END, MAX_LAG_S, NOW, caught_up, fall_behind, later

EVIL = "<script>document.title='taken'</script><b>x</b>"
SCHEMA = f"""
create schema credit;
create table credit.payment (id int primary key, note text);
create table credit."{EVIL}" (id int primary key);
"""

ANIMATION = "(line) => getComputedStyle(line).animationName"
HIDE = """(value) => {
  Object.defineProperty(document, 'hidden', { value, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}"""
VIOLATIONS = (
    "axe.run().then(({violations}) => violations.map((v) => [v.id, ...v.nodes.map((n) => n.html)]))"
)


@pytest.fixture(scope="module")
def shared(servers: SessionServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a daemon that is looked at, and left as it is."""
    folder = tmp_path_factory.mktemp("page") / "state"
    with make_pair(servers, Versions(), folder, credit=False) as pair:
        migrate(pair, SCHEMA)
        with serving(pair) as (_, port):
            yield f"http://{LOOPBACK}:{port}/"


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
        look(browser, shared, state("differs"), width=360).page,
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


STATES = ("idle", "asleep", "budget", "copying", "halted", "verified", "differs")


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
    elif name == "verified":
        vitals.verifications.remember(Verified(END, NOW.unix_s - 3 * 86400, 9, 1_234_567))
    elif name == "differs":
        differing = tuple(f"credit.{'very_' * 8}{n}" for n in range(12))
        vitals.verifications.remember(Verified(END, NOW.unix_s - 60, 12, 5, differing))
    return vitals


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("idle", ["status: In sync", 'heading "Slot and WAL budget"', "no limit is set"]),
        ("asleep", ["status: In sync", "asleep", "left alone, may sleep"]),
        ("budget", ['list "To be heeded"', 'meter "Slot and WAL budget"', "84 %", "3 rows"]),
        ("copying", ["status: Copying tables", 'progressbar "Tables are being copied"', "25 %"]),
        ("halted", ["status: Halted", "The target refuses a change.", "cdc quarantine list"]),
        ("verified", ["equal", "1,234,567 rows of all 9 tables, at 0/2000, 3 days ago."]),
        ("differs", ['list "To be heeded"', "rows differ", "_7 and 2 more.", "cdc verify"]),
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
    pause.click()
    _assert_at_rest(watched)
    pause.click()
    _assert_asks(page)
    page.evaluate(HIDE, True)  # as the browser tells it
    _assert_at_rest(watched)
    page.evaluate(HIDE, False)
    _assert_asks(page)


def _assert_at_rest(watched: Watched) -> None:
    watched.page.wait_for_timeout(500)  # for an answer that was on its way
    asked = watched.requests
    watched.page.wait_for_timeout(5_000)
    assert watched.requests == asked


def _assert_asks(page: Page) -> None:
    with page.expect_response("**/api/glance"):
        pass


def test_nothing_moves_where_that_is_not_wanted(browser: Browser, shared: str) -> None:
    """The flow is animated, unless the system asks for less motion."""
    page = open_page(browser, shared).page
    names = []
    for motion in ("no-preference", "reduce"):
        page.emulate_media(reduced_motion="reduce" if motion == "reduce" else "no-preference")
        names.append(page.locator(".flows line").first.evaluate(ANIMATION))
    assert names == ["run", "none"]

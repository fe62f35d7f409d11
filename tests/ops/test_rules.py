"""Alert rules, dashboard, metrics' page and operating guide say the same, and it is true."""

import json
import re

import typer
from typer.core import TyperGroup

from cdc.cli import app
from tests.metrics import ALERTS, DASHBOARD, PAGE, known_names, names_in, page
from tests.ops.prometheus import promtool
from tests.servers import CHECKOUT

GUIDE = CHECKOUT / "docs" / "operating.md"


def test_rules_do_what_they_say() -> None:
    """Each alert fires where it has to, and not beside it (`promtool test rules`)."""
    tested = promtool("test", "rules", "alerts.test.yaml", cwd=ALERTS.parent)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_rule_is_tested() -> None:
    """No alert is without a test in which it fires."""
    tests = ALERTS.with_name("alerts.test.yaml").read_text().split("  - name: ")
    fired = {
        name
        for test in tests
        if "exp_samples" in test
        for name in re.findall(r'alertname="(\w+)"', test)
    }
    assert fired == set(alerts())


def test_metrics_exist() -> None:
    """Rules and dashboard ask for metrics that are declared; the dashboard draws them all."""
    drawn = names_in("\n".join(query for _, query in queries()))
    assert names_in(ALERTS.read_text()) <= known_names()
    assert drawn == known_names()


def test_each_panel_explains_itself() -> None:
    """Each panel has a title of its own, a unit and a description."""
    panels = [
        panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"
    ]
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    identities = [panel["id"] for panel in panels]
    assert len(identities) == len(set(identities))


def test_panels_do_not_overlap() -> None:
    """No panel lies on another, none is wider than the page."""
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_metrics_page_is_made_of_the_instruments() -> None:
    """docs/metrics.md is what the instruments make of it (`make docs`)."""
    assert PAGE.read_text() == page()


def test_each_alert_is_in_the_guide() -> None:
    """The guide has a section for each alert, in their order, and each alert links to its own."""
    sections = re.findall(r"^### (Cdc\w+)$", GUIDE.read_text(), re.MULTILINE)
    assert sections == alerts()
    links = re.findall(r"runbook_url: docs/operating\.md#(\w+)", ALERTS.read_text())
    assert links == [name.lower() for name in alerts()]


def test_commands_of_the_guide_exist() -> None:
    """What rules and guide say to run is a command of cdc, with options that it has."""
    text = GUIDE.read_text() + re.sub(r"\s+", " ", ALERTS.read_text())
    found = set(re.findall(r"`(cdc [a-z][^`]*)`", text))
    found |= set(re.findall(r"^(cdc [a-z][^#\n]*)", GUIDE.read_text(), re.MULTILINE))
    assert len(found) > 10
    for command in sorted(found):
        assert_exists(command.strip())


def assert_exists(command: str) -> None:
    """Fail where there is no such command, or it has no such option."""
    words = command.split()[1:]
    found = typer.main.get_command(app)
    while isinstance(found, TyperGroup):
        assert words, f"{command}: not a whole command"
        name = words.pop(0)
        assert name in found.commands, f"{command}: there is no {name}"
        found = found.commands[name]
    known = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, command


def alerts() -> list[str]:
    """Give the names of the alerts, in order."""
    return re.findall(r"- alert: (\w+)", ALERTS.read_text())


def queries() -> list[tuple[str, str]]:
    """Give title and expression of all that the dashboard asks."""
    return [
        (panel["title"], target["expr"])
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", ())
    ]

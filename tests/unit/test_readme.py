"""Tables of README and docs are what they are made of: the settings, and a run of the bench."""

import re

from tests import sizing
from tests.bench.figures import Document
from tests.bench.summary import summary
from tests.reference import PAGE, entries, page
from tests.servers import CHECKOUT


def test_the_reference_of_settings_is_the_model() -> None:
    """Each setting stands in docs/settings.md with its variable, default and meaning."""
    assert page() == PAGE.read_text(), "run `make docs`"


def test_settings_in_the_readme_are_the_models() -> None:
    """Those that the README names are there as the reference has them."""
    lines = [entry.short for entry in entries()]
    named = re.findall(r"^\| [a-z]+\.\S+ \|.*$", (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    assert len(named) > 5
    assert [line for line in named if line not in lines] == []


def test_figures_are_those_of_the_kept_run() -> None:
    """What the README says of speed is the summary of the run whose figures are kept."""
    kept = Document.read(sorted((CHECKOUT / "docs" / "bench").glob("*.json")))
    assert summary(kept) in (CHECKOUT / "README.md").read_text()


def test_sizes_are_computed() -> None:
    """The tables of docs/sizing.md are those of the kept run, and of the daemon's own terms."""
    page = sizing.PAGE.read_text()
    assert sizing.renewed(page) == page, "run `make docs`"


def test_a_target_sleeps_as_the_page_says() -> None:
    """The formula of docs/sizing.md gives what the daemon counts of its own questions."""
    for interval_s in sizing.FLUSH_INTERVALS.values():
        share = min(1, (sizing.BURST_S + 300) / (interval_s + sizing.BURST_S))
        assert abs(sizing.awake_hours(interval_s) - 24 * share) < 0.05

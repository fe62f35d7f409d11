"""Each test of this folder runs once for each output plugin, on versions that have it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pair import Pair, make_pair
from tests.servers import Plugin, SessionServers, Versions, require_wal2json

# The only version of which wal2json is in Debian 12.
DEFAULT_VERSIONS: dict[Plugin, Versions] = {"pgoutput": Versions(), "wal2json": Versions(15, 18)}

SMALL_BATCH = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what cannot be: wal2json on a source for which nobody packages it."""
    chosen = [item for item in items if not _cannot_be(item)]
    config.hook.pytest_deselected(items=[item for item in items if _cannot_be(item)])
    items[:] = chosen


def _cannot_be(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    params = callspec.params if callspec else {}
    versions = params.get("versions")
    return (
        params.get("plugin") == "wal2json"
        and isinstance(versions, Versions)
        and versions.source != DEFAULT_VERSIONS["wal2json"].source
    )


@pytest.fixture(params=["pgoutput", "wal2json"])
def plugin(request: pytest.FixtureRequest) -> Plugin:
    """The output plugin of the source's slot."""
    chosen: Plugin = request.param
    return chosen


@pytest.fixture
def versions(request: pytest.FixtureRequest, plugin: Plugin) -> Versions:
    """Versions of the pair's servers: the plugin's, unless the test is `on_every_version`."""
    chosen = getattr(request, "param", DEFAULT_VERSIONS[plugin])
    assert isinstance(chosen, Versions)
    return chosen


@pytest.fixture
def pair(
    servers: SessionServers, versions: Versions, plugin: Plugin, tmp_path: Path
) -> Iterator[Pair]:
    """Two empty databases, with names and a state directory of their own."""
    if plugin == "wal2json":
        require_wal2json(servers.get("source", versions.source))
    with make_pair(servers, versions, tmp_path / "state", credit=False) as made:
        # Behind the decoder both plugins are one: so the second time in batches of a few changes.
        max_rows = SMALL_BATCH if plugin == "wal2json" else None
        yield replace(made, plugin=plugin, max_rows=max_rows)

"""A Prometheus of a test's own: Debian's, on a free port, with a configuration that the test makes.

Where there is none the test is skipped, and says what would bring it.
"""

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.databases import wait_until
from tests.serving import LOOPBACK, free_port

MISSING = "no Prometheus (apt install prometheus)"


def program(name: str) -> str:
    """Give the path of prometheus or promtool, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(MISSING)
    return found


def promtool(
    *arguments: str, given: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run promtool."""
    return subprocess.run(
        [program("promtool"), *arguments], input=given, capture_output=True, check=False, cwd=cwd
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """A value, and the labels of its series."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server that runs."""

    url: str

    def answers(self) -> bool:
        """Tell whether it is ready."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> object:
        """Give the data of an answer; fail where it is an error."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[Sample]:
        """Give what an expression is now."""
        data = self.ask("query", query=expression)
        assert isinstance(data, dict)
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    def value(self, expression: str) -> float | None:
        """Give the one value of an expression; None: it has none."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression}: {found}"
        return found[0].value if found else None

    def names(self, prefix: str) -> set[str]:
        """Give the names of the series that it has got."""
        data = self.ask("label/__name__/values")
        assert isinstance(data, list)
        return {name for name in data if name.startswith(prefix)}


@contextmanager
def scraping(folder: Path, port: int, rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes a daemon every second."""
    config = folder / "prometheus.json"  # which is YAML too
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(path) for path in rules],
                "scrape_configs": [
                    {"job_name": "cdc", "static_configs": [{"targets": [f"{LOOPBACK}:{port}"]}]}
                ],
            }
        )
    )
    address = f"{LOOPBACK}:{free_port()}"
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            prometheus = Prometheus(f"http://{address}")
            wait_until(prometheus.answers)
            yield prometheus
        finally:
            process.terminate()

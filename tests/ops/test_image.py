"""The image: what its Dockerfile says, what its builder makes, and the daemon that comes of it.

Without an engine the builder's commands run in a folder, with this machine's Python and compiler;
where a Docker socket answers the image itself is built and run too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage

from cdc import __version__
from tests.databases import run_sql, wait_until
from tests.ops.image import DOCKERFILE, Built, build, stages
from tests.pair import Pair, same_rows
from tests.process import all_copied, environment
from tests.servers import CHECKOUT, docker_answers
from tests.serving import bearer, free_port, get

FOLDER = DOCKERFILE.parent
TOKEN = "0123456789abcdef"
STREAMING = 'cdc_phase{state="streaming"}'
CHANGES = 'cdc_changes_applied_total{operation="insert",table="credit.providers"}'

# A compilation, and fifty packages to unpack, on a machine that has other things to do.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    """Give what the builder makes."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler (apt install gcc libc6-dev)")
    root = Path(tempfile.mkdtemp(prefix="cdc-image-"))
    yield build(root)
    shutil.rmtree(root)


def test_hadolint_finds_nothing_wrong() -> None:
    """The Dockerfile is as hadolint wants it, without an exception."""
    program = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([program, DOCKERFILE], capture_output=True, check=False, text=True)
    assert (linted.returncode, linted.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE.read_text()


def test_packages_are_those_that_are_needed() -> None:
    """run.txt is what the daemon needs; build.txt what building needs beside."""
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    run = closure(project["dependencies"])
    assert named("run.txt") == sorted(run)
    assert named("build.txt") == sorted(
        closure([*project["dependencies"], "hatchling", "mypy"]) - run
    )


@pytest.mark.parametrize("names", ["run.txt", "build.txt"])
def test_each_package_is_pinned_by_hash(names: str) -> None:
    """Of each package in the lists the image gets the version and the hashes of the constraints."""
    pins = subprocess.run(
        ["awk", "-f", "pinned.awk", names, CHECKOUT / "tests" / "constraints.txt"],
        cwd=FOLDER,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    packages = re.findall(
        r"^([a-z0-9-]+)==\S+(?: ;.*)? \\\n((?:    --hash=.*\n)+)", pins, re.MULTILINE
    )
    assert [name for name, _ in packages] == named(names)
    assert pins.count("\n") == sum(1 + hashes.count("\n") for _, hashes in packages)


def test_the_last_stage_is_lean_and_not_root() -> None:
    """It runs as a number, compiles and downloads nothing, and says which version it is."""
    first, *rest, last = stages()
    assert (first[0].split()[1], rest) == ("python:${PYTHON}-bookworm", [])
    assert last[0].split()[1] == "python:${PYTHON}-slim-bookworm"
    assert [one for one in last if one.startswith("USER ")] == ["USER 10001:10001"]
    ran = [one for one in last if one.startswith("RUN ")]
    assert ran == ["RUN install -d -m 0700 -o 10001 -g 10001 /var/lib/cdc"]
    assert f"ARG VERSION={__version__}" in last
    assert {"STOPSIGNAL SIGTERM", 'ENTRYPOINT ["cdc"]', 'CMD ["run"]'} <= set(last)


def test_what_is_copied_is_let_in() -> None:
    """The context holds what COPY asks for, and nothing else."""
    let_in = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    copied = {
        source
        for stage in stages()
        for one in stage
        if one.startswith("COPY ") and "--from" not in one
        for source in one.split()[1:-1]
    }
    assert {line[1:] for line in let_in if line.startswith("!")} == copied
    assert next(line for line in let_in if line[0] not in "#!") == "*"


def test_the_environment_is_compiled_and_has_nothing_else(built: Built) -> None:
    """The image gets what run.txt names and cdc, with the hot path compiled; no pip, no test."""
    listing = (
        "import importlib.metadata as m, json, cdc.wire.pgoutput as p;"
        "print(json.dumps([p.__file__, *(d.name for d in m.distributions())]))"
    )
    file, *names = json.loads(output(built.python, "-I", "-c", listing))
    assert file.endswith(".so")
    assert sorted(map(canonicalize_name, names)) == sorted([*named("run.txt"), "cdc"])
    assert output(built.cdc, "--version") == f"cdc {__version__}\n"


def test_the_daemon_of_the_image(built: Built, credit_pair: Pair) -> None:
    """It copies, its health check says so, and says no when it is gone; credentials are files."""
    port = free_port()
    credentials = credit_pair.state_dir.parent / "credentials"
    credentials.mkdir()
    (credentials / "source.dsn").write_text(credit_pair.source_dsn)
    (credentials / "target.dsn").write_text(credit_pair.target_dsn)
    (credentials / "http.token").write_text(TOKEN)
    env = environment(credit_pair) | {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "CDC_HTTP_LISTEN": f"0.0.0.0:{port}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("PYTHONPATH", "CDC_SOURCE_DSN", "CDC_TARGET_DSN"):
        env.pop(name, None)
    with daemon(built, env) as process:
        wait_until(lambda: healthy(built, env), 60)
        assert get(port, "/livez").status == 401
        wait_until(lambda: f"{STREAMING} 1.0" in metrics(port), 60)
        wait_until(lambda: all_copied(credit_pair), 60)
        run_sql(
            credit_pair.source_dsn,
            "insert into credit.providers (code, name, rank, base_rate) values ('p', 'one', 1, 0)",
        )
        wait_until(lambda: f"{CHANGES} 1.0" in metrics(port))
        process.terminate()
        assert process.wait(30) == 0
    assert same_rows(credit_pair)["providers"] == 1
    assert not healthy(built, env)


@pytest.mark.skipif(not docker_answers(), reason="no Docker socket answers")
def test_the_image_itself() -> None:
    """It builds, runs as a number on a read-only root, and has neither compiler nor way to root."""
    with DockerImage(
        path=str(CHECKOUT), dockerfile_path="docker/Dockerfile", tag="cdc:test"
    ) as image:
        for command, expected in (
            ("--version", f"cdc {__version__}"),
            ("config show", "/var/lib/cdc"),
        ):
            container = DockerContainer(str(image)).with_command(command)
            with container.with_kwargs(read_only=True, cap_drop=["ALL"]) as running:
                assert running.get_wrapped_container().wait()["StatusCode"] == 0
                assert expected in running.get_logs()[0].decode()
        probe = DockerContainer(str(image)).with_kwargs(entrypoint=["sh", "-c"])
        with probe.with_command(["id -u; command -v gcc cc || true"]) as running:
            running.get_wrapped_container().wait()
            assert running.get_logs()[0].decode() == "10001\n"


@contextmanager
def daemon(built: Built, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run what the image's entry point runs by default."""
    with subprocess.Popen(
        [built.cdc, "run"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def metrics(port: int) -> str:
    """Give what a daemon that asks for the token tells Prometheus."""
    return get(port, "/metrics", headers=bearer(TOKEN)).text


def healthy(built: Built, env: dict[str, str]) -> bool:
    """Run the image's health check, as the engine would beside the daemon."""
    (check,) = [one for one in stages()[1] if one.startswith("HEALTHCHECK ")]
    command = json.loads(check.partition(" CMD ")[2])
    assert command[0] == "python"
    assert command[-1] == "/opt/cdc/healthcheck.py"
    command = [built.python, *command[1:-1], FOLDER / "healthcheck.py"]
    return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0


def output(*command: str | Path) -> str:
    """Run a command of the built environment, without anything of ours in its own."""
    env = {"PATH": os.defpath}
    return subprocess.run(command, env=env, capture_output=True, check=True, text=True).stdout


def named(file: str) -> list[str]:
    """Give the names that a file lists."""
    return (FOLDER / file).read_text().split()


def closure(roots: list[str]) -> set[str]:
    """Give the packages that are installed for some, on this platform, without those."""
    found: dict[str, set[str]] = {}
    todo = [Requirement(root) for root in roots]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in found and wanted.extras <= found[name]:
            continue
        extras = found.setdefault(name, set())
        extras |= wanted.extras
        for behind in map(Requirement, requires(name) or ()):
            marker = behind.marker
            if marker is None or any(marker.evaluate({"extra": one}) for one in ("", *extras)):
                todo.append(behind)
    return set(found)

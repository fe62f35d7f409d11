"""The image's Dockerfile, built without an engine: its builder's commands, run in a folder.

What COPY would bring is copied; what lies under /opt, /wheels and /src lies in the folder instead.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.process import scrubbed_environment
from tests.servers import CHECKOUT

DOCKERFILE = CHECKOUT / "docker" / "Dockerfile"


def stages() -> list[list[str]]:
    """Give the instructions of each stage, each on one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("FROM "):
            found.append([])
        if found:
            found[-1].append(re.sub(r"\s+", " ", line))
    return found


@dataclass(frozen=True, slots=True)
class Built:
    """What the builder has made."""

    root: Path

    @property
    def environment(self) -> Path:
        """What the last stage copies."""
        return self.root / "opt" / "cdc"

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.environment / "bin" / "python"

    @property
    def cdc(self) -> Path:
        """The image's entry point."""
        return self.environment / "bin" / "cdc"


def build(root: Path) -> Built:
    """Run the builder's instructions in a folder."""
    work = root / "src"
    work.mkdir(parents=True)
    env = scrubbed_environment() | {"PATH": f"{_base_python(root)}:/usr/bin:/bin"}
    for instruction in stages()[0][1:]:
        verb, _, rest = instruction.partition(" ")
        if verb == "ENV":
            env |= dict(part.split("=", 1) for part in rest.split())
        elif verb == "COPY":
            *sources, to = rest.split()
            _copy(sources, work / to, into=to.endswith("/"))
        elif verb == "RUN":
            command = re.sub(r"(?<=[ ])/(opt|wheels)", rf"{root}/\1", " " + rest)
            subprocess.run(["/bin/sh", "-ec", command], cwd=work, env=env, check=True)
        else:
            assert verb == "WORKDIR", instruction
    return Built(root)


def _base_python(root: Path) -> Path:
    """Make a folder in which `python` is the interpreter that this environment was made of."""
    folder = root / "bin"
    folder.mkdir()
    base = Path(sys.base_prefix) / "bin" / "python3"
    (folder / "python").write_text(f'#!/bin/sh\nexec {base} "$@"\n')
    (folder / "python").chmod(0o755)
    return folder


def _copy(sources: list[str], to: Path, *, into: bool) -> None:
    for name in sources:
        source = CHECKOUT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(source, to, ignore=ignored, dirs_exist_ok=True)
        else:
            target = to / source.name if into else to
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)

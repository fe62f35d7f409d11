"""Compiles the hot path if CDC_COMPILE=1 asks for it: the same sources, by mypyc, as extensions.

Without it the wheel is pure Python and does the same; with it, there has to be a C compiler. An
editable install is compiled in place: then a change of these sources needs another install.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Compilation(BuildHookInterface[Any]):
    """Hatch's custom build hook."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile what `modules` of the hook's configuration names."""
        if os.environ.get("CDC_COMPILE") != "1":
            return
        from mypyc.build import mypycify  # noqa: PLC0415  # only who compiles has it
        from setuptools import Distribution  # noqa: PLC0415
        from setuptools.command.build_ext import build_ext  # noqa: PLC0415

        modules = self.config["modules"]
        extensions = mypycify(modules, opt_level="3", group_name="cdc")
        command = build_ext(Distribution({"name": "cdc", "ext_modules": extensions}))
        command.build_lib = str(Path(self.root) / "build" / "lib")
        command.inplace = version == "editable"
        command.ensure_finalized()
        command.run()
        if not command.inplace:
            for built in map(Path, command.get_outputs()):
                inside = built.relative_to(command.build_lib)
                build_data["force_include"][str(built)] = str(inside)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

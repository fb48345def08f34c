"""Programs from Go modules, and files out of them.

The modules' content is fixed by each build's committed go.sum, which the go command checks.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_knative.mirror.command import run
from airflow_knative.mirror.errors import MirrorError

if TYPE_CHECKING:
    from airflow_knative.mirror.pins import GoBuild

__all__ = ["Go"]

_MEND = "Go builds need Go (the version in the build's go.mod or later), and gcc where a build says cgo"


class Go:
    """The go command, with caches of its own below ``cache``.

    Args:
        modules: folder with one build's go.mod and go.sum in each subfolder.
        cache: where downloaded modules and compiled packages are kept.
    """

    def __init__(self, modules: Path, cache: Path) -> None:
        self._modules = modules
        self._cache = cache

    def _env(self, build: GoBuild) -> dict[str, str]:
        return {
            "GOMODCACHE": str(self._cache / "go-modules"),
            "GOCACHE": str(self._cache / "go-build"),
            "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false -trimpath",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOOS": "linux",
            "GOARCH": "amd64",
            "CGO_ENABLED": "1" if build.cgo else "0",
        }

    def version(self, log: Path) -> str:
        """Go's own version: another compiler makes other bytes."""
        return run(["go", "env", "GOVERSION"], log, mend=_MEND, env={"GOTOOLCHAIN": "local"}).strip()

    def directory(self, build: GoBuild) -> Path:
        """The folder of the build's go.mod."""
        return self._modules / build.directory

    def recipe(self, build: GoBuild) -> dict[str, str]:
        """The files that fix what is built, by name: go.mod, go.sum and our own sources."""
        folder = self.directory(build)
        if not (folder / "go.mod").is_file() or not (folder / "go.sum").is_file():
            raise MirrorError(f"{folder} needs a go.mod and a go.sum")
        return {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}

    def build(self, build: GoBuild, target: Path, log: Path) -> None:
        """Compile all programs of a build into ``target``.

        Raises:
            MirrorError: something that the build needs is missing, or the compiler failed.
        """
        for package, path in build.requires.items():
            if not Path(path).exists():
                raise MirrorError(f"{path} is missing; install the Debian package {package}")
        target.mkdir(parents=True, exist_ok=True)
        flags = ["-s", "-w", "-buildid="]
        flags += [f"-X {name}={value}" for name, value in sorted(build.variables.items())]
        if build.cgo:
            flags += ["-linkmode=external", "-extldflags=-static"]
        command = ["go", "build", f"-ldflags={' '.join(flags)}", f"-o={target}{os.sep}"]
        if build.tags:
            command.append(f"-tags={','.join(build.tags)}")
        run([*command, *build.packages], log, cwd=self.directory(build), env=self._env(build), mend=_MEND)
        for name, ours in build.rename.items():
            (target / name).rename(target / ours)

    def unpacked(self, build: GoBuild, log: Path) -> Path:
        """The folder with the module's files, downloaded if needed.

        Raises:
            MirrorError: the build names no module, or its download failed.
        """
        if build.module is None:
            raise MirrorError(f"the build {build.directory} names no module to take files from")
        wanted = f"{build.module}@{build.module_version}"
        found = re.search(
            rf"(?m)^\s*(?:require )?{re.escape(build.module)} (\S+)", (self.directory(build) / "go.mod").read_text()
        )
        if found is None or found[1] != build.module_version:
            has = found[1] if found else "nothing"
            raise MirrorError(f"the pin says {wanted}, {self.directory(build)}/go.mod has {has}; run `go get {wanted}`")
        output = run(
            ["go", "mod", "download", "-json", build.module], log, cwd=self.directory(build), env=self._env(build)
        )
        return Path(json.loads(output)["Dir"])

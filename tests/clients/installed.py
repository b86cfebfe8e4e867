"""Clients from PyPI and npm, each in a place of its own outside the repository, kept for the next run."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv

PROGRAMS = Path(__file__).with_name("programs")
INSTALL_SECONDS_MAX = 600
RUN_SECONDS_MAX = 240


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tallygate-clients"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A client's own place. commands: the directory of its programs. modules: what a Node program finds its imports beside."""

    place: Path
    commands: Path

    def run(
        self,
        *command: str,
        environment: Mapping[str, str],
        directory: Path,
        stdin: str = "",
        seconds: float = RUN_SECONDS_MAX,
        succeeds: bool = True,
    ) -> str:
        """What the command printed. It sees none of our environment but the paths, so that no key or address of the machine's
        user leaks in; its home is the directory. Raises AssertionError with all that it printed if it fails.
        """
        path = os.pathsep.join((str(self.commands), os.environ.get("PATH", os.defpath)))
        clean = {"PATH": path, "HOME": str(directory), "LANG": "C.UTF-8", "NO_COLOR": "1"} | environment
        program = shutil.which(command[0], path=path)
        assert program, f"{command[0]} is not installed"
        ended = subprocess.run(
            [program, *command[1:]],
            check=False,
            env=clean,
            cwd=directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert not succeeds or ended.returncode == 0, f"{command} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def run_program(self, name: str, *, environment: Mapping[str, str], directory: Path) -> dict[str, Any]:
        """What a program of ours (programs/NAME) told of its calls: a JSON list of name and result in each line."""
        if name.endswith(".mjs"):  # Node looks for imports beside the program
            program = self.place / name
            shutil.copyfile(PROGRAMS / name, program)
            printed = self.run("node", str(program), environment=environment, directory=directory)
        else:
            printed = self.run("python", "-B", str(PROGRAMS / name), environment=environment, directory=directory)
        return dict(json.loads(line) for line in printed.splitlines() if line.startswith("["))


def from_pypi(*packages: str) -> Installed:
    """In a virtual environment. packages: with their versions. Raises AssertionError if they cannot be installed."""
    place = _place("pypi", packages)
    commands = place / "bin"

    def install() -> None:
        _install([uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(place)], place.parent)
        _install([uv.find_uv_bin(), "pip", "install", "--quiet", "--python", str(commands / "python"), *packages], place.parent)

    _once(place, install)
    return Installed(place=place, commands=commands)


def from_npm(*packages: str) -> Installed:
    """In a prefix. packages: with their versions. Raises AssertionError if they cannot be installed, or npm is not there."""
    place = _place("npm", packages)

    def install() -> None:
        place.mkdir(parents=True)
        _install(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(place), *packages], place)

    _once(place, install)
    return Installed(place=place, commands=place / "node_modules" / ".bin")


def _place(registry: str, packages: Sequence[str]) -> Path:
    name = packages[0].partition("[")[0].partition("=")[0].strip("@").replace("/", "-").partition("@")[0]
    digest = hashlib.sha256("\n".join((sys.version, *packages)).encode()).hexdigest()[:12]
    return cache_directory() / registry / f"{name}-{digest}"


def _once(place: Path, install: Any) -> None:
    """A mark says that it was installed whole; what lacks it is begun again."""
    mark = place / "installed"
    if mark.exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    install()
    mark.touch()


def _install(command: Sequence[str], directory: Path) -> None:
    assert shutil.which(command[0]), f"{command[0]} is not on this machine: clients from npm need nodejs 20 and npm"
    ended = subprocess.run(command, check=False, cwd=directory, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
    assert ended.returncode == 0, f"{command} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"

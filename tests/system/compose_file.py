"""compose.yaml as this machine can run it: its variables filled in, its containers' names turned into addresses on loopback."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")


def load_compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """With ${NAME}, ${NAME:-default} and ${NAME:?reason} replaced as Compose does, in values alone. Raises KeyError for `:?`."""

    def value_of(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        found = environment.get(match[1], "")
        if not found and match[2] == "?":
            raise KeyError(f"{match[1]}: {match[3]}")
        return found or (match[3] if match[2] == "-" else "")

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        return _VARIABLE.sub(value_of, node) if isinstance(node, str) else node

    return filled(yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One of tallygate's own services. console: host:port of its /metrics and health."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    console: str
    log: Path

    def run(self, *arguments: str) -> str:
        """`docker compose exec SERVICE tallygate ARGUMENTS`: what it prints. Raises CalledProcessError."""
        done = subprocess.run(
            [sys.executable, "-m", "tallygate", *arguments],
            env=dict(self.environment),
            cwd=self.log.parent,
            capture_output=True,
            check=True,
            text=True,
        )
        return done.stdout

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tallygate", *self.command],
                env=dict(self.environment),
                cwd=self.log.parent,
                stdout=output,
                stderr=output,
            )
        try:
            yield
            assert process.poll() is None, self.log.read_text()
        finally:
            process.terminate()
            process.wait(60)


def role(
    service: Mapping[str, Any], *, name: str, directory: Path, addresses: Mapping[str, str], listens: Mapping[str, str]
) -> Role:
    """A service on this machine.

    addresses  what stands for each name:port and each /path of the containers
    listens    TALLYGATE_LISTEN and TALLYGATE_CONSOLE_LISTEN, which the image sets
    """
    data = directory / name
    data.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TALLYGATE_")}
    for key, value in service["environment"].items():
        for container, here in addresses.items():
            value = value.replace(container, here)  # noqa: PLW2901
        environment[key] = value
    return Role(
        command=tuple(service["command"]),
        environment=environment | {"TALLYGATE_DATA_DIR": str(data)} | dict(listens),
        console=listens["TALLYGATE_CONSOLE_LISTEN"],
        log=directory / f"{name}.log",
    )

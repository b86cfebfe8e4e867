"""The rivals that a registry has, each installed in a folder of its own: `make rivals`, or `python -m bench.rivals`.

None of them comes into the project's environment, and each runs without that environment's variables.

    litellm     PyPI. The newest release whose `proxy` extra PyPI can install: 1.108 to 1.110 ask for versions of
                litellm-proxy-extras or litellm-proxy that it has not, and there is no 1.107. Its database needs Prisma's query
                engine, which Prisma fetches from a host of its own, so that it runs with Redis and without PostgreSQL.
    tensorzero  PyPI: the client with the embedded gateway.
    portkey     npm. With @hono/node-server above 1.14.1 each stream fails (Portkey-AI/gateway, issue 1389).

Envoy AI Gateway is an image and a Go program: neither PyPI nor npm nor Debian has it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.contenders import UnavailableError, program

HOME: Final = Path(__file__).resolve().parent / "out" / "rivals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One that can be installed. program: what is run, in its folder."""

    name: str
    version: str
    install: Callable[[Path, str], None]
    program: str

    @property
    def folder(self) -> Path:
        """Of this version: another one is installed anew."""
        return HOME / f"{self.name}-{self.version}"

    @property
    def mark(self) -> Path:
        """Is there once it is installed to the end."""
        return self.folder / "installed"

    def path(self) -> Path:
        """Of its program. Raises UnavailableError if it is not installed."""
        if not self.mark.exists():
            raise UnavailableError(f"{self.name} {self.version} is not installed: make rivals")
        return self.folder / self.program


def _from_pypi(*packages: str) -> Callable[[Path, str], None]:
    """Into a virtual environment. Wheels only, so that no package runs anything while it is installed."""

    def install(folder: Path, version: str) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        wanted = [package.format(version=version) for package in packages]
        quiet = ["--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", *quiet, "--only-binary", ":all:", *wanted], check=True)

    return install


def _from_npm(package: str, overrides: Mapping[str, str]) -> Callable[[Path, str], None]:
    """Without scripts of the packages."""

    def install(folder: Path, version: str) -> None:
        folder.mkdir(parents=True)
        manifest = {"private": True, "dependencies": {package: version}, "overrides": dict(overrides)}
        (folder / "package.json").write_text(json.dumps(manifest))
        command = [program("npm"), "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
        subprocess.run(command, cwd=folder, check=True)

    return install


LITELLM: Final = Rival(name="litellm", version="1.106.12", install=_from_pypi("litellm[proxy]=={version}"), program="bin/litellm")
TENSORZERO: Final = Rival(name="tensorzero", version="2026.6.0", install=_from_pypi("tensorzero=={version}"), program="bin/python")
PORTKEY: Final = Rival(
    name="portkey",
    version="1.15.2",
    install=_from_npm("@portkey-ai/gateway", {"@hono/node-server": "1.14.1"}),
    program="node_modules/@portkey-ai/gateway/build/start-server.js",
)


def clean_environment(home: Path, **further: str) -> dict[str, str]:
    """Of a rival's process: nothing of ours but where programs are."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **further}


def installed(rival: Rival) -> bool:
    """Install it if it is not; whether it is there. What was begun and not finished is taken away."""
    if rival.mark.exists():
        return True
    print(f"installing {rival.name} {rival.version}", flush=True)
    shutil.rmtree(rival.folder, ignore_errors=True)
    try:
        rival.install(rival.folder, rival.version)
    except (subprocess.CalledProcessError, UnavailableError) as error:
        print(f"{rival.name} cannot be installed: {error}", file=sys.stderr)
        return False
    rival.mark.touch()
    return True


def main() -> None:
    missing = [rival.name for rival in (LITELLM, TENSORZERO, PORTKEY) if not installed(rival)]
    sys.exit(f"not installed: {', '.join(missing)}" if missing else 0)


if __name__ == "__main__":
    main()

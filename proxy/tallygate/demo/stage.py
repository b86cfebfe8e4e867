"""The demo's processes: the mock AI API and `tallygate serve`, on free ports, with everything in a temporary directory."""

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tallygate.config.settings import PREFIX
from tallygate.config.shipped import shipped_directory
from tallygate.config.sign_in_link import link_fragment, new_link_secret
from tallygate.processes.child import python_module
from tallygate.processes.data_directory import DataDirectory

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 30.0


class DemoError(Exception):
    """The demo cannot run; the message states why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The running processes. admin_token: for the console's API. log: the log file of the gateway's processes.

    page_url   of the console's page, with a link that signs in once
    """

    gateway_url: str
    console_url: str
    simulator_url: str
    admin_token: str = field(repr=False)
    page_url: str = field(repr=False)
    log: Path


@contextmanager
def running_stage(
    directory: Path, *, organizations: str, workers: int, prepare: Callable[[str, Path], None], profile: str = ""
) -> Iterator[Stage]:
    """Start everything, ready for use, and end it with the block. Raises DemoError.

    prepare   called with the mock API's address and the data directory before the gateway starts
    profile   the simulated API, "" for all
    """
    config = directory / "config"
    config.mkdir()
    (config / "organizations.yaml").write_text(organizations, encoding="utf-8")
    with contextlib.ExitStack() as stack:
        simulator_url = stack.enter_context(_simulator(profile))
        if profile:  # as `tallygate init` writes it, with the address of the mock API
            starter = (shipped_directory() / "starters" / profile / "upstreams.yaml").read_text(encoding="utf-8")
            upstreams = re.sub(r"base_url: \S+", f"base_url: {simulator_url}", starter, count=1)
            (config / "upstreams.yaml").write_text(upstreams, encoding="utf-8")
        gateway, console = _address(8080), _address(9090)
        admin_token, link = "tga_" + secrets.token_hex(20), new_link_secret(secrets.token_bytes)
        DataDirectory(directory / "data").keep_link(link)
        prepare(simulator_url, directory / "data")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            "TALLYGATE_LISTEN": gateway,
            "TALLYGATE_CONSOLE_LISTEN": console,
            "TALLYGATE_UPSTREAM_URL": simulator_url,
            "TALLYGATE_UPSTREAM_API_KEY": "the-mock-api-takes-any",
            "GLOO_API_KEY": "the-mock-api-takes-any",
            "TALLYGATE_ADMIN_TOKEN": admin_token,
            "TALLYGATE_DATA_DIR": str(directory / "data"),
            "TALLYGATE_CONFIG_DIR": str(config),
            "TALLYGATE_WORKERS": str(workers),
        }
        stage = Stage(
            gateway_url=f"http://{gateway}",
            console_url=f"http://{console}",
            simulator_url=simulator_url,
            admin_token=admin_token,
            page_url=f"http://{console}/{link_fragment(link)}",
            log=directory / "serve.log",
        )
        log = stack.enter_context(stage.log.open("wb"))
        command = python_module("tallygate", "serve")
        serve = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=directory, process_group=0)  # noqa: S603
        stack.callback(_stop, serve)
        _wait_until_ready(serve, stage)
        yield stage


def fetch(url: str, *, token: str = "") -> str:
    """The body of an answer; `token` is sent as a bearer token if there is one."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own processes, over http
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return str(answer.read().decode())


def fetch_json(url: str, *, token: str = "") -> Any:
    return json.loads(fetch(url, token=token))


@contextmanager
def _simulator(profile: str) -> Iterator[str]:
    command = python_module("tallygate.simulator", "--port", 0, *(("--profile", profile) if profile else ()))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)  # noqa: S603 - ourselves
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        if "http" not in line:
            raise DemoError("the mock AI API did not start")
        yield line.split()[-1]
    finally:
        _stop(process)
        if process.stdout is not None:
            process.stdout.close()


def _address(preferred: int) -> str:
    """An address with the preferred port if it is free, else with any."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return f"127.0.0.1:{probe.getsockname()[1]}"
    raise DemoError("no free port on 127.0.0.1")


def _wait_until_ready(serve: "subprocess.Popen[bytes]", stage: Stage) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if serve.poll() is not None:
            raise DemoError(f"the gateway did not start:\n{stage.log.read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            fetch(f"{stage.console_url}/readyz")
            return
        time.sleep(0.05)
    raise DemoError(f"the gateway was not ready after {START_SECONDS_MAX:.0f} seconds; its log is {stage.log}")


def _stop(process: "subprocess.Popen[Any]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

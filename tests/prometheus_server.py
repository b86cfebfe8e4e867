"""Real Prometheus and Alertmanager servers as child processes on loopback, from Debian's packages, for tests."""

import asyncio
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from valkey_process import free_port

PROMETHEUS_CONFIG = Path(__file__).parents[1] / "config" / "prometheus"
START_SECONDS_MAX = 60.0
END_SECONDS_MAX = 20.0


def shipped_config(
    targets: Mapping[str, Iterable[str]], *, rule_files: Iterable[Path] = (), alertmanager: str = "", interval: str = "1s"
) -> dict[str, Any]:
    """The shipped prometheus.yml with targets (host:port, without a scheme) in place of its own, by job, and a faster clock.

    rule_files: instead of the shipped ones where given. alertmanager: URL; none is told otherwise.
    Raises KeyError for a job that the shipped file does not have.
    """
    config = yaml.safe_load((PROMETHEUS_CONFIG / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] |= {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval}
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for job in jobs.values():
        job["static_configs"] = []
    for name, addresses in targets.items():
        jobs[name]["static_configs"] = [{"targets": [address.removeprefix("http://") for address in addresses]}]
    config["rule_files"] = [str(path) for path in rule_files] or [str(PROMETHEUS_CONFIG / name) for name in config["rule_files"]]
    told = [{"static_configs": [{"targets": [alertmanager.removeprefix("http://")]}]}]
    config["alerting"] = {"alertmanagers": told if alertmanager else []}
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """url: without a slash at the end."""

    url: str
    log: Path

    def get(self, path: str, **parameters: str) -> Any:
        """The JSON of an API path. Raises AssertionError with the server's own words where it refuses."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{error.code} {parameters}: {error.read().decode()}") from error


class Prometheus(Server):
    def query(self, expression: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """Result of an instant query: [{"metric": {label: value}, "value": [unix seconds, "number"]}].

        Raises AssertionError for an expression that Prometheus refuses.
        """
        moment = {} if at is None else {"time": str(at)}
        return list(self.get("/api/v1/query", query=expression, **moment)["data"]["result"])

    def query_range(self, expression: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """[{"metric": {label: value}, "values": [[unix seconds, "number"], ...]}]; start and end in Unix seconds."""
        answer = self.get("/api/v1/query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return list(answer["data"]["result"])

    def values(self, expression: str, *labels: str) -> dict[tuple[str, ...], float]:
        """An instant query's numbers by the values of the labels named; a label that is absent is an empty text."""
        return {
            tuple(series["metric"].get(label, "") for label in labels): float(series["value"][1])
            for series in self.query(expression)
        }

    def targets(self) -> dict[str, str]:
        """Health (up, down, unknown) of every target by its URL."""
        return {target["scrapeUrl"]: target["health"] for target in self.get("/api/v1/targets")["data"]["activeTargets"]}

    def alerts(self) -> list[dict[str, Any]]:
        """Pending and firing alerts: [{"labels", "annotations", "state", "activeAt", "value"}]."""
        return list(self.get("/api/v1/alerts")["data"]["alerts"])

    def rules(self) -> list[dict[str, Any]]:
        """Every loaded rule with its health and last error."""
        return [rule for group in self.get("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]


class Alertmanager(Server):
    def alerts(self) -> list[dict[str, Any]]:
        return list(self.get("/api/v2/alerts"))


@asynccontextmanager
async def running_prometheus(directory: Path, config: Mapping[str, Any], *flags: str) -> AsyncIterator[Prometheus]:
    """Serves once its storage and rules are loaded; the first scrape has not been made yet: wait for what you ask about."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    port = free_port()
    server = Prometheus(url=f"http://127.0.0.1:{port}", log=directory / "prometheus.log")
    command = [
        program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        *flags,
    ]
    async with _running(command, server):
        yield server


@asynccontextmanager
async def running_alertmanager(directory: Path, config: Mapping[str, Any], *flags: str) -> AsyncIterator[Alertmanager]:
    """One server, in no cluster."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "alertmanager.yml"
    file.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    port = free_port()
    server = Alertmanager(url=f"http://127.0.0.1:{port}", log=directory / "alertmanager.log")
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={file}",
        f"--storage.path={directory / 'alerts'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        *flags,
    ]
    async with _running(command, server):
        yield server


def program(name: str) -> str:
    """Path of a program of Debian's packages. Raises RuntimeError that says what to install."""
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"no {name}: apt-get install prometheus prometheus-alertmanager")
    return found


@asynccontextmanager
async def _running(command: list[str], server: Server) -> AsyncIterator[None]:
    with server.log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=server.log.parent)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not await asyncio.to_thread(_is_ready, server.url):
            assert process.poll() is None, server.log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, f"not ready: {server.log.read_text(encoding='utf-8')}"
            await asyncio.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

"""The whole product as a user runs it: `tallygate serve` with its processes, over a simulator in this process."""

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
import yaml
from usage_events import read_event
from valkey_process import free_port

from tallygate.limiter.keys import PARTITIONS, org_keys, partition_keys
from tallygate.simulator.ledger import Ledger
from tallygate.simulator.server import running_simulator

PATIENCE_SECONDS = 40.0
IS_FULL = bool(os.environ.get("TALLYGATE_FULL"))  # longer variants
_TOKENS = ("prompt_tokens", "completion_tokens")
_WORDS = ("kind", "flags", "settled_at_ms", "cost_nano_usd", "posted_nano_usd", *_TOKENS)  # fields of a stream's entry
KEY = "tg_acme-prod_acmesecret"
# A busy machine is not what these tests are about: the store gets time to answer, unless a test asks for less.
PATIENT_DEADLINES = {"TALLYGATE_STORE_DEADLINE_MS": "20000"}
AMPLE_PLANS: dict[str, Any] = {
    "plans": {
        "free": {"api_access": False},
        "pay_as_you_go": {
            "rate_limits": [{"requests": 10_000_000, "window": "1m"}, {"open_requests": 100_000, "per": "credential"}],
            "spend_limit": {"usd": "100", "window": "7d", "max_usd": "100", "warn_at": [0.5, 0.8, 0.95]},
        },
        "enterprise": {},
    }
}


def acme(usd: str, **changes: Any) -> dict[str, Any]:
    credential = {"id": "acme-prod", "key_sha256": hashlib.sha256(b"acmesecret").hexdigest()}
    return {
        "organizations": [
            {"id": "acme", "name": "Acme", "plan": "pay_as_you_go", "spend_limit": {"usd": usd}, "credentials": [credential]}
            | changes
        ]
    }


@dataclass(kw_only=True)
class Stack:
    """url and console: without a slash at the end."""

    process: subprocess.Popen[bytes]
    url: str
    console: str
    ledger: Ledger
    store: redis.Redis
    log: Path
    config_dir: Path
    data_dir: Path

    def children(self, module: str) -> list[psutil.Process]:
        """Running processes whose command names the module or program."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if any(module in word for word in child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return sorted(found, key=lambda child: child.pid)

    def workers(self) -> list[psutil.Process]:
        return self.children("tallygate.processes.worker")

    def events(self) -> list[dict[str, Any]]:
        """Every event told so far: what waits in the streams, and what the writer has moved into the ledger since."""
        return told_events(self.store, self.data_dir)

    def waiting(self) -> int:
        """Events that are not in the ledger yet."""
        return len(events_in(self.store))

    def window(self, org: str = "acme", key: str = "org:spend_7d") -> dict[str, int]:
        return window_in(self.store, org, key)

    def lifetime_totals(self) -> list[dict[str, Any]]:
        """The rows of the SQL ledger."""
        return rows_of(self.data_dir / "ledger.db", "SELECT * FROM lifetime_totals")

    def get(self, path: str) -> tuple[int, str]:
        """From the console."""
        try:
            with urllib.request.urlopen(self.console + path, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def told_events(store: redis.Redis, data_dir: Path) -> list[dict[str, Any]]:
    """See `Stack.events`; also for a stack that has ended, whose store and data directory are still there."""
    waiting = events_in(store)  # first: what moves meanwhile is then seen twice, not missed
    stored = entries_in(data_dir / "ledger.db")
    known = {(event["event_id"], event["_kind"]) for event in stored}
    return [*stored, *(event for event in waiting if (event["event_id"], event["_kind"]) not in known)]


def events_in(store: redis.Redis) -> list[dict[str, Any]]:
    """Every usage event of every partition's stream: its JSON, and the stream's own fields under their names with `_` before."""
    found = []
    for partition in range(PARTITIONS):
        for _, fields in store.xrange(partition_keys(partition).events):
            named = {name.decode(): value.decode() for name, value in fields.items()}
            if named["kind"] in {"notice", "deferred"}:
                continue
            event = read_event(named.pop("event"))
            found.append(event | {f"_{name}": value for name, value in named.items()})
    return found


def entries_in(ledger: Path) -> list[dict[str, Any]]:
    """What the limiter told, as the SQL ledger keeps it, in the shape of `events_in`; its own corrections are left out."""
    found = rows_of(ledger, "SELECT * FROM entries WHERE kind NOT IN ('reversed', 'repriced') ORDER BY event_id, sequence")
    return [
        {name: row[name] for name in row if name not in _WORDS}
        | {name: row[name] for name in _TOKENS}
        | {"flags": row["flags"].split(",") if row["flags"] else []}
        | _words(row)
        for row in found
    ]


def rows_of(ledger: Path, query: str) -> list[dict[str, Any]]:
    """Of a SQLite ledger."""
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=20)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(query)]
    finally:
        connection.close()


def _words(row: dict[str, Any]) -> dict[str, Any]:
    return {f"_{name}": str(row[name]) for name in _WORDS}


def window_in(store: redis.Redis, org: str = "acme", key: str = "org:spend_7d") -> dict[str, int]:
    """Spent and held of a window, from the limiter's own hash."""
    fields = store.hgetall(org_keys(org).spend)
    return {name: int(fields.get(f"{key}|{name}".encode(), 0)) for name in ("spent", "held")}


async def eventually(condition: Any, what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The condition's first true value; asked again until then, since other processes make it true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        await asyncio.sleep(0.05)
    raise AssertionError(f"never happened: {what}")


@asynccontextmanager
async def running_stack(
    tmp_path: Path,
    *,
    config: dict[str, Any] | None = None,
    upstream_url: str | None = None,
    store_url: str = "",
    store: redis.Redis | None = None,
    descriptors: int | None = None,
    config_dir: Path | None = None,
    **settings: str,
) -> AsyncIterator[Stack]:
    """settings: TALLYGATE_* by lower-case name. The embedded Valkey is used unless store_url names another.

    store         a client of it, where redis-py does not read its URL
    descriptors   the soft and hard limit of every process; None for what this one has
    config_dir    a directory in place of the files of `config` and of those that every stack has
    """
    if config_dir is None:
        config_dir = tmp_path / "config"
        config_dir.mkdir(parents=True, exist_ok=True)
        for name, content in ({"plans": AMPLE_PLANS, "organizations": acme("25")} | (config or {})).items():
            (config_dir / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    gateway_port, console_port = free_port(), free_port()
    data_dir = tmp_path / "data"
    log = tmp_path / "serve.log"
    async with running_simulator() as simulator:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")} | {
            "TALLYGATE_LISTEN": f"127.0.0.1:{gateway_port}",
            "TALLYGATE_CONSOLE_LISTEN": f"127.0.0.1:{console_port}",
            "TALLYGATE_UPSTREAM_URL": upstream_url or simulator.url,
            "TALLYGATE_CONFIG_DIR": str(config_dir),
            "TALLYGATE_DATA_DIR": str(data_dir),
            **PATIENT_DEADLINES,
            **({"TALLYGATE_REDIS_URL": store_url} if store_url else {}),
            **{f"TALLYGATE_{name.upper()}": value for name, value in settings.items()},
        }
        with log.open("ab") as output:
            limited = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}"]
            command = [*limited, sys.executable, "-m", "tallygate", "serve"]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=tmp_path)
        console = f"http://127.0.0.1:{console_port}"

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"{console}/readyz", timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        try:
            while not await asyncio.to_thread(is_ready):
                await asyncio.sleep(0.1)
            if store is None:
                store = redis.Redis.from_url(store_url) if store_url else embedded_store(data_dir)
            yield Stack(
                process=process,
                url=f"http://127.0.0.1:{gateway_port}",
                console=console,
                ledger=simulator.ledger,
                store=store,
                log=log,
                config_dir=config_dir,
                data_dir=data_dir,
            )
            store.close()
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def embedded_store(data_dir: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(next(data_dir.rglob("*.sock"))))

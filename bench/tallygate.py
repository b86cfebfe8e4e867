"""tallygate as its users start it, with everything on and limits that never refuse."""

import asyncio
import hashlib
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from importlib.metadata import version
from types import MappingProxyType

import yaml

from bench import procfs
from bench.contenders import PROJECT, START_SECONDS, Contender, Stage, UnavailableError, free_port
from bench.money import BUDGET_NANO_USD, LEAVER, PURSE, Budgets, accounts
from bench.workload import INPUT_NANO_USD, MODEL, OUTPUT_NANO_USD, Target

ORGANIZATIONS = 100  # requests come from so many in turn
ADMIN_TOKEN = "tga_bench"
STORED_SECONDS_MAX = 60.0  # for the ledger to take what the last round has left
_ROLES = {"tallygate.processes.worker": "gateway", "tallygate.processes.console": "console", "valkey": "store"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallygate:
    """A running gateway and its rows."""

    contenders: tuple[Contender, ...]
    console_port: int


def configuration(upstream_port: int) -> dict[str, object]:
    """Files of the configuration directory, as values. Every kind of limit at once, each too high to refuse."""
    limited = {
        "rate_limits": [
            {"requests": 10**9, "window": "1m"},
            {"requests": 10**9, "window": "1h"},
            {"tokens": 10**11, "window": "1m"},
            {"open_requests": 10**6, "per": "credential"},
        ],
        "spend_limit": {"usd": "1000000", "window": "7d", "max_usd": "1000000", "warn_at": [0.5, 0.8, 0.95]},
        "history": "90d",
    }
    purse = limited | {"spend_limit": {"usd": str(Decimal(BUDGET_NANO_USD) / 10**9), "window": "7d"}}
    plans = {"limited": limited, "unlimited": {"history": "90d"}, PURSE: purse, LEAVER: limited}
    names = [*(f"{kind}-{number}" for kind in ("limited", "unlimited") for number in range(ORGANIZATIONS)), *accounts()]
    organizations = [
        {
            "id": name,
            "name": f"Bench {name}",
            "plan": name.partition("-")[0],
            "credentials": [{"id": f"{name}-main", "key_sha256": _digest(name), "capabilities": ["chat", "search"]}],
        }
        for name in names
    ]
    return {
        "plans.yaml": {"plans": plans},
        "organizations.yaml": {"organizations": organizations},
        "upstreams.yaml": {"upstreams": {"default": {"base_url": f"http://127.0.0.1:{upstream_port}", "pool_max": 8000}}},
        "prices.yaml": {
            "prices": [
                {
                    "model": MODEL,
                    "effective": "2024-07-18",
                    "input": str(INPUT_NANO_USD / 1000),
                    "cached_input": "0.075",
                    "output": str(OUTPUT_NANO_USD / 1000),
                    "max_output_tokens": 16384,
                }
            ]
        },
    }


async def start_tallygate(
    stage: Stage,
    upstream_port: int,
    *,
    python: str = sys.executable,
    children: str | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    label: str = "tallygate",
    store: Sequence[int] = (),
) -> Tallygate:
    """One worker, one console, and the embedded Valkey with its append-only file on, unless the settings name another store.

    python     the interpreter of the checkout that is measured
    children   the program that runs the worker and the console in its place
    settings   further variables of its environment
    label      names its files, and its rows
    store      the processes of the store that its settings name
    """
    port, console_port = free_port(), free_port()
    directory = stage.directory / f"{label}-config"
    directory.mkdir()
    for name, value in configuration(upstream_port).items():
        (directory / name).write_text(yaml.safe_dump(value, sort_keys=False))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")} | {
        "PYTHONPATH": str(PROJECT),
        "TALLYGATE_LISTEN": f"127.0.0.1:{port}",
        "TALLYGATE_CONSOLE_LISTEN": f"127.0.0.1:{console_port}",
        "TALLYGATE_UPSTREAM_API_KEY": "sk-upstream",
        "TALLYGATE_ADMIN_TOKEN": ADMIN_TOKEN,
        "TALLYGATE_DATA_DIR": str(stage.directory / f"{label}-data"),
        "TALLYGATE_CONFIG_DIR": str(directory),
        "TALLYGATE_WORKERS": "1",
        "TALLYGATE_LOG_LEVEL": "warning",
        **settings,
    }
    run = f"import sys; sys.executable = {children or python!r}; from tallygate.cli import main; main()"
    command = [python, "-c", run, "serve"]
    process = stage.start(label, command, environment=environment)
    await stage.listening(label, process, console_port)
    groups = await _grouped(process.pid, store)
    gateway = groups.pop("gateway")
    everything = Target(port=port, keys=_keys("limited"))
    unlimited = Target(port=port, keys=_keys("unlimited"))
    unmetered = Target(port=port, keys=_keys("limited"), path="/ai/data/v1/search")

    budgets = Budgets(
        target=lambda name: Target(port=port, keys=(_key(name),)), charged=lambda name: charged_nano_usd(console_port, name)
    )

    def row(name: str, target: Target, **parts: object) -> Contender:
        return Contender(name=name, target=target, measured=gateway, others=groups, **parts)

    return Tallygate(
        contenders=(
            row(f"{label}, everything on", everything, budgets=budgets, version=f"tallygate {version('tallygate')}"),
            row(f"{label}, no limits", unlimited, streams=False, memory=False),
            row(f"{label}, unmetered route", unmetered, streams=False, memory=False),
        ),
        console_port=console_port,
    )


async def _grouped(root: int, store: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The processes by what they do. Raises UnavailableError if there is no worker before long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + START_SECONDS
    while loop.time() < until:
        groups: dict[str, list[int]] = {"store": list(store)} if store else {}
        for pid in procfs.family(root):
            command = procfs.command_line(pid)
            role = next((role for mark, role in _ROLES.items() if mark in command), "supervisor")
            groups.setdefault(role, []).append(pid)
        if {"gateway", "store"} <= groups.keys():
            await asyncio.sleep(1.0)  # the worker has begun, and is about to accept
            return {role: tuple(pids) for role, pids in groups.items()}
        await asyncio.sleep(0.1)
    raise UnavailableError("tallygate started no worker")


def requests_counted(console_port: int) -> int:
    """The requests that tallygate itself has counted, from its metrics, once its ledger has all of them."""
    deadline = time.monotonic() + STORED_SECONDS_MAX
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{console_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        if not sum_of_series(text, "tallygate_ledger_lag_events") or time.monotonic() > deadline:
            return sum_of_series(text, "tallygate_requests_total")
        time.sleep(0.5)


def sum_of_series(exposition: str, metric: str) -> int:
    """All series of a counter in Prometheus's text format, added up."""
    found = re.findall(rf"^{re.escape(metric)}(?:{{[^\n]*}})? ([0-9.e+]+)", exposition, re.MULTILINE)
    return sum(int(float(value)) for value in found)


def charged_nano_usd(console_port: int, name: str) -> int:
    """What counts against the spend limit of an organization, what is held for its open requests included.

    Asked again while the answer is 503: the store may be too busy to answer the console in time.
    """
    address = f"http://127.0.0.1:{console_port}/api/spend?org={name}"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    deadline = time.monotonic() + STORED_SECONDS_MAX
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                window = json.load(answer)["rolling_7_days"]
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return window["spent"]["nano_usd"] + window["held"]["nano_usd"]


def _secret(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:40]


def _digest(name: str) -> str:
    return hashlib.sha256(_secret(name).encode()).hexdigest()


def _key(name: str) -> str:
    return f"tg_{name}-main_{_secret(name)}"


def _keys(kind: str) -> tuple[str, ...]:
    return tuple(_key(f"{kind}-{number}") for number in range(ORGANIZATIONS))

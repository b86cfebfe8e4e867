"""What one organization's attack does to another one's requests.

python -m bench.neighbours [--seconds 8] [--only "slow bodies"] [--descriptors 1024]

A victim asks a small question every 20 ms; meanwhile each attack in turn runs, in a process of its own, with the credential of
another organization. The table shows the victim's times, what the attacker got, and the worker's CPU time and memory. All share
the machine's cores.
"""

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import yaml

from bench import procfs
from bench.contenders import PROJECT, START_SECONDS, Stage, UnavailableError, free_port, start_upstream
from bench.pinning import Pinning
from bench.samples import percentile
from bench.workload import CHAT_PATH, MODEL, chat_bodies

ASK_EVERY_S: Final = 0.02
ANSWER_SECONDS_MAX: Final = 30.0
LARGE: Final = 31_900_000
PROMPT: Final = "several words of a long prompt " * 3_200
ADMIN_TOKEN: Final = "tga_bench"


@dataclass(slots=True, kw_only=True)
class Attacker:
    """got: statuses of its answers; told: what else there is to say."""

    got: Counter[str] = field(default_factory=Counter)
    told: str = ""


@dataclass(slots=True, kw_only=True)
class Row:
    """One attack's figures."""

    name: str
    victim_ms: list[float] = field(default_factory=list)
    failed: int = 0
    memory_mb: float = 0.0
    cpu_part: float = 0.0  # of one core
    attacker: Attacker = field(default_factory=Attacker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A running `tallygate serve` with one worker."""

    port: int
    console_port: int
    worker: int

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.worker}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) / 1024 if found is not None else 0.0


Attack = Callable[[Gateway, Attacker, float], Awaitable[None]]


def key(org: str) -> str:
    return f"tg_{org}-main_{org}secret"


def configuration(upstream_port: int) -> Mapping[str, object]:
    """The victim has ample limits; the attacker 600 requests a minute and 50 open ones; the paused one next to nothing to spend."""

    def organization(name: str, plan: str) -> dict[str, object]:
        digest = hashlib.sha256(f"{name}secret".encode()).hexdigest()
        return {"id": name, "name": name, "plan": plan, "credentials": [{"id": f"{name}-main", "key_sha256": digest}]}

    victims = [organization(name, "ample") for name in ("victim", "writer")]
    others = [organization("attacker", "narrow"), organization("hoarder", "open"), organization("paused", "poor")]
    return {
        "plans.yaml": {
            "plans": {
                "ample": {"rate_limits": [{"requests": 10**9, "window": "1m"}, {"tokens": 1_000_000, "window": "1h"}]},
                "narrow": {"rate_limits": [{"requests": 600, "window": "1m"}, {"open_requests": 50}]},
                "open": {"rate_limits": [{"requests": 10**9, "window": "1m"}]},
                "poor": {"spend_limit": {"usd": "0.00002", "window": "7d", "max_usd": "1"}},
            }
        },
        "organizations.yaml": {"organizations": victims + others},
        "upstreams.yaml": {"upstreams": {"default": {"base_url": f"http://127.0.0.1:{upstream_port}"}}},
        "prices.yaml": {
            "prices": [
                {"model": MODEL, "effective": "2024-07-18", "input": "0.15", "output": "0.60", "max_output_tokens": 16384},
            ]
        },
    }


async def start(stage: Stage, upstream_port: int, descriptors: int | None) -> Gateway:
    """descriptors: the hard limit of the processes, None for the machine's own."""
    port, console_port = free_port(), free_port()
    directory = stage.directory / "neighbours-config"
    directory.mkdir()
    for name, value in configuration(upstream_port).items():
        (directory / name).write_text(yaml.safe_dump(value, sort_keys=False))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")} | {
        "PYTHONPATH": str(PROJECT),
        "TALLYGATE_LISTEN": f"127.0.0.1:{port}",
        "TALLYGATE_CONSOLE_LISTEN": f"127.0.0.1:{console_port}",
        "TALLYGATE_UPSTREAM_API_KEY": "sk-upstream",
        "TALLYGATE_ADMIN_TOKEN": ADMIN_TOKEN,
        "TALLYGATE_DATA_DIR": str(stage.directory / "neighbours-data"),
        "TALLYGATE_CONFIG_DIR": str(directory),
        "TALLYGATE_BODY_BUDGET_BYTES": "200000000",
        "TALLYGATE_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-c", "from tallygate.cli import main; main()", "serve"]
    if descriptors is not None:
        command = ["prlimit", f"--nofile={descriptors}", *command]
    process = stage.start("tallygate", command, environment=environment)
    await stage.listening("tallygate", process, console_port)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        workers = [pid for pid in procfs.family(process.pid) if "tallygate.processes.worker" in procfs.command_line(pid)]
        if workers:
            await asyncio.sleep(1.5)  # it has begun, and is about to accept
            return Gateway(port=port, console_port=console_port, worker=workers[0])
        await asyncio.sleep(0.1)
    raise UnavailableError("tallygate started no worker")


def head(org: str, length: int) -> bytes:
    return (
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key(org)}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def ask(port: int, org: str, body: bytes) -> tuple[str, str]:
    """Status and head of the answer; "cut" where there is none."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(head(org, len(body)) + body)
                answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                return answer.split()[1], answer
            finally:
                writer.close()
    except TimeoutError:
        return "none in time", ""
    except (OSError, asyncio.IncompleteReadError):
        return "cut", ""


async def be_victim(gateway: Gateway, row: Row, seconds: float) -> None:
    """A small question every 20 ms, each on a connection of its own: a wait shows in all that are asked in its time."""
    bodies = chat_bodies(500, seed=1)
    asking: set[asyncio.Task[None]] = set()

    async def one(body: bytes) -> None:
        began = time.perf_counter()
        status, _ = await ask(gateway.port, "victim", body)
        row.victim_ms.append((time.perf_counter() - began) * 1000)
        row.failed += status != "200"

    until = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < until:
        asking.add(asyncio.ensure_future(one(bodies[number % len(bodies)])))
        number += 1
        row.memory_mb = max(row.memory_mb, gateway.memory_mb())
        await asyncio.sleep(ASK_EVERY_S)
    await asyncio.gather(*asking)


async def repeatedly(
    gateway: Gateway, row: Attacker, seconds: float, org: str, body: bytes, *, at_once: int, rest_s: float = 0.0
) -> None:
    """So many requests at a time, again and again, each after a rest."""
    until = time.perf_counter() + seconds

    async def one() -> None:
        while time.perf_counter() < until:
            status, _ = await ask(gateway.port, org, body)
            row.got[status] += 1
            await asyncio.sleep(rest_s)

    await asyncio.gather(*[one() for _ in range(at_once)])


@cache
def ones() -> bytes:
    return b'{"model":"%b","messages":[{"role":"user","content":[' % MODEL.encode() + b"1," * 15_900_000 + b"1]}]}"


@cache
def escaped_keys() -> bytes:
    keys = b",".join([b'"\\u0061%06d":1' % number for number in range(1_760_000)])
    return b'{"model":"%b","messages":[],"x":{' % MODEL.encode() + keys + b"}}"


@cache
def largest_allowed() -> bytes:
    """Just below the bounds of structure: as dear to read as a body can be that is read."""
    message = b'{"role":"user","content":[1,1,1,1,1,1,1,1,1,1,1,1]},'
    return b'{"model":"%b","max_tokens":5,"messages":[' % MODEL.encode() + message * 12_000 + b"{}]}"


def prompt_body() -> bytes:
    return json.dumps({"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": PROMPT}]}).encode()


async def nothing(_gateway: Gateway, _row: Attacker, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def commas(gateway: Gateway, row: Attacker, seconds: float) -> None:
    await repeatedly(gateway, row, seconds, "attacker", ones(), at_once=1)


async def commas_of_a_paused(gateway: Gateway, row: Attacker, seconds: float) -> None:
    await repeatedly(gateway, row, seconds, "paused", ones(), at_once=1)


async def keys(gateway: Gateway, row: Attacker, seconds: float) -> None:
    await repeatedly(gateway, row, seconds, "attacker", escaped_keys(), at_once=4)


async def allowed(gateway: Gateway, row: Attacker, seconds: float) -> None:
    await repeatedly(gateway, row, seconds, "attacker", largest_allowed(), at_once=4)


async def withheld(
    gateway: Gateway, row: Attacker, seconds: float, *, org: str, count: int, length: int, sent: int, trickle: int
) -> None:
    """Bodies whose end never comes."""
    until = time.perf_counter() + seconds

    async def one() -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            reading = asyncio.ensure_future(reader.read(1 << 16))
            try:
                writer.write(head(org, length) + b" " * sent)
                while time.perf_counter() < until and not reading.done():
                    await asyncio.wait({reading}, timeout=0.5)
                    if trickle:
                        writer.write(b" " * (trickle // 2))
                answer = (await reading).split() if reading.done() else []
                row.got[answer[1].decode() if len(answer) > 1 else "cut" if reading.done() else "kept open"] += 1
            finally:
                reading.cancel()
                writer.close()

    await asyncio.gather(*[one() for _ in range(count)])


async def slow_bodies(gateway: Gateway, row: Attacker, seconds: float) -> None:
    await withheld(gateway, row, seconds, org="attacker", count=310, length=60_000, sent=1_500, trickle=1_500)


async def last_byte(gateway: Gateway, row: Attacker, seconds: float) -> None:
    await withheld(gateway, row, seconds, org="hoarder", count=60, length=LARGE, sent=LARGE - 1, trickle=0)


async def prompts(gateway: Gateway, row: Attacker, seconds: float) -> None:
    """A victim's own long prompt meanwhile: how long it takes, and at how many tokens it is rated."""
    attacking = asyncio.ensure_future(repeatedly(gateway, row, seconds, "paused", prompt_body(), at_once=75, rest_s=1.0))
    await asyncio.sleep(seconds / 2)
    began = time.perf_counter()
    status, answer = await ask(gateway.port, "writer", prompt_body())
    took = time.perf_counter() - began
    left = re.search(r"x-ratelimit-remaining-tokens: (\d+)", answer)
    rated = 1_000_000 - int(left[1]) if left is not None else 0
    row.told = f"a victim's prompt of {len(PROMPT):,} characters: {status} in {took:.2f} s, rated at {rated:,} tokens"
    await attacking


async def half_open(gateway: Gateway, row: Attacker, seconds: float, port: int) -> None:
    """1,100 heads that never end; the console is asked meanwhile."""
    writers = []
    for _ in range(1_100):
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            writers.append(writer)
    slowest = 0.0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for path in ("/healthz", "/metrics"):
            began = time.perf_counter()
            status = await asyncio.to_thread(_console, gateway.console_port, path)
            slowest = max(slowest, time.perf_counter() - began)
            row.got[f"{path} {status}"] += 1
        await asyncio.sleep(0.2)
    row.told = f"the console's slowest answer: {slowest * 1000:.0f} ms"
    for writer in writers:
        writer.close()


def _console(port: int, path: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.status)
    except OSError as error:
        return str(error)[:40]


async def heads_of_gateway(gateway: Gateway, row: Attacker, seconds: float) -> None:
    await half_open(gateway, row, seconds, gateway.port)


async def heads_of_console(gateway: Gateway, row: Attacker, seconds: float) -> None:
    await half_open(gateway, row, seconds, gateway.console_port)


ATTACKS: Final[Mapping[str, Attack]] = {
    "nothing": nothing,
    "31.8 MB of commas": commas,
    "the same, of a paused organization": commas_of_a_paused,
    "four bodies of 1,760,000 escaped keys": keys,
    "four bodies just below the bounds": allowed,
    "310 slow bodies, 50 open requests": slow_bodies,
    "60 bodies of 31.9 MB, last byte withheld": last_byte,
    "75 long prompts of a paused organization": prompts,
    "1,100 half-open heads at the gateway": heads_of_gateway,
    "1,100 half-open heads at the console": heads_of_console,
}


def run_attack(name: str, gateway: Gateway, seconds: float) -> Attacker:
    """One attack, in this process."""
    attacker = Attacker()
    asyncio.run(ATTACKS[name](gateway, attacker, seconds))
    return attacker


async def measure(seconds: float, only: str, descriptors: int | None) -> list[Row]:
    """Every attack in turn, on one gateway."""
    rows = []
    attackers = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with attackers, tempfile.TemporaryDirectory(prefix="tallygate-bench-") as directory:
        stage = Stage(Path(directory), Pinning(load_core=None, proxy_core=None))
        try:
            direct = await start_upstream(stage)
            gateway = await start(stage, direct.target.port, descriptors)
            await ask(gateway.port, "paused", json.dumps({"model": MODEL, "max_tokens": 1, "messages": []}).encode())
            await be_victim(gateway, Row(name="warm"), 1.0)
            for name in ATTACKS:
                if only in name:
                    row = Row(name=name)
                    attacking = asyncio.get_running_loop().run_in_executor(attackers, run_attack, name, gateway, seconds)
                    await asyncio.sleep(0.5)  # the attacker makes what it sends
                    cpu, began = procfs.cpu_seconds([gateway.worker]), time.perf_counter()
                    await be_victim(gateway, row, seconds)
                    row.cpu_part = (procfs.cpu_seconds([gateway.worker]) - cpu) / (time.perf_counter() - began)
                    row.attacker = await attacking
                    rows.append(row)
        finally:
            stage.stop()
    return rows


def table(rows: list[Row]) -> str:
    lines = [
        "| attack | victim p50, ms | p99, ms | failed | attacker got | worker: part of a core | memory, MB |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        got = ", ".join(f"{count} times {status}" for status, count in sorted(row.attacker.got.items()))
        told = "; ".join(part for part in (got, row.attacker.told) if part)
        times = f"{percentile(row.victim_ms, 0.5):.1f} | {percentile(row.victim_ms, 0.99):.1f}"
        lines.append(
            f"| {row.name} | {times} | {row.failed} of {len(row.victim_ms)} | {told} | {row.cpu_part:.2f} | {row.memory_mb:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="What one organization's attack does to another one's requests.")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each attack")
    parser.add_argument("--only", default="", help="attacks whose name has this in it")
    parser.add_argument("--descriptors", type=int, default=None, help="hard limit of the gateway's processes")
    options = parser.parse_args()
    rows = asyncio.run(measure(options.seconds, options.only, options.descriptors))
    sys.stdout.write(table(rows))
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())

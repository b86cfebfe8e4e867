"""Roles apart: any number of gateways, consoles and ledgers as processes of their own, over one store and one database."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import redis
import yaml
from stack import AMPLE_PLANS, PATIENCE_SECONDS, PATIENT_DEADLINES, Stack, eventually
from valkey_process import ValkeyProcess, free_port

from tallygate.simulator.ledger import Ledger
from tallygate.simulator.server import running_simulator

POLL_SECONDS = 0.05
RECORDS_MAX = 2_000_000  # of the upstream's account: none is dropped in hours of chaos
START_SECONDS = 240.0  # for a whole fleet on a busy machine
ADMIN_TOKEN = "tga_the_same_at_every_console"


@dataclass(kw_only=True)
class Member:
    """One process of a role with its children. is_ready: what the last look at its /readyz said."""

    role: str
    environment: dict[str, str]
    console: str
    url: str
    directory: Path
    process: subprocess.Popen[bytes]
    is_ready: bool = False

    async def get(self, path: str) -> tuple[int, str]:
        """From its status port; 0 if it does not answer."""
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        try:
            async with aiohttp.ClientSession() as session, session.get(self.console + path, headers=headers, timeout=20) as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    def child(self, module: str) -> psutil.Process:
        """The one child that runs a module."""
        (found,) = [child for child in psutil.Process(self.process.pid).children() if module in child.cmdline()]
        return found

    def start(self) -> None:
        with (self.directory / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tallygate", self.role],
                env=self.environment,
                stdout=output,
                stderr=output,
                cwd=self.directory,
            )

    async def end(self) -> None:
        """SIGTERM, and wait until nothing that it had open is left."""
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.process.wait, PATIENCE_SECONDS) == 0, (self.directory / "log").read_text()[-2000:]

    def kill(self) -> None:
        """SIGKILL to it with all its processes, at once."""
        first = psutil.Process(self.process.pid)
        first.suspend()  # a supervisor must not start others meanwhile
        family = [first, *first.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        psutil.wait_procs(family, timeout=10)

    async def restart(self) -> None:
        """As a rollout does it."""
        await self.end()
        self.start()
        await self.until_ready()

    async def renew_child(self, module: str) -> None:
        """SIGTERM to one child, whose place another takes."""
        before = self.child(module)
        before.send_signal(signal.SIGTERM)

        def is_replaced() -> bool:
            try:
                return self.child(module).pid != before.pid
            except (ValueError, psutil.NoSuchProcess):
                return False

        await eventually(is_replaced, f"the {self.role}'s child is replaced")
        await self.until_ready()

    async def until_ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            while (await self.get("/readyz"))[0] != 200:
                assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
                await asyncio.sleep(POLL_SECONDS)

    async def follow(self) -> None:
        """Look at its readiness for ever, as a balancer does."""
        while True:
            status, _ = await self.get("/readyz")
            self.is_ready = status == 200
            await asyncio.sleep(POLL_SECONDS)


@dataclass(kw_only=True)
class Fleet:
    """All members, and what the tests of one stack use: `stack.process` is the first gateway's, its data directory too."""

    members: Sequence[Member]
    stack: Stack
    turns: Any = field(default_factory=itertools.count)

    def of(self, role: str) -> list[Member]:
        return [member for member in self.members if member.role == role]

    async def pick(self, role: str) -> Member:
        """The next ready one, in turns."""
        members = self.of(role)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                chosen = members[next(self.turns) % len(members)]
                if chosen.is_ready:
                    return chosen
                await asyncio.sleep(0)
                if not any(member.is_ready for member in members):
                    await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def running_fleet(
    tmp_path: Path, roles: Sequence[str], *, config: dict[str, Any], store: ValkeyProcess, database_url: str, **settings: str
) -> AsyncIterator[Fleet]:
    """settings: TALLYGATE_* by lower-case name, for every member."""
    config_dir = tmp_path / "config"
    config_dir.mkdir()
    for name, content in ({"plans": AMPLE_PLANS} | config).items():
        (config_dir / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    async with running_simulator(records_max=RECORDS_MAX) as simulator:
        shared = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")} | {
            "TALLYGATE_CONFIG_DIR": str(config_dir),
            "TALLYGATE_REDIS_URL": store.url,
            "TALLYGATE_DATABASE_URL": database_url,
            "TALLYGATE_ADMIN_TOKEN": ADMIN_TOKEN,
            **PATIENT_DEADLINES,
            **{f"TALLYGATE_{name.upper()}": value for name, value in settings.items()},
        }
        members = [started_member(tmp_path / f"{role}-{number}", role, shared, simulator.url) for number, role in enumerate(roles)]
        watching: list[asyncio.Task[None]] = []
        try:
            await asyncio.gather(*(member.until_ready() for member in members))
            watching = [asyncio.ensure_future(member.follow()) for member in members]
            with store.client() as client:
                yield Fleet(members=members, stack=_stack(members, simulator.ledger, client, config_dir))
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            for member in members:
                member.process.terminate()
            for member in members:
                try:
                    await asyncio.to_thread(member.process.wait, PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    member.process.kill()
                    raise


def started_member(directory: Path, role: str, shared: dict[str, str], upstream_url: str, **settings: str) -> Member:
    """A member whose process was started a moment ago. directory: of its own, which does not exist yet."""
    directory.mkdir()
    gateway, console = free_port(), free_port()
    own = {
        "TALLYGATE_LISTEN": f"127.0.0.1:{gateway}",
        "TALLYGATE_CONSOLE_LISTEN": f"127.0.0.1:{console}",
        "TALLYGATE_DATA_DIR": str(directory / "data"),
    }
    if role == "gateway":
        own["TALLYGATE_UPSTREAM_URL"] = upstream_url  # nobody else needs to know it
    else:
        own["TALLYGATE_DRAIN_DELAY_SECONDS"] = shared.get("TALLYGATE_DRAIN_DELAY_SECONDS", "0") if role == "console" else "0"
    member = Member(
        role=role,
        environment=shared | own | {f"TALLYGATE_{name.upper()}": value for name, value in settings.items()},
        console=f"http://127.0.0.1:{console}",
        url=f"http://127.0.0.1:{gateway}",
        directory=directory,
        process=None,  # type: ignore[arg-type]  # in a moment
    )
    member.start()
    return member


def _stack(members: Sequence[Member], ledger: Ledger, store: redis.Redis, config_dir: Path) -> Stack:
    gateway = next(member for member in members if member.role == "gateway")
    return Stack(
        process=gateway.process,
        url=gateway.url,
        console=gateway.console,
        ledger=ledger,
        store=store,
        log=gateway.directory / "log",
        config_dir=config_dir,
        data_dir=gateway.directory / "data",
    )

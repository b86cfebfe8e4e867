"""Backup, restore, upgrade and the move to PostgreSQL as docs/operate.md has them, typed, around gateways that are killed."""

import asyncio
import os
import re
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from new_ledger import postgres_ledger
from postgres_process import PostgresProcess, binaries
from stack import AMPLE_PLANS, Stack, acme, eventually, running_stack
from system_traffic import ask, callers, chat

pytestmark = pytest.mark.timeout(300)
PAGE = Path(__file__).parents[2] / "docs" / "operate.md"


def commands_of(heading: str) -> list[str]:
    """What a reader types of a section, line by line."""
    [section] = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^ *\$ ((?:tallygate|pg_).+)$", section, re.MULTILINE)


def typed(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the line in a shell as docs/operate.md has it, where `serve` ran."""
    environment = {
        **os.environ,
        "TALLYGATE_DATA_DIR": str(folder / "data"),
        "PATH": f"{Path(sys.executable).parent}:{binaries()}:{os.environ['PATH']}",
        **variables,
    }
    return subprocess.run(
        ["bash", "-c", command], env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


async def kill(stack: Stack) -> None:
    """The whole machine, as it were."""
    processes = [psutil.Process(stack.process.pid), *psutil.Process(stack.process.pid).children(recursive=True)]
    for process in processes:
        process.kill()
    await asyncio.to_thread(psutil.wait_procs, processes, 30)


async def in_postgresql(url: str) -> int:
    """The cost of all entries, in nano-USD."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT SUM(cost_nano_usd) FROM entries"))
    finally:
        await connection.close()


async def test_a_ledger_is_backed_up_restored_upgraded_and_moved_as_the_page_says(
    tmp_path: Path, postgres_server: PostgresProcess
) -> None:
    backup, restore, *_ = commands_of("Backup and restore")
    compare, accept = commands_of("An older ledger")
    [copy] = commands_of("Moving to PostgreSQL")
    (tmp_path / "tallygate-data").symlink_to(tmp_path / "data")  # where the page has it
    config: dict[str, Any] = {"plans": AMPLE_PLANS, "organizations": acme("25")}
    is_over = asyncio.Event()

    async def keep_asking(stack: Stack) -> None:
        async with callers() as session:
            while not is_over.is_set():
                await ask(session, stack, "acme-prod", chat("tokens=20"))

    async with running_stack(tmp_path, config=config, workers="1") as stack:
        asking = asyncio.ensure_future(keep_asking(stack))
        await eventually(lambda: len(stack.lifetime_totals()) and len(stack.events()) > 10, "some traffic is in the ledger")
        copied = await asyncio.to_thread(typed, backup, tmp_path)
        assert copied.returncode == 0, copied.stderr
        then = len(stack.events())
        await eventually(lambda: len(stack.events()) > then + 10, "more traffic")
        is_over.set()
        await asking
        await eventually(lambda: stack.waiting() == 0, "all is in the ledger")
        spent = stack.window()["spent"]
        await kill(stack)
    restored = await asyncio.to_thread(typed, restore, tmp_path)
    assert restored.returncode == 0, restored.stderr
    entries = re.compile(r"([\d,]+ entries of 1 organization, [\d.]+ USD)")
    assert entries.findall(copied.stdout) == entries.findall(restored.stdout) != []

    async with AsyncExitStack() as running:
        starting = asyncio.ensure_future(running.enter_async_context(running_stack(tmp_path, config=config, workers="1")))
        log = tmp_path / "serve.log"
        await eventually(lambda: "the ledger is older than the limiter's store" in log.read_text(), "the log names it")
        assert not starting.done()  # it is not ready
        found = await asyncio.to_thread(typed, compare, tmp_path)
        assert found.returncode == 1
        accepted = await asyncio.to_thread(typed, accept, tmp_path)
        assert accepted.returncode == 0, accepted.stderr
        stack = await starting
        kept = round(float(entries.findall(copied.stdout)[0].split()[-2]) * 1e9)
        assert stack.window()["spent"] == kept < spent
        [lacks] = re.findall(r"acme +([\d.]+)", found.stdout)
        assert round(float(lacks) * 1e9) == spent - kept
        for command in commands_of("Upgrade"):
            done = await asyncio.to_thread(typed, command, tmp_path)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        refused = await asyncio.to_thread(typed, copy, tmp_path, TALLYGATE_DATABASE_URL=postgres_server.url())
        assert "stop it first" in refused.stderr
        await kill(stack)
    await move(tmp_path, config, postgres_server, kept)


async def move(tmp_path: Path, config: dict[str, Any], postgres_server: PostgresProcess, kept: int) -> None:
    """To PostgreSQL, with a dump there and its way back."""
    [copy] = commands_of("Moving to PostgreSQL")
    *_, dump, undump = commands_of("Backup and restore")
    async with postgres_ledger(postgres_server) as url:
        moved = await asyncio.to_thread(typed, copy, tmp_path, TALLYGATE_DATABASE_URL=url)
        assert moved.returncode == 0, moved.stderr
        assert await in_postgresql(url) == kept
        async with running_stack(tmp_path, config=config, workers="1", database_url=url) as stack, callers() as session:
            assert stack.window()["spent"] == kept
            assert (await ask(session, stack, "acme-prod", chat())).status == 200
            await eventually(lambda: stack.waiting() == 0, "the event is in PostgreSQL")
            then_nano_usd = await in_postgresql(url)
            assert then_nano_usd == stack.window()["spent"] > kept
            dumped = await asyncio.to_thread(typed, dump, tmp_path, TALLYGATE_DATABASE_URL=url)
            assert dumped.returncode == 0, dumped.stderr
            assert (await ask(session, stack, "acme-prod", chat())).status == 200
            await eventually(lambda: stack.waiting() == 0, "the event is in PostgreSQL")
        assert await in_postgresql(url) > then_nano_usd
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE DATABASE restored")
        restored = postgres_server.url("restored")
        undumped = await asyncio.to_thread(typed, undump, tmp_path, TALLYGATE_DATABASE_URL=restored)
        assert undumped.returncode == 0, undumped.stderr
        assert await in_postgresql(restored) == then_nano_usd
        await connection.execute("DROP DATABASE restored WITH (FORCE)")
        await connection.close()

"""Backup and restore as docs/operate.md has them, typed, around a gateway that is killed in its traffic."""

import asyncio
import os
import re
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from stack import AMPLE_PLANS, Stack, acme, eventually, running_stack
from system_traffic import ask, callers, chat

pytestmark = pytest.mark.timeout(300)
PAGE = Path(__file__).parents[2] / "docs" / "operate.md"


def commands_of(heading: str) -> list[str]:
    """What a reader types of a section, line by line."""
    [section] = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ (tallygate .+)$", section, re.MULTILINE)


def typed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the line in a shell as docs/operate.md has it, where `serve` ran."""
    environment = {
        **os.environ,
        "TALLYGATE_DATA_DIR": str(folder / "data"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
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


async def test_a_backup_under_traffic_is_restored_and_what_came_after_it_is_accepted_as_lost(tmp_path: Path) -> None:
    [backup] = [command for command in commands_of("Backup and restore") if "backup ledger" in command]
    [restore] = [command for command in commands_of("Backup and restore") if "restore" in command]
    compare, accept = commands_of("An older ledger")
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
        found = await asyncio.to_thread(typed, compare, tmp_path)
        while "lacks events" not in found.stdout:  # until it runs
            assert not starting.done()
            found = await asyncio.to_thread(typed, compare, tmp_path)
        assert found.returncode == 1
        accepted = await asyncio.to_thread(typed, accept, tmp_path)
        assert accepted.returncode == 0, accepted.stderr
        stack = await starting
        kept = round(float(entries.findall(copied.stdout)[0].split()[-2]) * 1e9)
        assert stack.window()["spent"] == kept < spent
        [lacks] = re.findall(r"acme +([\d.]+)", found.stdout)
        assert round(float(lacks) * 1e9) == spent - kept

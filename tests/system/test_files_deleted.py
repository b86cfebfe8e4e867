"""What a running gateway has open is deleted under it: named at once, kept where it can be, and nothing false is told."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stack import Stack, eventually, running_stack
from system_traffic import ask, callers, chat, samples

pytestmark = pytest.mark.timeout(300)


def both_are_up(stack: Stack) -> bool:
    """Whether both workers serve: one that is killed before it does ends them all."""
    scraped = samples(stack.get("/metrics")[1])
    return all(scraped.get(("tallygate_worker_up", (("worker", number),))) == 1 for number in "01")


def failed(stack: Stack) -> dict[str, str]:
    status, text = stack.get("/readyz")
    checks = {check["name"]: check["reason"] for check in json.loads(text)["checks"] if not check["passed"]}
    return {**checks, "status": str(status)}


async def test_a_ledger_and_counts_that_are_deleted_while_it_runs(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers="1") as stack, callers() as session:

        async def serve_one() -> None:
            assert (await ask(session, stack, "acme-prod", chat())).status == 200

        await serve_one()
        await eventually(lambda: stack.lifetime_totals() and not stack.waiting(), "the ledger has it")
        ledger = stack.data_dir / "ledger.db"
        ledger.rename(tmp_path / "aside.db")
        await eventually(lambda: "ledger.db" in failed(stack).get("files", ""), "readiness names it")
        await serve_one()
        assert failed(stack)["status"] == "200"  # limits hold, and the event waits
        assert stack.waiting() == 1
        assert not ledger.exists()
        assert 'tallygate_files_gone{file="ledger.db"} 1' in stack.get("/metrics")[1]
        assert '"file": "ledger.db"' in stack.log.read_text()
        doctor = [sys.executable, "-m", "tallygate", "doctor", "--data-dir", str(stack.data_dir)]
        found = await asyncio.to_thread(subprocess.run, doctor, capture_output=True, text=True, check=False, timeout=120)
        assert found.returncode == 1
        assert "ledger.db" in found.stdout
        (tmp_path / "aside.db").rename(ledger)
        await eventually(lambda: not stack.waiting(), "the event is stored in the ledger that is back")
        assert sum(row["requests"] for row in stack.lifetime_totals()) == 2

        shutil.rmtree(stack.data_dir / "metrics")
        await eventually(lambda: "metrics/ was deleted" in failed(stack).get("workers", ""), "readiness names it")
        await serve_one()
        assert failed(stack)["status"] == "200"
        assert "tallygate_worker_up{" not in stack.get("/metrics")[1]
        (worker,) = stack.workers()
        worker.send_signal(signal.SIGTERM)
        await eventually(lambda: failed(stack) == {"status": "200"}, "another worker counts in new files")
        await serve_one()


async def test_doctor_finds_a_gateway_whose_data_directory_is_gone(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers="1") as stack:
        stack.data_dir.rename(tmp_path / "aside")
        await eventually(lambda: "data directory" in failed(stack).get("files", ""), "readiness names it")
        port = ["--console-listen", stack.console.removeprefix("http://")]
        doctor = [sys.executable, "-m", "tallygate", "doctor", "--json", "--data-dir", str(stack.data_dir), *port]
        found = await asyncio.to_thread(subprocess.run, doctor, capture_output=True, text=True, check=False, timeout=120)
        (tmp_path / "aside").rename(stack.data_dir)
        assert found.returncode == 1
        (text,) = [each["text"] for each in json.loads(found.stdout) if each["check"] == "files" and not each["is_good"]]
        assert text.startswith(f"the tallygate at {stack.console} finds: deleted or replaced while in use: data directory")


async def test_a_worker_that_crashes_while_the_organizations_are_missing_waits_for_them(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers="2") as stack, callers() as session:
        await eventually(lambda: both_are_up(stack), "no worker is starting yet")
        organizations = stack.config_dir / "organizations.yaml"
        organizations.rename(tmp_path / "aside.yaml")
        victim, kept = stack.workers()
        victim.kill()
        await eventually(
            lambda: '"problem": "organizations.yaml:1: is gone' in stack.log.read_text(), "its successor says why it ends"
        )

        answers = [(await ask(session, stack, "acme-prod", chat())).status for _ in range(20)]
        assert set(answers) == {200}  # by the worker that has them still: nobody gets 401
        assert kept.is_running()

        (tmp_path / "aside.yaml").rename(organizations)
        await eventually(lambda: both_are_up(stack), "both serve again")

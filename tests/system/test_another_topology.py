"""From one topology of the store to another (docs/high-availability.md): an empty one gets what was spent from the ledger."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from cluster_processes import running_cluster
from stack import Stack, eventually, rows_of, running_stack
from system_traffic import ask, callers, chat, samples, three_organizations

pytestmark = pytest.mark.timeout(300)
LAG = ("tallygate_ledger_lag_events", ())


def audit(stack: Stack) -> str:
    command = [sys.executable, "-m", "tallygate", "audit", "--data-dir", str(stack.data_dir)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return found.stdout + found.stderr


async def test_what_was_spent_at_one_server_is_spent_in_a_cluster(tmp_path: Path) -> None:
    config = {"organizations": three_organizations()}
    async with running_stack(tmp_path, config=config, workers="1") as stack, callers() as session:
        answers = [await ask(session, stack, credential, chat()) for credential in ("acme-prod", "acme-test", "globex-prod") * 3]
        assert {one.status for one in answers} == {200}
        spent = {org: stack.window(org)["spent"] for org in ("acme", "globex")}
        assert all(spent.values())
        await eventually(lambda: samples(stack.get("/metrics")[1])[LAG] == 0, "the ledger has all, as its metric says")
        assert stack.waiting() == 0

    with running_cluster(append_only=True) as cluster:
        client = redis.RedisCluster(host="127.0.0.1", port=cluster.masters[0].port)
        there = running_stack(tmp_path, config=config, store_url=cluster.url, store=client, workers="1")
        async with there as stack, callers() as session:
            await eventually(lambda: {org: stack.window(org)["spent"] for org in spent} == spent, "the spend is restored")
            assert (await ask(session, stack, "acme-prod", chat())).status == 200
            await eventually(lambda: stack.window("acme")["spent"] > spent["acme"], "it counts on")
            await eventually(lambda: not stack.waiting(), "the ledger has all")
            assert "no drift" in await asyncio.to_thread(audit, stack)
            (row,) = rows_of(stack.data_dir / "ledger.db", "SELECT COUNT(*) AS number FROM entries")
            assert row["number"] == len(answers) + 1

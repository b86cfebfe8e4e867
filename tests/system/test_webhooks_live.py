"""Webhooks from end to end: serve, real traffic over a spend limit, and a receiver that is away for a while.

Between the messages the console is killed and everything is restarted: each crossing is told, once, under one id.
"""

import asyncio
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from stack import PATIENCE_SECONDS, Stack, eventually, rows_of, running_stack
from system_traffic import ask, callers, chat, three_organizations
from valkey_process import free_port

sys.path.append(str(Path(__file__).parents[1] / "webhooks"))
from receiver import SECRET, Receiver, running_receiver

LIMIT = 10_000_000  # nano-USD
TOKEN = "tga_for_this_test"


def a_request() -> dict[str, Any]:
    """About a twentieth of the limit."""
    return chat("tokens=40", model="gpt-4o", tokens_max=40)


async def spend_until(stack: Stack, permille: int) -> None:
    """Ask until so much of the limit is spent, in steps so small that no two thresholds are crossed at once."""
    async with callers() as session:
        while stack.window("acme")["spent"] * 1000 < permille * LIMIT:
            assert (await ask(session, stack, "acme-prod", a_request())).status == 200


async def status_of_one(stack: Stack) -> int:
    async with callers() as session:
        return (await ask(session, stack, "acme-prod", a_request())).status


async def served(stack: Stack) -> None:
    """One request that is admitted. A store that was just started admits none before its spend is known to be right."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (status := await status_of_one(stack)) == 503:
            await asyncio.sleep(0.1)
    assert status == 200


def deliveries(stack: Stack) -> list[dict[str, Any]]:
    return rows_of(stack.data_dir / "ledger.db", "SELECT * FROM webhook_deliveries")


def try_again_now(stack: Stack) -> None:
    """What failed is due at once: the second attempt that fails, on a machine that stalls, would be followed by five minutes."""
    if not any(row["attempts"] and row["state"] == "waiting" for row in deliveries(stack)):
        return
    connection = sqlite3.connect(stack.data_dir / "ledger.db", timeout=20)
    with connection:
        connection.execute("UPDATE webhook_deliveries SET due_at_ms = queued_at_ms WHERE state = 'waiting'")
    connection.close()


async def arrives(stack: Stack, receiver: Receiver, messages: int, what: str) -> None:
    def is_there() -> bool:
        try_again_now(stack)
        return len(told(receiver)) == messages

    await eventually(is_there, what)


def told(receiver: Receiver) -> Counter[str]:
    """Messages by type, with the threshold of a warning; each id counts once, whose body is the same every time."""
    by_id: dict[str, dict[str, Any]] = {}
    for headers, message in zip((headers for headers, _ in receiver.got), receiver.verified(), strict=True):
        assert by_id.setdefault(headers["webhook-id"], message) == message
    return Counter(" ".join(filter(None, (one["type"], one["data"]["threshold"]))) for one in by_id.values())


@pytest.mark.timeout(300)
async def test_every_crossing_is_told_once_over_outages_and_restarts(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "secret").write_text(SECRET)
    endpoint = {"name": "ops", "url": f"http://127.0.0.1:{port}/hooks", "secret_file": str(tmp_path / "secret")}
    config = {"organizations": three_organizations(acme_usd="0.01"), "webhooks": {"webhooks": [endpoint]}}
    receiver = Receiver()

    async with running_stack(tmp_path, config=config, workers="2", admin_token=TOKEN) as stack:
        await spend_until(stack, 500)
        await eventually(lambda: any(row["attempts"] for row in deliveries(stack)), "it is tried while the receiver is away")
        (console,) = stack.children("tallygate.processes.console")
        async with running_receiver(receiver, port=port):
            console.kill()
            await arrives(stack, receiver, 1, "the console that comes after tries again")
            await spend_until(stack, 800)
            await arrives(stack, receiver, 2, "a receiver that is there hears at once")
            await spend_until(stack, 950)
            assert [await status_of_one(stack) for _ in range(3)] == [429] * 3
            await arrives(stack, receiver, 4, "the last warning and the pause arrive")

    async with (
        running_receiver(receiver, port=port),
        running_stack(
            tmp_path, config=config | {"organizations": three_organizations(acme_usd="25")}, workers="2", admin_token=TOKEN
        ) as stack,
    ):
        await served(stack)
        await arrives(stack, receiver, 5, "the end of the pause arrives")
        await eventually(lambda: {row["state"] for row in deliveries(stack)} == {"delivered"}, "all deliveries are recorded")
        assert len(deliveries(stack)) == 5

    assert told(receiver) == dict.fromkeys(
        ["spend.warning 0.5", "spend.warning 0.8", "spend.warning 0.95", "spend.paused", "spend.resumed"], 1
    )

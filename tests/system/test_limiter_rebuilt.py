"""The limiter's store loses its last writes, or everything: its windows come back from the SQL ledger, to the nano-dollar."""

import asyncio
import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from held_streams import held_streams
from ledger_truth import LedgerTruth, assert_each_complete_exchange_is_stored_once, assert_three_sums_agree, at_rest
from stack import AMPLE_PLANS, Stack, eventually, running_stack
from system_traffic import Seen, ask, callers, chat, three_organizations

pytestmark = pytest.mark.timeout(300)  # processes are started again and again, each of which is seconds of work
ORGS = ("acme", "globex")
ACME_USD = "0.0002"  # some 25 requests
REST_SECONDS = 60.0
SETTINGS = {"workers": "2", "lease_seconds": "5", "checkpoint_seconds": "1"}


def config() -> dict[str, Any]:
    return {"plans": AMPLE_PLANS, "organizations": three_organizations(ACME_USD)}


@contextmanager
def store_down(stack: Stack) -> Iterator[Path]:
    """The store is killed and nobody restarts it before the block ends; the directory of its append-only files."""
    supervisor = psutil.Process(stack.process.pid)
    (store,) = stack.children("valkey-server")
    supervisor.suspend()
    try:
        store.kill()
        yield stack.data_dir / "valkey" / "appendonlydir"
    finally:
        supervisor.resume()


def cut_tail(directory: Path, size: int) -> None:
    """Take `size` bytes off the newest append-only file, as when the machine lost power before a sync."""
    (newest,) = directory.glob("*.incr.aof")
    with newest.open("r+b") as file:
        file.truncate(max(0, newest.stat().st_size - size))


def store_answers(stack: Stack) -> bool:
    try:
        return bool(stack.store.ping())
    except redis.RedisError:
        return False


async def spend(stack: Stack, credential: str, requests: int) -> list[Seen]:
    async with callers() as session:
        return [await ask(session, stack, credential, chat()) for _ in range(requests)]


async def spend_all(stack: Stack) -> None:
    """Until acme is at its limit, so that any loss of spend would let it in again."""
    for _ in range(200):
        (seen,) = await spend(stack, "acme-prod", 1)
        if seen.status == 429:
            assert json.loads(seen.text)["error"]["code"] == "spend_limit_exceeded"
            return
    raise AssertionError("the limit was never reached")


async def assert_windows_are_rebuilt(stack: Stack, truth: LedgerTruth, before: dict[str, dict[str, int]]) -> None:
    await eventually(lambda: store_answers(stack), "the store is back")
    await eventually(lambda: stack.get("/readyz")[0] == 200, "the gateway is ready again")
    await eventually(lambda: {org: stack.window(org) for org in ORGS} == before, f"the windows are as before: {before}")
    assert_three_sums_agree(stack, await truth.accounts(), ORGS)
    assert await truth.drifts() == []


async def test_a_store_that_lost_its_tail_or_everything_has_the_ledgers_spend_again(tmp_path: Path) -> None:
    async with running_stack(tmp_path, config=config(), **SETTINGS) as stack:
        truth = LedgerTruth(stack)
        await spend_all(stack)
        await spend(stack, "globex-prod", 20)
        for size in (1, 700, 60_000):
            await spend(stack, "globex-prod", 3)
            await at_rest(truth, stack, ORGS, REST_SECONDS)
            before = {org: stack.window(org) for org in ORGS}
            with store_down(stack) as directory:
                cut_tail(directory, size)
            await assert_windows_are_rebuilt(stack, truth, before)

        await at_rest(truth, stack, ORGS, REST_SECONDS)  # holds that came back with the older data have ended
        assert_three_sums_agree(stack, await truth.accounts(), ORGS)
        before = {org: stack.window(org) for org in ORGS}
        with store_down(stack) as directory:
            shutil.rmtree(directory)
        refused = await spend(stack, "acme-prod", 60)
        assert {one.status for one in refused} <= {429, 503}  # closed until it is rebuilt, at its limit ever after
        await assert_windows_are_rebuilt(stack, truth, before)

        stack.store.flushall()
        refused = await spend(stack, "acme-prod", 60)
        assert {one.status for one in refused} <= {429, 503}
        await assert_windows_are_rebuilt(stack, truth, before)
        (again,) = await spend(stack, "globex-prod", 1)
        assert (again.status, again.is_whole) == (200, True)


async def test_a_lost_store_takes_nothing_with_it_that_was_just_acknowledged_though_no_sql_had_it_yet(tmp_path: Path) -> None:
    async with running_stack(tmp_path, config=config(), **SETTINGS) as stack, callers() as session:
        truth = LedgerTruth(stack)
        stored = await spend(stack, "globex-prod", 20)
        await at_rest(truth, stack, ORGS, REST_SECONDS)
        (console,) = stack.children("tallygate.processes.console")
        console.send_signal(signal.SIGSTOP)
        unread = await spend(stack, "globex-prod", 5)
        opened = len(stack.ledger.records)
        with held_streams():
            streams = [asyncio.ensure_future(ask(session, stack, "globex-prod", chat("tokens=30 tps=100"))) for _ in range(4)]
            await eventually(lambda: len(stack.ledger.records) == opened + 4, "streams are open")
            with store_down(stack) as directory:
                shutil.rmtree(directory)
        console.send_signal(signal.SIGCONT)
        unsettled = await asyncio.gather(*streams)

        await eventually(lambda: store_answers(stack), "the store is back")
        await eventually(lambda: stack.get("/readyz")[0] == 200, "the gateway is ready again")
        seen = [*stored, *unread, *unsettled]
        told = {one.request_id for one in seen}
        await eventually(
            lambda: told <= {event["event_id"] for event in stack.events()}, "all are told, those that were lost again"
        )
        await at_rest(truth, stack, ORGS, REST_SECONDS)
        accounts = await truth.accounts()
        assert all((one.status, one.is_whole) == (200, True) for one in seen)
        assert_each_complete_exchange_is_stored_once(stack, accounts, seen)
        assert_three_sums_agree(stack, accounts, ORGS)
        assert await truth.drifts() == []

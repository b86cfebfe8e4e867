"""The limiter's store is killed, emptied or forgetful in the middle of traffic: nothing complete is lost, nothing is free."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from held_streams import held_streams
from stack import AMPLE_PLANS, IS_FULL, Stack, eventually, running_stack
from system_traffic import Seen, ask, assert_all_sums_agree, callers, chat, samples, sums_of_events, three_organizations, true_cost
from valkey_process import running_valkey

pytestmark = pytest.mark.timeout(300)  # processes are started again and again, each of which is seconds of work
HOURLY = 40


def config() -> dict[str, Any]:
    plans = {"plans": AMPLE_PLANS["plans"] | {"enterprise": {"rate_limits": [{"requests": HOURLY, "window": "1h"}]}}}
    return {"plans": plans, "organizations": three_organizations()}


def assert_nothing_complete_is_lost(stack: Stack, events: list[dict[str, Any]], seen: list[Seen]) -> None:
    """Each answer that was seen whole has the cost that the simulator's own count comes to."""
    costs: dict[str, int] = {}
    for event in events:
        costs[event["event_id"]] = costs.get(event["event_id"], 0) + int(event["_posted_nano_usd"])
    whole = [one for one in seen if one.status == 200 and one.is_whole]
    assert whole
    for one in whole:
        (record,) = stack.ledger.by_request_id(one.request_id)
        assert costs[one.request_id] == true_cost(record)
    served = [record for record in stack.ledger.records if record.accepted]
    assert sum(costs.values()) <= sum(true_cost(record) for record in served)


def is_ready(stack: Stack) -> bool:
    return stack.get("/readyz")[0] == 200


def reopen(stack: Stack, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tallygate", "limiter", "reopen", "--data-dir", str(stack.data_dir), *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


async def test_a_killed_store_comes_back_with_everything(tmp_path: Path) -> None:
    async with running_stack(tmp_path, config=config(), workers="4", lease_seconds="5", checkpoint_seconds="1") as stack:
        seen: list[Seen] = []
        is_over = asyncio.Event()

        async def keep_asking(credential: str) -> None:
            async with callers() as session:
                while not is_over.is_set():
                    seen.append(await ask(session, stack, credential, chat("tokens=20 tps=40")))

        asking = [asyncio.ensure_future(keep_asking(credential)) for credential in ("acme-prod", "acme-test", "globex-prod") * 6]
        for _ in range(5 if IS_FULL else 1):
            count = len(seen)
            await eventually(lambda count=count: len(seen) > count + 20, "traffic flows")
            (store,) = stack.children("valkey-server")
            store.kill()
            await eventually(
                lambda store=store: [p for p in stack.children("valkey-server") if p != store], "the store is restarted"
            )
        count = len(seen)
        await eventually(lambda: sum(one.is_whole for one in seen[count:]) > 20, "traffic flows again")
        is_over.set()
        await asyncio.gather(*asking)
        await eventually(lambda: is_ready(stack), "the gateway is ready again")
        for org in ("acme", "globex"):
            await eventually(lambda org=org: stack.window(org)["held"] == 0, "holds end")
        whole = {one.request_id for one in seen if one.is_whole and one.status == 200}
        await eventually(lambda: whole <= {event["event_id"] for event in stack.events()}, "spools are replayed")

        events = stack.events()
        assert {one.status for one in seen} <= {200, 503}
        assert all("limiter_unavailable" in one.text for one in seen if one.status == 503)
        assert_nothing_complete_is_lost(stack, events, seen)
        await assert_all_sums_agree(stack, events)


async def test_without_a_store_money_is_closed_and_rates_are_shared_out(tmp_path: Path) -> None:
    with running_valkey(append_only=True) as server:
        settings = {"workers": "2", "lease_seconds": "60", "checkpoint_seconds": "1"}
        async with running_stack(tmp_path, config=config(), store_url=server.url, **settings) as stack, callers() as session:
            with held_streams():
                streams = [asyncio.ensure_future(ask(session, stack, "acme-prod", chat("tokens=30 tps=100"))) for _ in range(6)]
                await eventually(lambda: stack.ledger.totals.open == 6, "streams are open")
                server.kill()

                refused = await ask(session, stack, "acme-prod", chat())
                error = json.loads(refused.text)["error"]
                assert (refused.status, error["code"]) == (503, "limiter_unavailable")
                assert int(refused.headers["Retry-After"]) >= 1
                message = {"model": "claude-sonnet-4-5", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}
                other_shape = await ask(session, stack, "acme-prod", message, path="/v1/messages")
                assert other_shape.status == 503
                assert json.loads(other_shape.text)["type"] == "error"
                status, reasons = stack.get("/readyz")
                assert status == 503
                assert "store" in reasons

                rated = await asyncio.gather(*(ask(session, stack, "big-prod", chat(stream=False)) for _ in range(3 * HOURLY)))
                admitted = [one for one in rated if one.status == 200]
                assert HOURLY // 2 <= len(admitted) <= HOURLY
                assert {one.status for one in rated} == {200, 429}
                assert all(int(one.headers["Retry-After"]) >= 1 for one in rated if one.status == 429)
                metrics = samples(stack.get("/metrics")[1])
                assert metrics["tallygate_fail_open_total", (("class", "rate"),)] == len(admitted)
                assert metrics["tallygate_fail_open_total", (("class", "spend"),)] == 0
                assert metrics["tallygate_scrape_incomplete", ()] == 1
            seen = await asyncio.gather(*streams)
            assert all(one.is_whole for one in seen)  # acknowledged by the spool

            server.start()
            await eventually(lambda: is_ready(stack), "the gateway is ready again")
            expected = {one.request_id for one in (*seen, *admitted)}
            await eventually(lambda: expected <= {event["event_id"] for event in stack.events()}, "spools are replayed")
            again = await ask(session, stack, "acme-prod", chat())
            assert (again.status, again.is_whole) == (200, True)
            events = stack.events()
            assert_nothing_complete_is_lost(stack, events, [*seen, *admitted, again])
            await assert_all_sums_agree(stack, events)
            assert {event["_kind"] for event in events if event["org"] == "big"} == {"unheld"}


async def test_a_store_that_forgets_never_resets_spend_in_silence(tmp_path: Path) -> None:
    async with (
        running_stack(tmp_path, config=config(), workers="2", lease_seconds="5", checkpoint_seconds="1") as stack,
        callers() as session,
    ):
        with held_streams():
            streams = [asyncio.ensure_future(ask(session, stack, "acme-prod", chat("tokens=20 tps=40"))) for _ in range(6)]
            await eventually(lambda: stack.ledger.totals.open == 6, "streams are open")
            stack.store.script_flush()
            asked = await asyncio.gather(*(ask(session, stack, "acme-prod", chat()) for _ in range(20)))
        during = [*asked, *await asyncio.gather(*streams)]
        assert all(one.status == 200 and one.is_whole for one in during)
        await eventually(lambda: len(stack.events()) == 26, "all are settled")
        assert_nothing_complete_is_lost(stack, stack.events(), during)
        spent_before = stack.window()["spent"]
        assert spent_before

        with held_streams():
            streams = [asyncio.ensure_future(ask(session, stack, "acme-prod", chat("tokens=20 tps=100"))) for _ in range(6)]
            await eventually(lambda: stack.ledger.totals.open == 6, "streams are open")
            await eventually(lambda: not stack.waiting(), "the ledger has what was settled")
            (console,) = stack.children("tallygate.processes.console")
            console.suspend()  # which would rebuild it from the ledger
            stack.store.flushall()
            closed = await ask(session, stack, "acme-prod", chat())
            assert (closed.status, json.loads(closed.text)["error"]["code"]) == (503, "limiter_unavailable")
            assert (await ask(session, stack, "big-prod", chat())).status == 200  # no spend limit: nothing was lost for it
        seen = await asyncio.gather(*streams)
        assert all(one.is_whole for one in seen)
        killed = stack.workers()
        for worker in killed:  # a fresh process must not take an empty store for a first start either
            worker.kill()
        await eventually(lambda: len([new for new in stack.workers() if new not in killed]) == 2, "workers are replaced")
        refused = await ask(session, stack, "acme-prod", chat())
        while "no_worker" in refused.text:  # on a busy machine the supervisor answers until one is up
            refused = await ask(session, stack, "acme-prod", chat())
        assert (refused.status, json.loads(refused.text)["error"]["code"]) == (503, "limiter_unavailable")

        told = await asyncio.to_thread(reopen, stack)
        assert (told.returncode, "--accept-loss" in told.stderr) == (1, True)
        assert (await ask(session, stack, "acme-prod", chat())).status == 503
        done = await asyncio.to_thread(reopen, stack, "--accept-loss")
        assert (done.returncode, done.stdout) == (0, "reopened 64 partitions\n")
        console.resume()

        await eventually(lambda: is_ready(stack), "the gateway is ready again")
        assert (await ask(session, stack, "acme-prod", chat())).status == 200
        streamed = {one.request_id for one in seen}
        await eventually(lambda: streamed <= {event["event_id"] for event in stack.events()}, "spools are replayed")
        assert {event["_kind"] for event in stack.events() if event["event_id"] in streamed} == {"unheld"}
        assert sums_of_events(stack.events())["acme", "acme-prod", "chat"]["nano_usd"] == spent_before + stack.window()["spent"]

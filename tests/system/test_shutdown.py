"""The end of `serve`: streams finish within the grace, the rest are told and settled; and a rolling restart fails no request."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import psutil
from held_streams import held_streams
from stack import AMPLE_PLANS, IS_FULL, Stack, eventually, running_stack, told_events, window_in
from system_traffic import Seen, ask, callers, chat, three_organizations, true_cost
from valkey_process import ValkeyProcess, running_valkey

STREAMS = 60  # of each kind
RESTARTS = 20 if IS_FULL else 3


def config() -> dict[str, Any]:
    return {"plans": AMPLE_PLANS, "organizations": three_organizations()}


def told_of_the_end(seen: Seen) -> bool:
    """The dialect's error event, with our code, and no end of the stream after it."""
    last = [line for line in seen.text.splitlines() if line.startswith("data:")][-1]
    error = json.loads(last.removeprefix("data:")).get("error") or {}
    return not seen.is_whole and error.get("code") == "shutting_down"


def assert_settled(server: ValkeyProcess, stack: Stack, seen: list[Seen]) -> None:
    with server.client() as store:
        told = told_events(store, stack.data_dir)
        events = {event["event_id"]: event for event in told}
        assert len(events) == len(told)
        spent = sum(int(event["_posted_nano_usd"]) for event in events.values() if event["org"] == "acme")
        assert window_in(store) == {"spent": spent, "held": 0}
    records = {record.request_id: record for record in stack.ledger.records}
    for one in seen:
        event, record = events[one.request_id], records[one.request_id]
        assert event["_kind"] == "settled"
        if one.is_whole:
            assert int(event["_cost_nano_usd"]) == true_cost(record)
        else:
            assert 0 < event["completion_tokens"] <= record.generated_tokens


async def test_sigterm_lets_streams_finish_and_settles_what_it_cuts(tmp_path: Path) -> None:
    with running_valkey(append_only=True) as server:
        settings = {"workers": "2", "drain_seconds": "5", "lease_seconds": "60"}
        async with running_stack(tmp_path, config=config(), store_url=server.url, **settings) as stack, callers() as session:
            with held_streams():
                short = [asyncio.ensure_future(ask(session, stack, "acme-prod", chat("tokens=30 tps=10"))) for _ in range(STREAMS)]
                endless = chat("tokens=5000 tps=10", tokens_max=5_000)
                long = [asyncio.ensure_future(ask(session, stack, "acme-test", endless)) for _ in range(STREAMS)]
                await eventually(lambda: stack.ledger.totals.open == 2 * STREAMS, "streams are open")
                await eventually(lambda: all(r.generated_tokens for r in stack.ledger.records), "all of them have begun")
                stack.process.send_signal(signal.SIGTERM)
            async with callers(fresh=True) as late:
                attempts = [await ask(late, stack, "acme-prod", chat()) for _ in range(10)]
            assert {one.status for one in attempts} <= {0, 200, 503}  # answered, or refused at once
            assert attempts[-1].status == 0
            finished, cut = await asyncio.gather(*short), await asyncio.gather(*long)
            code = await asyncio.to_thread(stack.process.wait, 40)

            assert all(one.is_whole for one in finished)
            assert all(told_of_the_end(one) for one in cut)
            assert code == 3
            assert_settled(server, stack, [*finished, *cut])


async def test_a_second_sigterm_ends_at_once_and_settles_all_the_same(tmp_path: Path) -> None:
    with running_valkey(append_only=True) as server:
        settings = {"workers": "2", "drain_seconds": "3600", "lease_seconds": "60"}
        async with running_stack(tmp_path, config=config(), store_url=server.url, **settings) as stack, callers() as session:
            endless = chat("tokens=5000 tps=10", tokens_max=5_000)
            calls = [asyncio.ensure_future(ask(session, stack, "acme-prod", endless)) for _ in range(20)]
            await eventually(lambda: sum(r.generated_tokens > 5 for r in stack.ledger.records) == 20, "streams have begun")
            stack.process.send_signal(signal.SIGTERM)
            await eventually(lambda: "shutting down" in stack.get("/readyz")[1], "it drains")
            assert stack.process.poll() is None
            stack.process.send_signal(signal.SIGTERM)
            cut = await asyncio.gather(*calls)

            assert await asyncio.to_thread(stack.process.wait, 40) == 3
            assert all(told_of_the_end(one) for one in cut)
            assert_settled(server, stack, cut)


async def test_an_idle_gateway_ends_with_a_clean_exit(tmp_path: Path) -> None:
    async with running_stack(tmp_path, config=config(), workers="2", drain_seconds="30") as stack, callers() as session:
        assert (await ask(session, stack, "acme-prod", chat())).is_whole  # and its connection stays open, idle
        children = psutil.Process(stack.process.pid).children(recursive=True)
        stack.process.send_signal(signal.SIGTERM)

        assert await asyncio.to_thread(stack.process.wait, 40) == 0
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


async def test_a_rolling_restart_fails_no_request(tmp_path: Path) -> None:
    async with running_stack(tmp_path, config=config(), workers="2", drain_seconds="30") as stack:
        seen: list[Seen] = []
        is_over = asyncio.Event()

        async def keep_asking() -> None:
            async with callers(fresh=True) as session:
                while not is_over.is_set():
                    seen.append(await ask(session, stack, "acme-prod", chat("tokens=4")))

        asking = [asyncio.ensure_future(keep_asking()) for _ in range(24)]
        await eventually(lambda: len(seen) > 20, "traffic flows")
        restarts = 0
        while restarts < RESTARTS:
            worker = stack.workers()[0]
            others = {process.pid for process in stack.workers()}
            worker.send_signal(signal.SIGTERM)
            await eventually(
                lambda others=others: len(fresh := stack.workers()) == 2 and any(p.pid not in others for p in fresh),
                "it is replaced",
            )
            restarts += 1
            up = len(seen)
            await eventually(lambda up=up: len(seen) > up + 30, "traffic flows on")
        is_over.set()
        await asyncio.gather(*asking)

        failed = [one for one in seen if one.status != 200 or not one.is_whole]
        assert not failed, (len(failed), len(seen), failed[:3])
        await eventually(lambda: len(stack.events()) == len(seen), "each is settled")
        assert stack.window()["held"] == 0

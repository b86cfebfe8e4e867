"""The shared counters are the ledger: after kills, a store that forgot, late words, at any console; they never fall."""

import asyncio
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from held_streams import held_streams
from ledger_truth import LedgerTruth
from metrics_truth import NeverFalling, assert_metrics_are_the_ledger, counters, net_of_metrics, refused_of_metrics
from stack import AMPLE_PLANS, Stack, eventually, running_stack
from system_traffic import PRICES, ask, callers, chat, three_organizations, true_cost
from valkey_process import free_port

from tallygate.limiter.keys import PARTITIONS, partition_keys

pytestmark = pytest.mark.timeout(300)  # processes are started again and again, each of which is seconds of work
LEASED = {"lease_seconds": "5", "checkpoint_seconds": "1"}
REFUSED_BY_US = 7


def config() -> dict[str, Any]:
    return {"plans": AMPLE_PLANS, "organizations": three_organizations()}


@asynccontextmanager
async def another_console(stack: Stack, tmp_path: Path) -> AsyncIterator[str]:
    """`tallygate console` over the same stores; its URL."""
    port = free_port()
    store = stack.store.connection_pool.connection_kwargs["path"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")} | {
        "TALLYGATE_CONSOLE_LISTEN": f"127.0.0.1:{port}",
        "TALLYGATE_CONFIG_DIR": str(stack.config_dir),
        "TALLYGATE_DATA_DIR": str(tmp_path / "another"),
        "TALLYGATE_DATABASE_URL": f"sqlite:///{stack.data_dir}/ledger.db",
        "TALLYGATE_REDIS_URL": f"unix://{store}",
        "TALLYGATE_UPSTREAM_URL": stack.url,
    }
    log = tmp_path / "console.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tallygate", "console"], env=environment, stdout=output, stderr=output, cwd=tmp_path
        )

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        await eventually(is_ready, "the other console is ready")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 40)


async def until_stored(stack: Stack, *request_ids: str) -> None:
    await eventually(
        lambda: set(request_ids) <= {event["event_id"] for event in stack.events()} and not stack.waiting(), "all is in the ledger"
    )


async def kills(stack: Stack, session: Any) -> None:
    """All workers and the console, with streams open."""
    killed = stack.workers()
    with held_streams():
        streams = [asyncio.ensure_future(ask(session, stack, "acme-prod", chat("tokens=60 tps=100"))) for _ in range(4)]
        await eventually(lambda: stack.ledger.totals.open == 4, "streams are open")
        (console,) = stack.children("tallygate.processes.console")
        for process in (*killed, console):
            process.kill()
        await asyncio.gather(*streams)
    await eventually(lambda: stack.window()["held"] == 0, "the restarted console expires what was left")
    await eventually(lambda: len([new for new in stack.workers() if new not in killed]) == 2, "the workers are replaced")
    await eventually(lambda: stack.get("/readyz")[0] == 200, "the new workers serve")


async def a_late_word_below_the_checkpoint(stack: Stack, session: Any) -> None:
    """A worker that is stopped for longer than its lease learns that most of the prompt was cached, and so half as dear."""
    slow = asyncio.ensure_future(ask(session, stack, "acme-test", chat("delay=9000 cached=20 tokens=1", stream=False)))
    await eventually(lambda: stack.ledger.totals.open == 1, "the request is open")
    workers = [psutil.Process(worker.pid) for worker in stack.workers()]
    for worker in workers:
        worker.suspend()
    await eventually(lambda: [event for event in stack.events() if event["credential"] == "acme-test"], "its hold expires")
    for worker in workers:
        worker.resume()
    assert (await slow).is_whole
    await eventually(lambda: {"expired", "late"} <= {event["_kind"] for event in stack.events()}, "the late word is told")
    await until_stored(stack)


async def a_store_that_forgets(stack: Stack, session: Any) -> None:
    """With a stream open; and what was settled before is told again as the forgetful store would."""
    (console,) = stack.children("tallygate.processes.console")
    await until_stored(stack)
    console.suspend()
    settled = await ask(session, stack, "globex-prod", chat())
    waiting = [
        (keys.events, fields)
        for keys in map(partition_keys, range(PARTITIONS))
        for _, fields in stack.store.xrange(keys.events)
        if fields[b"kind"] == b"settled"
    ]
    console.resume()
    await until_stored(stack, settled.request_id)
    with held_streams():
        stream = asyncio.ensure_future(ask(session, stack, "acme-prod", chat("tokens=40 tps=100")))
        await eventually(lambda: stack.ledger.totals.open == 1, "the stream is open")
        stack.store.flushall()
    await eventually(lambda: stack.get("/readyz")[0] == 200, "the limiter is rebuilt")
    assert waiting
    for events, fields in waiting:
        later = str(int(fields[b"settled_at_ms"]) + 1_000)
        stack.store.xadd(events, fields | {b"kind": b"unheld", b"settled_at_ms": later.encode()})
    seen = await stream
    assert seen.is_whole
    await until_stored(stack, seen.request_id)


async def test_the_shared_counters_are_the_ledger_whatever_happens(tmp_path: Path) -> None:
    async with running_stack(tmp_path, config=config(), workers="2", **LEASED) as stack, callers(fresh=True) as session:
        never_falling = NeverFalling(stack.get)
        watching = asyncio.ensure_future(never_falling.watch())
        for credential in ("acme-prod", "globex-prod", "big-prod", "big-prod"):
            assert (await ask(session, stack, credential, chat("tokens=12 reasoning=3"))).is_whole
        for _ in range(REFUSED_BY_US):
            assert (await ask(session, stack, "globex-prod", chat(model="no-such-model"))).status == 400
        async with session.get(f"{stack.url}/v1/models", headers={"Authorization": "Bearer tg_nobody_knows"}) as answer:
            assert answer.status == 401

        await kills(stack, session)
        await a_late_word_below_the_checkpoint(stack, session)
        await a_store_that_forgets(stack, session)
        assert (await ask(session, stack, "big-prod", chat("tokens=9", stream=False))).is_whole
        await until_stored(stack)

        def all_refused() -> bool:
            text = stack.get("/metrics")[1]
            return refused_of_metrics(text, "globex") >= REFUSED_BY_US and refused_of_metrics(text, "other") >= 1

        await eventually(all_refused, "refusals reach the ledger")
        truth = LedgerTruth(stack)
        assert_metrics_are_the_ledger(stack, await truth.entries())
        assert await truth.drifts() == []
        text = stack.get("/metrics")[1]
        assert (refused_of_metrics(text, "globex"), refused_of_metrics(text, "other")) == (REFUSED_BY_US, 1)
        shown = counters(text)
        assert shown["tallygate_holds_expired_total",] >= 5
        assert shown["tallygate_odd_settlements_total", "late"] == 1
        assert shown["tallygate_odd_settlements_total", "unheld"] >= 1, "what the store had forgotten"
        assert shown["tallygate_spend_credited_usd_total", "acme", "acme-test", "chat"] > 0
        assert_big_is_the_simulators_own_count(stack, text)
        watching.cancel()
        await never_falling.look()
        assert never_falling.looks > 10

        async with another_console(stack, tmp_path) as url:
            with urllib.request.urlopen(f"{url}/metrics", timeout=20) as other:
                assert counters(other.read().decode()) == shown


def assert_big_is_the_simulators_own_count(stack: Stack, text: str) -> None:
    """Nothing happened to its requests."""
    ids = {event["event_id"] for event in stack.events() if event["org"] == "big"}
    served = [record for record in stack.ledger.records if record.request_id in ids]
    big = {key: value for key, value in net_of_metrics(text).items() if "big-prod" in key}
    exchange = ("big", "big-prod", "chat")
    assert big == {
        ("tallygate_requests", *exchange, "success"): len(served),
        ("tallygate_tokens", *exchange, "prompt"): sum(record.prompt_tokens for record in served),
        ("tallygate_tokens", *exchange, "completion"): sum(record.generated_tokens for record in served),
        ("tallygate_reasoning_tokens", *exchange): sum(record.reasoning_tokens for record in served),
        ("tallygate_spend_usd", *exchange): sum(true_cost(record) for record in served),
        ("tallygate_spend_by_unit_usd", *exchange, "input"): sum(
            record.prompt_tokens * PRICES[str(record.model)][0] for record in served
        ),
        ("tallygate_spend_by_unit_usd", *exchange, "output"): sum(
            record.generated_tokens * PRICES[str(record.model)][1] for record in served
        ),
    }

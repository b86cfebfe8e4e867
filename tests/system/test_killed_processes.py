"""Any process of the stack is killed in the middle of traffic: what was promised holds, what ran on is charged as far as known."""

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest
from held_streams import held_streams
from ledger_truth import LedgerTruth, at_rest
from stack import AMPLE_PLANS, Stack, eventually, running_stack
from system_traffic import ask, assert_all_sums_agree, callers, chat, three_organizations, true_cost

pytestmark = pytest.mark.timeout(300)  # whole stacks are started, killed and started again
LEASED = {"lease_seconds": "5", "checkpoint_seconds": "1"}
LEASE_MS = 5_000
REST_SECONDS = 60.0
ENDLESS = 12_000  # tokens: at 20 a second no test sees their end


def config() -> dict[str, Any]:
    return {"plans": AMPLE_PLANS, "organizations": three_organizations()}


def store_ms(stack: Stack) -> int:
    """The store's clock."""
    seconds, micros = stack.store.time()
    return seconds * 1000 + micros // 1000


def events_by_id(stack: Stack) -> dict[str, dict[str, Any]]:
    return {event["event_id"]: event for event in stack.events()}


async def until_rest(stack: Stack) -> None:
    for org in ("acme", "globex"):
        await eventually(lambda org=org: stack.window(org)["held"] == 0, "holds end with their leases")


async def test_a_worker_killed_in_any_phase_leaves_a_true_account(tmp_path: Path) -> None:
    async with running_stack(tmp_path, config=config(), workers="1", **LEASED) as stack, callers() as session:
        phases = {
            "waiting for the first byte": chat("tokens=5 delay=600000"),
            "in the middle of a stream": chat(f"tokens={ENDLESS} tps=20", tokens_max=ENDLESS),
            "in the middle of a body": chat(f"tokens={ENDLESS} tps=20", stream=False, tokens_max=ENDLESS),
            "at an upstream that never answers": chat("fault=stall"),
        }
        before = await ask(session, stack, "acme-prod", chat())
        calls = {name: asyncio.ensure_future(ask(session, stack, "globex-prod", body)) for name, body in phases.items()}
        await eventually(lambda: stack.ledger.totals.open == len(phases), "all phases are under way")
        await asyncio.sleep(3.5)  # three checkpoints
        (worker,) = stack.workers()
        worker.kill()
        await asyncio.gather(*calls.values())
        records = {record.request_id: record for record in stack.ledger.records}
        await eventually(lambda: len(stack.events()) == 1 + len(phases), "the sweep settles what was left")
        await until_rest(stack)

        assert before.is_whole
        charged = 0
        for request_id, event in events_by_id(stack).items():
            record = records[request_id]
            charged += int(event["_posted_nano_usd"])
            if request_id == before.request_id:
                assert (event["_kind"], int(event["_cost_nano_usd"])) == ("settled", true_cost(record))
                continue
            assert (event["_kind"], event["usage_source"], event["outcome"]) == ("expired", "checkpoint", "expired")
            assert int(event["prompt_tokens"]) >= record.prompt_tokens  # accepted, so its input at least is owed
            assert "assumed" in event["flags"]
            assert true_cost(record) <= int(event["_cost_nano_usd"])
            assert record.generated_tokens <= int(event["_completion_tokens"]) <= ENDLESS
        assert charged == stack.window("globex")["spent"] + stack.window("acme")["spent"]
        await eventually(lambda: len(stack.workers()) == 1, "the worker is replaced")
        assert (await ask(session, stack, "acme-prod", chat())).is_whole
        await eventually(lambda: len(stack.events()) == 2 + len(phases), "and serves")
        await assert_all_sums_agree(stack, stack.events())


async def test_a_stream_outlives_its_lease_while_its_worker_lives_and_the_console_does_not(tmp_path: Path) -> None:
    async with running_stack(tmp_path, config=config(), workers="2", **LEASED) as stack, callers() as session:
        with held_streams():
            long = asyncio.ensure_future(ask(session, stack, "acme-prod", chat("tokens=48 tps=100")))
            await eventually(lambda: stack.ledger.totals.open == 1, "the stream is open")
            lease_is_over_ms = store_ms(stack) + LEASE_MS + 1_000
            (console,) = stack.children("tallygate.processes.console")
            console.kill()
            during = await asyncio.gather(*(ask(session, stack, "acme-test", chat()) for _ in range(20)))
            assert all(one.is_whole for one in during)  # no request needs the console
            await eventually(lambda: [p for p in stack.children("tallygate.processes.console") if p != console], "it is restarted")
            await eventually(lambda: store_ms(stack) > lease_is_over_ms, "its first lease is over")
            assert stack.window()["held"] > 0  # the stream holds on
        seen = await long
        assert seen.is_whole
        event = events_by_id(stack)[seen.request_id]
        assert (event["_kind"], event["usage_source"], event["_flags"]) == ("settled", "upstream", "")

        with held_streams():
            another = asyncio.ensure_future(ask(session, stack, "globex-prod", chat("tokens=64 tps=100")))
            await eventually(lambda: stack.ledger.totals.open == 1, "another stream is open")
            for worker in stack.workers():
                worker.kill()
            await another
        await eventually(lambda: stack.window("globex")["held"] == 0, "the restarted console sweeps")
        await eventually(lambda: stack.get("/readyz")[0] == 200, "the workers are replaced")
        await assert_all_sums_agree(stack, stack.events())


async def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    async with running_stack(tmp_path, config=config(), workers="2", **LEASED) as stack, callers() as session:
        with held_streams():
            calls = [asyncio.ensure_future(ask(session, stack, "acme-prod", chat("tokens=64 tps=100"))) for _ in range(10)]
            await eventually(lambda: stack.ledger.totals.open == 10, "streams are open")
            children = psutil.Process(stack.process.pid).children(recursive=True)
            assert len(children) >= 4
            stack.process.kill()
            seen = await asyncio.gather(*calls)
        await eventually(
            lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), "all end"
        )

        assert not any(one.is_whole for one in seen)  # cut off, and visibly so
        stack.process.wait()
    async with running_stack(tmp_path, config=config(), workers="2", **LEASED) as stack, callers() as session:
        await at_rest(LedgerTruth(stack), stack, ("acme", "globex"), REST_SECONDS)  # what the workers could still spool, too
        events = events_by_id(stack)
        assert {one.request_id for one in seen} <= set(events)
        assert all(int(events[one.request_id]["_cost_nano_usd"]) > 0 for one in seen)
        await assert_all_sums_agree(stack, stack.events())
        assert (await ask(session, stack, "acme-prod", chat())).is_whole

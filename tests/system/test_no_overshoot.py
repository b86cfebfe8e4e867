"""Money for exactly N requests admits exactly N of 1,000 at once, whatever happens to the workers."""

import asyncio
from collections import Counter
from pathlib import Path

import psutil
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from held_streams import held_streams
from stack import KEY, Stack, acme, eventually, running_stack
from yarl import URL

from tallygate.domain.money import usd_text

CALLERS = 1_000
PAID_FOR = 250
OUTPUT = 20
COST = 20 * 150 + OUTPUT * 600  # of gpt-4o-mini, in nano-USD; the prompt below has 20 tokens


def body(pace: str = "") -> dict[str, object]:
    content = f"[[sim tokens={OUTPUT}{pace}]] Hi"
    return {"model": "gpt-4o-mini", "max_tokens": OUTPUT, "stream": True, "messages": [{"role": "user", "content": content}]}


async def call(session: ClientSession, stack: Stack, content: dict[str, object]) -> tuple[int, str, bool]:
    """Status, request id, and whether the answer was seen complete."""
    try:
        async with session.post(
            f"{stack.url}/v1/chat/completions", json=content, headers={"Authorization": f"Bearer {KEY}"}
        ) as answer:
            text = await answer.text()
            return answer.status, answer.headers["x-request-id"], answer.status == 200 and "[DONE]" in text
    except ClientError:
        return 0, "", False


def answers_under_way(worker: psutil.Process, stack: Stack) -> int:
    """Connections of a worker to the simulator: those that did not come in at the gateway's port."""
    port = URL(stack.url).port
    return sum(bool(one.raddr) and one.laddr.port != port for one in worker.net_connections("tcp"))


def session() -> ClientSession:
    return ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=100))


async def prompt_cost(stack: Stack, content: dict[str, object]) -> int:
    """What one such request costs, by the simulator's own count."""
    async with session() as one:
        status, _, _ = await call(one, stack, content)
        assert status == 200
    (served,) = stack.ledger.records
    return served.prompt_tokens * 150 + served.generated_tokens * 600


async def test_a_thousand_callers_at_once_get_exactly_what_the_money_is_for(tmp_path: Path) -> None:
    content = body()
    async with running_stack(tmp_path / "probe", workers="1") as stack:
        cost = await prompt_cost(stack, content)
    limit = usd_text(cost * PAID_FOR)
    async with running_stack(tmp_path / "run", workers="2", config={"organizations": acme(limit)}) as stack, session() as many:
        outcomes = await asyncio.gather(*(call(many, stack, content) for _ in range(CALLERS)))

        assert Counter(status for status, _, _ in outcomes) == {200: PAID_FOR, 429: CALLERS - PAID_FOR}
        assert stack.window() == {"spent": cost * PAID_FOR, "held": 0}
        events = stack.events()
        assert len(events) == len({event["event_id"] for event in events}) == PAID_FOR
        assert sum(int(event["_cost_nano_usd"]) for event in events) == cost * PAID_FOR
        assert sum(served.prompt_tokens * 150 + served.generated_tokens * 600 for served in stack.ledger.records) == cost * PAID_FOR


@pytest.mark.timeout(300)  # two stacks, one of four workers
async def test_a_killed_worker_overshoots_nothing_and_leaves_nothing_held(tmp_path: Path) -> None:
    content = body(" tps=100")
    async with running_stack(tmp_path / "probe", workers="1") as stack:
        cost = await prompt_cost(stack, content)
    limit = cost * PAID_FOR
    settings = {"workers": "4", "lease_seconds": "5", "checkpoint_seconds": "1"}
    config = {"organizations": acme(usd_text(limit))}
    async with running_stack(tmp_path / "run", config=config, **settings) as stack, session() as many:
        with held_streams():
            calls = [asyncio.ensure_future(call(many, stack, content)) for _ in range(CALLERS)]
            await eventually(lambda: stack.ledger.totals.open == PAID_FOR, "all that is paid for is under way")
            # The one with most of them: the kernel shares connections out unevenly.
            victim = max(stack.workers(), key=lambda worker: answers_under_way(worker, stack))
            victim.kill()
        seen_spend = []
        while not all(task.done() for task in calls):
            window = stack.window()
            seen_spend.append(window["spent"] + window["held"])
            await asyncio.sleep(0.05)
        outcomes = [task.result() for task in calls]
        await eventually(lambda: stack.window()["held"] == 0, "every hold ends with its lease")
        await eventually(lambda: len(stack.workers()) == 4, "the killed worker is replaced")

        assert max(seen_spend) <= limit
        spent = stack.window()["spent"]
        assert spent <= limit
        events = {event["event_id"]: event for event in stack.events()}
        assert sum(int(event["_posted_nano_usd"]) for event in events.values()) == spent
        served = {record.request_id: record for record in stack.ledger.records}
        complete = [request_id for status, request_id, is_whole in outcomes if status == 200 and is_whole]
        assert complete
        for request_id in complete:  # nothing that a client saw complete is lost, and each costs what was served
            record = served[request_id]
            assert int(events[request_id]["_cost_nano_usd"]) == record.prompt_tokens * 150 + record.generated_tokens * 600
        cut = {request_id: event for request_id, event in events.items() if event["_kind"] == "expired"}
        assert cut, "the kill hit nothing"
        for request_id, event in cut.items():  # charged, never below what was generated, never above the hold
            record = served.get(request_id)
            generated = 0 if record is None else record.generated_tokens
            assert 0 < int(event["_cost_nano_usd"]) <= cost
            assert int(event["_completion_tokens"]) >= generated

"""Nothing reads the store's streams: gateways serve up to the bound of what may wait, say so before, and lose nothing of it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from fleet import Fleet, Member, running_fleet
from held_streams import held_streams
from ledger_truth import LedgerTruth, assert_each_complete_exchange_is_stored_once, assert_three_sums_agree, at_rest
from postgres_process import running_postgres
from stack import AMPLE_PLANS, eventually
from system_traffic import Seen, ask, callers, chat, samples, three_organizations
from valkey_process import running_valkey

ORGS = ("acme", "globex")
BYTES_MAX = 1_000_000  # the least that the setting takes: some 1,500 requests
EARLY = 0.5  # of it, from where TallygateStoreFilling fires
CALLERS = 24
REST_SECONDS = 120.0


def config() -> dict[str, Any]:
    return {"plans": AMPLE_PLANS, "organizations": three_organizations()}


async def filled(console: Member) -> float:
    """The share of the bound, as the alert asks for it."""
    status, text = await console.get("/metrics")
    found = samples(text)
    assert status == 200
    return found["tallygate_ledger_backlog_bytes", ()] / found["tallygate_ledger_backlog_max_bytes", ()]


async def ready(member: Member) -> tuple[int, dict[str, str]]:
    """Status, and the reasons of what does not hold."""
    status, text = await member.get("/readyz")
    return status, {check["name"]: check["reason"] for check in json.loads(text or '{"checks": []}')["checks"] if check["reason"]}


async def open_stream(fleet: Fleet, session: ClientSession) -> asyncio.Future[Seen]:
    """A stream that is held open. A worker may be a moment behind what readiness says of it."""
    for _ in range(20):
        stream = asyncio.ensure_future(ask(session, fleet.stack, "acme-prod", chat("tokens=20 tps=100")))
        await eventually(lambda stream=stream: fleet.stack.ledger.totals.open == 1 or stream.done(), "a stream is open, or refused")
        if not stream.done():
            return stream
        assert stream.result().status == 503, stream.result()
        await asyncio.sleep(0.5)
    raise AssertionError(stream.result())


async def ask_until_refused(fleet: Fleet) -> list[Seen]:
    """All callers, until each has been refused; what they saw."""
    seen: list[Seen] = []

    async def keep_asking(credential: str) -> None:
        async with callers() as session:
            while (one := await ask(session, fleet.stack, credential, chat())).status == 200:
                seen.append(one)
        seen.append(one)

    await asyncio.gather(*(keep_asking(("acme-prod", "globex-prod", "big-prod")[number % 3]) for number in range(CALLERS)))
    return seen


@pytest.mark.timeout(600)
async def test_a_gateway_without_a_ledger_serves_up_to_the_bound_and_the_ledger_catches_up(tmp_path: Path) -> None:
    with running_valkey(append_only=True) as store, running_postgres() as postgres:
        url, roles = postgres.url(), ("gateway", "console", "ledger")
        settings = {"workers": "2", "stream_bytes_max": str(BYTES_MAX)}
        async with (
            running_fleet(tmp_path, roles, config=config(), store=store, database_url=url, **settings) as fleet,
            callers() as session,
        ):
            gateway, console, ledger = fleet.members
            ledger.process.kill()
            ledger.process.wait()
            with held_streams():
                long = await open_stream(fleet, session)
                asking = asyncio.ensure_future(ask_until_refused(fleet))
                early = 0.0
                while not EARLY < early < 1:  # and nobody has been refused yet
                    early = await filled(console)
                    assert not asking.done()
                    assert (await ready(gateway))[0] == 200
                seen = await asking
                refused = [one for one in seen if one.status != 200]

                assert len(refused) == CALLERS
                assert {(one.status, json.loads(one.text)["error"]["code"]) for one in refused} == {(503, "ledger_backlog")}
                assert all(int(one.headers["Retry-After"]) >= 1 for one in refused)
                assert await filled(console) >= 1
                status, reasons = await ready(gateway)
                assert (status, reasons.keys()) == (503, {"backlog"})
                log = (gateway.directory / "log").read_text()
                assert "nothing is admitted: as much usage waits for the ledger as may" in log
                assert (await ready(console))[0] == 200  # which reads, and says why: its figures are old
            seen.append(await long)
            assert seen[-1].is_whole, "what was admitted is served and settled"

            ledger.start()
            await asyncio.gather(*(member.until_ready() for member in fleet.members))
            async with asyncio.timeout(REST_SECONDS):
                while (one := await ask(session, fleet.stack, "acme-prod", chat())).status != 200:
                    assert json.loads(one.text)["error"]["code"] == "ledger_backlog"  # a worker looks once a second
            seen.append(one)
            truth = LedgerTruth(fleet.stack, url)
            await at_rest(truth, fleet.stack, ORGS, REST_SECONDS)
            accounts = await truth.accounts()
            complete = [one for one in seen if one.status == 200]
            assert_each_complete_exchange_is_stored_once(fleet.stack, accounts, complete)
            assert len(accounts) == len(complete)
            assert_three_sums_agree(fleet.stack, accounts, ORGS)
            assert await truth.drifts() == []
            assert await filled(console) < EARLY

"""Gateways, consoles and ledgers apart, over one store and one database: rolled under load, they fail nobody and count exactly."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fleet import ADMIN_TOKEN, Fleet, Member, running_fleet
from ledger_truth import (
    LedgerTruth,
    assert_each_complete_exchange_is_stored_once,
    assert_three_sums_agree,
    at_rest,
)
from postgres_process import running_postgres
from stack import AMPLE_PLANS, eventually
from system_traffic import Seen, ask, callers, chat, samples, three_organizations
from valkey_process import running_valkey

ORGS = ("acme", "globex")
ACME_USD = "0.0002"  # some 25 requests
REST_SECONDS = 60.0
MACHINES = 2
SETTINGS = {"workers": "1", "lease_seconds": "30", "drain_seconds": "30"}
DELAY = {"drain_delay_seconds": "3"}  # many times what the balancer needs to notice


def config() -> dict[str, Any]:
    return {"plans": AMPLE_PLANS, "organizations": three_organizations(ACME_USD)}


class Load:
    """Steady traffic through a balancer that follows /readyz: clients of the gateways, and a reader of the consoles."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._is_over = asyncio.Event()
        self.seen: list[Seen] = []
        self.limited: list[Seen] = []
        self.read: list[int] = []

    async def run(self) -> None:
        fresh = [self._keep_asking(fresh=True, stream=stream) for stream in (True, False) for _ in range(4)]
        kept = [self._keep_asking(fresh=False, stream=stream) for stream in (True, False) for _ in range(4)]
        await asyncio.gather(*fresh, *kept, self._keep_spending(), self._keep_reading(fresh=True), self._keep_reading(fresh=False))

    def end(self) -> None:
        self._is_over.set()

    async def _ask(self, session: aiohttp.ClientSession, credential: str, body: dict[str, Any]) -> Seen:
        gateway = await self._fleet.pick("gateway")
        return await ask(session, replace(self._fleet.stack, url=gateway.url), credential, body)

    async def _keep_asking(self, *, fresh: bool, stream: bool) -> None:
        async with callers(fresh=fresh) as session:
            while not self._is_over.is_set():
                credential = "globex-prod" if fresh else "big-prod"
                directive = "tokens=8 tps=20" if stream else "tokens=8"
                self.seen.append(await self._ask(session, credential, chat(directive, stream=stream)))
                await asyncio.sleep(0.05)

    async def _keep_spending(self) -> None:
        """At the limit soon, and beyond what it allows ever after."""
        async with callers() as session:
            while not self._is_over.is_set():
                self.limited += await asyncio.gather(*(self._ask(session, "acme-prod", chat()) for _ in range(4)))
                await asyncio.sleep(0.2)

    async def _keep_reading(self, *, fresh: bool) -> None:
        connector = aiohttp.TCPConnector(force_close=fresh)
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            while not self._is_over.is_set():
                console = await self._fleet.pick("console")
                try:
                    async with session.get(f"{console.console}/api/organizations") as answer:
                        await answer.read()
                        self.read.append(answer.status)
                except aiohttp.ClientError:
                    self.read.append(0)
                await asyncio.sleep(0.05)


async def roll(fleet: Fleet, load: Load, number: int) -> None:
    """Every process of one machine: the whole role first, then the child behind its port alone."""
    for role in ("ledger", "console", "gateway"):
        await fleet.of(role)[number].restart()
    for role in ("ledger", "console"):
        await fleet.of(role)[number].renew_child("tallygate.processes.console")
    await fleet.of("gateway")[number].renew_child("tallygate.processes.console")
    await fleet.of("gateway")[number].renew_child("tallygate.processes.worker")
    count = len(load.seen)
    await eventually(lambda: len(load.seen) > count + 20, "traffic flows")


async def shared_metrics(console: Member) -> dict[Any, float]:
    status, text = await console.get("/metrics")
    assert status == 200
    return {
        key: value for key, value in samples(text).items() if value and key[0] != "tallygate_store_memory_bytes"
    }  # of the instant


async def local_total(fleet: Fleet, name: str) -> float:
    """Over all gateways."""
    texts = [(await gateway.get("/metrics"))[1] for gateway in fleet.of("gateway")]
    return sum(value for text in texts for (of, _), value in samples(text).items() if of == name)


@pytest.mark.timeout(300)
async def test_any_process_may_be_rolled_under_load_and_every_sum_is_exact(tmp_path: Path) -> None:
    with running_valkey(append_only=True) as store, running_postgres() as postgres:
        roles = ("gateway", "console", "ledger") * MACHINES
        url = postgres.url()
        async with running_fleet(tmp_path, roles, config=config(), store=store, database_url=url, **SETTINGS, **DELAY) as fleet:
            load = Load(fleet)
            running = asyncio.ensure_future(load.run())
            await eventually(lambda: len(load.seen) > 40 and load.read, "traffic flows")
            for number in range(MACHINES):
                await roll(fleet, load, number)
            load.end()
            await running

            # A machine whose only worker takes more than five seconds to start says so to who came before the balancer knew.
            seen = [one for one in load.seen if '"no_worker"' not in one.text]
            failed = [one for one in seen if one.status != 200 or not one.is_whole]
            assert not failed, (len(failed), len(load.seen), failed[:3])
            assert Counter(load.read) == {200: len(load.read)}
            assert_limit_held(fleet, load)

            truth = LedgerTruth(fleet.stack, url)
            await at_rest(truth, fleet.stack, ORGS, REST_SECONDS)
            accounts = await truth.accounts()
            complete = [*seen, *(one for one in load.limited if one.status == 200)]
            assert_each_complete_exchange_is_stored_once(fleet.stack, accounts, complete)
            assert len(accounts) == len(complete)
            assert_three_sums_agree(fleet.stack, accounts, ORGS)
            assert await truth.drifts() == []
            await assert_metrics_add_up(fleet, load, exchanges=len(complete))


def assert_limit_held(fleet: Fleet, load: Load) -> None:
    """To the last request that fits, at both gateways together."""
    assert {one.status for one in load.limited} == {200, 429}
    refusals = [json.loads(one.text)["error"] for one in load.limited if one.status == 429]
    assert {error["code"] for error in refusals} == {"spend_limit_exceeded"}
    window = fleet.stack.window("acme")
    limit = round(float(ACME_USD) * 10**9)
    cheapest = window["spent"] // sum(one.status == 200 for one in load.limited)
    assert limit - 20 * cheapest < window["spent"] <= limit


async def assert_metrics_add_up(fleet: Fleet, load: Load, *, exchanges: int) -> None:
    refused = sum(one.status == 429 for one in load.limited)
    expected = {"refused": refused, "other": exchanges}

    async def counted(console: Member) -> dict[str, float]:
        found = {"refused": 0.0, "other": 0.0}
        for (name, labels), value in (await shared_metrics(console)).items():
            if name == "tallygate_requests_total":
                found["refused" if dict(labels)["outcome"] == "refused" else "other"] += value
        return found

    one, other = fleet.of("console")
    async with asyncio.timeout(REST_SECONDS):
        while await counted(one) != expected:
            await asyncio.sleep(0.2)
    assert await counted(other) == expected
    assert await shared_metrics(one) == await shared_metrics(other)
    assert await local_total(fleet, "tallygate_refused_total") == refused
    assert await local_total(fleet, "tallygate_requests_total") == 0, "a shared family, which no gateway shows"


async def checks(member: Member) -> tuple[int, dict[str, str]]:
    """Status of /readyz, and the reasons of what does not hold."""
    status, text = await member.get("/readyz")
    if not status:
        return 0, {}
    return status, {check["name"]: check["reason"] for check in json.loads(text)["checks"] if not check["passed"]}


async def until(member: Member, status: int, *names: str) -> None:
    async with asyncio.timeout(REST_SECONDS):
        while True:
            found, reasons = await checks(member)
            if found == status and set(names) <= reasons.keys():
                return
            await asyncio.sleep(0.1)


@pytest.mark.timeout(300)
async def test_each_role_tells_what_it_misses_and_lives_on_without_it(tmp_path: Path) -> None:
    with running_valkey(append_only=True) as store, running_postgres() as postgres:
        url = postgres.url()
        roles = ("gateway", "console", "ledger")
        async with (
            running_fleet(tmp_path, roles, config=config(), store=store, database_url=url, **SETTINGS) as fleet,
            callers() as session,
        ):
            gateway, console, ledger = fleet.members
            postgres.stop()

            await until(console, 503, "database")
            await until(ledger, 503, "database")
            assert await checks(gateway) == (200, {})
            assert [(await member.get("/healthz"))[0] for member in fleet.members] == [200] * 3
            without = [await ask(session, fleet.stack, "globex-prod", chat()) for _ in range(5)]
            assert all((one.status, one.is_whole) == (200, True) for one in without)

            postgres.start()
            await asyncio.gather(*(until(member, 200) for member in fleet.members))
            truth = LedgerTruth(fleet.stack, url)
            await at_rest(truth, fleet.stack, ORGS, REST_SECONDS)
            assert_each_complete_exchange_is_stored_once(fleet.stack, await truth.accounts(), without)

            store.kill()
            await asyncio.gather(*(until(member, 503, "store") for member in (gateway, console)))
            assert [(await member.get("/healthz"))[0] for member in fleet.members] == [200] * 3
            store.start()
            await asyncio.gather(*(until(member, 200) for member in fleet.members))


async def test_a_gateway_without_a_ledger_waits_for_one_before_it_admits_spending(tmp_path: Path) -> None:
    with running_valkey(append_only=True) as store, running_postgres() as postgres:
        url = postgres.url()
        roles = ("gateway", "ledger")
        async with (
            running_fleet(tmp_path, roles, config=config(), store=store, database_url=url, **SETTINGS) as fleet,
            callers() as session,
        ):
            gateway, ledger = fleet.members
            await ledger.end()
            fleet.stack.store.flushall()
            await until(gateway, 503, "store")
            await gateway.end()
            gateway.start()  # and a new one takes an empty store for a first start no more than the old one
            await until(gateway, 503, "store")
            assert (await ask(session, fleet.stack, "globex-prod", chat())).status == 503

            ledger.start()

            await until(gateway, 200)
            seen = await ask(session, fleet.stack, "globex-prod", chat())
            assert (seen.status, seen.is_whole) == (200, True)

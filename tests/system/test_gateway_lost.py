"""A gateway is lost with its disk while the store is away: another machine's ledger settles what it had spooled."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, Member, running_fleet
from held_streams import held_streams
from ledger_truth import Account, LedgerTruth, assert_each_complete_exchange_is_stored_once, assert_three_sums_agree, at_rest
from postgres_process import PostgresProcess, running_postgres
from stack import AMPLE_PLANS, eventually
from system_traffic import Seen, ask, callers, chat, samples, three_organizations
from valkey_process import ValkeyProcess, running_valkey

ORGS = ("acme",)
REST_SECONDS = 90.0
SETTINGS = {"workers": "1", "lease_seconds": "5", "checkpoint_seconds": "1", "spool_heir_seconds": "2"}
EACH = 6


def lose(member: Member) -> None:
    """A gateway with all its processes, and its disk."""
    member.kill()
    shutil.rmtree(member.directory / "data")


async def gauge(member: Member, name: str) -> float:
    _, text = await member.get("/metrics")
    return samples(text).get((name, ()), -1)


async def until_gauge(member: Member, name: str, value: float) -> None:
    async with asyncio.timeout(REST_SECONDS):
        while await gauge(member, name) != value:
            await asyncio.sleep(0.1)


@dataclass(kw_only=True)
class Site:
    """A gateway, and a ledger elsewhere."""

    fleet: Fleet
    store: ValkeyProcess
    postgres: PostgresProcess
    truth: LedgerTruth
    session: Any

    @property
    def gateway(self) -> Member:
        return self.fleet.members[0]

    @property
    def ledger(self) -> Member:
        return self.fleet.members[1]

    async def serve_without_store(self) -> list[Seen]:
        """The gateway ends exchanges that the store admitted, and serves such that it has never heard of."""
        stack = self.fleet.stack
        with held_streams():
            held = [asyncio.ensure_future(ask(self.session, stack, "acme-prod", chat("tokens=30 tps=100"))) for _ in range(EACH)]
            await eventually(lambda: stack.ledger.totals.open == EACH, "streams are open")
            self.store.kill()
        unknown = [ask(self.session, stack, "big-prod", chat(stream=False)) for _ in range(EACH)]
        seen = await asyncio.gather(*held, *unknown)
        assert all((one.status, one.is_whole) == (200, True) for one in seen)
        return seen

    async def until_copied(self, seen: list[Seen]) -> None:
        wanted = {one.request_id for one in seen}
        async with asyncio.timeout(REST_SECONDS):
            while not wanted <= {copy["id"] for copy in await self.truth.spool_copies()}:
                await asyncio.sleep(0.1)

    async def assert_nothing_is_lost(self, seen: list[Seen]) -> None:
        """Store and ledger have every exchange once, at what the upstream counts."""
        accounts: dict[str, Account] = {}
        missing = {one.request_id for one in seen}
        deadline = asyncio.get_running_loop().time() + REST_SECONDS
        while missing:
            assert asyncio.get_running_loop().time() < deadline, (len(missing), {id_: accounts.get(id_) for id_ in missing})
            await asyncio.sleep(0.2)
            accounts = await self.truth.accounts()
            missing = {id_ for id_ in missing if id_ not in accounts or not accounts[id_].finals}
        await at_rest(self.truth, self.fleet.stack, ORGS, REST_SECONDS)
        accounts = await self.truth.accounts()
        assert_each_complete_exchange_is_stored_once(self.fleet.stack, accounts, seen)
        assert_three_sums_agree(self.fleet.stack, accounts, ORGS)
        assert await self.truth.drifts() == []


@asynccontextmanager
async def running_site(tmp_path: Path) -> AsyncIterator[Site]:
    config = {"plans": AMPLE_PLANS, "organizations": three_organizations()}
    with running_valkey(append_only=True) as store, running_postgres() as postgres:
        url = postgres.url()
        roles = ("gateway", "ledger")
        async with (
            running_fleet(tmp_path, roles, config=config, store=store, database_url=url, **SETTINGS) as fleet,
            callers() as session,
        ):
            yield Site(fleet=fleet, store=store, postgres=postgres, truth=LedgerTruth(fleet.stack, url), session=session)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_data_lost", [False, True], ids=["data kept", "data lost"])
async def test_what_a_lost_gateway_has_spooled_is_settled_from_its_copies(tmp_path: Path, is_data_lost: bool) -> None:
    async with running_site(tmp_path) as site:
        before = [await ask(site.session, site.fleet.stack, credential, chat()) for credential in ("acme-prod", "big-prod")]
        await eventually(lambda: not site.truth.backlog(), "the ledger has what was before")
        spooled = await site.serve_without_store()
        await site.until_copied(spooled)
        lose(site.gateway)
        if is_data_lost:
            shutil.rmtree(site.store.directory / "appendonlydir")
        await asyncio.to_thread(site.store.start)

        await site.assert_nothing_is_lost([*before, *spooled])
        log = (site.ledger.directory / "log").read_text()
        assert "spooled settlements of gateways that are away were settled from their copies" in log
        await until_gauge(site.ledger, "tallygate_spool_copies", 0)


@pytest.mark.timeout(300)
async def test_what_is_spooled_while_the_database_is_away_too_is_copied_once_it_is_back(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        site.postgres.stop()
        seen = await site.serve_without_store()
        await until_gauge(site.gateway, "tallygate_spool_uncopied", 2 * EACH)
        assert await gauge(site.gateway, "tallygate_spool_events") == 2 * EACH
        await asyncio.to_thread(site.postgres.start)
        await site.until_copied(seen)
        await until_gauge(site.gateway, "tallygate_spool_uncopied", 0)
        lose(site.gateway)
        await asyncio.to_thread(site.store.start)

        await site.assert_nothing_is_lost(seen)

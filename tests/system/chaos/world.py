"""Two gateways, two ledgers and two consoles over a cluster of three masters and three replicas: what chaos is made of."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet import RECORDS_MAX, Fleet, running_fleet
from ledger_truth import LedgerTruth, spools_are_empty
from postgres_process import running_postgres
from system_traffic import sums_of_metrics, true_cost

from chaos.checker import Entry, History, Served, Sums
from chaos.crowd import Crowd, config, limits
from chaos.store import ChaosStore, running_store

ROLES = ("gateway", "gateway", "ledger", "ledger", "console", "console")
WORKERS = 2  # of each gateway
SETTINGS = {"workers": str(WORKERS), "lease_seconds": "5", "checkpoint_seconds": "1", "store_deadline_ms": "3000"}
REST_SECONDS = 180.0  # leases end, spools are replayed, a writer of another name is claimed from
QUIET_LOOKS = 3
AUDIT_SECONDS = 300


@dataclass(kw_only=True)
class World:
    fleet: Fleet
    store: ChaosStore
    truth: LedgerTruth
    limits: dict[str, int]

    async def until_rest(self) -> None:
        """Nothing is held and nothing waits, and it stays so for a moment."""
        quiet = 0
        async with asyncio.timeout(REST_SECONDS):
            while quiet < QUIET_LOOKS:
                await asyncio.sleep(0.3)
                quiet = quiet + 1 if await self._is_quiet() else 0

    async def _is_quiet(self) -> bool:
        if self.fleet.stack.ledger.totals.open:
            return False
        if not all(spools_are_empty(gateway.directory / "data") for gateway in self.fleet.of("gateway")):
            return False
        if await asyncio.to_thread(self.store.backlog):
            return False
        return not any(held for _, held in (await self._windows()).values())

    async def _windows(self) -> dict[str, tuple[int, int]]:
        return {org: await asyncio.to_thread(self.store.window, org, "org:spend_7d") for org in self.limits}

    async def history(self, crowd: Crowd) -> History:
        """To be called at rest."""
        assert self.fleet.stack.ledger.totals.requests <= RECORDS_MAX
        served = [
            Served(request_id=one.request_id or "", tokens=(one.prompt_tokens, one.generated_tokens), nano_usd=true_cost(one))
            for one in self.fleet.stack.ledger.records
            if one.accepted
        ]
        entries = [
            Entry(
                event_id=row["event_id"],
                org=row["org"],
                kind=row["kind"],
                source=row["usage_source"],
                requests=row["requests"],
                tokens=(row["prompt_tokens"], row["completion_tokens"]),
                nano_usd=row["cost_nano_usd"],
                posted_nano_usd=row["posted_nano_usd"],
            )
            for row in await self.truth.entries()
        ]
        return History(
            answers=crowd.answers,
            served=served,
            entries=entries,
            windows=await self._windows(),
            limits=self.limits,
            metrics=[await self._sums(number) for number in range(len(self.fleet.of("console")))],
        )

    async def _sums(self, console: int) -> dict[str, Sums]:
        status, text = await self.fleet.of("console")[console].get("/metrics")
        assert status == 200, text
        found: dict[str, Counter[str]] = {}
        for (org, _, _), sums in sums_of_metrics(text).items():
            found.setdefault(org, Counter()).update(sums)
        return {org: dict(sums) for org, sums in found.items()}

    async def audit(self) -> str:
        """What `tallygate audit` has to object to; empty if nothing."""
        ledger = self.fleet.of("ledger")[0]
        command = [sys.executable, "-m", "tallygate", "audit", "--json"]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            env=ledger.environment,
            cwd=ledger.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=AUDIT_SECONDS,
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr


@asynccontextmanager
async def running_world(directory: Path, caps: Sequence[str]) -> AsyncIterator[World]:
    with running_postgres() as postgres:
        url = postgres.url()
        async with (
            running_store() as store,
            running_fleet(directory, ROLES, config=config(caps), store=store, database_url=url, **SETTINGS) as fleet,
        ):
            yield World(fleet=fleet, store=store, truth=LedgerTruth(fleet.stack, url), limits=limits(caps))

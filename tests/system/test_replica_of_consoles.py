"""A console with a read replica: what it shows, while the replica is there and once it is killed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fleet import Member, running_fleet
from new_ledger import postgres_ledger
from postgres_process import PostgresProcess, running_standby
from stack import AMPLE_PLANS, PATIENCE_SECONDS
from system_traffic import ask, callers, chat, samples, three_organizations
from valkey_process import running_valkey

READS = "tallygate_ledger_reads_total"
LAG = "tallygate_read_replica_lag_seconds"


async def shown(console: Member, name: str) -> dict[Any, float]:
    _, text = await console.get("/metrics")
    return {dict(labels).get("server"): value for (of, labels), value in samples(text).items() if of == name}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():
            await asyncio.sleep(0.05)


async def requests_shown(console: Member) -> int:
    status, text = await console.get("/api/usage?org=globex&bucket=total")
    assert status == 200, text
    return int(json.loads(text)["totals"]["requests"])


@pytest.mark.timeout(300)
async def test_a_console_asks_its_replica_and_without_it_the_primary(tmp_path: Path, postgres_server: PostgresProcess) -> None:
    config = {"plans": AMPLE_PLANS, "organizations": three_organizations("5")}
    async with postgres_ledger(postgres_server) as url:
        with running_valkey() as store, running_standby(postgres_server) as standby:
            read_url = standby.url(url.rpartition("/")[2])
            roles = ("gateway", "console", "ledger")
            async with (
                running_fleet(
                    tmp_path, roles, config=config, store=store, database_url=url, database_read_url=read_url, workers="1"
                ) as fleet,
                callers() as session,
            ):
                (console,) = fleet.of("console")

                async def is_used() -> bool:
                    before = (await shown(console, READS)).get("replica", 0)
                    await requests_shown(console)
                    return (await shown(console, READS))["replica"] > before

                await until(is_used)
                assert (await shown(console, LAG))[None] < 10
                await ask(session, fleet.stack, "globex-prod", chat())

                async def is_shown() -> bool:
                    return await requests_shown(console) == 1

                await until(is_shown)
                await asyncio.to_thread(standby.stop, "immediate")
                primary = (await shown(console, READS))["primary"]
                assert await requests_shown(console) == 1
                assert (await shown(console, READS))["primary"] > primary
                await asyncio.to_thread(standby.start)
                await until(is_used)
                assert not await shown(fleet.of("gateway")[0], LAG)

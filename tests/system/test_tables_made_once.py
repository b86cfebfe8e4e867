"""Separate roles, started in any order over an empty database: the ledger alone makes its tables, the others wait for it."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
from fleet import START_SECONDS, Member
from roles_at_will import IN_FILE, RolesAtWill, chat_with, roles_at_will, until
from stack import eventually

pytestmark = pytest.mark.timeout(300)
WAITS = "does not have the tables of this version yet"


async def tables(roles: RolesAtWill) -> int:
    connection = await asyncpg.connect(roles.postgres.url())
    try:
        return int(await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
    finally:
        await connection.close()


async def test_gateway_and_console_wait_for_the_ledger_that_is_started_last(tmp_path: Path) -> None:
    async with roles_at_will(tmp_path) as roles:
        gateway, console = roles.start("gateway"), roles.start("console")
        for member in (gateway, console):
            log = member.directory / "log"
            await eventually(lambda log=log: WAITS in log.read_text(), f"the {member.role} says what it waits for", START_SECONDS)
            await until(lambda member=member: answers(member), True)
        await until(lambda: chat_with(gateway, "tg_nobody_aaaa"), (503, "authentication_unavailable"))  # once a worker is up
        assert await tables(roles) == 0
        assert gateway.process.poll() is console.process.poll() is None

        ledger = roles.start("ledger")

        for member in (ledger, gateway, console):
            await member.until_ready()
        assert await tables(roles) > 20
        assert await chat_with(gateway, IN_FILE) == (200, "")
        await until(lambda: chat_with(gateway, "tg_nobody_aaaa"), (401, "invalid_api_key"))


async def answers(member: Member) -> bool:
    """Whether it says of itself that it is not ready."""
    return (await member.get("/readyz"))[0] == 503


async def test_a_ledger_starts_before_its_database_and_makes_the_tables_once_it_is_there(tmp_path: Path) -> None:
    async with roles_at_will(tmp_path) as roles:
        roles.postgres.stop()
        ledger, gateway = roles.start("ledger"), roles.start("gateway")
        for member in (ledger, gateway):
            await until(lambda member=member: answers(member), True)
        roles.postgres.start()
        for member in (ledger, gateway):
            await member.until_ready()
        assert await chat_with(gateway, IN_FILE) == (200, "")
        assert await asyncio.to_thread(ledger.process.poll) is None

"""The database is away when a worker starts: organizations are served from the snapshot in the data directory, or get 503."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from fleet import ADMIN_TOKEN, START_SECONDS, Member
from roles_at_will import IN_FILE, RolesAtWill, chat_with, roles_at_will, until
from stack import Stack, eventually, running_stack
from system_traffic import samples
from test_directory_live import ask, call

from tallygate.ledger.directory.snapshot import LATER_SECONDS

pytestmark = pytest.mark.timeout(400)
SERVED = (200, "")
UNREAD = (503, "authentication_unavailable")
UNKNOWN = (401, "invalid_api_key")
STRANGER = "tg_nobody_aaaa"
SNAPSHOT_WORKERS = ("tallygate_directory_snapshot_workers", ())


async def admin(console: str, path: str = "", body: object = None) -> dict[str, Any]:
    status, made = await asyncio.to_thread(call, f"{console}/api/organizations{path}", ADMIN_TOKEN, "POST", body)
    assert status in {200, 201}, made
    return made


async def a_live_and_a_revoked_key(console: str, is_served: Callable[[str], Awaitable[bool]]) -> tuple[str, str]:
    await admin(console, body={"id": "live", "plan": "enterprise"})
    keys = [(await admin(console, "/live/credentials", {"id": name}))["api_key"] for name in ("live-a", "live-b")]
    for key in keys:
        await until(lambda key=key: is_served(key), True)
    await admin(console, "/live/credentials/live-b/revoke")
    return keys[0], keys[1]


async def until_revocation_is_written(data_dir: Path) -> None:
    """Soon, or with other changes where the key came and went between two looks of the console at the database."""
    path = data_dir / "directory.snapshot"
    await eventually(
        lambda: path.exists() and b'"revoked_at_ms":1' in path.read_bytes(), "the revocation is in the snapshot", LATER_SECONDS + 15
    )


async def snapshot_workers(member: Member) -> float | None:
    return samples((await member.get("/metrics"))[1]).get(SNAPSHOT_WORKERS)


async def kill_worker(member: Member) -> None:
    worker = member.child("tallygate.processes.worker")
    worker.kill()
    await asyncio.to_thread(psutil.wait_procs, [worker], 20)


async def checks(member: Member) -> tuple[int, dict[str, str]]:
    status, body = await member.get("/readyz")
    return status, {check["name"]: check["reason"] for check in json.loads(body)["checks"] if check["reason"]} if body else {}


async def test_workers_that_start_without_postgresql_serve_from_the_snapshot(tmp_path: Path) -> None:
    async with roles_at_will(tmp_path) as roles:
        ledger, console, gateway = (roles.start(role) for role in ("ledger", "console", "gateway"))
        for member in (ledger, console, gateway):
            await member.until_ready()

        async def is_served(key: str) -> bool:
            return await chat_with(gateway, key) == SERVED

        key, revoked = await a_live_and_a_revoked_key(console.console, is_served)
        await until(lambda: chat_with(gateway, revoked), UNKNOWN)
        await until_revocation_is_written(gateway.directory / "data")

        roles.postgres.stop()
        await kill_worker(gateway)
        await until(lambda: chat_with(gateway, key), SERVED)
        assert await chat_with(gateway, IN_FILE) == SERVED
        assert await chat_with(gateway, revoked) == await chat_with(gateway, STRANGER) == UNREAD
        log = gateway.directory / "log"
        await eventually(lambda: "served from the snapshot" in log.read_text(), "it is logged")
        assert log.read_text().count("served from the snapshot") == 1
        assert await snapshot_workers(gateway) == 1
        status, found = await checks(gateway)
        assert status == 200
        assert "serves the organizations of a snapshot" in found["directory"]

        gateway.child("tallygate.processes.console").kill()
        await gateway.until_ready()
        assert await snapshot_workers(gateway) == 1
        await new_gateways(roles, gateway, key)
        await kill_worker(gateway)  # the console, which has read nothing, left the snapshot as it was
        await until(lambda: chat_with(gateway, key), SERVED)

        roles.postgres.start()
        await until(lambda: chat_with(gateway, STRANGER), UNKNOWN)
        await until(lambda: snapshot_workers(gateway), 0)
        await until(lambda: call_revoke(console), True)
        await until(lambda: chat_with(gateway, key), UNKNOWN)


async def call_revoke(console: Member) -> bool:
    path = f"{console.console}/api/organizations/live/credentials/live-a/revoke"
    return (await asyncio.to_thread(call, path, ADMIN_TOKEN, "POST"))[0] == 200


async def new_gateways(roles: RolesAtWill, gateway: Member, key: str) -> None:
    """A gateway on a new machine, one that brings the snapshot along, and one whose snapshot is damaged."""
    snapshot = gateway.directory / "data" / "directory.snapshot"
    brought, damaged = (roles.directory / name for name in ("brought", "damaged"))
    for data_dir in (brought, damaged):
        data_dir.mkdir()
        shutil.copy2(snapshot, data_dir)
    (damaged / snapshot.name).write_bytes(snapshot.read_bytes().replace(b'"revoked_at_ms":1', b'"revoked_at_ms":2'))
    for settings, answer in (({}, UNREAD), ({"data_dir": str(brought)}, SERVED), ({"data_dir": str(damaged)}, UNREAD)):
        member = roles.start("gateway", **settings)
        await until(lambda member=member: chat_with(member, IN_FILE), SERVED)
        assert await chat_with(member, key) == answer, settings
        assert member.process.poll() is None
        log = (member.directory / "log").read_text()
        assert ("it is damaged" in log) == (data_of(member) == damaged)
        assert ("there is none" in log) == (data_of(member) == member.directory / "data")
        await member.end()


def data_of(member: Member) -> Path:
    return Path(member.environment["TALLYGATE_DATA_DIR"])


async def test_workers_that_start_while_the_sqlite_file_is_away_serve_from_the_snapshot(tmp_path: Path) -> None:
    async with running_stack(tmp_path, admin_token=ADMIN_TOKEN, workers="1") as stack:

        async def is_served(key: str) -> bool:
            return await asked(stack, key) == 200

        key, _ = await a_live_and_a_revoked_key(stack.console, is_served)
        await until_revocation_is_written(stack.data_dir)
        away = tmp_path / "away"
        away.mkdir()
        for path in stack.data_dir.glob("ledger.db*"):
            path.rename(away / path.name)

        (worker,) = stack.workers()
        worker.kill()
        await eventually(lambda: [found for found in stack.workers() if found.pid != worker.pid], "another worker", START_SECONDS)
        await until(lambda: asked(stack, key), 200)
        assert await asked(stack, STRANGER) == 503
        assert not (stack.data_dir / "ledger.db").exists()

        for path in away.iterdir():
            path.rename(stack.data_dir / path.name)
        await until(lambda: asked(stack, STRANGER), 401)
        assert await asked(stack, key) == 200


async def asked(stack: Stack, key: str) -> int:
    try:
        return await asyncio.to_thread(ask, stack, key)
    except OSError:
        return 0

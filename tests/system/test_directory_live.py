"""The directory over real processes: what is changed in SQL holds in every worker within a second."""

import asyncio
import hashlib
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from stack import Stack, acme, eventually, running_stack

ADMIN = "a-platform-token"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
WORKERS = 3


def call(url: str, token: str, method: str = "GET", body: object = None) -> tuple[int, dict[str, Any]]:
    """On a connection of its own, so that any worker may get it."""
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Connection": "close"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def ask(stack: Stack, key: str) -> int:
    return call(f"{stack.url}/v1/chat/completions", key, "POST", CHAT)[0]


async def ask_all(stack: Stack, key: str, times: int = 24) -> set[int]:
    """Statuses of requests on many connections at once: every worker gets some."""
    return set(await asyncio.gather(*(asyncio.to_thread(ask, stack, key) for _ in range(times))))


async def until_all(stack: Stack, key: str, status: int) -> float:
    """Seconds until a whole round of requests, in all workers, has this status."""
    began = time.monotonic()
    while await ask_all(stack, key) != {status}:
        assert time.monotonic() - began < 20
    return time.monotonic() - began


@pytest.mark.parametrize("is_told", [True, False], ids=["told-over-redis", "by-polling-alone"])
async def test_a_change_holds_in_all_workers_within_a_second(tmp_path: Path, is_told: bool) -> None:
    async with running_stack(tmp_path, admin_token=ADMIN, workers=str(WORKERS)) as stack:
        assert len(stack.workers()) == WORKERS
        if not is_told:
            stack.store.execute_command("ACL", "SETUSER", "default", "-publish")
        api = f"{stack.console}/api/organizations"

        def admin(path: str = "", method: str = "POST", body: object = None) -> tuple[int, dict[str, Any]]:
            return call(api + path, ADMIN, method, body)

        status, made = await asyncio.to_thread(admin, "", "POST", {"id": "live", "plan": "enterprise"})
        assert (status, made["effective"]["api_access"]) == (201, True)
        status, made = await asyncio.to_thread(admin, "/live/credentials", "POST", {"id": "live-prod"})
        assert status == 201
        key = made["api_key"]
        await until_all(stack, key, 200)

        status, rotated = await asyncio.to_thread(admin, "/live/credentials/live-prod/rotate", "POST", {"overlap": "1h"})
        assert status == 200
        await until_all(stack, rotated["api_key"], 200)
        assert await ask_all(stack, key) == {200}

        status, revoked = await asyncio.to_thread(admin, "/live/credentials/live-prod/revoke")
        assert (status, revoked["status"]) == (200, "revoked")
        await asyncio.sleep(1.0)
        for old in (key, rotated["api_key"]):
            assert await ask_all(stack, old, 48) == {401}

        status, log = await asyncio.to_thread(call, f"{stack.console}/api/audit?subject=live-prod", ADMIN)
        assert [entry["action"] for entry in log["entries"]] == ["credential.revoked", "credential.rotated", "credential.created"]
        text = stack.log.read_text()
        assert key.rpartition("_")[2] not in text
        assert rotated["api_key"].rpartition("_")[2] not in text


async def test_use_is_noted_without_a_write_for_each_request(tmp_path: Path) -> None:
    async with running_stack(tmp_path, admin_token=ADMIN, workers="2") as stack:
        api = f"{stack.console}/api/organizations"
        await asyncio.to_thread(call, api, ADMIN, "POST", {"id": "live", "plan": "enterprise"})
        _, made = await asyncio.to_thread(call, f"{api}/live/credentials", ADMIN, "POST", {"id": "live-prod"})
        await until_all(stack, made["api_key"], 200)

        def last_used() -> Any:
            return call(f"{api}/live/credentials/live-prod", ADMIN)[1]["last_used_at"]

        assert (await eventually(last_used, "last_used_at is written")).startswith("20")


async def test_metrics_know_organizations_of_the_database(tmp_path: Path) -> None:
    in_file = acme("25", credentials=[{"id": "acme-prod", "key_sha256": hashlib.sha256(b"s").hexdigest()}])
    async with running_stack(tmp_path, admin_token=ADMIN, config={"organizations": in_file}) as stack:
        api = f"{stack.console}/api/organizations"
        await asyncio.to_thread(call, api, ADMIN, "POST", {"id": "live", "plan": "pay_as_you_go", "spend_limit": {"usd": "7"}})
        _, made = await asyncio.to_thread(call, f"{api}/live/credentials", ADMIN, "POST", {"id": "live-prod"})
        await until_all(stack, made["api_key"], 200)

        def is_shown() -> bool:
            _, text = stack.get("/metrics")
            return 'tallygate_requests_total{capability="chat",credential="live-prod",org="live",outcome="success"}' in text

        await eventually(is_shown, "the metrics show the organization")
        _, text = stack.get("/metrics")
        assert 'tallygate_spend_limit_usd{org="live"} 7.0' in text

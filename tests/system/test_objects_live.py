"""Whose stored objects are, with real processes: at every worker, after the store was emptied, after a restart, once adopted."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from object_upstream import ObjectUpstream, object_upstream
from stack import AMPLE_PLANS, Stack, eventually, rows_of, running_stack
from system_traffic import three_organizations

pytestmark = pytest.mark.timeout(300)
ROUTES = [
    {"method": "POST", "path": "/v1/files", "capability": "files"},
    {"method": "GET", "path": "/v1/files/{file_id}", "capability": "files"},
]


def config() -> dict[str, Any]:
    return {"plans": AMPLE_PLANS, "organizations": three_organizations(), "routes": {"routes": ROUTES}}


async def status(stack: Stack, credential: str, method: str, path: str) -> tuple[int, Any]:
    """Over a connection of its own, which any worker may get."""
    headers = {"authorization": f"Bearer tg_{credential}_{credential.partition('-')[0]}secret"}
    body = {} if method == "POST" else None
    async with aiohttp.ClientSession() as session, session.request(method, stack.url + path, headers=headers, json=body) as answer:
        return answer.status, await answer.json()


async def seen(stack: Stack, credential: str, path: str) -> set[int]:
    return {(await status(stack, credential, "GET", path))[0] for _ in range(8)}


async def eventually_seen(stack: Stack, credential: str, path: str) -> None:
    for _ in range(600):
        if await seen(stack, credential, path) == {200}:
            return
    raise AssertionError(f"{path} never came back")


async def test_an_object_stays_its_makers_whatever_is_restarted_or_lost(tmp_path: Path) -> None:
    async with object_upstream() as upstream:
        upstream.objects["files"] = ["file-old"]
        options: dict[str, Any] = {"upstream_url": upstream.url, "upstream_api_key": "sk-operator", "workers": "2"}
        async with running_stack(tmp_path, config=config(), **options) as stack:
            made, file = await status(stack, "acme-prod", "POST", "/v1/files")
            assert made == 200, file
            path = f"/v1/files/{file['id']}"
            assert await seen(stack, "acme-prod", path) == {200}
            assert await seen(stack, "globex-prod", path) == {404}

            await eventually(lambda: rows_of(stack.data_dir / "ledger.db", "SELECT * FROM stored_objects"), "the record is kept")
            stack.store.flushall()
            await eventually_seen(stack, "acme-prod", path)
            assert await seen(stack, "globex-prod", path) == {404}

            await adopt_and_forget(stack, upstream)
        async with running_stack(tmp_path, config=config(), **options) as stack:
            assert await seen(stack, "acme-prod", path) == {200}
            assert await seen(stack, "globex-prod", path) == {404}


async def adopt_and_forget(stack: Stack, upstream: ObjectUpstream) -> None:
    assert "file-old" in upstream.objects["files"]
    path = "/v1/files/file-old"
    assert await seen(stack, "globex-prod", path) == {404}
    objects("adopt", stack)
    await eventually_seen(stack, "globex-prod", path)
    assert await seen(stack, "acme-prod", path) == {404}
    objects("forget", stack)
    assert await seen(stack, "globex-prod", path) == {404}


def objects(what: str, stack: Stack) -> None:
    command = [sys.executable, "-m", "tallygate", "objects", what, "globex", "file", "file-old"]
    where = ["--data-dir", str(stack.data_dir), "--config-dir", str(stack.config_dir)]
    done = subprocess.run([*command, *where], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

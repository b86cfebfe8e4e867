"""A page of another origin in a real browser (Debian: chromium): it reads answers, streams and refusals, or nothing at all."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from client_gateway import Visit, running_client_gateway
from installed import PROGRAMS

BROWSER_SECONDS_MAX = 90


async def seen_by(page: TestServer, told: "asyncio.Future[Any]", profile: Path) -> Any:
    """What the page tells once it has asked the gateway."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "no browser is on this machine: Debian's chromium will do"
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}")
    process = await asyncio.create_subprocess_exec(
        browser, *options, f"http://localhost:{page.port}/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        return await asyncio.wait_for(told, BROWSER_SECONDS_MAX)
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.clients
@pytest.mark.parametrize("is_listed", [True, False])
async def test_a_page_of_another_origin(tmp_path: Path, *, is_listed: bool) -> None:
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    page = (PROGRAMS / "browser_page.html").read_text()
    given: dict[str, str] = {}

    async def show(_request: web.Request) -> web.Response:
        return web.Response(text=page.replace("GIVEN", json.dumps(given)), content_type="text/html")

    async def tell(request: web.Request) -> web.Response:
        told.set_result(await request.json())
        return web.Response()

    application = web.Application()
    application.router.add_get("/", show)
    application.router.add_post("/told", tell)
    async with TestServer(application) as server:
        origin = f"http://localhost:{server.port}" if is_listed else "https://app.example.com"
        async with running_client_gateway(tmp_path, cors_origins=origin) as gateway:
            given.update(url=gateway.url, key=gateway.key)
            seen = await seen_by(server, told, tmp_path / "profile")
            visit = Visit(gateway=gateway, first_asked=0, last_served=0, earlier=frozenset())
            counted = await asyncio.to_thread(visit.counted)
            lines = visit.lines()
    if is_listed:
        assert seen == {
            "answer": [200, True, True, 3],
            "stream": [200, True],
            "coded": [200],
            "refusal": [401, "invalid_api_key"],
            "unknown": [404],  # which names the nearest route
            "models": [200],
        }
        assert len([record for record in counted if record.endpoint == "openai_chat"]) == 3
        assert "OPTIONS /v1/chat/completions 204" in lines
    else:
        assert set(map(str, seen.values())) == {"['TypeError']"}
        assert not counted
        assert {line.split()[0] for line in lines} == {"OPTIONS"}

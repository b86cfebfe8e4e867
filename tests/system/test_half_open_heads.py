"""1,100 half-open heads at each port of processes that may open 1,024 descriptors: all that is needed stays alive."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from aiohttp import ClientSession, ClientTimeout
from stack import KEY, Stack, acme, running_stack

HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
HEADS = 1_100
ANSWER_SECONDS_MAX = 8.0  # for a machine under load; without room it takes until the heads are cut off, ten seconds after the last
CHAT = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "[[sim tokens=3]] Hello"}]}


async def half_open(url: str) -> list[asyncio.StreamWriter]:
    writers = []
    for _ in range(HEADS):
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
            writer.write(HALF)
            writers.append(writer)
    return writers


async def status(session: ClientSession, stack: Stack, path: str) -> int:
    """Of an answer on a new connection."""
    if path.startswith("/v1"):
        headers = {"Authorization": f"Bearer {KEY}", "Connection": "close"}
        async with session.post(f"{stack.url}{path}", json=CHAT, headers=headers) as answer:
            return answer.status
    async with session.get(f"{stack.console}{path}", headers={"Connection": "close"}) as answer:
        return answer.status


async def test_half_open_heads_leave_metrics_health_requests_and_revocation_alive(tmp_path: Path) -> None:
    timeout = ClientTimeout(total=ANSWER_SECONDS_MAX)
    async with running_stack(tmp_path, descriptors=1_024) as stack, ClientSession(timeout=timeout) as session:
        assert "instead of 10000" in stack.log.read_text()
        writers = await half_open(stack.console) + await half_open(stack.url)
        assert len(writers) > HEADS
        for path in ("/healthz", "/readyz", "/metrics", "/v1/chat/completions"):
            assert await status(session, stack, path) == 200

        (organization,) = acme("25")["organizations"]
        organization["credentials"][0]["enabled"] = False
        (stack.config_dir / "organizations.yaml").write_text(yaml.safe_dump({"organizations": [organization]}))
        until = time.monotonic() + ANSWER_SECONDS_MAX
        while (found := await status(session, stack, "/v1/chat/completions")) == 200 and time.monotonic() < until:
            await asyncio.sleep(0.1)
        assert found == 401
        for writer in writers:
            writer.close()

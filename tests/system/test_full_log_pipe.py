"""`tallygate serve` whose log is a pipe that nobody reads: requests, console, reloads and the end go on."""

import asyncio
import fcntl
import os
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout
from stack import KEY, running_stack

CHAT = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "[[sim tokens=3]] Hello"}]}
PIPE_BYTES = 4_096
REQUESTS = 30  # whose lines alone are more than the pipe takes


async def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "serve.log")
    pipe = os.open(tmp_path / "serve.log", os.O_RDWR)
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    headers = {"Authorization": f"Bearer {KEY}"}
    settings = {"access_log": "all", "workers": "1"}
    async with running_stack(tmp_path, **settings) as stack, ClientSession(timeout=ClientTimeout(total=20)) as session:

        async def chat() -> int:
            async with session.post(f"{stack.url}/v1/chat/completions", json=CHAT, headers=headers) as answer:
                await answer.read()
                return answer.status

        assert [await chat() for _ in range(REQUESTS)] == [200] * REQUESTS
        async with session.get(f"{stack.url}/v1/nowhere", headers=headers) as answer:  # which the worker logs
            assert answer.status == 404
        async with session.get(f"{stack.console}/api/usage", headers={"Authorization": "Bearer wrong"}) as answer:  # the console
            assert answer.status == 401
        assert await chat() == 200
        assert (await asyncio.to_thread(stack.get, "/readyz"))[0] == 200
    assert stack.process.returncode == 0
    os.close(pipe)

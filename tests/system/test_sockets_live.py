"""Sockets of a running `tallygate serve`: a worker that is killed, and a shutdown."""

import json
import signal
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from stack import KEY, eventually, running_stack

HEADERS = {"Authorization": f"Bearer {KEY}"}


async def ask(socket: ClientWebSocketResponse, directive: str) -> None:
    await socket.send_json({"type": "response.create", "model": "gpt-4o-mini", "input": f"[[sim {directive}]] Hello"})


@pytest.mark.timeout(120)
async def test_a_killed_worker_leaves_nothing_held_and_a_shutdown_lets_a_response_end(tmp_path: Path) -> None:
    async with (
        running_stack(tmp_path, workers="1", lease_seconds="5", checkpoint_seconds="1") as stack,
        ClientSession(headers=HEADERS) as session,
    ):
        socket = await session.ws_connect(f"{stack.url}/v1/responses")
        await ask(socket, "tokens=12000 tps=20")
        for _ in range(6):
            assert (await socket.receive()).type is WSMsgType.TEXT
        assert stack.window()["held"] > 0
        stack.workers()[0].kill()
        assert (await socket.receive()).type is not WSMsgType.TEXT
        await eventually(lambda: not stack.window()["held"], "the sweep ends the hold")
        assert stack.window()["spent"] > 0

        await eventually(stack.workers, "there is a worker again")
        busy = await session.ws_connect(f"{stack.url}/v1/responses")  # the port is open meanwhile, and it waits for one
        idle = await session.ws_connect(f"{stack.url}/v1/realtime?model=gpt-realtime")
        assert json.loads((await idle.receive()).data)["type"] == "session.created"
        await ask(busy, "tokens=30 tps=20")
        assert (await busy.receive()).type is WSMsgType.TEXT
        stack.process.send_signal(signal.SIGTERM)
        closed = await idle.receive()
        assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1001)
        heard = []
        while (message := await busy.receive()).type is WSMsgType.TEXT:
            heard.append(json.loads(message.data)["type"])
        assert heard[-1] == "response.completed"
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        assert stack.process.wait(20) == 0

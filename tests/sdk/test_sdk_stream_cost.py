"""Comments behind a stream's last event disturb no SDK: it delivers the same as without them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sdk_sides import Call, World, running_world, user

ASKED = {"tallygate-stream-cost": "comment"}
STREAMS = {
    "openai": Call(
        sdk="openai",
        method="chat.completions.create",
        arguments={"model": "gpt-4o-mini", "max_tokens": 60, "messages": user("tokens=20"), "stream": True, "extra_headers": ASKED},
        streams=True,
    ),
    "responses": Call(
        sdk="openai",
        method="responses.create",
        arguments={"model": "gpt-4o-mini", "max_output_tokens": 60, "input": "Hello", "stream": True, "extra_headers": ASKED},
        streams=True,
    ),
    "anthropic": Call(
        sdk="anthropic",
        method="messages.create",
        arguments={
            "model": "claude-haiku-4-5",
            "max_tokens": 60,
            "messages": user("tokens=20"),
            "stream": True,
            "extra_headers": ASKED,
        },
        streams=True,
    ),
    "gemini": Call(
        sdk="gemini",
        method="models.generate_content_stream",
        arguments={"model": "gemini-2.5-flash", "contents": "Hello", "config": {"http_options": {"headers": ASKED}}},
        streams=True,
    ),
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize("what", STREAMS.values(), ids=STREAMS)
async def test_the_answer_is_the_same_as_without(world: World, what: Call) -> None:
    expected: Any = await world.direct.ask(what)
    found: Any = await world.through.ask(what)
    assert found == expected

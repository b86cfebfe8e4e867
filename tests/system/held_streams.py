"""Answers of the simulator in this process that stay open until a test lets them go on: no race between them and what it does."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from tallygate.simulator.pace import Pace

HELD_AT = 3  # tokens that a held answer has generated


@contextmanager
def held_streams() -> Iterator[asyncio.Event]:
    """Answers that have a pace (`tps`) stand still until the event is set, at the latest at the end of the block."""
    released = asyncio.Event()
    until = Pace.until

    async def until_released(pace: Pace, generated: int) -> None:
        await until(pace, generated)
        if not pace.is_free and generated >= HELD_AT:
            await released.wait()

    with patch.object(Pace, "until", until_released):
        try:
            yield released
        finally:
            released.set()

"""The loop that renews leases goes on whatever one round of it runs into."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tallygate.domain.errors import StoreError
from tallygate.gateway.exchange.account import checkpoint_forever


class Failing:
    """An open answer whose checkpoint fails twice, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.worked = asyncio.Event()

    @property
    def is_ending(self) -> bool:
        if self.errors:
            raise self.errors.pop()
        self.worked.set()
        return True


@pytest.mark.parametrize("error", [StoreError("away"), ValueError("a bug")])
async def test_a_failed_round_is_followed_by_the_next(error: Exception) -> None:
    answer = Failing(error, error)
    services: Any = SimpleNamespace(bounds=SimpleNamespace(checkpoint_seconds=0))
    answers: Any = {answer}
    loop = asyncio.ensure_future(checkpoint_forever(services, answers))
    async with asyncio.timeout(10):
        await answer.worked.wait()
    loop.cancel()

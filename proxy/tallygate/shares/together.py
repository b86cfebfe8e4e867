"""Calls that are made together."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def answers(calls: Sequence[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """What all of them return, as `asyncio.gather`. One alone is awaited as it is.

    As a task of its own it would begin a turn of the loop later, and what it sends would not be in one write with what others send.
    """
    if len(calls) == 1:
        return [await calls[0]]
    return await asyncio.gather(*calls)

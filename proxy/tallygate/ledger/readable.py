"""A ledger as those see it who only read: one database, or a primary with a replica beside it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

_Result = TypeVar("_Result")


class Readable(Protocol):
    """`Database` without what writes."""

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A consistent view of committed data. Raises LedgerUnavailableError."""

    async def ask(self, work: Callable[[Connection], _Result]) -> _Result:
        """The answer of `work`, which only reads, and may be done twice. Raises LedgerUnavailableError."""

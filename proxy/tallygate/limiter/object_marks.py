"""Owners of stored objects in the limiter's store: a key for each, written before the settlement of the exchange that made it.

Commands of one connection run in their order, so that every gateway knows the object once the settlement is acknowledged, and no
request waits for it. A missing key proves nothing: it may have expired, or the store has lost its data. The ledger has the record.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from tallygate.domain.errors import StoreError
from tallygate.domain.made_object import MadeObject
from tallygate.limiter.keys import object_key

KEPT_MS_MAX: Final = 86_400_000  # then the ledger is asked once, and the key is back
_NO_SIZE: Final = b"-"
_AT_ONCE: Final = 1_000


class ObjectMarks(Protocol):
    """Marks of owned objects. Implementations: Redis, and `MemoryObjectMarks` for tests."""

    def put(self, org: str, objects: Sequence[MadeObject], *, kept_ms: int) -> None:
        """Mark objects as the organization's, before any later call. Raises StoreError if it cannot be sent."""

    def drop(self, org: str, objects: Sequence[MadeObject]) -> None:
        """Unmark objects, in order as `put` does."""

    async def sizes(self, org: str, objects: Sequence[MadeObject]) -> Mapping[MadeObject, int | None]:
        """The marked objects among these, with the tokens known of each. One round trip. Raises StoreError."""


class RedisObjectMarks:
    """Implements ObjectMarks.

    post      sends a command now (`RedisConnection.post`)
    command   sends one and waits for its answer (`RedisConnection.command`)
    """

    def __init__(self, post: Callable[..., Awaitable[Any]], command: Callable[..., Awaitable[Any]]) -> None:
        self._post = post
        self._command = command

    def put(self, org: str, objects: Sequence[MadeObject], *, kept_ms: int) -> None:
        for made in objects:
            size = _NO_SIZE if made.tokens is None else b"%d" % made.tokens
            _unheeded(self._post(b"SET", _key(org, made), size, b"PX", b"%d" % max(1, min(kept_ms, KEPT_MS_MAX))))

    def drop(self, org: str, objects: Sequence[MadeObject]) -> None:
        if objects:
            _unheeded(self._post(b"DEL", *(_key(org, made) for made in objects)))

    async def sizes(self, org: str, objects: Sequence[MadeObject]) -> Mapping[MadeObject, int | None]:
        if not objects:
            return {}
        replies = await self._command(b"MGET", *(_key(org, made) for made in objects))
        return {
            made: None if size == _NO_SIZE else int(size) for made, size in zip(objects, replies, strict=True) if size is not None
        }


async def drop_marks(command: Callable[..., Awaitable[Any]], org: str, objects: Sequence[MadeObject]) -> None:
    """Unmark objects and wait for the answer. Raises StoreError."""
    for start in range(0, len(objects), _AT_ONCE):
        await command(b"DEL", *(_key(org, made) for made in objects[start : start + _AT_ONCE]))


def _key(org: str, made: MadeObject) -> bytes:
    return object_key(org, made.upstream, made.kind, made.id)


def _unheeded(reply: Awaitable[Any]) -> None:
    """A reply that nobody waits for: the ledger has the record as well."""
    if isinstance(reply, asyncio.Future):
        reply.add_done_callback(_drop)


def _drop(reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled():
        reply.exception()


class MemoryObjectMarks:
    """Implements ObjectMarks without a store; nothing expires. is_away: every call fails."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str, str], int | None] = {}
        self.is_away = False

    def put(self, org: str, objects: Sequence[MadeObject], *, kept_ms: int) -> None:
        del kept_ms
        self._need_store()
        self.kept.update({_identity(org, made): made.tokens for made in objects})

    def drop(self, org: str, objects: Sequence[MadeObject]) -> None:
        self._need_store()
        for made in objects:
            self.kept.pop(_identity(org, made), None)

    async def sizes(self, org: str, objects: Sequence[MadeObject]) -> Mapping[MadeObject, int | None]:
        self._need_store()
        return {made: self.kept[name] for made in objects if (name := _identity(org, made)) in self.kept}

    def _need_store(self) -> None:
        if self.is_away:
            raise StoreError("the store is away")


def _identity(org: str, made: MadeObject) -> tuple[str, str, str, str]:
    return org, made.upstream, made.kind, made.id

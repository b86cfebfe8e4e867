"""Last uses of credentials: workers write them to one hash of the store, and one console at a time claims the hash."""

from collections.abc import Mapping
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.limiter.script import ScriptStore

_NOTED: Final = b"tg:{last-used}:noted"
_TAKEN: Final = b"tg:{last-used}:taken"
_KEEP_SECONDS: Final = 7 * 86_400  # without a console nothing claims it, and it expires
_AT_ONCE: Final = 1_000


async def record_last_used(store: ScriptStore, at_ms: Mapping[str, int]) -> None:
    """Write Unix milliseconds by Client ID. Workers overwrite each other between their flushes, so they are right to some seconds.

    Bounded by the credentials there are. Raises StoreError.
    """
    pairs = [text for client_id, at in at_ms.items() for text in (client_id.encode(), b"%d" % at)]
    for start in range(0, len(pairs), 2 * _AT_ONCE):
        await store.command(b"HSET", _NOTED, *pairs[start : start + 2 * _AT_ONCE])
    if pairs:
        await store.command(b"EXPIRE", _NOTED, b"%d" % _KEEP_SECONDS)


async def claim_last_used(store: ScriptStore) -> Mapping[str, int]:
    """Claim what was recorded, until `delete_claimed`. A console that ends before that leaves it to the next. Raises StoreError."""
    if not await store.command(b"EXISTS", _TAKEN, _NOTED):  # as a rule: who is asked seldom has noted nothing
        return {}
    if not await store.command(b"EXISTS", _TAKEN):
        try:
            await store.command(b"RENAMENX", _NOTED, _TAKEN)
        except StoreError:  # it expired meanwhile, or another console claimed it
            return {}
    flat = await store.command(b"HGETALL", _TAKEN)
    texts = [item.decode() for item in flat]
    return {client_id: int(at) for client_id, at in zip(texts[::2], texts[1::2], strict=True)}


async def delete_claimed(store: ScriptStore) -> None:
    await store.command(b"DEL", _TAKEN)

"""Writing into the database when credentials were last used, as workers noted it in the limiter's store."""

import asyncio
import logging
from typing import Final

from tallygate.domain.errors import StoreError
from tallygate.ledger.database import LedgerUnavailableError
from tallygate.ledger.directory.credentials import Credentials
from tallygate.limiter.last_used import claim_last_used, delete_claimed
from tallygate.limiter.script import ScriptStore

EVERY_SECONDS: Final = 10.0
_LOG: Final = logging.getLogger(__name__)


async def write_last_used(store: ScriptStore, credentials: Credentials) -> int:
    """One round; how many were written. What cannot be, stays in the store. Raises StoreError, LedgerUnavailableError."""
    taken = await claim_last_used(store)
    if taken:
        await credentials.record_used(taken)
        await delete_claimed(store)
    return len(taken)


async def write_last_used_forever(store: ScriptStore, credentials: Credentials) -> None:
    while True:
        try:
            await write_last_used(store, credentials)
        except (StoreError, LedgerUnavailableError) as error:
            _LOG.warning("when credentials were last used is not written", extra={"fields": {"reason": str(error)}})
        await asyncio.sleep(EVERY_SECONDS)

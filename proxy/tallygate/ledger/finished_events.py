"""Which events the ledger has the final word of, for those who are about to tell it again."""

from collections.abc import Sequence

from sqlalchemy import select

from tallygate.domain.errors import StoreError
from tallygate.ledger.database import Database, LedgerUnavailableError
from tallygate.ledger.entry import FINAL
from tallygate.ledger.schema import ENTRIES


async def finished_events(database: Database, event_ids: Sequence[str]) -> frozenset[str]:
    """Those of `event_ids` that are settled in the ledger; a few hundred at once. Raises StoreError if it cannot be asked."""
    columns = ENTRIES.c
    statement = select(columns.event_id).where(columns.event_id.in_(event_ids), columns.kind.in_(sorted(FINAL))).distinct()
    try:
        async with database.read() as connection:
            return frozenset((await connection.execute(statement)).scalars())
    except LedgerUnavailableError as error:
        raise StoreError(f"the ledger cannot be asked: {error}") from error

"""Prices that were in force while this ledger was kept, whether or not a file still has them."""

import json
import logging
from typing import Final

from sqlalchemy import select

from tallygate.config.price_row import price_of_statement
from tallygate.domain.markup import plain_version
from tallygate.domain.price import Price
from tallygate.domain.routed_price import ROUTED_VERSION
from tallygate.ledger.database import Database
from tallygate.ledger.schema import PRICE_VERSIONS

_log: Final = logging.getLogger(__name__)


class RecordedPrices:
    """Those of one ledger. Raises LedgerUnavailableError if the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, version: str) -> Price | None:
        """The row that an event's `price_version` names, without its markup; None if it was never recorded."""
        columns, plain = PRICE_VERSIONS.c, plain_version(version).removeprefix(ROUTED_VERSION)
        statement = select(columns.model, columns.effective_ms, columns.rates).where(columns.version == plain)
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        if len({row.rates for row in rows}) != 1:  # never recorded, or two rows with one digest: neither is a fact
            return None
        model, effective_ms, rates = rows[0]
        try:
            return price_of_statement(json.loads(rates), model=model, version=plain, effective_ms=effective_ms)
        except (ValueError, TypeError, KeyError):
            _log.warning("the recorded price %s could not be read", plain)
            return None

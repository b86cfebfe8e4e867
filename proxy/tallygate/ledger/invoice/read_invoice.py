"""Computing an invoice from the ledger's entries themselves, not from rollups."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, case, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.ledger.entry import Kind
from tallygate.ledger.id_range import id_range
from tallygate.ledger.invoice.billing_period import BillingPeriod
from tallygate.ledger.invoice.invoice import AMOUNT_NAMES, Amounts, Invoice, Line
from tallygate.ledger.readable import Readable
from tallygate.ledger.schema import ENTRIES
from tallygate.ledger.time_buckets import DAY_MS

LINES_MAX: Final = 10_000
_EMPTY: Final[ColumnElement[str]] = literal_column("''")  # PostgreSQL matches SELECT and GROUP BY by text: no bound parameter here


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledOrganization:
    """The organization that the invoice is for."""

    id: str
    name: str


class InvoiceTooLargeError(Exception):
    """An invoice would have more than LINES_MAX lines."""


async def read_invoice(database: Readable, organization: BilledOrganization, period: BillingPeriod, *, as_of_ms: int) -> Invoice:
    """Read the period as of one instant, completely or with an error. Raises LedgerUnavailableError, InvoiceTooLargeError.

    as_of_ms   the database is known to have everything up to here: a period that ends later is provisional

    Reads day by day within one consistent view, so that no statement reaches the database's time limit.
    """
    sums: defaultdict[Line, Amounts] = defaultdict(Amounts)
    last_entry_ms: int | None = None
    async with database.read() as connection:
        months = await connection.run_sync(id_range, period.start_ms, period.end_ms)
        for start_ms in range(period.start_ms, period.end_ms, DAY_MS):
            end_ms = min(start_ms + DAY_MS, period.end_ms)
            statement = _statement(organization.id, start_ms, end_ms).where(*months)
            for line, amounts, entered_at_ms in await _day(connection, statement):
                sums[line] += amounts
                last_entry_ms = max(last_entry_ms or 0, entered_at_ms)
            if len(sums) > LINES_MAX:
                raise InvoiceTooLargeError(f"more than {LINES_MAX} lines: export the {period.kind} instead")
    lines = [replace(line, amounts=amounts) for line, amounts in sorted(sums.items(), key=lambda item: _order(item[0]))]
    return Invoice(
        org=organization.id,
        name=organization.name,
        period=period,
        usage=tuple(line for line in lines if line.correction is None),
        corrections=tuple(line for line in lines if line.correction is not None),
        last_entry_ms=last_entry_ms,
        is_provisional=as_of_ms < period.end_ms,
    )


def _statement(org: str, start_ms: int, end_ms: int) -> Select[Any]:
    columns = ENTRIES.c
    labels = [
        columns.credential,
        columns.capability,
        func.coalesce(func.nullif(columns.response_model, _EMPTY), columns.request_model, _EMPTY),  # as Entry.model
        case((columns.sequence == literal_column("0"), _EMPTY), else_=columns.kind),
    ]
    sums = [func.sum(columns[name]) for name in AMOUNT_NAMES]
    return (
        select(*labels, func.max(columns.entered_at_ms), *sums)
        .where(columns.org == org, columns.settled_at_ms >= start_ms, columns.settled_at_ms < end_ms)
        .group_by(*labels)
    )


async def _day(connection: AsyncConnection, statement: Select[Any]) -> list[tuple[Line, Amounts, int]]:
    found = []
    for credential, capability, model, correction, entered_at_ms, *sums in await connection.execute(statement):
        line = Line(
            credential=credential,
            capability=capability,
            model=model,
            amounts=Amounts(),
            correction=Kind(correction) if correction else None,
        )
        found.append((line, Amounts(**dict(zip(AMOUNT_NAMES, map(int, sums), strict=True))), entered_at_ms))
    return found


def _order(line: Line) -> tuple[str, str, str, str]:
    return line.credential, line.capability, line.model, line.correction or ""

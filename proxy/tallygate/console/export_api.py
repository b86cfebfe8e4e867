"""Exports and invoices put together: their routes, which share one bound on how many run at once."""

from collections.abc import Callable
from dataclasses import dataclass

from tallygate.console.api_export import ROWS_MAX, WRITE_SECONDS, ExportApi
from tallygate.console.api_invoices import InvoicesApi
from tallygate.console.api_routes import ApiRoute
from tallygate.console.api_scope import Scopes
from tallygate.console.export_terms import EXPORTS_AT_ONCE, ExportSlots
from tallygate.ledger.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """rows_max: of one export. write_seconds: a client that takes nothing for so long is cut off."""

    at_once: int = EXPORTS_AT_ONCE
    rows_max: int = ROWS_MAX
    write_seconds: float = WRITE_SECONDS


def export_routes(
    scopes: Scopes, database: Database, *, now_ms: Callable[[], int], settings: ExportSettings | None = None
) -> tuple[ApiRoute, ...]:
    """Every route of them. now_ms: Unix time."""
    chosen = settings or ExportSettings()
    slots = ExportSlots(chosen.at_once)
    exports = ExportApi(
        scopes=scopes,
        database=database,
        slots=slots,
        now_ms=now_ms,
        rows_max=chosen.rows_max,
        write_seconds=chosen.write_seconds,
    )
    return (*exports.routes(), *InvoicesApi(scopes=scopes, database=database, slots=slots, now_ms=now_ms).routes())

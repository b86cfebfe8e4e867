"""GET /api/export: the ledger's entries as a file, streamed as fast as the client takes it."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from aiohttp import hdrs, web

from tallygate.console.api_errors import ApiError
from tallygate.console.api_history import history_from_ms
from tallygate.console.api_parameters import Parameter, choice
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import ORG, Scopes, filters
from tallygate.console.api_times import at_ms, check_range, instant, time_zone
from tallygate.console.api_usage import FILTERS, TO, zone_of
from tallygate.console.export_slots import ExportSlots, check_plan
from tallygate.domain.instants import millisecond_text
from tallygate.domain.organization import Organization
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.export.encoder import FILE_TYPES, Encoder, Format, FormatUnavailableError
from tallygate.ledger.export.entry_pages import count_entries
from tallygate.ledger.export.selection import Selection
from tallygate.ledger.export.stream import encoder_of, export_pieces
from tallygate.ledger.history import Dimension
from tallygate.ledger.readable import Readable

RANGE_DAYS_MAX: Final = 366
ROWS_MAX: Final = 5_000_000
ORGS_MAX: Final = 1_000
WRITE_SECONDS: Final = 60.0  # a client that reads nothing for this long is cut off
AS_OF_HEADER: Final = "tallygate-export-as-of"
HISTORY_HEADER: Final = "tallygate-export-history-from"  # none where all is shown
WHOLE_HEADER: Final = "tallygate-export-is-whole"

_FORMAT: Final = choice("format", "csv, jsonl (JSON Lines) or parquet.", [*Format], is_required=True)
_FROM: Final = instant("from", "Beginning of the range, inclusive.", is_required=True)
_AS_OF: Final = instant("as_of", "The ledger as it stood then: what was entered later is left out. Default: now.")
_FILTERS: Final[Mapping[Parameter, Dimension]] = {name: dimension for name, dimension in FILTERS.items() if name != ORG}
_LOG: Final = logging.getLogger(__name__)


class ExportApi:
    """The export endpoint.

    now_ms     Unix time, the default end of a range
    as_of_ms   the instant of which what is read from then on has everything
    rows_max   a larger export is refused before it begins
    """

    def __init__(
        self,
        *,
        scopes: Scopes,
        database: Readable,
        slots: ExportSlots,
        now_ms: Callable[[], int],
        as_of_ms: Callable[[], int],
        rows_max: int = ROWS_MAX,
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        self._scopes = scopes
        self._database = database
        self._slots = slots
        self._now_ms = now_ms
        self._as_of_ms = as_of_ms
        self._rows_max = rows_max
        self._write_seconds = write_seconds

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/export",
                handler=self._export,
                summary="Entries as CSV, JSON Lines or Parquet",
                parameters=(_FORMAT, _FROM, TO, _AS_OF, time_zone(), *FILTERS),
                media=tuple(found.content_type for found in FILE_TYPES.values()),
                tag="export",
            ),
        )

    async def _export(self, call: ApiCall) -> web.StreamResponse:
        values = call.values
        organizations = await self._organizations(call)
        await self._scopes.check_credentials(organizations, values["credential"])
        await self._scopes.check_capabilities(organizations, values["capability"])
        format_ = Format(values["format"])
        selection = self._selection(values, organizations)
        encoder = _encoder(format_)
        with self._slots.taken():
            await self._check_size(selection)
            return await self._stream(call.request, selection, encoder, format_)

    async def _organizations(self, call: ApiCall) -> list[Organization]:
        """The named organizations, which must all have a plan with export; else all visible ones that do."""
        named = call.values[ORG.name]
        organizations = await self._scopes.of_history(call.access, named, orgs_max=ORGS_MAX)
        may = [organization for organization in organizations if organization.plan.export]
        for organization in organizations:
            if named or not may:
                check_plan(organization)
        return may

    def _selection(self, values: Mapping[str, Any], organizations: Sequence[Organization]) -> Selection:
        zone, now = zone_of(values, organizations), self._now_ms()
        start, end = at_ms("from", values["from"], zone, default=now), at_ms("to", values["to"], zone, default=now)
        check_range(start, end, zone, days_max=RANGE_DAYS_MAX)
        return Selection(
            scopes=self._scopes.history(organizations),
            from_ms=start,
            to_ms=end,
            as_of_ms=min(at_ms("as_of", values["as_of"], zone, default=now), self._as_of_ms()),
            filters=filters(values, _FILTERS),
        )

    async def _check_size(self, selection: Selection) -> None:
        if await count_entries(self._database, selection, at_most=self._rows_max) > self._rows_max:
            raise ApiError(
                status=400,
                code="export_too_large",
                message=f"more than {self._rows_max} rows: ask for a shorter range, fewer organizations, or by filters",
            )

    async def _stream(self, request: web.Request, selection: Selection, encoder: Encoder, format_: Format) -> web.StreamResponse:
        """Stream the file. A later failure cuts the connection: without the last chunk, no client considers the file complete."""
        file_type = FILE_TYPES[format_]
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: file_type.content_type,
                hdrs.CONTENT_DISPOSITION: f'attachment; filename="{_file_name(selection)}.{file_type.suffix}"',
                AS_OF_HEADER: millisecond_text(selection.as_of_ms),
                **_history_headers(selection),
            }
        )
        await response.prepare(request)
        rows = 0
        try:
            async with aclosing(export_pieces(self._database, selection, encoder)) as pieces:
                async for piece in pieces:
                    rows += piece.rows
                    if piece.data:
                        async with asyncio.timeout(self._write_seconds):
                            await response.write(piece.data)
            async with asyncio.timeout(self._write_seconds):
                await response.write_eof()
        except (LedgerUnavailableError, TimeoutError, ConnectionError) as error:
            _cut(request)
            reason = str(error) or type(error).__name__
            _LOG.warning("an export was cut off", extra={"fields": {"rows": rows, "reason": reason}})
        except BaseException:
            _cut(request)
            raise
        return response


def _encoder(format_: Format) -> Encoder:
    try:
        return encoder_of(format_)
    except FormatUnavailableError as error:
        raise ApiError(status=501, code="format_unavailable", message=str(error), param=_FORMAT.name) from error


def _history_headers(selection: Selection) -> dict[str, str]:
    """Where history begins, and whether that leaves something of the range out."""
    begins = history_from_ms(selection.scopes)
    if not begins:
        return {}
    return {HISTORY_HEADER: millisecond_text(begins), WHOLE_HEADER: "true" if begins <= selection.from_ms else "false"}


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _file_name(selection: Selection) -> str:
    """The name of the file, with days in UTC; ids of organizations are plain ASCII."""
    who = selection.scopes[0].org if len(selection.scopes) == 1 else "usage"
    return f"{who}_{millisecond_text(selection.from_ms)[:10]}_{millisecond_text(selection.to_ms - 1)[:10]}"

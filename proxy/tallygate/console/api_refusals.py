"""GET /api/refusals: the log of refused requests, page after page."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import msgspec

from tallygate.console.api_cursor import question_of, seal, unseal
from tallygate.console.api_errors import invalid_parameter
from tallygate.console.api_events import CLIENT_REQUEST_ID
from tallygate.console.api_history import Dated, dated
from tallygate.console.api_parameters import choice, choices, integer, texts
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import CAPABILITY, CREDENTIAL, ORG, Scopes
from tallygate.console.api_times import at_ms, check_range, instant, read_position, time_zone
from tallygate.console.api_usage import CURSOR, ENDPOINT, TO, zone_of
from tallygate.domain.calendar_months import day_start_ms, local_date
from tallygate.domain.errors import ErrorCode
from tallygate.domain.instants import instant_text
from tallygate.domain.money import usd_text
from tallygate.domain.refused_request import RefusedRequest
from tallygate.ledger.refused_requests import DAYS_KEPT, RefusalsQuery, RefusedRequests
from tallygate.ledger.usage_queries import PAGE_MAX

LINES_DEFAULT: Final = 100
_FROM: Final = instant("from", f"Beginning of the range, inclusive. Default: {DAYS_KEPT} days before `to`: all that is kept.")
_ORDER: Final = choice("order", "newest or oldest first.", ["desc", "asc"], default="desc")
_LIMIT: Final = integer("limit", "Lines of a page.", least=1, most=PAGE_MAX, default=LINES_DEFAULT)
REFUSED_BY: Final = texts("refused_by", "Limits that refused, by name, or error codes where it was none.")
_FILTERS: Final = (
    CREDENTIAL,
    CAPABILITY,
    texts("model", "Models that were asked for."),
    ENDPOINT,
    integer("status", "HTTP statuses.", least=400, most=599, is_list=True),
    choices("code", "Error codes.", [*ErrorCode]),
    REFUSED_BY,
    texts("request_id", "The `x-request-id` of answers."),
    CLIENT_REQUEST_ID,
)


class RefusalLine(msgspec.Struct, frozen=True, kw_only=True):
    """One refused request; or, where `more` is above 0, so many further ones of the minute that begins at `time`.

    Of further ones only the labels are known: organization, credential, capability, status, code and limit.

    refused_by   the name of the limit; the code where it was none
    spent_usd, held_usd, needed_usd, limit_usd   of a spend limit, when it refused: they state why there was no room
    quantity     what a rate limit counts; rate_limit: how many of a window of rate_window_ms, or open at once where that is 0
    resets_at    when the same request could be served, by its answer; null where waiting does not help
    waits_for    what has to end for that, where its end is not known: then `resets_at` is only when to try again
    """

    id: str
    time: str
    time_ms: int
    more: int
    org: str
    credential: str
    capability: str
    endpoint: str | None
    method: str | None
    model: str | None
    status: int
    code: str
    refused_by: str
    message: str
    param: str | None
    request_id: str | None
    client_request_id: str | None
    spent_nano_usd: int | None
    spent_usd: str | None
    held_nano_usd: int | None
    held_usd: str | None
    needed_nano_usd: int | None
    needed_usd: str | None
    limit_nano_usd: int | None
    limit_usd: str | None
    quantity: str | None
    rate_limit: int | None
    rate_window_ms: int | None
    rate_remaining: int | None
    resets_at: str | None
    waits_for: str | None


_SAME: Final = tuple(name for name in RefusedRequest.__struct_fields__ if name in RefusalLine.__struct_fields__)


class RefusalsAnswer(Dated, frozen=True, kw_only=True):
    refusals: list[RefusalLine]
    next_cursor: str | None


class RefusalsApi:
    """The endpoint. now_ms: Unix time, the default end of a range."""

    def __init__(self, *, scopes: Scopes, log: RefusedRequests, now_ms: Callable[[], int]) -> None:
        self._scopes = scopes
        self._log = log
        self._now_ms = now_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/refusals",
                handler=self._refusals,
                summary="Refused requests, one by one: a sample, in which a line may stand for many",
                parameters=(_FROM, TO, time_zone(), ORG, *_FILTERS, _ORDER, _LIMIT, CURSOR),
                answer=RefusalsAnswer,
            ),
        )

    async def _refusals(self, call: ApiCall) -> RefusalsAnswer:
        values = call.values
        organizations = await self._scopes.of_history(call.access, values["org"])
        await self._scopes.check_credentials(organizations, values["credential"])
        await self._scopes.check_capabilities(organizations, values["capability"])
        zone = zone_of(values, organizations)
        question = question_of("/api/refusals", values)
        after = None
        if values["cursor"] is None:
            end = at_ms("to", values["to"], zone, default=self._now_ms() + 1)
            first_day = local_date(end, zone) - timedelta(days=DAYS_KEPT)
            start = at_ms("from", values["from"], zone, default=day_start_ms(first_day, zone))
            check_range(start, end, zone)
        else:
            start, end, after = _position(unseal("cursor", values["cursor"], question))
        limit = values["limit"]
        query = RefusalsQuery(
            scopes=self._scopes.history(organizations),
            from_ms=start,
            to_ms=end,
            filters={one.name: values[one.name] for one in _FILTERS if values[one.name]},
            after=after,
            limit=limit + 1,
            newest_first=values["order"] == "desc",
        )
        found = await self._log.page(query)
        last = found[limit - 1] if len(found) > limit else None
        return RefusalsAnswer(
            **dated(organizations, query.scopes, start, as_of_ms=self._now_ms(), zone=zone),
            refusals=[_line(one, zone) for one in found[:limit]],
            next_cursor=None if last is None else seal(f"{start} {end} {last.at_ms} {last.id}", question),
        )


def _position(position: str) -> tuple[int, int, tuple[int, str]]:
    """The range, and the line before the page. Raises ApiError."""
    begin, _, rest = position.partition(" ")
    end, _, last = rest.partition(" ")
    at, _, id_ = last.partition(" ")
    _, start_ms, end_ms = read_position("cursor", f"{begin} {begin} {end}", grain_ms=1)
    if not at.isdecimal() or not start_ms <= int(at) < end_ms:
        raise invalid_parameter("cursor", "is not a cursor that an earlier page gave")
    return start_ms, end_ms, (int(at), id_)


def _line(found: RefusedRequest, zone: str) -> RefusalLine:
    made: dict[str, Any] = {name: getattr(found, name) for name in _SAME}
    for name in ("spent", "held", "needed", "limit"):
        amount = getattr(found, f"{name}_nano_usd")
        made[f"{name}_usd"] = None if amount is None else usd_text(amount)
    return RefusalLine(
        **made,
        time=instant_text(found.at_ms, zone),
        time_ms=found.at_ms,
        resets_at=None if found.resets_at_ms is None else instant_text(found.resets_at_ms, zone),
    )

"""GET /api/notices: notices of spend limits and weekly digests, and the deliveries of each."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from tallygate.config.webhook_endpoint import DIGEST, NOTICE_TYPES
from tallygate.console.api_cursor import question_of, seal, unseal
from tallygate.console.api_errors import invalid_parameter
from tallygate.console.api_parameters import choices, integer
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import ORG, Scopes
from tallygate.console.api_times import (
    at_ms,
    check_range,
    instant,
    read_position,
    time_zone,
)
from tallygate.console.api_usage import CURSOR, TO, zone_of
from tallygate.domain.calendar_months import day_start_ms, local_date
from tallygate.domain.instants import instant_text
from tallygate.domain.money import usd_text
from tallygate.ledger.notices.deliveries import Deliveries, Delivery
from tallygate.ledger.notices.digest import DigestNotice
from tallygate.ledger.notices.digest_data import DigestData, digest_data
from tallygate.ledger.notices.notice import WORD_CHARS_MAX, Notice
from tallygate.ledger.notices.pages import NoticePages, NoticesQuery
from tallygate.ledger.notices.record import DeliveryState

NOTICES_DEFAULT: Final = 100
NOTICES_MAX: Final = 1_000  # of one page
DAYS_DEFAULT: Final = 30  # as long as notices are kept
_FROM: Final = instant("from", f"Beginning of the range, inclusive. Default: {DAYS_DEFAULT} days before `to`.")
_TYPE: Final = choices("type", "Types of notices. Default: all.", NOTICE_TYPES)
_LIMIT: Final = integer("limit", "Notices of a page.", least=1, most=NOTICES_MAX, default=NOTICES_DEFAULT)


class DeliveryLine(msgspec.Struct, frozen=True, kw_only=True):
    """state: waiting, delivered, given_up. next_attempt_at: while it waits. last_status: of the last answer, if there was one."""

    endpoint: str
    state: str
    attempts: int
    last_status: int | None
    next_attempt_at: str | None
    delivered_at: str | None


class NoticeLine(msgspec.Struct, frozen=True, kw_only=True):
    """type: spend.warning, spend.paused, spend.resumed, usage.digest. limit: the spend window. Fields that do not apply are null.

    digest       of a week, as receivers get it; spent is the spend of that week
    deliveries   to the endpoints that webhooks.yaml named when the notice was stored
    """

    event_id: str
    type: str
    at: str
    at_ms: int
    org: str
    limit: str | None = None
    threshold_permille: int | None = None
    spent_nano_usd: int
    spent_usd: str
    held_nano_usd: int | None = None
    held_usd: str | None = None
    limit_nano_usd: int | None = None
    limit_usd: str | None = None
    refused_nano_usd: int | None = None
    resumes_at: str | None = None
    digest: DigestData | None = None
    deliveries: list[DeliveryLine]


class NoticesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    notices: list[NoticeLine]
    next_cursor: str | None


class NoticesApi:
    def __init__(self, *, scopes: Scopes, pages: NoticePages, deliveries: Deliveries, now_ms: Callable[[], int]) -> None:
        self._scopes = scopes
        self._pages = pages
        self._deliveries = deliveries
        self._now_ms = now_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/notices",
                handler=self._notices,
                summary="Spend warnings, pauses, resumes and weekly digests, newest first",
                parameters=(_FROM, TO, time_zone(), ORG, _TYPE, _LIMIT, CURSOR),
                answer=NoticesAnswer,
            ),
        )

    async def _notices(self, call: ApiCall) -> NoticesAnswer:
        values = call.values
        organizations = await self._scopes.of_history(call.access, values["org"])
        zone = zone_of(values, organizations)
        question = question_of("/api/notices", values)
        after: tuple[int, str] | None = None
        if values["cursor"] is None:
            end = at_ms("to", values["to"], zone, default=self._now_ms() + 1)
            first_day = local_date(end, zone) - timedelta(days=DAYS_DEFAULT)
            start = at_ms("from", values["from"], zone, default=day_start_ms(first_day, zone))
            check_range(start, end, zone)
        else:
            start, end, after = _position(unseal("cursor", values["cursor"], question))
        limit = values["limit"]
        query = NoticesQuery(
            orgs=[organization.id for organization in organizations],
            types=values["type"],
            from_ms=start,
            to_ms=end,
            after=after,
            limit=limit,
        )
        found = await self._pages.page(query)
        deliveries = await self._deliveries.of_notices([notice.event_id for notice in found])
        last = found[-1] if len(found) == limit else None
        return NoticesAnswer(
            notices=[_line(notice, deliveries[notice.event_id], zone) for notice in found],
            next_cursor=None if last is None else seal(f"{start} {end} {last.at_ms} {last.event_id}", question),
        )


def _position(position: str) -> tuple[int, int, tuple[int, str]]:
    """The range, and the end of the previous page. Raises ApiError."""
    words = position.split(" ")
    if len(words) != 4 or not 0 < len(words[3]) <= WORD_CHARS_MAX:
        raise invalid_parameter("cursor", "is not a cursor that an earlier page gave")
    start, end, at, event_id = words
    _, start_ms, end_ms = read_position("cursor", f"{start} {start} {end}", grain_ms=1)
    last_ms, _, _ = read_position("cursor", f"{at} {start} {end}", grain_ms=1)
    return start_ms, end_ms, (last_ms, event_id)


def _line(notice: Notice | DigestNotice, deliveries: Sequence[Delivery], zone: str) -> NoticeLine:
    sent = [_delivery_line(delivery, zone) for delivery in deliveries]
    at = instant_text(notice.at_ms, zone)
    if isinstance(notice, DigestNotice):
        spent = notice.digest.week.spent_nano_usd
        return NoticeLine(
            event_id=notice.event_id,
            type=DIGEST,
            at=at,
            at_ms=notice.at_ms,
            org=notice.org,
            spent_nano_usd=spent,
            spent_usd=usd_text(spent),
            digest=digest_data(notice.org, notice.digest),
            deliveries=sent,
        )
    same: dict[str, Any] = {name: getattr(notice, name) for name in _SAME_FIELDS}
    return NoticeLine(
        **same,
        type=notice.type.value,
        at=at,
        limit=notice.limit_key,
        spent_usd=usd_text(notice.spent_nano_usd),
        held_usd=usd_text(notice.held_nano_usd),
        limit_usd=usd_text(notice.limit_nano_usd),
        resumes_at=None if notice.resumes_at_ms is None else instant_text(notice.resumes_at_ms, zone),
        deliveries=sent,
    )


_MADE_FIELDS: Final = {"type", "at", "limit", "spent_usd", "held_usd", "limit_usd", "resumes_at", "digest", "deliveries"}
_SAME_FIELDS: Final = tuple(name for name in NoticeLine.__struct_fields__ if name not in _MADE_FIELDS)


def _delivery_line(delivery: Delivery, zone: str) -> DeliveryLine:
    is_waiting, is_delivered = delivery.state is DeliveryState.WAITING, delivery.state is DeliveryState.DELIVERED
    ended = delivery.ended_at_ms
    return DeliveryLine(
        endpoint=delivery.endpoint,
        state=delivery.state.value,
        attempts=delivery.attempts,
        last_status=delivery.last_status,
        next_attempt_at=instant_text(delivery.due_at_ms, zone) if is_waiting else None,
        delivered_at=instant_text(ended, zone) if is_delivered and ended is not None else None,
    )

"""GET /api/usage: requests, tokens and cost by any dimension, in buckets of any time zone."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from tallygate.console.api_cursor import CURSOR_CHARS_MAX, question_of, seal, unseal
from tallygate.console.api_errors import ApiError, invalid_parameter
from tallygate.console.api_parameters import Parameter, choice, choices, integer, text, texts
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import CAPABILITY, CREDENTIAL, ORG, Scopes, filters
from tallygate.console.api_times import (
    BUCKETS_MAX,
    at_ms,
    check_range,
    instant,
    local_date,
    read_position,
    time_zone,
    widened,
)
from tallygate.console.usage_pages import BucketUsage, UsagePages, buckets_at_most, cut_edges, edges_of
from tallygate.domain.calendar_months import day_start_ms
from tallygate.domain.instants import instant_text
from tallygate.domain.money import usd_text
from tallygate.domain.organization import Organization
from tallygate.ledger.time_buckets import Bucket
from tallygate.ledger.usage_queries import Dimension, QueryTooLargeError, Usage, UsageQuery

ROWS_DEFAULT: Final = 1_000
ROWS_MAX: Final = 2_000
DAYS_DEFAULT: Final = 30
TOTAL: Final = "total"

MODEL: Final = texts("model", "Models: the one that answered, else the one asked for.")
ENDPOINT: Final = texts("endpoint", "Endpoints, as their route spells them: /v1/chat/completions.")
STATUS: Final = integer("status", "HTTP statuses.", least=0, most=999, is_list=True)
OUTCOME: Final = texts("outcome", "How exchanges ended: success, client_gone, refused ...")
FILTERS: Final[Mapping[Parameter, Dimension]] = {
    ORG: Dimension.ORG,
    CREDENTIAL: Dimension.CREDENTIAL,
    CAPABILITY: Dimension.CAPABILITY,
    MODEL: Dimension.MODEL,
    ENDPOINT: Dimension.ENDPOINT,
    STATUS: Dimension.STATUS,
    OUTCOME: Dimension.OUTCOME,
}
FROM: Final = instant("from", f"Beginning of the range, inclusive. Default: {DAYS_DEFAULT} days before `to`.")
TO: Final = instant("to", "End of the range, exclusive. Default: now.")
_BUCKET: Final = choice("bucket", "How the range is divided; weeks begin on Monday.", [*Bucket, TOTAL], default=Bucket.DAY.value)
_GROUP_BY: Final = choices(
    "group_by",
    "Dimensions that rows are divided by, each once: group_by=org&group_by=model, or group_by=org,model.",
    [*Dimension],
    is_set=True,
)
_LIMIT: Final = integer(
    "limit",
    "Rows of a page. A page holds whole buckets, so it may have fewer, and has more if one bucket does. Short buckets of many "
    "organizations make shorter pages.",
    least=1,
    most=ROWS_MAX,
    default=ROWS_DEFAULT,
)
CURSOR: Final = text("cursor", "`next_cursor` of the page before.", chars_max=CURSOR_CHARS_MAX)


class UsageSums(msgspec.Struct, frozen=True, kw_only=True):
    """cached and cache_write are parts of prompt, reasoning of completion; refused requests are not among `requests`."""

    requests: int
    refused: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_nano_usd: int
    cost_usd: str


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket, cut to the range, and one group: dimension to label. What had no usage has no line."""

    start: str
    end: str
    start_ms: int
    end_ms: int
    group: dict[str, str]
    usage: UsageSums


class UsageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """start and end are what was answered for: the range asked for, widened to whole quarters of an hour.

    totals   of the whole range, on every page
    """

    start: str
    end: str
    bucket: str
    time_zone: str
    group_by: list[str]
    totals: UsageSums
    rows: list[UsageLine]
    next_cursor: str | None


class UsageApi:
    """The usage endpoint. now_ms: Unix time, the default end of a range."""

    def __init__(self, *, scopes: Scopes, pages: UsagePages, now_ms: Callable[[], int]) -> None:
        self._scopes = scopes
        self._pages = pages
        self._now_ms = now_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/usage",
                handler=self._usage,
                summary="Requests, tokens and cost over time",
                parameters=(FROM, TO, _BUCKET, time_zone(), *FILTERS, _GROUP_BY, _LIMIT, CURSOR),
                answer=UsageAnswer,
            ),
        )

    async def _usage(self, call: ApiCall) -> UsageAnswer:
        values = call.values
        organizations = self._scopes.asked(call.access, values["org"])
        await self._scopes.check_credentials(organizations, values["credential"])
        await self._scopes.check_capabilities(organizations, values["capability"])
        zone = zone_of(values, organizations)
        question = question_of("/api/usage", values)
        if values["cursor"] is None:
            start, end = range_of(values, zone, self._now_ms())
            begin = start
        else:  # keep the range of the first page: one that ended "now" would have moved
            begin, start, end = read_position("cursor", unseal("cursor", values["cursor"], question))
        bucket = None if values["bucket"] == TOTAL else Bucket(values["bucket"])
        if buckets_at_most(start, end, bucket) > BUCKETS_MAX:
            raise invalid_parameter("bucket", f"the range would have more than {BUCKETS_MAX} buckets: ask for longer ones")
        query = UsageQuery(
            scopes=self._scopes.history(organizations),
            from_ms=start,
            to_ms=end,
            bucket=bucket,
            time_zone=zone,
            billing_day=organizations[0].billing_day if len(organizations) == 1 else 1,
            filters=filters(values, FILTERS),
            group_by=tuple(map(Dimension, values["group_by"])),
        )
        edges = cut_edges(edges_of(query), begin, end)
        try:
            totals = await self._pages.total(query)
            page = await self._pages.page(query, edges, buckets_max=BUCKETS_MAX, rows_max=values["limit"])
        except QueryTooLargeError as error:
            raise ApiError(status=400, code="answer_too_large", message=str(error), param="group_by") from error
        return UsageAnswer(
            start=instant_text(start, zone),
            end=instant_text(end, zone),
            bucket=values["bucket"],
            time_zone=zone,
            group_by=list(values["group_by"]),
            totals=sums_of(totals),
            rows=[line for of_bucket in page.buckets if of_bucket.rows for line in _lines(of_bucket, values["group_by"], zone)],
            next_cursor=None if page.next_ms is None else seal(f"{page.next_ms} {start} {end}", question),
        )


def _lines(bucket: BucketUsage, group_by: Sequence[str], zone: str) -> list[UsageLine]:
    start, end = instant_text(bucket.start_ms, zone), instant_text(bucket.end_ms, zone)
    return [
        UsageLine(
            start=start,
            end=end,
            start_ms=bucket.start_ms,
            end_ms=bucket.end_ms,
            group=dict(zip(group_by, row.group, strict=True)),
            usage=sums_of(row.usage),
        )
        for row in bucket.rows
    ]


def zone_of(values: Mapping[str, Any], organizations: Sequence[Organization]) -> str:
    """The requested zone, else that of the only organization in the query, else UTC."""
    if values["time_zone"] is not None:
        return str(values["time_zone"])
    return organizations[0].time_zone if len(organizations) == 1 else "UTC"


def range_of(values: Mapping[str, Any], zone: str, now_ms: int) -> tuple[int, int]:
    """`from` and `to` as whole quarters of an hour. Raises ApiError."""
    end = at_ms("to", values["to"], zone, default=now_ms)
    first_day = local_date(end, zone) - timedelta(days=DAYS_DEFAULT)
    start = at_ms("from", values["from"], zone, default=day_start_ms(first_day, zone))
    check_range(start, end, zone)
    return widened(start, end)


def sums_of(usage: Usage) -> UsageSums:
    return UsageSums(
        requests=usage.requests,
        refused=usage.refused,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_nano_usd=usage.cost_nano_usd,
        cost_usd=usd_text(usage.cost_nano_usd),
    )

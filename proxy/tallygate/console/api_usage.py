"""GET /api/usage: requests, tokens and cost by any dimension, in buckets of any time zone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import msgspec

from tallygate.console.api_cursor import CURSOR_CHARS_MAX, question_of, seal, unseal
from tallygate.console.api_errors import ApiError, invalid_parameter
from tallygate.console.api_history import Dated, dated
from tallygate.console.api_parameters import Parameter, choice, choices, integer, text, texts
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import CAPABILITY, CREDENTIAL, ORG, Scopes, filters
from tallygate.console.api_times import (
    BUCKETS_MAX,
    at_ms,
    check_range,
    instant,
    period_before,
    read_position,
    time_zone,
    widened,
)
from tallygate.console.usage_order import ORDERS, OTHERS, Ranking, UsageOrder, ranking_of
from tallygate.console.usage_pages import BucketUsage, UsagePage, UsagePages, buckets_at_most, cut_edges, edges_of, total_of
from tallygate.domain.calendar_months import day_start_ms, local_date
from tallygate.domain.instants import instant_text
from tallygate.domain.money import usd_text
from tallygate.domain.organization import Organization
from tallygate.ledger.history import Dimension, QueryTooLargeError, Usage, UsageQuery, UsageRow
from tallygate.ledger.time_buckets import Bucket

ROWS_DEFAULT: Final = 1_000
ROWS_MAX: Final = 2_000
DAYS_DEFAULT: Final = 30
TOTAL: Final = "total"
TOP_MAX: Final = 100
_OTHER: Final = "other"

MODEL: Final = texts("model", "Models: the one that answered, else the one asked for.")
ENDPOINT: Final = texts("endpoint", "Endpoints, as their route spells them: /v1/chat/completions.")
STATUS: Final = integer("status", "HTTP statuses.", least=0, most=999, is_list=True)
OUTCOME: Final = texts("outcome", "How exchanges ended: success, client_gone, refused ...")
_REFUSED_BY: Final = texts("refused_by", "What refused requests: a limit's name, or an error code. Selects refused requests alone.")
FILTERS: Final[Mapping[Parameter, Dimension]] = {
    ORG: Dimension.ORG,
    CREDENTIAL: Dimension.CREDENTIAL,
    CAPABILITY: Dimension.CAPABILITY,
    MODEL: Dimension.MODEL,
    ENDPOINT: Dimension.ENDPOINT,
    STATUS: Dimension.STATUS,
    OUTCOME: Dimension.OUTCOME,
}
USAGE_FILTERS: Final = {**FILTERS, _REFUSED_BY: Dimension.REFUSED_BY}  # of sums: refused requests are no entries
FROM: Final = instant("from", f"Beginning of the range, inclusive. Default: {DAYS_DEFAULT} days before `to`.")
TO: Final = instant("to", "End of the range, exclusive. Default: now.")
_BUCKET: Final = choice("bucket", "How the range is divided; weeks begin on Monday.", [*Bucket, TOTAL], default=Bucket.DAY.value)
_GROUP_BY: Final = choices(
    "group_by",
    "Dimensions that rows are divided by, each once: group_by=org&group_by=model, or group_by=org,model.",
    [*Dimension],
    is_set=True,
)
_TOP: Final = integer(
    "top",
    "The first so many groups of the whole range, by `order_by`; all others are one row of each bucket, with `is_other`. "
    "Needs `group_by`.",
    least=1,
    most=TOP_MAX,
)
_ORDER_BY: Final = choice(
    "order_by",
    "The order of rows within a bucket, and of groups for `top`. Default: the group's labels; with `top`, cost.",
    ["group", *ORDERS],
)
_ORDER: Final = choice("order", "Its direction. Default: asc for labels, desc for amounts.", ["desc", "asc"])
_COMPARE: Final = choice("compare", "Add the totals of the period before, of the same length by the calendar.", ["previous"])
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
    """Refused requests are not among `requests`.

    cached_tokens, cache_write_tokens, audio_prompt_tokens, image_prompt_tokens  parts of prompt_tokens; a token may be in several
    reasoning_tokens, audio_completion_tokens, image_completion_tokens           parts of completion_tokens
    fee_nano_usd ... other_nano_usd   what cost_nano_usd was paid for: together they are it. other: what a provider stated as a
                                      whole, what was charged before anything was seen, and before the ledger kept kinds
    """

    requests: int
    refused: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    audio_prompt_tokens: int
    audio_completion_tokens: int
    image_prompt_tokens: int
    image_completion_tokens: int
    cost_nano_usd: int
    cost_usd: str
    fee_nano_usd: int
    input_nano_usd: int
    cache_read_nano_usd: int
    cache_write_nano_usd: int
    output_nano_usd: int
    media_nano_usd: int
    calls_nano_usd: int
    other_nano_usd: int


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket, cut to the range, and one group: dimension to label. What had no usage has no line.

    is_other   all groups that are not among the `top`, whose labels here are `other`; a group may have such labels of its own
    """

    start: str
    end: str
    start_ms: int
    end_ms: int
    group: dict[str, str]
    is_other: bool
    usage: UsageSums


class TopGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group over the whole range; of the one with `is_other`, as in rows."""

    group: dict[str, str]
    is_other: bool
    usage: UsageSums


class TopGroups(msgspec.Struct, frozen=True, kw_only=True):
    """groups: the first in order, then all others as one, if there are any; they make the totals. others: how many those are."""

    groups: list[TopGroup]
    others: int


class PreviousUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The period before, which ends where the range begins. is_whole: no organization's history begins later than it."""

    start: str
    end: str
    is_whole: bool
    totals: UsageSums


class UsageAnswer(Dated, frozen=True, kw_only=True):
    """start and end are what was answered for: the range asked for, widened to whole quarters of an hour.

    totals           of the whole range, on every page
    top, previous    null unless asked for; the same on every page
    """

    start: str
    end: str
    bucket: str
    time_zone: str
    group_by: list[str]
    totals: UsageSums
    top: TopGroups | None
    previous: PreviousUsage | None
    rows: list[UsageLine]
    next_cursor: str | None


class UsageApi:
    """The usage endpoint.

    now_ms     Unix time, the default end of a range
    as_of_ms   the instant of which what is read from then on has everything
    """

    def __init__(self, *, scopes: Scopes, pages: UsagePages, now_ms: Callable[[], int], as_of_ms: Callable[[], int]) -> None:
        self._scopes = scopes
        self._pages = pages
        self._now_ms = now_ms
        self._as_of_ms = as_of_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/api/usage",
                handler=self._usage,
                summary="Requests, tokens and cost over time",
                parameters=(
                    FROM,
                    TO,
                    _BUCKET,
                    time_zone(),
                    *USAGE_FILTERS,
                    _GROUP_BY,
                    _TOP,
                    _ORDER_BY,
                    _ORDER,
                    _COMPARE,
                    _LIMIT,
                    CURSOR,
                ),
                answer=UsageAnswer,
            ),
        )

    async def _usage(self, call: ApiCall) -> UsageAnswer:
        values, as_of_ms = call.values, self._as_of_ms()
        if values["top"] is not None and not values["group_by"]:
            raise invalid_parameter("top", "needs group_by: it chooses among groups")
        organizations = await self._scopes.of_history(call.access, values["org"])
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
            filters=filters(values, USAGE_FILTERS),
            group_by=tuple(map(Dimension, values["group_by"])),
        )
        edges = cut_edges(edges_of(query), begin, end)
        order, top = _order_of(values), values["top"]
        try:
            if top is None:
                ranking, page = None, await self._pages.page(query, edges, buckets_max=BUCKETS_MAX, rows_max=values["limit"])
            else:
                ranking, page = await self._ranked(query, edges, order, top, rows_max=values["limit"])
            totals = await self._total(query, page, is_first=begin == start) if ranking is None else ranking.total
            previous = await self._previous(query) if values["compare"] else None
        except QueryTooLargeError as error:
            raise ApiError(status=400, code="answer_too_large", message=str(error), param="group_by") from error
        return UsageAnswer(
            **dated(organizations, query.scopes, start, as_of_ms=as_of_ms, zone=zone),
            start=instant_text(start, zone),
            end=instant_text(end, zone),
            bucket=values["bucket"],
            time_zone=zone,
            group_by=list(values["group_by"]),
            totals=sums_of(totals),
            top=None if ranking is None else _top_of(ranking, values["group_by"]),
            previous=previous,
            rows=[
                line
                for of_bucket in page.buckets
                if of_bucket.rows
                for line in _lines(of_bucket, order.ordered(of_bucket.rows), values["group_by"], zone)
            ],
            next_cursor=None if page.next_ms is None else seal(f"{page.next_ms} {start} {end}", question),
        )

    async def _ranked(
        self, query: UsageQuery, edges: Sequence[int], order: UsageOrder, top: int, *, rows_max: int
    ) -> tuple[Ranking, UsagePage]:
        """The first groups of the whole range, and a page of them. What fits is read once; else sums first, then the page."""
        whole = await self._pages.whole(query, edges) if edges[0] == query.from_ms else None
        ranking = ranking_of(await self._pages.groups(query) if whole is None else whole.groups(), order, top)
        if whole is not None:
            return ranking, whole.folded(ranking.folded, rows_max)
        page = await self._pages.page(query, edges, buckets_max=BUCKETS_MAX, rows_max=rows_max, fold=ranking.folded)
        return ranking, page

    async def _total(self, query: UsageQuery, page: UsagePage, *, is_first: bool) -> Usage:
        """The sums of the whole range, which a page may have."""
        if is_first and page.next_ms is None:
            return total_of(row for bucket in page.buckets for row in bucket.rows)
        return await self._pages.total(query)

    async def _previous(self, query: UsageQuery) -> PreviousUsage:
        zone, end = query.time_zone, query.from_ms
        start = period_before(query.from_ms, query.to_ms, zone, query.billing_day)
        totals = await self._pages.total(replace(query, from_ms=start, to_ms=end))
        return PreviousUsage(
            start=instant_text(start, zone),
            end=instant_text(end, zone),
            is_whole=all(scope.visible_from_ms <= start for scope in query.scopes),
            totals=sums_of(totals),
        )


def _order_of(values: Mapping[str, Any]) -> UsageOrder:
    by = values["order_by"] or ("cost" if values["top"] is not None else "group")
    if by == "group":
        return UsageOrder(by=None, is_descending=values["order"] == "desc")
    return UsageOrder(by=by, is_descending=values["order"] != "asc")


def _top_of(ranking: Ranking, group_by: Sequence[str]) -> TopGroups:
    groups = [TopGroup(**_named(group_by, row.group), usage=sums_of(row.usage)) for row in ranking.rows]
    return TopGroups(groups=groups, others=ranking.others)


def _named(group_by: Sequence[str], group: Sequence[str]) -> dict[str, Any]:
    is_other = group == OTHERS and bool(group_by)
    labels = [_OTHER] * len(group_by) if is_other else group
    return {"group": dict(zip(group_by, labels, strict=True)), "is_other": is_other}


def _lines(bucket: BucketUsage, rows: Sequence[UsageRow], group_by: Sequence[str], zone: str) -> list[UsageLine]:
    start, end = instant_text(bucket.start_ms, zone), instant_text(bucket.end_ms, zone)
    return [
        UsageLine(
            start=start,
            end=end,
            start_ms=bucket.start_ms,
            end_ms=bucket.end_ms,
            **_named(group_by, row.group),
            usage=sums_of(row.usage),
        )
        for row in rows
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
        audio_prompt_tokens=usage.audio_prompt_tokens,
        audio_completion_tokens=usage.audio_completion_tokens,
        image_prompt_tokens=usage.image_prompt_tokens,
        image_completion_tokens=usage.image_completion_tokens,
        cost_nano_usd=usage.cost_nano_usd,
        cost_usd=usd_text(usage.cost_nano_usd),
        fee_nano_usd=usage.fee_nano_usd,
        input_nano_usd=usage.input_nano_usd,
        cache_read_nano_usd=usage.cache_read_nano_usd,
        cache_write_nano_usd=usage.cache_write_nano_usd,
        output_nano_usd=usage.output_nano_usd,
        media_nano_usd=usage.media_nano_usd,
        calls_nano_usd=usage.calls_nano_usd,
        other_nano_usd=usage.other_nano_usd,
    )

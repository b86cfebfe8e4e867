"""GET /v1/organization/usage/completions, in OpenAI's shape, for clients that read OpenAI's usage."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec

from tallygate.config.model import Route
from tallygate.console.api_cursor import question_of
from tallygate.console.api_errors import ApiError
from tallygate.console.api_parameters import choice, choices, texts
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import ORGS_MAX, Scopes, filters
from tallygate.console.openai_pages import (
    API_KEY_IDS,
    END_TIME,
    PAGE,
    PROJECT_IDS,
    START_TIME,
    BucketWidth,
    PageOfBuckets,
    limit_parameter,
    page_asked,
    page_token,
)
from tallygate.console.usage_pages import BucketUsage, UsagePage, UsagePages, added
from tallygate.dialects.registry import dialects
from tallygate.domain.organization import Organization
from tallygate.ledger.minute_queries import MINUTE_MS, MinuteQueries
from tallygate.ledger.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, Bucket
from tallygate.ledger.usage_queries import Dimension, QueryTooLargeError, Usage, UsageQuery, UsageRow

RESULTS_MAX: Final = 5_000  # of one page, which ends before the bucket that would exceed it
MINUTE_ORGS_MAX: Final = 200  # of one query for minutes, which reads the entries of each
_WIDTHS: Final = {
    "1m": BucketWidth(length_ms=MINUTE_MS, buckets_default=60, buckets_max=1440, grain_ms=MINUTE_MS),
    "1h": BucketWidth(length_ms=HOUR_MS, buckets_default=24, buckets_max=168, grain_ms=QUARTER_MS),
    "1d": BucketWidth(length_ms=DAY_MS, buckets_default=7, buckets_max=31, grain_ms=QUARTER_MS),
}
_GROUPS: Final = {"project_id": Dimension.ORG, "api_key_id": Dimension.CREDENTIAL, "model": Dimension.MODEL}

_MODELS: Final = texts("models", "Models.")
_USER_IDS: Final = texts("user_ids", "Usage is not kept by user: any value matches nothing.")
_BATCH: Final = choice("batch", "Whether usage is that of requests in batches.", ["true", "false"])
_BATCHES: Final = "batches"  # the capability of their results
_BUCKET_WIDTH: Final = choice("bucket_width", "Width of a bucket, in UTC.", _WIDTHS, default="1d")
_GROUP_BY: Final = choices(
    "group_by",
    "What results are divided by. Usage is not kept by user_id, service_tier and api_source.",
    ["project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source"],
)
_LIMIT: Final = limit_parameter(1440, "Buckets of a page. 1d: 7 by default, at most 31; 1h: 24, 168; 1m: 60, 1440.")


class CompletionsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Dimensions that were not grouped by are null."""

    object: Literal["organization.usage.completions.result"] = "organization.usage.completions.result"
    input_tokens: int
    input_cached_tokens: int
    input_cache_write_tokens: int
    input_uncached_tokens: int
    output_tokens: int
    num_model_requests: int
    project_id: str | None
    user_id: str | None = None
    api_key_id: str | None
    model: str | None
    batch: bool | None
    service_tier: str | None = None
    api_source: str | None


class CompletionsBucket(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[CompletionsResult]


class CompletionsPage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["page"] = "page"
    data: list[CompletionsBucket]
    has_more: bool
    next_page: str | None


class OpenAiUsageApi:
    """OpenAI's usage endpoint. routes_in_force: show which endpoints generate nothing; a removed endpoint counts as completions."""

    def __init__(
        self,
        *,
        scopes: Scopes,
        pages: UsagePages,
        minutes: MinuteQueries,
        routes_in_force: Callable[[], Iterable[Route]],
        now_ms: Callable[[], int],
    ) -> None:
        self._scopes = scopes
        self._pages = pages
        self._minutes = minutes
        self._routes = routes_in_force
        self._completing = {dialect.name for dialect in dialects().values() if dialect.generates}
        self._now_ms = now_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/v1/organization/usage/completions",
                handler=self._completions,
                summary="Usage of completions, in OpenAI's shape",
                parameters=(
                    START_TIME,
                    END_TIME,
                    _BUCKET_WIDTH,
                    PROJECT_IDS,
                    _USER_IDS,
                    API_KEY_IDS,
                    _MODELS,
                    _BATCH,
                    _GROUP_BY,
                    _LIMIT,
                    PAGE,
                ),
                answer=CompletionsPage,
                tag="openai",
            ),
        )

    async def _completions(self, call: ApiCall) -> CompletionsPage:
        values = call.values
        is_minutes = values["bucket_width"] == "1m"
        organizations = self._scopes.asked(
            call.access, values["project_ids"], param="project_ids", orgs_max=MINUTE_ORGS_MAX if is_minutes else ORGS_MAX
        )
        await self._scopes.check_credentials(organizations, values["api_key_ids"], param="api_key_ids")
        question = question_of("completions", values)
        asked = page_asked(values, _WIDTHS[values["bucket_width"]], question, self._now_ms())
        query = self._query(values, organizations, asked)
        try:
            page = await self._minute_page(query, asked) if is_minutes else await self._page(query, asked)
        except QueryTooLargeError as error:
            raise ApiError(status=400, code="answer_too_large", message=str(error), param="group_by") from error
        skipped = self._endpoints_without_completions()
        token = page_token(page.next_ms, asked, question)
        return CompletionsPage(
            data=[
                CompletionsBucket(
                    start_time=bucket.start_ms // 1000,
                    end_time=bucket.end_ms // 1000,
                    results=[_result(values["group_by"], group, usage) for group, usage in _merged(bucket.rows, skipped, values)],
                )
                for bucket in page.buckets
            ],
            has_more=token is not None,
            next_page=token,
        )

    def _query(self, values: Any, organizations: Sequence[Organization], asked: PageOfBuckets) -> UsageQuery:
        return UsageQuery(
            scopes=() if values["user_ids"] else self._scopes.history(organizations),
            from_ms=asked.edges[0],
            to_ms=asked.edges[-1],
            bucket=Bucket.HOUR if values["bucket_width"] == "1h" else Bucket.DAY,
            filters=filters(values, {API_KEY_IDS: Dimension.CREDENTIAL, _MODELS: Dimension.MODEL}),
            group_by=(
                *(_GROUPS[name] for name in _GROUPS if name in values["group_by"]),
                Dimension.ENDPOINT,
                Dimension.CAPABILITY,
            ),
        )

    async def _page(self, query: UsageQuery, asked: PageOfBuckets) -> UsagePage:
        return await self._pages.page(query, asked.edges, buckets_max=len(asked.edges), rows_max=RESULTS_MAX)

    async def _minute_page(self, query: UsageQuery, asked: PageOfBuckets) -> UsagePage:
        by_start: dict[int, list[UsageRow]] = {}
        for row in await self._minutes.usage(replace(query, bucket=None)):
            by_start.setdefault(row.start_ms, []).append(row)
        buckets: list[BucketUsage] = []
        left = RESULTS_MAX
        for start, end in pairwise(asked.edges):
            rows = tuple(by_start.get(start, ()))
            if buckets and len(rows) > left:
                return UsagePage(buckets=tuple(buckets), next_ms=start)
            left -= len(rows)
            buckets.append(BucketUsage(start_ms=start, end_ms=end, rows=rows))
        return UsagePage(buckets=tuple(buckets), next_ms=None)

    def _endpoints_without_completions(self) -> frozenset[str]:
        routes = tuple(self._routes())
        completing = {route.endpoint for route in routes if route.dialect in self._completing}
        return frozenset(route.endpoint for route in routes) - completing


def _merged(rows: Iterable[UsageRow], skipped: frozenset[str], values: Any) -> list[tuple[tuple[str, ...], Usage]]:
    """Sums by the requested groups, and last whether they are of batches, "" if that was not asked.

    The endpoint and the capability, which come last in rows, only decide what counts, and as what.
    """
    sums: dict[tuple[str, ...], Usage] = {}
    for row in rows:
        *group, endpoint, capability = row.group
        is_batch = "true" if capability == _BATCHES else "false"
        if values["batch"] not in (None, is_batch):
            continue
        if endpoint in skipped or not (row.usage.requests or row.usage.prompt_tokens or row.usage.completion_tokens):
            continue  # refused requests have no endpoint, and reached no model
        key = (*group, is_batch if "batch" in values["group_by"] else "")
        sums[key] = added(sums[key], row.usage) if key in sums else row.usage
    return sorted(sums.items(), key=lambda item: item[0])


def _result(group_by: Sequence[str], group: Sequence[str], usage: Usage) -> CompletionsResult:
    named = dict(zip((name for name in _GROUPS if name in group_by), group[:-1], strict=True))
    return CompletionsResult(
        input_tokens=usage.prompt_tokens,
        input_cached_tokens=usage.cached_tokens,
        input_cache_write_tokens=usage.cache_write_tokens,
        input_uncached_tokens=usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens,
        output_tokens=usage.completion_tokens,
        num_model_requests=usage.requests,
        project_id=named.get("project_id"),
        api_key_id=named.get("api_key_id"),
        model=named.get("model"),
        batch=group[-1] == "true" if "batch" in group_by else None,
        api_source="unlabeled" if "api_source" in group_by else None,
    )

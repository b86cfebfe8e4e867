"""GET /v1/organization/usage/completions, embeddings and moderations, in OpenAI's shape, for clients that read OpenAI's usage."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec

from tallygate.config.model import Route
from tallygate.console.api_cursor import question_of
from tallygate.console.api_errors import ApiError
from tallygate.console.api_parameters import Parameter, choice, choices, texts
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
from tallygate.ledger.history import Dimension, QueryTooLargeError, Usage, UsageQuery, UsageRow
from tallygate.ledger.minute_queries import MINUTE_MS, MinuteQueries
from tallygate.ledger.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, Bucket

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
_GROUP_BY_PLAIN: Final = choices(
    "group_by", "What results are divided by. Usage is not kept by user_id.", ["project_id", "user_id", "api_key_id", "model"]
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
    output_text_tokens: int
    output_audio_tokens: int
    output_image_tokens: int
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


class EmbeddingsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Dimensions that were not grouped by are null."""

    object: Literal["organization.usage.embeddings.result"] = "organization.usage.embeddings.result"
    input_tokens: int
    num_model_requests: int
    project_id: str | None
    user_id: str | None = None
    api_key_id: str | None
    model: str | None


class EmbeddingsBucket(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[EmbeddingsResult]


class EmbeddingsPage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["page"] = "page"
    data: list[EmbeddingsBucket]
    has_more: bool
    next_page: str | None


class ModerationsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Dimensions that were not grouped by are null."""

    object: Literal["organization.usage.moderations.result"] = "organization.usage.moderations.result"
    input_tokens: int
    num_model_requests: int
    project_id: str | None
    user_id: str | None = None
    api_key_id: str | None
    model: str | None


class ModerationsBucket(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[ModerationsResult]


class ModerationsPage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["page"] = "page"
    data: list[ModerationsBucket]
    has_more: bool
    next_page: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One of OpenAI's usage endpoints. name: in its path, and the capability of its requests, but for completions."""

    name: str
    page: type[Any]
    bucket: type[Any]
    result: Callable[[Sequence[str], Sequence[str], Usage], Any]
    parameters: tuple[Parameter, ...]


class OpenAiUsageApi:
    """OpenAI's usage endpoints.

    routes_in_force   show what an endpoint is for; of a removed one the capability does, else it counts as completions
    """

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
        return tuple(
            ApiRoute(
                method="GET",
                path=f"/v1/organization/usage/{kind.name}",
                handler=partial(self._usage, kind),
                summary=f"Usage of {kind.name}, in OpenAI's shape",
                parameters=(
                    START_TIME,
                    END_TIME,
                    _BUCKET_WIDTH,
                    PROJECT_IDS,
                    _USER_IDS,
                    API_KEY_IDS,
                    _MODELS,
                    *kind.parameters,
                    _LIMIT,
                    PAGE,
                ),
                answer=kind.page,
                tag="openai",
            )
            for kind in _KINDS
        )

    async def _usage(self, kind: _Kind, call: ApiCall) -> object:
        values = call.values
        is_minutes = values["bucket_width"] == "1m"
        organizations = await self._scopes.of_history(
            call.access, values["project_ids"], param="project_ids", orgs_max=MINUTE_ORGS_MAX if is_minutes else ORGS_MAX
        )
        await self._scopes.check_credentials(organizations, values["api_key_ids"], param="api_key_ids")
        question = question_of(kind.name, values)
        asked = page_asked(values, _WIDTHS[values["bucket_width"]], question, self._now_ms())
        query = self._query(values, organizations, asked)
        try:
            page = await self._minute_page(query, asked) if is_minutes else await self._page(query, asked)
        except QueryTooLargeError as error:
            raise ApiError(status=400, code="answer_too_large", message=str(error), param="group_by") from error
        counts = self._counts(kind)
        token = page_token(page.next_ms, asked, question)
        return kind.page(
            data=[
                kind.bucket(
                    start_time=bucket.start_ms // 1000,
                    end_time=bucket.end_ms // 1000,
                    results=[
                        kind.result(values["group_by"], group, usage) for group, usage in _merged(bucket.rows, counts, values)
                    ],
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

    def _counts(self, kind: _Kind) -> Callable[[str, str], bool]:
        """Return whether requests of an endpoint and a capability count. Results of batches have the endpoints of their lines."""
        routes = tuple(self._routes())
        if kind is _COMPLETIONS:
            completing = {route.endpoint for route in routes if route.dialect in self._completing}
            known, others = {route.endpoint for route in routes}, {kind.name for kind in _KINDS}
            return lambda endpoint, capability: endpoint in completing if endpoint in known else capability not in others
        endpoints = frozenset(route.endpoint for route in routes if route.capability == kind.name)
        return lambda endpoint, capability: capability == kind.name or endpoint in endpoints


def _merged(rows: Iterable[UsageRow], counts: Callable[[str, str], bool], values: Any) -> list[tuple[tuple[str, ...], Usage]]:
    """Sums by the requested groups, and last whether they are of batches, "" if that was not asked.

    The endpoint and the capability, which come last in rows, only decide what counts, and as what.
    """
    sums: dict[tuple[str, ...], Usage] = {}
    for row in rows:
        *group, endpoint, capability = row.group
        is_batch = "true" if capability == _BATCHES else "false"
        if values.get("batch") not in (None, is_batch):
            continue
        if not counts(endpoint, capability) or not (row.usage.requests or row.usage.prompt_tokens or row.usage.completion_tokens):
            continue  # refused requests have no endpoint, and reached no model
        key = (*group, is_batch if "batch" in values["group_by"] else "")
        sums[key] = added(sums[key], row.usage) if key in sums else row.usage
    return sorted(sums.items(), key=lambda item: item[0])


def _completions(group_by: Sequence[str], group: Sequence[str], usage: Usage) -> CompletionsResult:
    return CompletionsResult(
        input_tokens=usage.prompt_tokens,
        input_cached_tokens=usage.cached_tokens,
        input_cache_write_tokens=usage.cache_write_tokens,
        input_uncached_tokens=usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens,
        output_tokens=usage.completion_tokens,
        output_text_tokens=usage.completion_tokens - usage.audio_completion_tokens - usage.image_completion_tokens,
        output_audio_tokens=usage.audio_completion_tokens,
        output_image_tokens=usage.image_completion_tokens,
        num_model_requests=usage.requests,
        **_dimensions(group_by, group),
        batch=group[-1] == "true" if "batch" in group_by else None,
        api_source="unlabeled" if "api_source" in group_by else None,
    )


def _embeddings(group_by: Sequence[str], group: Sequence[str], usage: Usage) -> EmbeddingsResult:
    return EmbeddingsResult(input_tokens=usage.prompt_tokens, num_model_requests=usage.requests, **_dimensions(group_by, group))


def _moderations(group_by: Sequence[str], group: Sequence[str], usage: Usage) -> ModerationsResult:
    return ModerationsResult(input_tokens=usage.prompt_tokens, num_model_requests=usage.requests, **_dimensions(group_by, group))


def _dimensions(group_by: Sequence[str], group: Sequence[str]) -> dict[str, Any]:
    return dict.fromkeys(_GROUPS) | dict(zip((name for name in _GROUPS if name in group_by), group[:-1], strict=True))


_COMPLETIONS: Final = _Kind(
    name="completions", page=CompletionsPage, bucket=CompletionsBucket, result=_completions, parameters=(_BATCH, _GROUP_BY)
)
_KINDS: Final = (
    _COMPLETIONS,
    _Kind(name="embeddings", page=EmbeddingsPage, bucket=EmbeddingsBucket, result=_embeddings, parameters=(_GROUP_BY_PLAIN,)),
    _Kind(name="moderations", page=ModerationsPage, bucket=ModerationsBucket, result=_moderations, parameters=(_GROUP_BY_PLAIN,)),
)

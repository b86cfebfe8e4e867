"""GET /v1/organization/costs, in OpenAI's shape. Its amounts are JSON numbers of USD; /api/usage has the exact ones."""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from tallygate.console.api_cursor import question_of
from tallygate.console.api_errors import ApiError
from tallygate.console.api_parameters import choice, choices, texts
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.api_scope import Scopes, filters
from tallygate.console.openai_pages import (
    API_KEY_IDS,
    END_TIME,
    PAGE,
    PROJECT_IDS,
    START_TIME,
    BucketWidth,
    limit_parameter,
    page_asked,
    page_token,
)
from tallygate.console.usage_pages import UsagePages
from tallygate.domain.money import NANO_PER_USD
from tallygate.ledger.history import Dimension, QueryTooLargeError, Usage, UsageQuery
from tallygate.ledger.time_buckets import DAY_MS, QUARTER_MS, Bucket

RESULTS_MAX: Final = 5_000  # of one page, which ends before the bucket that would exceed it
_DAYS: Final = BucketWidth(length_ms=DAY_MS, buckets_default=7, buckets_max=180, grain_ms=QUARTER_MS)
_GROUPS: Final = {"project_id": Dimension.ORG, "api_key_id": Dimension.CREDENTIAL, "line_item": Dimension.MODEL}

_BUCKET_WIDTH: Final = choice("bucket_width", "Width of a bucket, in UTC.", ["1d"], default="1d")
_LINE_ITEMS: Final = texts("line_items", "Line items, which are models.")
_GROUP_BY: Final = choices(
    "group_by",
    "What results are divided by; a line item is a model. Costs are not kept by user_id and api_source.",
    ["project_id", "user_id", "line_item", "api_key_id", "api_source"],
)
_LIMIT: Final = limit_parameter(180, "Buckets of a page: 7 by default, at most 180.")


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    value: float
    currency: Literal["usd"] = "usd"


class CostsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Dimensions that were not grouped by are null."""

    object: Literal["organization.costs.result"] = "organization.costs.result"
    amount: Amount
    line_item: str | None
    project_id: str | None
    user_id: str | None = None
    api_key_id: str | None
    api_source: str | None


class CostsBucket(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[CostsResult]


class CostsPage(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["page"] = "page"
    data: list[CostsBucket]
    has_more: bool
    next_page: str | None


class OpenAiCostsApi:
    def __init__(self, *, scopes: Scopes, pages: UsagePages, now_ms: Callable[[], int]) -> None:
        self._scopes = scopes
        self._pages = pages
        self._now_ms = now_ms

    def routes(self) -> tuple[ApiRoute, ...]:
        return (
            ApiRoute(
                method="GET",
                path="/v1/organization/costs",
                handler=self._costs,
                summary="Costs by day, in OpenAI's shape",
                parameters=(
                    START_TIME,
                    END_TIME,
                    _BUCKET_WIDTH,
                    PROJECT_IDS,
                    API_KEY_IDS,
                    _LINE_ITEMS,
                    _GROUP_BY,
                    _LIMIT,
                    PAGE,
                ),
                answer=CostsPage,
                tag="openai",
            ),
        )

    async def _costs(self, call: ApiCall) -> CostsPage:
        values = call.values
        organizations = await self._scopes.of_history(call.access, values["project_ids"], param="project_ids")
        await self._scopes.check_credentials(organizations, values["api_key_ids"], param="api_key_ids")
        question = question_of("costs", values)
        asked = page_asked(values, _DAYS, question, self._now_ms())
        query = UsageQuery(
            scopes=self._scopes.history(organizations),
            from_ms=asked.edges[0],
            to_ms=asked.edges[-1],
            bucket=Bucket.DAY,
            filters=filters(values, {API_KEY_IDS: Dimension.CREDENTIAL, _LINE_ITEMS: Dimension.MODEL}),
            group_by=tuple(_GROUPS[name] for name in _GROUPS if name in values["group_by"]),
        )
        try:
            page = await self._pages.page(query, asked.edges, buckets_max=len(asked.edges), rows_max=RESULTS_MAX)
        except QueryTooLargeError as error:
            raise ApiError(status=400, code="answer_too_large", message=str(error), param="group_by") from error
        token = page_token(page.next_ms, asked, question)
        return CostsPage(
            data=[
                CostsBucket(
                    start_time=bucket.start_ms // 1000,
                    end_time=bucket.end_ms // 1000,
                    results=[
                        _result(values["group_by"], row.group, row.usage)
                        for row in bucket.rows
                        if row.usage.requests or row.usage.cost_nano_usd  # refused requests cost nothing
                    ],
                )
                for bucket in page.buckets
            ],
            has_more=token is not None,
            next_page=token,
        )


def _result(group_by: Sequence[str], group: Sequence[str], usage: Usage) -> CostsResult:
    named = dict(zip((name for name in _GROUPS if name in group_by), group, strict=True))
    return CostsResult(
        amount=Amount(value=usage.cost_nano_usd / NANO_PER_USD),  # the double nearest to the exact amount
        line_item=named.get("line_item"),
        project_id=named.get("project_id"),
        api_key_id=named.get("api_key_id"),
        api_source="unlabeled" if "api_source" in group_by else None,
    )

"""The common part of OpenAI's usage and costs endpoints: parameters, buckets of UTC, page tokens.

Source: OpenAI's OpenAPI description, /organization/usage/completions and /organization/costs. Its projects are our organizations,
its API keys our credentials.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tallygate.console.api_cursor import seal, unseal
from tallygate.console.api_errors import invalid_parameter
from tallygate.console.api_parameters import Parameter, integer, text, texts
from tallygate.console.api_times import TIME_MAX_MS, TIME_MIN_MS, read_position

PROJECT_IDS: Final = texts("project_ids", "Organization ids.")
API_KEY_IDS: Final = texts("api_key_ids", "Client IDs of credentials.")
START_TIME: Final = integer(
    "start_time",
    "Beginning of the range in Unix seconds, inclusive.",
    least=TIME_MIN_MS // 1000,
    most=TIME_MAX_MS // 1000,
    is_required=True,
)
END_TIME: Final = integer(
    "end_time",
    "End of the range in Unix seconds, exclusive. Default: now.",
    least=TIME_MIN_MS // 1000,
    most=TIME_MAX_MS // 1000,
)
PAGE: Final = text("page", "`next_page` of the page before.")
PAGE_PREFIX: Final = "page_"


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketWidth:
    """A bucket width. length_ms: of a bucket; buckets_default, buckets_max: of a page; grain_ms: ranges widen to multiples."""

    length_ms: int
    buckets_default: int
    buckets_max: int
    grain_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOfBuckets:
    """A page. edges: of its buckets; the first and the last of a range [start_ms, end_ms) are cut to it, like OpenAI's."""

    start_ms: int
    end_ms: int
    edges: tuple[int, ...]


def limit_parameter(most: int, description: str) -> Parameter:
    return integer("limit", description, least=1, most=most)


def page_asked(values: Mapping[str, Any], width: BucketWidth, question: str, now_ms: int) -> PageOfBuckets:
    """Parse the page. Raises ApiError for a limit that the width does not allow, an empty range, or another query's page token."""
    count = width.buckets_default if values["limit"] is None else values["limit"]
    if count > width.buckets_max:
        raise invalid_parameter("limit", f"must be a whole number between 1 and {width.buckets_max} for this bucket_width")
    if values["page"] is None:
        start, end = _range(values, width, now_ms)
        begin = start
    elif values["page"].startswith(PAGE_PREFIX):  # keep the range of the first page: one that ended "now" would have moved
        position = unseal("page", values["page"].removeprefix(PAGE_PREFIX), question)
        begin, start, end = read_position("page", position)
    else:
        raise invalid_parameter("page", "is not a cursor that an earlier page gave")
    first = begin - begin % width.length_ms
    inner = range(first + width.length_ms, min(end, first + width.length_ms * count), width.length_ms)
    return PageOfBuckets(start_ms=start, end_ms=end, edges=(begin, *inner, min(end, first + width.length_ms * count)))


def page_token(next_ms: int | None, page: PageOfBuckets, question: str) -> str | None:
    """The token of the page that begins at next_ms; None if nothing is left."""
    following = page.edges[-1] if next_ms is None else next_ms
    return PAGE_PREFIX + seal(f"{following} {page.start_ms} {page.end_ms}", question) if following < page.end_ms else None


def _range(values: Mapping[str, Any], width: BucketWidth, now_ms: int) -> tuple[int, int]:
    """The requested range, widened to whole grains, and not beyond the current bucket. Raises ApiError."""
    start, end = values["start_time"] * 1000, values["end_time"]
    if end is None and start >= now_ms:
        raise invalid_parameter("start_time", "must lie in the past where there is no end_time")
    end = now_ms if end is None else end * 1000
    if start >= end:
        raise invalid_parameter("end_time", "must be later than start_time")
    present = now_ms - now_ms % width.length_ms + width.length_ms
    start -= start % width.grain_ms
    return start, max(start + width.grain_ms, min(-(-end // width.grain_ms) * width.grain_ms, present))

"""Questions about past usage and their answers: what a console asks of whatever keeps the history.

`usage_queries` answers them from the ledger's tables. Another engine, such as one that keeps columns, would answer these alone:
lines of the ledger are only ever added, a correction is a line of its own, and sums are additions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import Final, Protocol

import msgspec

from tallygate.domain.unit_kind import KIND_COSTS
from tallygate.ledger.entry import Entry
from tallygate.ledger.time_buckets import Bucket


class Dimension(StrEnum):
    """A dimension for groups and filters; columns of `series`."""

    ORG = "org"
    CREDENTIAL = "credential"
    CAPABILITY = "capability"
    MODEL = "model"
    ENDPOINT = "endpoint"
    STATUS = "status"
    OUTCOME = "outcome"
    REFUSED_BY = "refused_by"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgScope:
    """An organization in the scope of a query: usage before visible_from_ms is beyond its history."""

    org: str
    visible_from_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A query for sums over [from_ms, to_ms), widened to whole quarters of an hour.

    scopes            the organizations; none: an empty answer
    bucket            None: the range as a whole
    billing_day       the day on which months begin
    filters           allowed values by dimension; an empty set matches nothing
    """

    scopes: tuple[OrgScope, ...]
    from_ms: int
    to_ms: int
    bucket: Bucket | None = None
    time_zone: str = "UTC"
    billing_day: int = 1
    filters: Mapping[Dimension, frozenset[str]] = field(default_factory=dict)
    group_by: tuple[Dimension, ...] = ()


class Usage(msgspec.Struct, frozen=True):
    """Sums, in the order of ROLLUP_AMOUNTS. Money in nano-USD.

    cached, cache_write, audio_prompt and image_prompt are parts of prompt, reasoning and the like of completion; a token may be in
    several of them.

    requests                counts served ones; refused ones are counted separately, under the outcome `refused`
    fee ... calls_nano_usd  parts of cost; what they leave of it was paid for what is not known (`other_nano_usd`)
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0
    audio_prompt_tokens: int = 0
    audio_completion_tokens: int = 0
    image_prompt_tokens: int = 0
    image_completion_tokens: int = 0
    fee_nano_usd: int = 0
    input_nano_usd: int = 0
    cache_read_nano_usd: int = 0
    cache_write_nano_usd: int = 0
    output_nano_usd: int = 0
    media_nano_usd: int = 0
    calls_nano_usd: int = 0
    refused: int = 0

    @property
    def other_nano_usd(self) -> int:
        parts: tuple[int, ...] = _parts_of(self)
        return self.cost_nano_usd - sum(parts)


_parts_of: Final = attrgetter("fee_nano_usd", *KIND_COSTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One bucket and one group. start_ms, end_ms: of the bucket, cut to the range. group: in the order of group_by."""

    start_ms: int
    end_ms: int
    group: tuple[str, ...]
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesQuery:
    """A query for entries by their settlement time, [from_ms, to_ms). cursor: from the previous page, "" for the first.

    event_ids, client_request_ids   of events that are asked for by name; None: all
    """

    scopes: tuple[OrgScope, ...]
    from_ms: int
    to_ms: int
    filters: Mapping[Dimension, frozenset[str]] = field(default_factory=dict)
    event_ids: frozenset[str] | None = None
    client_request_ids: frozenset[str] | None = None
    cursor: str = ""
    limit: int = 100
    newest_first: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesPage:
    """cursor: of the next page, "" after the last."""

    entries: tuple[Entry, ...]
    cursor: str


class QueryTooLargeError(Exception):
    """An answer would take more than ROWS_MAX rows."""


class UsageHistory(Protocol):
    """Answers from committed data. Every call raises LedgerUnavailableError if whatever keeps it does not answer."""

    async def usage(self, query: UsageQuery) -> list[UsageRow]:
        """Rows by bucket, then group; buckets and groups without usage have none. Raises QueryTooLargeError, ValueError."""

    async def entries_page(self, query: EntriesQuery) -> EntriesPage:
        """Entries in the order of their settlement. Corrections follow the entry that they correct, at its settlement time.

        Raises ValueError for an invalid cursor.
        """

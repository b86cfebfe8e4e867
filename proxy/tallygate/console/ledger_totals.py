"""The shared counters of /metrics, from the ledger's lifetime totals."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tallygate.console.ports import Totals
from tallygate.dialects.dialect import JobKind
from tallygate.domain.usage import UsageSource
from tallygate.ledger.database import Database, LedgerUnavailableError
from tallygate.ledger.jobs import count_jobs
from tallygate.ledger.lifetime import OTHER
from tallygate.ledger.lifetime_queries import SUMS, LifetimeQueries, OrganizationTotals, OverallTotals
from tallygate.ledger.notices.deliveries import Deliveries
from tallygate.telemetry import metrics
from tallygate.telemetry.metric import Labels, Metric

READ_SECONDS: Final = 8.0  # for the whole query: Prometheus waits 10 s for a scrape
ROWS_MAX: Final = 300_000  # of one scrape; organizations beyond it are left out whole and counted as skipped
_Sample = tuple[Metric, Labels, int]
_ODD_KINDS: Final = ("overrun", "late", "unheld")

# The metric of each amount of an exchange and of a model, and the label `kind` if it has one.
_OF_EXCHANGE: Final[dict[str, tuple[Metric, Labels]]] = {
    "prompt_tokens": (metrics.TOKENS, ("prompt",)),
    "completion_tokens": (metrics.TOKENS, ("completion",)),
    "cached_tokens": (metrics.CACHED_TOKENS, ()),
    "reasoning_tokens": (metrics.REASONING_TOKENS, ()),
    "cost_nano_usd": (metrics.SPEND, ()),
    "credited_prompt_tokens": (metrics.TOKENS_CREDITED, ("prompt",)),
    "credited_completion_tokens": (metrics.TOKENS_CREDITED, ("completion",)),
    "credited_cached_tokens": (metrics.CACHED_TOKENS_CREDITED, ()),
    "credited_reasoning_tokens": (metrics.REASONING_TOKENS_CREDITED, ()),
    "credited_cost_nano_usd": (metrics.SPEND_CREDITED, ()),
}
_OF_MODEL: Final[dict[str, tuple[Metric, Labels]]] = {
    "prompt_tokens": (metrics.MODEL_TOKENS, ("prompt",)),
    "completion_tokens": (metrics.MODEL_TOKENS, ("completion",)),
    "cost_nano_usd": (metrics.MODEL_SPEND, ()),
    "credited_prompt_tokens": (metrics.MODEL_TOKENS_CREDITED, ("prompt",)),
    "credited_completion_tokens": (metrics.MODEL_TOKENS_CREDITED, ("completion",)),
    "credited_cost_nano_usd": (metrics.MODEL_SPEND_CREDITED, ()),
}


class LedgerTotals:
    """Implements `SharedTotals`.

    Credentials, capabilities and models keep the names under which they were counted, even after they are removed from the
    configuration: a counter that moved to `other` would look like new usage there. A removed organization is no longer
    shown. Callers without an organization are `other`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = LifetimeQueries(database)
        self._deliveries = Deliveries(database)
        self._turn = asyncio.Lock()  # so that simultaneous scrapes do not use all connections

    async def fetch(self, orgs: Sequence[str]) -> Totals:
        try:
            async with asyncio.timeout(READ_SECONDS), self._turn:
                return await self._read((OTHER, *orgs))
        except TimeoutError as error:
            raise LedgerUnavailableError("the ledger's database took too long for a scrape") from error

    async def _read(self, orgs: Sequence[str]) -> Totals:
        values: dict[Metric, dict[Labels, int]] = {metric: {} for metric in metrics.LEDGER_TOTALS}
        for result, count in (await self._deliveries.totals()).items():
            values[metrics.WEBHOOK_DELIVERIES][result.value,] = count
        values[metrics.WEBHOOK_QUEUE][()] = await self._deliveries.waiting()
        open_jobs = await count_jobs(self._database)
        values[metrics.JOBS_OPEN] |= {(kind.value,): open_jobs.get(kind.value, 0) for kind in JobKind}
        skipped = set(orgs)
        overall, parts = await self._queries.fetch(orgs, rows_max=ROWS_MAX)
        _add(values, _overall_samples(overall))
        for part in parts:
            _add(values, _samples(part))
            skipped.difference_update(part.organizations)
            await asyncio.sleep(0)  # others' turn: many organizations take a while
        return Totals(samples=values, organizations_skipped=len(skipped - {OTHER}))


def _overall_samples(totals: OverallTotals) -> Iterator[_Sample]:
    found = dict(totals.sources)
    for source in UsageSource:
        yield metrics.USAGE_SOURCE, (source.value,), found.get(source.value, 0)
    *odd, expired = totals.oddities
    for kind, count in zip(_ODD_KINDS, odd, strict=True):
        yield metrics.ODD_SETTLEMENTS, (kind,), count
    yield metrics.HOLDS_EXPIRED, (), expired


def _samples(totals: OrganizationTotals) -> Iterator[_Sample]:
    """The samples of one organization, without zeros."""
    for *labels, requests in totals.outcomes:
        yield metrics.REQUESTS, tuple(labels), requests
    shown = [(index, *_OF_EXCHANGE[name]) for index, name in enumerate(SUMS)]
    for org, credential, capability, *amounts in totals.exchanges:
        for index, metric, kind in shown:
            if amounts[index]:
                yield metric, (org, credential, capability, *kind), amounts[index]
    for *labels, spent, credited in totals.spend:
        yield metrics.SPEND_BY_UNIT, tuple(labels), spent
        if credited:
            yield metrics.SPEND_BY_UNIT_CREDITED, tuple(labels), credited
    shown = [(index, *_OF_MODEL[name]) for index, name in enumerate(SUMS) if name in _OF_MODEL]
    for org, model, requests, *amounts in totals.models:
        yield metrics.MODEL_REQUESTS, (org, model), requests
        for index, metric, kind in shown:
            if amounts[index]:
                yield metric, (org, model, *kind), amounts[index]


def _add(values: dict[Metric, dict[Labels, int]], samples: Iterable[_Sample]) -> None:
    for metric, labels, count in samples:
        values[metric][labels] = count

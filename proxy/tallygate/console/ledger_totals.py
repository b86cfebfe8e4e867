"""The shared counters of /metrics, from the ledger's lifetime totals."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection

from tallygate.console.ports import Totals
from tallygate.dialects.dialect import JobKind
from tallygate.domain.usage import UsageSource
from tallygate.ledger.database import Database, LedgerUnavailableError
from tallygate.ledger.jobs import count_jobs
from tallygate.ledger.lifetime import OTHER
from tallygate.ledger.lifetime_queries import SUMS, LifetimeQueries, OrganizationTotals, OverallTotals
from tallygate.ledger.notices.deliveries import count_results, count_waiting
from tallygate.telemetry import metrics
from tallygate.telemetry.metric import InParts, Labels, Metric, Standing, standing_after

READ_SECONDS: Final = 8.0  # for the whole query: Prometheus waits 10 s for a scrape
ROWS_MAX: Final = 300_000  # of one scrape; organizations beyond it are left out whole and counted as skipped
KEPT_MAX: Final = 1_000  # organizations whose totals, samples and lines are kept until the next scrape, at some ten kilobytes each
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
        self._count_jobs = count_jobs(database)
        self._count_results, self._count_waiting = count_results(database), count_waiting(database)
        self._kept: dict[str, tuple[OrganizationTotals, Mapping[Metric, Standing]]] = {}
        self._turn = asyncio.Lock()  # so that simultaneous scrapes do not use all connections

    async def fetch(self, orgs: Sequence[str]) -> Totals:
        try:
            async with asyncio.timeout(READ_SECONDS), self._turn:
                return await self._read((OTHER, *orgs))
        except TimeoutError as error:
            raise LedgerUnavailableError("the ledger's database took too long for a scrape") from error

    async def _read(self, orgs: Sequence[str]) -> Totals:
        values, parts, all_of = await self._database.ask(partial(self._ask, orgs))
        summed: dict[Metric, InParts] = {metric: InParts() for metric in metrics.LEDGER_TOTALS if metric not in values}
        before, self._kept = self._kept, {}
        for part in parts:
            for org, totals in part.items():
                known, samples = before.get(org, (None, {}))
                if known != totals:
                    samples = standing_after(samples, _samples_of(totals))
                if len(self._kept) < KEPT_MAX:
                    self._kept[org] = totals, samples
                for metric, numbers in samples.items():
                    summed[metric].parts.append(numbers)
            await asyncio.sleep(0)  # others' turn: many organizations take a while
        skipped = {*sorted(orgs)[all_of:]} - {OTHER}
        return Totals(samples={**values, **summed}, organizations_skipped=len(skipped))

    def _ask(
        self, orgs: Sequence[str], connection: Connection
    ) -> tuple[dict[Metric, dict[Labels, int]], Sequence[Mapping[str, OrganizationTotals]], int]:
        """What has no organization, the totals of organizations, and of how many by name."""
        open_jobs = self._count_jobs(connection)
        values: dict[Metric, dict[Labels, int]] = {
            metrics.WEBHOOK_DELIVERIES: {(result.value,): count for result, count in self._count_results(connection).items()},
            metrics.WEBHOOK_QUEUE: {(): self._count_waiting(connection)},
            metrics.JOBS_OPEN: {(kind.value,): open_jobs.get(kind.value, 0) for kind in JobKind},
            **_overall_samples(self._queries.overall(connection)),
        }
        return values, *self._queries.of_organizations(connection, orgs, rows_max=ROWS_MAX)


def _overall_samples(totals: OverallTotals) -> dict[Metric, dict[Labels, int]]:
    found = dict(totals.sources)
    *odd, expired = totals.oddities
    return {
        metrics.USAGE_SOURCE: {(source.value,): found.get(source.value, 0) for source in UsageSource},
        metrics.ODD_SETTLEMENTS: {(kind,): count for kind, count in zip(_ODD_KINDS, odd, strict=True)},
        metrics.HOLDS_EXPIRED: {(): expired},
    }


def _samples_of(totals: OrganizationTotals) -> Mapping[Metric, Standing]:
    """The samples of one organization, without zeros."""
    found = defaultdict[Metric, Standing](Standing)
    for metric, labels, count in _counts(totals):
        found[metric][labels] = count
    return found


def _counts(totals: OrganizationTotals) -> Iterator[_Sample]:
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

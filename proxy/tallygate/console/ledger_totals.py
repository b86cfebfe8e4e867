"""The shared counters of /metrics, from the ledger's lifetime totals."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection

from tallygate.console.ports import Totals
from tallygate.dialects.dialect import JobKind
from tallygate.domain.usage import UsageSource
from tallygate.domain.usage_event import Outcome
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.jobs import count_jobs
from tallygate.ledger.lifetime import OTHER
from tallygate.ledger.lifetime_queries import SUMS, LifetimeQueries, OrganizationTotals, OverallTotals
from tallygate.ledger.notices.deliveries import count_results, count_waiting
from tallygate.telemetry import metrics
from tallygate.telemetry.metric import NOTHING, InParts, Labels, Metric, Standing, standing_after

READ_SECONDS: Final = 8.0  # for the whole query: Prometheus waits 10 s for a scrape
ROWS_MAX: Final = 300_000  # of one scrape; organizations beyond it are left out whole and counted as skipped
KEPT_MAX: Final = 1_000  # organizations whose totals, samples and lines are kept until the next scrape, at some ten kilobytes each
_Shown = Sequence[Standing]  # in the order of _METRICS
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

_METRICS: Final = tuple(
    dict.fromkeys(
        [
            *(metrics.REQUESTS, metrics.MODEL_REQUESTS, metrics.SPEND_BY_UNIT, metrics.SPEND_BY_UNIT_CREDITED),
            *(metric for metric, _ in (*_OF_EXCHANGE.values(), *_OF_MODEL.values())),
        ]
    )
)
_UNKNOWN: Final = (None, (NOTHING,) * len(_METRICS))
_REQUESTS, _MODEL_REQUESTS, _SPENT, _CREDITED = range(4)  # places among them
# Of each amount in the order of SUMS its place among them, and the label `kind`.
_EXCHANGE_AMOUNTS: Final = [(_METRICS.index(metric), kind) for metric, kind in map(_OF_EXCHANGE.__getitem__, SUMS)]
_MODEL_AMOUNTS: Final = [
    (index, _METRICS.index(_OF_MODEL[name][0]), _OF_MODEL[name][1]) for index, name in enumerate(SUMS, 1) if name in _OF_MODEL
]  # with its own place, behind requests
_REFUSED: Final = Outcome.REFUSED.value
_LABELS, _OUTCOME = 5, 4  # of a row of exchanges
_exchange_of: Final = itemgetter(0, 1, 2)
_outcome_of: Final = itemgetter(0, 1, 2, 4)
_model_of: Final = itemgetter(0, 3)


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
        self._kept: dict[str, tuple[OrganizationTotals | None, _Shown]] = {}
        self._turn = asyncio.Lock()  # so that simultaneous scrapes do not use all connections

    async def fetch(self, orgs: Sequence[str]) -> Totals:
        try:
            async with asyncio.timeout(READ_SECONDS), self._turn:
                return await self._read((OTHER, *orgs))
        except TimeoutError as error:
            raise LedgerUnavailableError("the ledger's database took too long for a scrape") from error

    async def _read(self, orgs: Sequence[str]) -> Totals:
        values, parts, all_of = await self._database.ask(partial(self._ask, orgs))
        shown: list[_Shown] = []
        before, self._kept = self._kept, {}
        for part in parts:
            for org, totals in part.items():
                known = before.get(org, _UNKNOWN)
                now = known if known[0] == totals else (totals, standing_after(known[1], _samples_of(totals)))
                if len(shown) < KEPT_MAX:
                    self._kept[org] = now
                shown.append(now[1])
            await asyncio.sleep(0)  # others' turn: many organizations take a while
        skipped = {*sorted(orgs)[all_of:]} - {OTHER}
        return Totals(samples={**values, **InParts.of(_METRICS, shown)}, organizations_skipped=len(skipped))

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


def _samples_of(totals: OrganizationTotals) -> _Shown:
    """The samples of one organization, without zeros."""
    shown = [Standing() for _ in _METRICS]
    requests, spent_on, credited_on = shown[_REQUESTS], shown[_SPENT], shown[_CREDITED]
    for row in totals.exchanges:
        labels = _outcome_of(row)
        requests[labels] = requests.get(labels, 0) + row[_LABELS]
    served = [row for row in totals.exchanges if row[_OUTCOME] != _REFUSED]
    for labels, rows in groupby(served, _exchange_of):
        for (place, kind), amount in zip(_EXCHANGE_AMOUNTS, _sums(rows)[1:], strict=True):
            if amount:
                shown[place][labels + kind] = amount
    for labels, rows in groupby(sorted(served, key=_model_of), _model_of):
        sums = _sums(rows)
        shown[_MODEL_REQUESTS][labels] = sums[0]
        for index, place, kind in _MODEL_AMOUNTS:
            if sums[index]:
                shown[place][labels + kind] = sums[index]
    for org, credential, capability, kind_of, spent, credited in totals.spend:
        unit = org, credential, capability, kind_of
        spent_on[unit] = spent
        if credited:
            credited_on[unit] = credited
    return shown


def _sums(rows: Iterable[Sequence[Any]]) -> Sequence[int]:
    """Of requests, and of amounts in the order of SUMS. Most have one row."""
    first, *others = rows
    return list(map(sum, zip(first[_LABELS:], *(row[_LABELS:] for row in others), strict=True))) if others else first[_LABELS:]

"""The figures of digests, from rollups, the limiter's buckets and the notices of a week."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from sqlalchemy import func, select

from tallygate.domain.bound_limits import bound_spends
from tallygate.domain.calendar_months import month_at
from tallygate.domain.organization import Organization
from tallygate.domain.spend_limit import WindowKind
from tallygate.ledger.database import Database
from tallygate.ledger.history import Dimension, OrgScope, QueryTooLargeError, Usage, UsageQuery
from tallygate.ledger.notices.digest import Digest, LimitAtEnd, Share, Sums, Week
from tallygate.ledger.notices.notice import NoticeType
from tallygate.ledger.notices.schema import NOTICES
from tallygate.ledger.retention import visible_from_ms
from tallygate.ledger.usage_queries import UsageQueries

SHARES_MAX: Final = 5  # of models, and of credentials


class DigestFigures:
    """page_url: the console's address for people; "" if it has none."""

    def __init__(self, database: Database, *, page_url: str) -> None:
        self._database = database
        self._queries = UsageQueries(database)
        self._page_url = page_url

    async def of(self, organizations: Sequence[Organization], week: Week, *, now_ms: int) -> Mapping[str, Digest]:
        """Digests by organization, of those that had requests in the week, served or refused. Raises LedgerUnavailableError."""
        scopes = {
            organization.id: OrgScope(org=organization.id, visible_from_ms=visible_from_ms(organization, now_ms))
            for organization in organizations
        }
        sums = await self._sums(scopes, week)
        busy = {org: scope for org, scope in scopes.items() if org in sums}
        before = await self._sums(busy, week.before)
        models, credentials = [
            await self._shares(list(busy.values()), week, dimension) for dimension in (Dimension.MODEL, Dimension.CREDENTIAL)
        ]
        pauses = await self._pauses(list(busy), week)
        found = {}
        for organization in organizations:
            org = organization.id
            if org not in busy:
                continue
            visible_from = busy[org].visible_from_ms
            found[org] = Digest(
                first_day=week.first_day,
                last_day=week.last_day,
                from_ms=week.from_ms,
                to_ms=week.to_ms,
                time_zone=week.time_zone,
                history_from_ms=visible_from if visible_from > week.from_ms else None,
                week=sums[org],
                before=None if visible_from > week.before.from_ms else before.get(org, _sums_of(Usage())),
                limits=await self._limits(organization, week),
                models=models.get(org, ()),
                credentials=credentials.get(org, ()),
                pauses=pauses.get(org, 0),
                url=self._url(org, week),
            )
        return found

    async def _sums(self, scopes: Mapping[str, OrgScope], week: Week) -> dict[str, Sums]:
        query = UsageQuery(scopes=tuple(scopes.values()), from_ms=week.from_ms, to_ms=week.to_ms, group_by=(Dimension.ORG,))
        return {row.group[0]: _sums_of(row.usage) for row in await self._queries.usage(query)}

    async def _shares(self, scopes: Sequence[OrgScope], week: Week, dimension: Dimension) -> Mapping[str, tuple[Share, ...]]:
        """Those that spent most, by organization; none of one that has too many to be compared."""
        query = UsageQuery(scopes=tuple(scopes), from_ms=week.from_ms, to_ms=week.to_ms, group_by=(Dimension.ORG, dimension))
        try:
            rows = await self._queries.usage(query)
        except QueryTooLargeError:
            half = len(scopes) // 2
            parts = (scopes[:half], scopes[half:]) if half else ()
            return {org: shares for part in parts for org, shares in (await self._shares(part, week, dimension)).items()}
        found: defaultdict[str, list[Share]] = defaultdict(list)
        for (org, name), usage in ((row.group, row.usage) for row in rows):
            if usage.requests or usage.cost_nano_usd:
                found[org].append(Share(name=name, requests=usage.requests, spent_nano_usd=usage.cost_nano_usd))
        return {org: tuple(sorted(shares, key=_by_spend)[:SHARES_MAX]) for org, shares in found.items()}

    async def _limits(self, organization: Organization, week: Week) -> tuple[LimitAtEnd, ...]:
        found = []
        for bound in bound_spends(organization, None):
            if bound.limit.kind is WindowKind.ROLLING:
                since_ms = week.to_ms - bound.limit.window_ms
            else:
                since_ms = month_at(week.to_ms - 1, organization.time_zone, organization.billing_day).start_ms
            posted = await self._queries.posted(organization.id, since_ms, week.to_ms)
            found.append(
                LimitAtEnd(
                    limit_key=bound.key,
                    spent_nano_usd=sum(amount for _, amount in posted),
                    limit_nano_usd=bound.limit.limit_nano_usd,
                    shadow=bound.limit.shadow,
                )
            )
        return tuple(found)

    async def _pauses(self, orgs: Sequence[str], week: Week) -> Mapping[str, int]:
        columns = NOTICES.c
        paused = (columns.org.in_(list(orgs)), columns.type == NoticeType.PAUSED.value)
        within = (columns.at_ms >= week.from_ms, columns.at_ms < week.to_ms)
        query = select(columns.org, func.count()).where(*paused, *within).group_by(columns.org)
        async with self._database.read() as connection:
            return {org: int(count) for org, count in await connection.execute(query)}

    def _url(self, org: str, week: Week) -> str:
        if not self._page_url:
            return ""
        wanted = {"org": org, "view": "cost", "range": "custom", "from": week.first_day, "until": week.last_day}
        return f"{self._page_url}/?{urlencode(wanted)}"


def _by_spend(share: Share) -> tuple[int, int, str]:
    return -share.spent_nano_usd, -share.requests, share.name


def _sums_of(usage: Usage) -> Sums:
    return Sums(
        requests=usage.requests,
        refused=usage.refused,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        spent_nano_usd=usage.cost_nano_usd,
    )

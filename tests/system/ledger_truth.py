"""What the SQL ledger, the limiter and the upstream say of the same exchanges, for tests that break things in between."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table, case, func, select
from stack import Stack
from system_traffic import Seen, true_cost

from tallygate.config.load import ConfigSource
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.domain.organization import Organization
from tallygate.ledger.audit import Drift, LedgerAudit, LimiterAudit, lifetime_drifts
from tallygate.ledger.database import Database
from tallygate.ledger.entry import FINAL
from tallygate.ledger.notices.schema import NOTICES
from tallygate.ledger.opening import open_database
from tallygate.ledger.schema import ENTRIES, SPOOL_COPIES
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.keys import PARTITIONS, partition_keys
from tallygate.limiter.script import load_scripts
from tallygate.simulator.ledger import Served

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one exchange came to in SQL: the sum of its entries. originals, finals: entries of that nature; one each is right."""

    org: str
    originals: int
    finals: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nano_usd: int
    posted_nano_usd: int
    usage_source: str


class LedgerTruth:
    """Reads one ledger, as another process would."""

    def __init__(self, stack: Stack, database_url: str = "") -> None:
        self._stack = stack
        self._database_url = database_url

    async def accounts(self) -> dict[str, Account]:
        """By event id. Raises LedgerUnavailableError."""
        columns = ENTRIES.c
        sums = [
            func.sum(columns[name])
            for name in ("requests", "prompt_tokens", "completion_tokens", "cost_nano_usd", "posted_nano_usd")
        ]
        last_source = func.max(case((columns.kind.in_(sorted(FINAL)), columns.usage_source), else_=""))
        statement = select(
            columns.event_id,
            func.max(columns.org),
            func.sum(case((columns.sequence == 0, 1), else_=0)),
            func.sum(case((columns.kind.in_(sorted(FINAL)), 1), else_=0)),
            *sums,
            last_source,
        ).group_by(columns.event_id)
        database = self._open()
        try:
            async with database.read() as connection:
                rows = await connection.execute(statement)
                return {
                    event_id: Account(
                        org=org,
                        originals=int(originals),
                        finals=int(finals),
                        requests=int(requests),
                        prompt_tokens=int(prompt),
                        completion_tokens=int(completion),
                        cost_nano_usd=int(cost),
                        posted_nano_usd=int(posted),
                        usage_source=source,
                    )
                    for event_id, org, originals, finals, requests, prompt, completion, cost, posted, source in rows
                }
        finally:
            await database.close()

    async def entries(self) -> list[dict[str, Any]]:
        """Every row, corrections included. Raises LedgerUnavailableError."""
        return await self._rows(ENTRIES)

    async def notices(self) -> list[dict[str, Any]]:
        """Raises LedgerUnavailableError."""
        return await self._rows(NOTICES)

    async def spool_copies(self) -> list[dict[str, Any]]:
        """Raises LedgerUnavailableError."""
        return await self._rows(SPOOL_COPIES)

    async def _rows(self, table: Table) -> list[dict[str, Any]]:
        database = self._open()
        try:
            async with database.read() as connection:
                return [dict(row) for row in (await connection.execute(select(table))).mappings()]
        finally:
            await database.close()

    async def drifts(self) -> list[Drift]:
        """Everything that is added up, added up again: rollups, postings, and the limiter's windows."""
        database = self._open()
        store = RedisConnection(parse_address(self._store_url()), timeout_ms=10_000)
        await store.open()
        try:
            ledger, found = LedgerAudit(database), []
            for org, day_ms in await ledger.days():
                found += await ledger.day(org, day_ms)
                found += await ledger.postings(org, day_ms - _DAY_MS)
            for org in sorted({org for org, _ in await ledger.days()}):
                found += await lifetime_drifts(database, org)
            now_ms = self._now_ms()
            async for _, drifts in LimiterAudit(database, store, load_scripts()).windows(self.organizations(), now_ms):
                found += drifts
            return found
        finally:
            await store.close()
            await database.close()

    def organizations(self) -> Sequence[Organization]:
        source = ConfigSource(
            directory=self._stack.config_dir,
            shipped_dir=shipped_directory(),
            known_dialects=dialects().traits,
            default_url=self._stack.url,
            environ={},
        )
        return source.load().organizations

    def backlog(self) -> int:
        """Events that wait to be stored."""
        return sum(self._stack.store.xlen(partition_keys(partition).events) for partition in range(PARTITIONS))

    def _open(self) -> Database:
        return open_database(self._database_url, self._stack.data_dir)

    def _store_url(self) -> str:
        options = self._stack.store.connection_pool.connection_kwargs
        return f"unix://{options['path']}" if "path" in options else f"redis://{options['host']}:{options['port']}/0"

    def _now_ms(self) -> int:
        seconds, micros = self._stack.store.time()
        return seconds * 1000 + micros // 1000


def served_by_id(stack: Stack) -> dict[str, Served]:
    """What the upstream accepted, by request id. One id twice would be one exchange sent twice."""
    found: dict[str, Served] = {}
    for record in stack.ledger.records:
        if record.accepted:
            assert record.request_id is not None
            assert record.request_id not in found, f"{record.request_id} was sent twice"
            found[record.request_id] = record
    return found


def assert_each_complete_exchange_is_stored_once(stack: Stack, accounts: dict[str, Account], seen: Sequence[Seen]) -> None:
    """With the upstream's own tokens and what they cost; whatever else is stored is stored once as well."""
    served = served_by_id(stack)
    complete = [one.request_id for one in seen if one.status == 200 and one.is_whole]
    assert len(complete) == len(set(complete)) > 0
    lost = [request_id for request_id in complete if request_id not in accounts]
    assert not lost, f"{len(lost)} of {len(complete)} complete exchanges are not in the ledger: {lost[:5]}"
    for request_id in complete:
        account, record = accounts[request_id], served[request_id]
        assert (account.originals, account.finals, account.requests) == (1, 1, 1), (request_id, account)
        assert (account.prompt_tokens, account.completion_tokens) == (record.prompt_tokens, record.generated_tokens)
        assert account.cost_nano_usd == true_cost(record), (request_id, account, record)
    for request_id, account in accounts.items():
        assert (account.originals, account.requests) == (1, 1), (request_id, account)


def assert_three_sums_agree(stack: Stack, accounts: dict[str, Account], orgs: Sequence[str]) -> None:
    """SQL == the limiter's windows, to the nano-dollar; nothing is held."""
    for org in orgs:
        of_org = [account for account in accounts.values() if account.org == org]
        cost = sum(account.cost_nano_usd for account in of_org)
        posted = sum(account.posted_nano_usd for account in of_org)
        assert (org, stack.window(org)) == (org, {"spent": posted, "held": 0})
        assert (org, posted) == (org, cost)


async def at_rest(truth: LedgerTruth, stack: Stack, orgs: Sequence[str], seconds: float) -> None:
    """Nothing is held, nothing waits, and it stays so for a moment."""
    deadline = asyncio.get_running_loop().time() + seconds
    quiet = 0
    while quiet < 3:
        assert asyncio.get_running_loop().time() < deadline, f"never at rest: {truth.backlog()} events wait"
        await asyncio.sleep(0.3)
        is_quiet = spools_are_empty(stack.data_dir) and not truth.backlog() and not any(stack.window(org)["held"] for org in orgs)
        quiet = quiet + 1 if is_quiet else 0


def spools_are_empty(data_dir: Path) -> bool:
    """Those of one gateway. A spool begins with 8 bytes that say where its first record is; a record begins with its length."""
    for path in (data_dir / "spool").glob("*.spool"):
        with path.open("rb") as file:
            file.seek(max(8, int.from_bytes(file.read(8))))
            if int.from_bytes(file.read(4)):
                return False
    return True

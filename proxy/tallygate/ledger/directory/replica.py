"""A process's copy of the directory: the organizations of the database, as domain values, kept up to date change by change."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tallygate.config.directory import EVERYWHERE, StoredSource
from tallygate.config.model import GatewayConfig
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.directory.errors import InvalidChangeError
from tallygate.ledger.directory.records import StoredCredential, StoredOrganization
from tallygate.ledger.directory.rows import organizations_with_credentials
from tallygate.ledger.directory.rules import Rules
from tallygate.ledger.directory.schema import AUDIT_LOG, DIRECTORY_VERSION, RETIRED_CLIENT_IDS
from tallygate.ledger.directory.snapshot import Snapshot, SnapshotKeeper, row_line
from tallygate.shares.ticks import BEAT_SECONDS, Alarm, until_tick

POLL_SECONDS: Final = 0.5  # the most that a copy lags if nobody announces changes
QUIET_BEATS: Final = 16  # between two while changes are announced: sessions of PostgreSQL are dear, and others' too
CHUNK: Final = 200  # organizations read at once, in a few milliseconds, so that the event loop runs in between
ANNOUNCED_MAX: Final = 2_000  # changed organizations announced at once, for the same reason
LOWERED_NAMED_MAX: Final = 20  # organizations that one line of the log names
CHANGED_MAX: Final = 1_000  # organizations read one by one; when more have changed, all are read again
_log = logging.getLogger(__name__)
_Rows = tuple[StoredOrganization, Sequence[StoredCredential]]
_OF_VERSION: Final = select(DIRECTORY_VERSION.c.version)


class DirectoryReplica:
    """Organizations of the database, except those in organizations.yaml, which takes precedence.

    An organization that breaks the rules in force (its plan is gone) is locked: it stays known, its credentials are disabled, and
    the log states why. If its plan's maximum was lowered below its own spend limit, the maximum applies, and the log reports it.

    organizations   by id, as of `version`
    retired         Client IDs that were revoked and whose organization is gone or now in the file, as in a Directory,
                    each with that organization's id
    source          of both
    """

    def __init__(
        self,
        database: Database,
        config: Callable[[], GatewayConfig],
        *,
        is_announced: Callable[[], bool] = lambda: False,
        keeper: SnapshotKeeper | None = None,
    ) -> None:
        """Read nothing yet.

        is_announced   whether `wake` is called at each change, as far as this process can know
        keeper         gets the rows that are read
        """
        self._database = database
        self._config = config
        self._is_announced = is_announced
        self._keeper = keeper
        self._is_too_old: Callable[[], bool] = lambda: False
        self._rules = Rules(config)
        self._read_under: GatewayConfig | None = None
        self._woken = Alarm()
        self.organizations: dict[str, Organization] = {}
        self.retired: dict[tuple[str, str], str] = {}
        self.version = -1
        self.source = StoredSource.NOTHING

    def wake(self) -> None:
        """Check for changes now, rather than at the next poll."""
        self._woken.set()

    async def read(self) -> None:
        """Read the database for the first time, before anybody follows. Raises LedgerUnavailableError."""
        await self.refresh()
        self.source = StoredSource.DATABASE

    async def refresh(self) -> frozenset[str]:
        """Read possible changes; return the ids of organizations that are changed, new or gone. Raises LedgerUnavailableError."""
        config = self._config()
        if self._keeper is not None:
            self._keeper.begin()
        is_same_config = self._read_under is not None and _same_rules(self._read_under, config)
        if is_same_config and self.version == await self._database.ask(_version):
            if self._keeper is not None:
                self._keeper.confirm()
            return frozenset()
        async with self._database.read() as connection:
            version = await connection.run_sync(_version)
            changed = await self._changed_ids(connection) if is_same_config and self.version >= 0 else None
            reading = _Reading(config, self._rules)
            lines: dict[str, bytes] = {}
            async for rows in _rows_of(connection, changed):
                reading.take(rows)
                if self._keeper is not None:
                    lines.update((stored.id, row_line(stored, credentials)) for stored, credentials in rows)
                await asyncio.sleep(0)
            retired = await self._retired(connection, changed)
        reading.log()
        self.retired = retired | reading.hidden
        self._read_under, self.version = config, version
        before = {} if changed is None else {org: self.organizations.get(org) for org in changed}
        replaced = self._replace(reading.found, changed)
        if self._keeper is not None:
            takes_away = changed is None or any(takes_away_from(old, self.organizations.get(org)) for org, old in before.items())
            self._keeper.replace(lines, self.retired, changed=changed, takes_away=takes_away)
        return replaced

    async def use(self, snapshot: Snapshot, *, is_too_old: Callable[[], bool]) -> None:
        """Serve from a snapshot until the database can be read, or until it is too old. Raises SnapshotUnusableError."""
        reading = _Reading(self._config(), self._rules)
        for start in range(0, len(snapshot.lines), CHUNK):
            reading.take(list(snapshot.rows(start, start + CHUNK)))
            await asyncio.sleep(0)
        reading.log()
        self._replace(reading.found, None)
        self.retired = {**snapshot.retired, **reading.hidden}
        self.source, self._is_too_old = StoredSource.SNAPSHOT, is_too_old

    async def follow_forever(self, on_change: Callable[[frozenset[str]], None]) -> None:
        """Refresh when woken, and every POLL_SECONDS. While the database is away the copy stays as it is.

        on_change is called once more, without organizations, when all that the database has was announced for the first time.
        While changes are announced the copy is refreshed more seldom, and keeps no session of PostgreSQL in between.
        """
        is_away = self.source is not StoredSource.DATABASE  # which was logged
        while True:
            for _ in range(QUIET_BEATS):
                await self._woken.wait(until_tick(BEAT_SECONDS if self._is_quiet() else POLL_SECONDS))
                if is_away or self._woken.is_set or not self._is_quiet():
                    break
            self._woken.clear()
            try:
                changed = await self.refresh()
            except LedgerUnavailableError as error:
                if not is_away:
                    _log.warning("the directory cannot be read; the last copy stays in force: %s", error)
                is_away = True
                await self._drop_old_snapshot(on_change)
                continue
            is_away = False
            if self._is_quiet():
                await self._database.close_idle()
            await _announce(changed, on_change)
            if self.source is not StoredSource.DATABASE:
                self.source = StoredSource.DATABASE
                _log.info("the directory is read from the database", extra={"fields": {"organizations": len(self.organizations)}})
                on_change(frozenset())

    async def _drop_old_snapshot(self, on_change: Callable[[frozenset[str]], None]) -> None:
        """A key that was revoked since must not be served for ever."""
        if self.source is StoredSource.SNAPSHOT and self._is_too_old():
            _log.error("the snapshot of the directory is too old to be served: keys that are not in organizations.yaml get 503")
            self.source = StoredSource.NOTHING
            await _announce(self._replace([], None), on_change)

    def _is_quiet(self) -> bool:
        """Return whether a change would be announced, of the directory or of the rules that the process has read."""
        is_read = self._read_under is not None and _same_rules(self._read_under, self._config())
        return is_read and self._is_announced()

    async def _changed_ids(self, connection: AsyncConnection) -> frozenset[str] | None:
        """The ids of changed organizations; None if there are so many that reading everything is simpler."""
        query = select(AUDIT_LOG.c.org).where(AUDIT_LOG.c.version > self.version, AUDIT_LOG.c.org.is_not(None)).distinct()
        ids = (await connection.execute(query.limit(CHANGED_MAX + 1))).scalars().all()
        return None if len(ids) > CHANGED_MAX else frozenset(ids)

    async def _retired(self, connection: AsyncConnection, changed: frozenset[str] | None) -> dict[tuple[str, str], str]:
        query = select(RETIRED_CLIENT_IDS.c.id, RETIRED_CLIENT_IDS.c.org, RETIRED_CLIENT_IDS.c.is_self_made)
        kept: dict[tuple[str, str], str] = {}
        if changed is not None:
            if not changed:
                return self.retired
            query = query.where(RETIRED_CLIENT_IDS.c.org.in_(list(changed)))
            kept = {retired: org for retired, org in self.retired.items() if org not in changed}
        rows = await connection.execute(query)
        return kept | {_retirement(row.id, row.org, is_self_made=row.is_self_made): row.org for row in rows}

    def _replace(self, found: list[Organization], changed: frozenset[str] | None) -> frozenset[str]:
        now = {organization.id: organization for organization in found}
        if changed is None:
            before, self.organizations = self.organizations, now
            return frozenset(org for org in before.keys() | now.keys() if before.get(org) != now.get(org))
        self.organizations = {org: kept for org, kept in self.organizations.items() if org not in changed} | now
        return changed


class _Reading:
    """What rows of the directory come to under one configuration.

    hidden   revoked or disabled credentials of organizations that the file now has, as in `retired`
    """

    def __init__(self, config: GatewayConfig, rules: Rules) -> None:
        self._rules = rules
        self._in_file = {organization.id for organization in config.organizations}
        self._taken = {credential.id for organization in config.organizations for credential in organization.credentials}
        self.found: list[Organization] = []
        self.hidden: dict[tuple[str, str], str] = {}

    def take(self, rows: Sequence[_Rows]) -> None:
        """Take some more organizations."""
        for stored, credentials in rows:
            if stored.id in self._in_file:
                _log.warning("organization %s stands in organizations.yaml too: the file holds", stored.id)
                ended = [item for item in credentials if item.revoked_at_ms is not None or not item.enabled]
                retired = [_retirement(item.id, stored.id, is_self_made=item.is_self_made) for item in ended]
                self.hidden.update({pair: stored.id for pair in retired if pair[0] not in self._taken})
            else:
                self.found.append(self._organization(stored, [item for item in credentials if item.id not in self._taken]))

    def log(self) -> None:
        """Log, once all are taken, which of them a plan holds lower."""
        lowered = [organization.id for organization in self.found if organization.plan.lowered]
        if lowered:
            named = ", ".join(sorted(lowered)[:LOWERED_NAMED_MAX])
            _log.warning("spend limits above their plan's maximum are held at that maximum, of %d: %s", len(lowered), named)

    def _organization(self, stored: StoredOrganization, credentials: list[StoredCredential]) -> Organization:
        try:
            return self._rules.effective(stored, credentials)
        except InvalidChangeError as error:
            _log.error("organization %s is locked, since it breaks the rules in force: %s", stored.id, error.message)
            return _locked(stored, credentials)


async def _rows_of(connection: AsyncConnection, ids: frozenset[str] | None) -> AsyncIterator[Sequence[_Rows]]:
    """Organizations with their credentials, some at a time. ids: only these."""
    after = ""
    while rows := await organizations_with_credentials(connection, ids=ids, after=after, limit=CHUNK):
        yield rows
        after = rows[-1][0].id


async def _announce(changed: Collection[str], on_change: Callable[[frozenset[str]], None]) -> None:
    ids = sorted(changed)
    for start in range(0, len(ids), ANNOUNCED_MAX):
        on_change(frozenset(ids[start : start + ANNOUNCED_MAX]))
        await asyncio.sleep(0)


def takes_away_from(before: Organization | None, now: Organization | None) -> bool:
    """Return whether a key that was served is served no more, or only until an earlier time."""
    return not _served(before) <= _served(now)


def _served(organization: Organization | None) -> frozenset[tuple[bytes, int | None]]:
    if organization is None or not organization.plan.api_access:
        return frozenset()
    enabled = [credential for credential in organization.credentials if credential.enabled]
    current = {(credential.key_sha256, credential.expires_at_ms) for credential in enabled}
    return frozenset(current | {(credential.old_key_sha256, credential.old_key_until_ms) for credential in enabled})


def _version(connection: Connection) -> int:
    return int(connection.execute(_OF_VERSION).scalar_one())


def _retirement(client_id: str, org: str, *, is_self_made: bool) -> tuple[str, str]:
    """A retired Client ID and its scope: one that an organization chose itself is retired for that organization alone."""
    return client_id, org if is_self_made else EVERYWHERE


def _locked(stored: StoredOrganization, credentials: list[StoredCredential]) -> Organization:
    """The organization with disabled credentials: still known, so that its keys and tokens cannot pass for another's."""
    return Organization(
        id=stored.id,
        name=stored.name,
        plan=Plan(id=stored.plan, api_access=False),
        credentials=tuple(
            Credential(
                id=item.id,
                org=stored.id,
                key_sha256=bytes.fromhex(item.key_sha256 or ""),
                enabled=False,
                is_self_made=item.is_self_made,
            )
            for item in credentials
        ),
    )


def _same_rules(one: GatewayConfig, other: GatewayConfig) -> bool:
    """Return whether both configurations have the same rules, by identity: prices are replaced now and then, rules are not."""
    return one.stated_plans is other.stated_plans and one.routes is other.routes and one.organizations is other.organizations

"""The stores and configuration of the process behind the console's port, opened once for all its parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tallygate.app.clocks import now_ms
from tallygate.app.configuration import served_config_holder
from tallygate.app.stores import open_ledger_link, open_served_ledger, open_store, read_replica
from tallygate.config.directory import StoredSource
from tallygate.config.holder import ConfigHolder, LastWithStored
from tallygate.config.model import GatewayConfig
from tallygate.config.settings import Settings
from tallygate.config.webhook_endpoint import WebhookEndpoint
from tallygate.domain.organization import Organization
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.directory.replica import DirectoryReplica
from tallygate.ledger.directory.snapshot import SnapshotKeeper
from tallygate.ledger.read_replica import ReadReplica
from tallygate.limiter.directory_channel import DirectoryChannel
from tallygate.limiter.opening import StoreConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The opened resources. store: for short calls, with the store's deadline. link: for long reads, which may take longer."""

    settings: Settings
    holder: ConfigHolder
    store: StoreConnection
    link: StoreConnection
    database: Database
    directory: DirectoryReplica
    replica: ReadReplica | None = None  # of processes with an API, if there is one
    channel: DirectoryChannel | None = None  # of processes that follow the directory
    snapshots: SnapshotKeeper | None = None  # of the one process of a machine with workers that keeps them
    joined: LastWithStored = field(default_factory=LastWithStored)

    def config(self) -> GatewayConfig:
        """The configuration in force now, with the organizations of the database."""
        return self.joined.of(self.holder.current, self.directory.organizations)

    def all_organizations(self) -> Sequence[Organization]:
        """Every organization, for what must miss none. Raises LedgerUnavailableError until the database was read."""
        if self.directory.source is not StoredSource.DATABASE:
            raise LedgerUnavailableError("the organizations of the database are not read yet")
        return self.config().organizations

    def webhooks(self) -> Sequence[WebhookEndpoint]:
        """The endpoints in force now."""
        return self.holder.current.webhooks

    async def follow_directory(self) -> None:
        """Follow the directory until cancelled."""
        await self.directory.follow_forever(lambda _changed: None)

    async def listen_to_directory(self) -> None:
        """Check for changes as soon as one is announced, until cancelled."""
        if self.channel is not None:
            await self.channel.listen_forever(self.directory.wake)

    async def close(self) -> None:
        replica = () if self.replica is None else (self.replica.close,)
        for close in (self.store.close, self.link.close, *replica, self.database.close):
            await close()


async def open_resources(settings: Settings, *, has_workers: bool, keeps_ledger: bool, signs_in: bool) -> Resources:
    """Open the resources. Raises ConfigError, and StoreError if the limiter's store cannot be reached."""
    holder = served_config_holder(settings, sends_webhooks=keeps_ledger, signs_in=signs_in)
    store = await open_store(settings)
    channel = DirectoryChannel(settings.redis_url.get_secret_value())
    ledger = await open_served_ledger(
        settings, holder, migrates=keeps_ledger, is_announced=lambda: channel.is_heard, keeps_snapshot=has_workers
    )
    replica = read_replica(settings) if signs_in else None
    return Resources(
        settings=settings,
        holder=holder,
        store=store,
        link=await open_ledger_link(settings),
        database=ledger.database,
        replica=None if replica is None else ReadReplica(ledger.database, replica, now_ms=now_ms),
        directory=ledger.directory,
        channel=channel,
        snapshots=ledger.keeper,
    )

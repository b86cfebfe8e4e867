"""The ledger of a deployment beside the store that runs, as commands compare them."""

from collections.abc import Sequence

from tallygate.app.clocks import now_ms
from tallygate.app.configuration import config_holder
from tallygate.app.stores import open_ledger_link, read_directory
from tallygate.config.holder import with_stored
from tallygate.config.settings import Settings
from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Organization
from tallygate.ledger.continuity import Continuity, Lack
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.opening import open_database
from tallygate.limiter.script import load_scripts


async def ledger_lack(
    settings: Settings, database: Database, organizations: Sequence[Organization], *, accepts: bool = False
) -> Lack:
    """What the ledger lacks of the store's events. accepts: from now on it is held to be complete.

    Raises LedgerUnavailableError, StoreError.
    """
    store = await open_ledger_link(settings)
    try:
        continuity = Continuity(database, store, load_scripts())
        lack = await continuity.compare(organizations, now_ms())
        if accepts:
            await continuity.accept()
        return lack
    finally:
        await store.close()


async def examined_lack(settings: Settings) -> Lack | None:
    """The same for a check that changes no tables; None where there is no ledger yet, or it cannot be compared now.

    Raises ConfigError.
    """
    url = settings.database_url.get_secret_value()
    if not url and not (settings.data_dir / "ledger.db").exists():
        return None
    database = open_database(url, settings.data_dir)
    try:
        holder = config_holder(settings)
        directory = await read_directory(database, holder)
        return await ledger_lack(settings, database, with_stored(holder.current, directory.organizations).organizations)
    except (LedgerUnavailableError, StoreError):
        return None
    finally:
        await database.close()

"""The ledger and the organizations, opened for one command."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.settings import Settings
from tallygate.domain.errors import ConfigError, StoreError
from tallygate.domain.organization import Organization, retired_organization

if TYPE_CHECKING:
    from tallygate.ledger.database import Database

EX_CONFIG: Final = 78


class ConfigProblems(click.ClickException):
    exit_code = EX_CONFIG


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSession:
    """An open ledger.

    settings        of the command
    organizations   from organizations.yaml and the database, by id
    now_ms          when the command began
    """

    settings: Settings
    database: "Database"
    organizations: Mapping[str, Organization]
    prices: PriceCatalogue
    now_ms: int

    async def organization(self, org: str, *, needs_export: bool) -> Organization:
        """Find an organization, or what the ledger has of one that left the configuration.

        Raises click.ClickException if it is missing, or its plan lacks the export that is needed.
        """
        from tallygate.ledger.series import SeriesLabels

        found = self.organizations.get(org)
        if found is None and await SeriesLabels(self.database).seen([org], "org", {org}):
            found = retired_organization(org)
        if found is None:
            raise click.ClickException(f"there is no organization {org}")
        if needs_export and not found.plan.export:
            raise click.ClickException(
                f"organization {org} is on the plan {found.plan.id}, which {found.plan.lacks_export} "
                "(the operator may --ignore-plan)"
            )
        return found


@asynccontextmanager
async def open_session(flags: Mapping[str, Path | str | None], *, writes: bool = False) -> AsyncIterator[LedgerSession]:
    """Open the ledger. flags: the given settings. writes: whether it is changed.

    Raises ConfigError, StoreError, and ClickException if there is no ledger.
    """
    from tallygate.app.clocks import now_ms
    from tallygate.app.configuration import config_holder
    from tallygate.app.stores import open_ledger, read_directory
    from tallygate.commands.chosen_settings import chosen_settings

    settings = chosen_settings(flags, writes=writes)
    require_ledger(settings)
    holder = config_holder(settings)
    database = await open_ledger(settings, is_command=True)
    try:
        stored = await read_directory(database, holder)
        in_files = {organization.id: organization for organization in holder.current.organizations}
        yield LedgerSession(
            settings=settings,
            database=database,
            organizations={**stored.organizations, **in_files},
            prices=holder.current.prices,
            now_ms=now_ms(),
        )
    finally:
        await database.close()


def require_ledger(settings: Settings) -> None:
    """Raise click.ClickException if there is no ledger."""
    if not settings.database_url.get_secret_value() and not (settings.data_dir / "ledger.db").exists():
        raise click.ClickException(f"no ledger is kept in {settings.data_dir}: give the --data-dir of serve, or --database-url")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print errors that an operator can fix as a line instead of a traceback."""
    from tallygate.ledger.database_errors import LedgerUnavailableError

    try:
        yield
    except ConfigError as error:
        raise ConfigProblems("\n".join(error.problems)) from error
    except StoreError as error:
        raise click.ClickException(f"the ledger does not answer: {error}") from error
    except LedgerUnavailableError as error:
        raise click.ClickException(f"the ledger's database {error.reason}") from error

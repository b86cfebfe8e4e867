"""The version of the ledger's tables, which is that of their newest migration, and the way to the next one (`Database.migrate`)."""

import logging
from importlib.resources import files
from typing import Final

from sqlalchemy import Connection, column, inspect, select, table

from tallygate.domain.errors import ConfigError

VERSION_TABLE: Final = "ledger_version"
# Versions that are committed by themselves: what follows takes long, and writers of the version before go on meanwhile.
MILESTONES: Final = ("0024",)


def versions() -> list[str]:
    """The versions of the migrations, in their order: the number of each file, such as "0010" of v0010_retired_by_whom.py."""
    names = (file.name for file in files("tallygate.ledger.migrations.versions").iterdir())
    return sorted(name[1:5] for name in names if name.startswith("v") and name.endswith(".py"))


def newest_version() -> str:
    return versions()[-1]


def version_problem(version: str | None) -> str | None:
    """Why tables of this version cannot be used; None if they can, migrated or not."""
    if version is None or version in versions():
        return None
    return (
        f"the ledger's tables are of version {version}, and this tallygate knows versions up to {newest_version()}: "
        "run the newer tallygate that wrote them, or restore a backup from before it"
    )


def upgrade(connection: Connection) -> tuple[str | None, str]:
    """Migrate up to the next milestone; the versions before and after. Each start looks at least, and importing alembic is slow."""
    before = version_of(connection)
    if before == newest_version():
        return before, before
    if problem := version_problem(before):
        raise ConfigError((problem,))
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it announces its plugins, and each step of the way
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "tallygate.ledger:migrations")
    config.attributes["connection"] = connection
    reached = next((version for version in MILESTONES if before is None or before < version), newest_version())
    command.upgrade(config, reached)
    return before, reached


def version_of(connection: Connection) -> str | None:
    """The version of the tables; None for a database without any."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar_one_or_none()
    return found

"""Alembic's entry point: runs the migrations on the connection from `Database.migrate`."""

from alembic import context

import tallygate.ledger.directory.schema
import tallygate.ledger.notices.schema  # noqa: F401 - the tables of both are of the same metadata
from tallygate.ledger.schema import METADATA
from tallygate.ledger.table_version import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
    version_table=VERSION_TABLE,
)
context.run_migrations()

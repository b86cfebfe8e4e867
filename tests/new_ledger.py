"""Empty ledgers at this version's tables, copied from one that was migrated: migrating each takes longer than most tests."""

import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from postgres_process import PostgresProcess

from tallygate.ledger.database import Database
from tallygate.ledger.opening import open_database

_TEMPLATE = "template_ledger"
_names = itertools.count()
_file: list[bytes] = []  # of the SQLite ledger, once it was made


async def new_ledger(folder: Path) -> Database:
    """A ledger in SQLite, as `ledger.db` of the folder; one that is there already is opened."""
    path = folder / "ledger.db"
    if not path.exists():
        path.write_bytes(await ledger_file())
    return open_database("", folder)


async def ledger_file() -> bytes:
    """An empty SQLite ledger."""
    if not _file:
        with tempfile.TemporaryDirectory() as folder:
            database = open_database("", Path(folder))
            await database.migrate()
            await database.close()
            _file.append((Path(folder) / "ledger.db").read_bytes())
    return _file[0]


@asynccontextmanager
async def postgres_ledger(server: PostgresProcess) -> AsyncIterator[str]:
    """URL of a ledger in a database of its own, which is dropped at the end."""
    name = f"ledger_{next(_names)}"
    connection = await asyncpg.connect(server.url())
    if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", _TEMPLATE):
        await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        database = open_database(server.url(_TEMPLATE), Path())
        await database.migrate()
        await database.close()
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield server.url(name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()

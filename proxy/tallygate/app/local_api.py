"""The console's API without a console: its own handlers over the ledger and the limiter, for a command on the same machine.

They are served on a Unix socket in a directory that only this user can open, for as long as the command runs.
"""

import hashlib
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from tallygate.app.configuration import config_holder
from tallygate.app.console_part import open_directory, resource_routes, usage_sources
from tallygate.app.resources import Resources
from tallygate.app.stores import LEDGER_DEADLINE_MS, open_ledger, read_directory
from tallygate.config.settings import Settings
from tallygate.console.api_access import PlatformToken
from tallygate.console.api_routes import Api
from tallygate.domain.errors import StoreError
from tallygate.limiter.address import parse_address
from tallygate.limiter.opening import store_connection

_NO_STORE: Final = "unix:///nonexistent"  # nothing of ours: what needs the store says that it does not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalApi:
    socket: Path
    token: str = field(repr=False)


@asynccontextmanager
async def local_api(settings: Settings, *, actor: str) -> AsyncIterator[LocalApi]:
    """Serve the API. actor: as the log of changes names it. Raises ConfigError, and StoreError if the database is away."""
    holder = config_holder(settings)
    link = store_connection(parse_address(settings.redis_url.get_secret_value() or _NO_STORE), timeout_ms=LEDGER_DEADLINE_MS)
    with suppress(StoreError):
        await link.open()
    database = await open_ledger(settings, is_command=True)
    token = secrets.token_urlsafe()
    try:
        directory = await read_directory(database, holder)
        resources = Resources(settings=settings, holder=holder, store=link, link=link, database=database, directory=directory)
        book = open_directory(settings, database, lambda: holder.current)
        tokens = PlatformToken(hashlib.sha256(token.encode()).digest(), actor=actor)
        app = web.Application()
        Api(resource_routes(book, usage_sources(resources)), tokens).add_to(app)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        with tempfile.TemporaryDirectory(prefix="tallygate-") as closed:
            socket = Path(closed) / "api"
            try:
                await web.UnixSite(runner, socket).start()
                yield LocalApi(socket=socket, token=token)
            finally:
                await runner.cleanup()
    finally:
        await link.close()
        await database.close()

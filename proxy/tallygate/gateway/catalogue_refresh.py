"""Reading upstreams' own price catalogues, now and then. A catalogue that cannot be read leaves the last one in force."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from tallygate.config.cache_ratios import FamilyRatios
from tallygate.config.holder import ConfigHolder
from tallygate.config.model import Upstream
from tallygate.config.upstream_catalogue import read_upstream_catalogue
from tallygate.outbound.way_out import tls_context

CATALOGUE_BYTES_MAX: Final = 5_000_000
_LOOK_EVERY_S: Final = 5.0  # how often it is checked whether a catalogue is due, and for new upstreams
_RETRY_MS: Final = 15_000
_START_S: Final = 5.0
_TIMEOUT: Final = ClientTimeout(total=30)
_log = logging.getLogger(__name__)


class CatalogueError(Exception):
    """An upstream's catalogue could not be had."""


class CatalogueRefresh:
    """Reads each catalogue at start and every catalogue_ttl_ms; calls on_change when the holder has new prices."""

    def __init__(
        self, holder: ConfigHolder, session: ClientSession, *, now_ms: Callable[[], int], on_change: Callable[[], None]
    ) -> None:
        self._holder = holder
        self._session = session
        self._now_ms = now_ms
        self._on_change = on_change
        self._due: dict[tuple[str, str, str, FamilyRatios], int] = {}

    async def at_start(self) -> None:
        """Read what there is before the first request needs it; an upstream that is slow to tell its prices is not waited for."""
        try:
            async with asyncio.timeout(_START_S):
                await self._refresh_due()
        except TimeoutError:
            _log.warning("price catalogues not read within %g s: models that only they price are refused until they are", _START_S)

    async def forever(self) -> None:
        while True:
            await self._refresh_due()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _refresh_due(self) -> None:
        for upstream in self._holder.current.upstreams.values():
            # One that a reload has moved, or reads otherwise, is due at once.
            source = (upstream.name, upstream.base_url, upstream.catalogue_path, upstream.cache_ratios)
            if upstream.catalogue_path and self._now_ms() >= self._due.get(source, 0):
                is_read = await refresh(self._holder, self._session, upstream)
                self._due[source] = self._now_ms() + (upstream.catalogue_ttl_ms if is_read else _RETRY_MS)
                if is_read:
                    self._on_change()


async def refresh(holder: ConfigHolder, session: ClientSession, upstream: Upstream) -> bool:
    """Read one catalogue into the holder; False, and a log line, if it cannot be had."""
    try:
        catalogue = read_upstream_catalogue(await _fetch(session, upstream), upstream.cache_ratios)
    except (CatalogueError, ClientError, TimeoutError, ValueError) as error:
        _log.warning("price catalogue of upstream %s not read: %s", upstream.name, error)
        return False
    for problem in catalogue.problems[:20]:
        _log.warning("price catalogue of upstream %s: %s", upstream.name, problem)
    holder.put_upstream_catalogue(upstream.name, catalogue)
    prices = holder.current.prices
    for entry in prices.routing.unmatched(prices.models()):
        _log.warning("auto_routing.reaches %r of prices.yaml, which is no family and no priced model: it holds nothing", entry)
    return True


async def _fetch(session: ClientSession, upstream: Upstream) -> bytes:
    url = upstream.base_url.rstrip("/") + upstream.catalogue_path
    trust = tls_context(upstream.ca_pem) if upstream.ca_pem else True
    async with session.get(url, allow_redirects=False, timeout=_TIMEOUT, ssl=trust) as answer:
        if answer.status != 200:
            raise CatalogueError(f"status {answer.status}")
        body = await answer.content.read(CATALOGUE_BYTES_MAX + 1)
        while not answer.content.at_eof() and len(body) <= CATALOGUE_BYTES_MAX:
            body += await answer.content.readany()
        if len(body) > CATALOGUE_BYTES_MAX:
            raise CatalogueError(f"larger than {CATALOGUE_BYTES_MAX} bytes")
        return body

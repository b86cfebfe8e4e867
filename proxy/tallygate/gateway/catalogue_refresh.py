"""Periodic reading of upstreams' own price catalogues. Where one cannot be read, the last one stays in force."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import ClientSession

from tallygate.config.cache_ratios import FamilyRatios
from tallygate.config.holder import ConfigHolder
from tallygate.config.model import Upstream
from tallygate.config.upstream_catalogue import UpstreamCatalogue, read_upstream_catalogue
from tallygate.outbound.refreshed import Fetched, Refreshed
from tallygate.outbound.session import FetchError, fetch, trust_of
from tallygate.shares.ticks import tick

CATALOGUE_BYTES_MAX: Final = 5_000_000
PROBLEMS_LOGGED_MAX: Final = 20
_LOOK_EVERY_S: Final = 5.0  # how often it is checked whether a catalogue is due, and for new upstreams
_RETRY_MS: Final = 15_000
_START_S: Final = 5.0
_TIMEOUT_S: Final = 30.0
_log = logging.getLogger(__name__)


class CatalogueSource(Refreshed[UpstreamCatalogue]):
    """One upstream's catalogue; on_change is called with each that was read."""

    def __init__(
        self,
        upstream: Upstream,
        session: ClientSession,
        *,
        now_ms: Callable[[], int],
        on_change: Callable[[str, UpstreamCatalogue], None],
    ) -> None:
        super().__init__(now_ms=now_ms, retry_ms=lambda _left_ms: _RETRY_MS)
        self._upstream = upstream
        self._session = session
        self._trust = trust_of(upstream.ca_pem)
        self._on_change = on_change

    async def fetch(self) -> Fetched[UpstreamCatalogue]:
        upstream = self._upstream
        body = await fetch(
            self._session,
            "GET",
            upstream.base_url.rstrip("/") + upstream.catalogue_path,
            whose="the upstream",
            bytes_max=CATALOGUE_BYTES_MAX,
            timeout_s=_TIMEOUT_S,
            trust=self._trust,
        )
        try:
            catalogue = read_upstream_catalogue(body, upstream.cache_ratios)
        except ValueError as error:
            raise FetchError(str(error)) from None
        for problem in catalogue.problems[:PROBLEMS_LOGGED_MAX]:
            _log.warning("price catalogue of upstream %s: %s", upstream.name, problem)
        self._on_change(upstream.name, catalogue)
        return Fetched(catalogue, due_ms=self._now_ms() + upstream.catalogue_ttl_ms)

    def log_failure(self, failure: FetchError) -> None:
        _log.warning("price catalogue of upstream %s not read: %s", self._upstream.name, failure)


class CatalogueRefresh:
    """Reads each catalogue at start and every catalogue_ttl_ms; calls on_change when the holder has new prices."""

    def __init__(
        self, holder: ConfigHolder, session: ClientSession, *, now_ms: Callable[[], int], on_change: Callable[[], None]
    ) -> None:
        self._holder = holder
        self._session = session
        self._now_ms = now_ms
        self._on_change = on_change
        self._catalogues: dict[tuple[str, str, str, FamilyRatios], CatalogueSource] = {}

    async def at_start(self) -> None:
        """Read the catalogues before the first request; a slow upstream is not waited for."""
        try:
            async with asyncio.timeout(_START_S):
                await self._refresh_due()
        except TimeoutError:
            _log.warning("price catalogues not read within %g s: models that only they price are refused until they are", _START_S)

    async def refresh_forever(self) -> None:
        try:
            while True:
                await self._refresh_due()
                await tick(_LOOK_EVERY_S)
        finally:
            for catalogue in self._catalogues.values():
                catalogue.abandon()

    async def _refresh_due(self) -> None:
        before, self._catalogues = self._catalogues, {}
        for upstream in self._holder.current.upstreams.values():
            if upstream.catalogue_path:
                # One that a reload has moved, or reads otherwise, is another, and due at once.
                source = (upstream.name, upstream.base_url, upstream.catalogue_path, upstream.cache_ratios)
                self._catalogues[source] = before.pop(source) if source in before else self._new(upstream)
        for gone in before.values():
            gone.abandon()
        for catalogue in self._catalogues.values():
            catalogue.renew_if_due()
        for catalogue in list(self._catalogues.values()):
            await catalogue.wait()

    def _new(self, upstream: Upstream) -> CatalogueSource:
        return CatalogueSource(upstream, self._session, now_ms=self._now_ms, on_change=self._put)

    def _put(self, upstream: str, catalogue: UpstreamCatalogue) -> None:
        self._holder.put_upstream_catalogue(upstream, catalogue)
        prices = self._holder.current.prices
        for entry in prices.routing.unmatched(prices.reachable_names()):
            _log.warning("auto_routing.reaches %r of prices.yaml, which is no family and no priced model: it holds nothing", entry)
        self._on_change()

"""The gateway, assembled from parts that the composition root, or a test, supplies."""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiohttp import ClientSession

from tallygate.config.directory import Directory, StoredSource
from tallygate.config.holder import ConfigHolder, with_stored
from tallygate.config.jwt_issuer import JwtIssuer
from tallygate.config.key_lookup import KeyLookup
from tallygate.config.model import AuthKind, GatewayConfig, OnDisconnect, Upstream
from tallygate.config.reloading import Reloading
from tallygate.dialects.registry import Dialects
from tallygate.domain.admission import Account
from tallygate.domain.errors import StoreError
from tallygate.domain.organization import Organization
from tallygate.gateway.callers.clients import Clients
from tallygate.gateway.callers.foreign import ForeignCallers
from tallygate.gateway.callers.jwt_bearer import IssuerVerifier, JwtVerifier
from tallygate.gateway.callers.jwt_keys import JwtKeys
from tallygate.gateway.callers.key_lookup import LookedUpKeys
from tallygate.gateway.catalogue_refresh import CatalogueRefresh
from tallygate.gateway.cors import CorsPolicy
from tallygate.gateway.exchange.drains import Drains
from tallygate.gateway.jobs.poller import JobStore, Poller
from tallygate.gateway.oauth2_token import OAuth2Token
from tallygate.gateway.object_owners import ObjectOwners, owners_of_one_process
from tallygate.gateway.observed_pipeline import Observer
from tallygate.gateway.refusal_log import Lines, RefusalLog
from tallygate.gateway.routes import RouteTable
from tallygate.gateway.server import GatewayServer
from tallygate.gateway.services import Fallback, GatewayBounds, Services, TodaysUsage, Tokenizer, View
from tallygate.gateway.settling.settler import Settler
from tallygate.gateway.settling.spool import Spool
from tallygate.gateway.settling.spool_copier import KeepCopies, SpoolCopier
from tallygate.gateway.settling.withdrawals import Withdrawals
from tallygate.gateway.stored_directory import NoStoredDirectory, StoredDirectory
from tallygate.gateway.upstream import UpstreamClient
from tallygate.gateway.upstream_auth import UpstreamCredentials
from tallygate.gateway.upstream_failures import UpstreamFailures
from tallygate.http1.client_connection import ClientTimeouts
from tallygate.http1.upstream_pool import UpstreamPool
from tallygate.limiter.port import Limiter
from tallygate.shares.fair_places import FairPlaces
from tallygate.telemetry.access_log import AccessLog
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import CONFIG_RELOADS, DIRECTORY_SNAPSHOT, DIRECTORY_UNREAD, KEY_LOOKUPS
from tallygate.telemetry.unpriced_models import UnpricedModels

HAND_OVER_USED_S: Final = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a gateway.

    session       for requests off the hot path (OAuth2 tokens, price catalogues, issuers' keys, key look-ups)
    finished      which of these event ids the ledger has the final word of; raises StoreError
    store_run     id of the run of the limiter's store, as its connection has seen it; empty if the store reports none
    keep_copies   keeps copies of what is spooled, as of `SpoolCopier`; None: the spool is where they would be
    owners        the owners of objects that upstreams store
    record_used   stores at intervals when credentials were last used; raises StoreError. None: it is not stored
    refusal_lines where the log of refused requests is written; None: there is none
    used_today    of an organization and one of its credentials, as of `Services`
    jobs          the work that upstreams go on with after their answer; None: nobody follows it here
    beside        further tasks that run while the gateway serves
    on_config     called with the configuration in force and the organizations that are in no file
    on_directory  called with changed organizations, before and after
    access_log    of requests; None: there is none
    observers     of exchanges, beside it
    on_job        called with the account of work that an upstream went on with, or of a part of it, once that is settled
    """

    holder: ConfigHolder
    limiter: Limiter
    fallback: Fallback
    spool: Spool
    tokens: Tokenizer
    dialects: Dialects
    metrics: Metrics
    session: ClientSession
    bounds: GatewayBounds
    timeouts: ClientTimeouts
    connections_max: int
    oauth_timeout_ms: int
    now_ms: Callable[[], int]
    finished: Callable[[Sequence[str]], Awaitable[frozenset[str]]]
    new_id: Callable[[], str]
    cors: CorsPolicy = field(default_factory=CorsPolicy)
    owners: ObjectOwners = field(default_factory=owners_of_one_process)
    unpriced: UnpricedModels = field(default_factory=UnpricedModels)
    clock: Callable[[], float] = time.perf_counter
    store_run: Callable[[], str] = lambda: ""
    keep_copies: KeepCopies | None = None
    stored: StoredDirectory = field(default_factory=NoStoredDirectory)
    record_used: Callable[[Mapping[str, int]], Awaitable[None]] | None = None
    refusal_lines: Lines | None = None
    used_today: TodaysUsage | None = None
    jobs: JobStore | None = None
    beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    on_config: Callable[[GatewayConfig], None] = lambda _config: None
    on_directory: Callable[[Sequence[Organization], Sequence[Organization]], None] = lambda _gone, _come: None
    on_close: Callable[[], Awaitable[None]] | None = None
    access_log: AccessLog | None = None
    observers: Sequence[Observer] = ()
    on_job: Callable[[Account], None] | None = None


class Gateway(GatewayServer):
    """A worker's data plane that follows its configuration: files that are reloaded, and upstreams' own price catalogues."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        loop = asyncio.get_running_loop()
        config = parts.holder.current
        services = Services(
            view=view_of(config, parts),
            limiter=parts.limiter,
            fallback=parts.fallback,
            settler=Settler(
                parts.limiter,
                parts.spool,
                parts.metrics,
                finished=parts.finished,
                now_ms=parts.now_ms,
                clock=parts.clock,
                store_run=parts.store_run,
                on_job=parts.on_job,
            ),
            withdrawals=Withdrawals(parts.limiter),
            tokens=parts.tokens,
            dialects=parts.dialects,
            metrics=parts.metrics,
            upstream_failures=UpstreamFailures(parts.metrics, loop),
            bounds=parts.bounds,
            loop=loop,
            clock=parts.clock,
            now_ms=parts.now_ms,
            new_id=parts.new_id,
            owners=parts.owners,
            session=parts.session,
            has_room_for_job=_always if parts.jobs is None else parts.jobs.has_room,
            cors=parts.cors,
            unpriced=parts.unpriced,
            refusal_log=None
            if parts.refusal_lines is None
            else RefusalLog(parts.refusal_lines, parts.metrics, now_ms=parts.now_ms, new_id=parts.new_id, loop=loop),
            used_today=parts.used_today,
        )
        self._count_source()
        self._catalogues = CatalogueRefresh(parts.holder, parts.session, now_ms=parts.now_ms, on_change=self.follow)
        self._reloading = Reloading(self.read_again)
        self._copier = None
        if parts.keep_copies is not None:
            self._copier = SpoolCopier(parts.spool, services.settler.recent, parts.metrics, parts.keep_copies, clock=loop.time)
        super().__init__(
            services,
            timeouts=parts.timeouts,
            connections_max=parts.connections_max,
            background=[
                self._catalogues.refresh_forever(),
                self._reloading.reload_forever(),
                parts.stored.follow_forever(self.follow_directory),
                self._hand_over_used(),
                *([] if self._copier is None else [self._copier.copy_forever()]),
                *([] if parts.jobs is None else [Poller(services, parts.jobs, parts.session).poll_forever()]),
                *(work() for work in parts.beside),
            ],
            access_log=parts.access_log,
            observers=parts.observers,
        )

    @property
    def session(self) -> ClientSession:
        """The session for requests off the hot path."""
        return self._parts.session

    async def start(self, listening: socket.socket) -> None:
        """Start to serve, with the prices of upstreams' own catalogues."""
        await self._catalogues.at_start()
        await super().start(listening)

    def reload(self) -> None:
        """Reload the files soon, while requests continue."""
        self._reloading.ask()

    async def read_again(self) -> None:
        """Read the files again; a bad set changes nothing and is logged and counted. Looked-up keys are asked about again."""
        keys = _looked_up(self.services.view)
        if keys is not None:
            keys.forget()
        problems = await self._parts.holder.reload()
        self._parts.metrics.inc(CONFIG_RELOADS, "rejected" if problems else "applied")
        for problem in problems:
            _log.error("configuration not reloaded: %s", problem)
        if not problems:
            self.follow()
            self._parts.stored.wake()
            for upstream in self.services.view.upstreams.values():
                await asyncio.to_thread(upstream.pool.renew_tls)

    def follow(self) -> None:
        """Serve new exchanges under the holder's current configuration; those under way keep theirs."""
        config = self._parts.holder.current
        old = self.services.view
        view = view_of(config, self._parts, old)
        self.services.view = view
        if view.directory is not old.directory or config.routes is not old.config.routes:  # else the labels are the same
            self._parts.on_config(with_stored(config, self._parts.stored.organizations))
        for name, upstream in old.upstreams.items():
            if view.upstreams.get(name) is not upstream:
                upstream.pool.close()
        for issuer, verifier in _issuers(old).items():
            if _issuers(view).get(issuer) is not verifier:
                verifier.keys.abandon()
        keys = _looked_up(old)
        if keys is not None and keys is not _looked_up(view):
            keys.abandon()

    def follow_directory(self, changed: frozenset[str]) -> None:
        """Serve new exchanges with organizations as they are now."""
        view, stored = self.services.view, self._parts.stored
        in_file = {organization.id for organization in view.config.organizations}
        gone, come = [], []
        for org in changed - in_file:
            before, now = view.directory.organization(org), stored.organizations.get(org)
            if before is not None:
                gone.append(before)
            if now is None:
                view.directory.remove(org)
            else:
                come.append(now)
                view.directory.put(now)
        view.directory.retired, view.directory.source = stored.retired, stored.source
        view.directory_changed()
        self._parts.on_directory(gone, come)
        self._count_source()

    def _count_source(self) -> None:
        source = self._parts.stored.source
        self._parts.metrics.set(DIRECTORY_UNREAD, int(source is StoredSource.NOTHING))
        self._parts.metrics.set(DIRECTORY_SNAPSHOT, int(source is StoredSource.SNAPSHOT))

    async def _hand_over_used(self) -> None:
        note = self._parts.record_used
        while note is not None:
            await asyncio.sleep(HAND_OVER_USED_S)
            used = self.services.used.collect()
            try:
                await note(used)
            except StoreError:
                self.services.used.restore(used)

    async def close(self) -> None:
        await super().close()
        if self._copier is not None:
            await self._copier.copy_last()
        if self.services.refusal_log is not None:
            self.services.refusal_log.close()
        if self._parts.record_used is not None:
            with suppress(StoreError):
                await self._parts.record_used(self.services.used.collect())
        for verifier in _issuers(self.services.view).values():
            verifier.keys.abandon()
        keys = _looked_up(self.services.view)
        if keys is not None:
            keys.abandon()
        await self._parts.session.close()
        self._parts.spool.close()
        if self._parts.on_close is not None:
            await self._parts.on_close()


async def _always(_org: str) -> bool:
    return True


def view_of(config: GatewayConfig, parts: Parts, old: View | None = None) -> View:
    """Build the view of a configuration; unchanged upstreams keep connections and tokens, unchanged issuers their keys."""
    upstreams = {}
    for name, upstream in config.upstreams.items():
        kept = None if old is None else old.upstreams.get(name)
        upstreams[name] = kept if kept is not None and kept.config == upstream else _client(upstream, parts)
    if old is not None and old.config.organizations == config.organizations:
        directory = old.directory  # it has followed what changed beside the file
    else:
        directory = Directory(with_stored(config, parts.stored.organizations).organizations)
        directory.retired, directory.source = parts.stored.retired, parts.stored.source
    return View(
        config=config,
        routes=RouteTable(config.routes, {name: client.pool.address.path_prefix for name, client in upstreams.items()}),
        directory=directory,
        prices=config.prices,
        upstreams=upstreams,
        foreign=_foreign_callers(config, parts, directory, old),
    )


def _foreign_callers(config: GatewayConfig, parts: Parts, directory: Directory, old: View | None) -> ForeignCallers:
    verifiers, before = {}, {} if old is None else _issuers(old)
    for issuer in config.jwt_issuers:
        kept = before.get(issuer.issuer)
        verifiers[issuer.issuer] = kept if kept is not None and kept.config.is_same_as(issuer) else _issuer_verifier(issuer, parts)
    keys = None if old is None else _looked_up(old)
    if config.key_lookup is None:
        keys = None
    elif keys is None or keys.config != config.key_lookup:
        keys = _key_lookup(config.key_lookup, parts)
    return ForeignCallers(Clients(directory), verifier=JwtVerifier(verifiers) if verifiers else None, keys=keys)


def _key_lookup(config: KeyLookup, parts: Parts) -> LookedUpKeys:
    loop = asyncio.get_running_loop()
    return LookedUpKeys(
        config,
        parts.session,
        now_ms=parts.now_ms,
        clock_ms=lambda: int(loop.time() * 1000),
        count=partial(parts.metrics.inc, KEY_LOOKUPS),
        loop=loop,
    )


def _issuer_verifier(issuer: JwtIssuer, parts: Parts) -> IssuerVerifier:
    loop = asyncio.get_running_loop()
    keys = JwtKeys(issuer, parts.session, now_ms=lambda: int(loop.time() * 1000), timeout_ms=parts.oauth_timeout_ms)
    keys.renew_if_due()
    return IssuerVerifier(issuer, keys, now_ms=parts.now_ms)


def _issuers(view: View) -> Mapping[str, IssuerVerifier]:
    return {} if view.foreign.tokens is None else view.foreign.tokens.verifier.issuers


def _looked_up(view: View) -> LookedUpKeys | None:
    return view.foreign.keys


def _client(upstream: Upstream, parts: Parts) -> UpstreamClient:
    loop = asyncio.get_running_loop()
    token = None
    if upstream.auth.kind is AuthKind.OAUTH2_CLIENT_CREDENTIALS:
        token = OAuth2Token(
            upstream.auth,
            parts.session,
            now_ms=lambda: int(loop.time() * 1000),
            timeout_ms=parts.oauth_timeout_ms,
            ca_pem=upstream.ca_pem,
        )
    return UpstreamClient(
        config=upstream,
        pool=UpstreamPool(upstream, loop=loop),
        credentials=UpstreamCredentials(upstream.auth, token),
        drains=None if upstream.on_disconnect is OnDisconnect.CANCEL else Drains(upstream, parts.metrics),
        places=FairPlaces(upstream.pool_max),
    )

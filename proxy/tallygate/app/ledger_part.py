"""The ledger: its writer, the rebuild of the limiter, retention, audit, the sweep of expired holds, and webhooks."""

import os
import secrets
import time
from functools import partial
from pathlib import Path
from random import Random

from tallygate.app.clocks import now_ms, steady_ms
from tallygate.app.configuration import process_way_out
from tallygate.app.console_part import open_directory
from tallygate.app.part import Part
from tallygate.app.product import product_version
from tallygate.app.resources import Resources
from tallygate.console.limiter_store import LimiterStore
from tallygate.console.readiness import continuity_probe
from tallygate.ledger.audit import LimiterAudit
from tallygate.ledger.book import Book
from tallygate.ledger.event_stream import EventStreams
from tallygate.ledger.notices.deliveries import Deliveries
from tallygate.ledger.notices.digest_figures import DigestFigures
from tallygate.ledger.notices.digests import Digests
from tallygate.ledger.rebuild import Rebuild
from tallygate.ledger.refused_requests import RefusedRequests
from tallygate.ledger.retention import Retention
from tallygate.ledger.spool_copies import SpoolHeir
from tallygate.ledger.store_clock import StoreClock
from tallygate.ledger.upkeep import ConfigInForce, Upkeep, sweep_forever, write_last_used_forever
from tallygate.ledger.writer import Writer
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.shares.seldom import Seldom
from tallygate.webhooks.dispatcher import SENDING_MAX, Dispatcher, endpoints_of
from tallygate.webhooks.sender import Sender


def ledger_part(resources: Resources, store: LimiterStore) -> Part:
    """The ledger's part. Several ledgers can run at once."""
    upkeep = build_upkeep(resources)
    book = open_directory(resources.settings, resources.database, lambda: resources.holder.current)
    return Part(
        samples=(upkeep.samples,),
        probes=(continuity_probe(lambda: upkeep.lack),),
        opening=(upkeep.open_store,),
        asked=(upkeep.hurry,),
        beside=(
            upkeep.keep_forever,
            partial(sweep_forever, store.sweep, Seldom(time.monotonic)),
            partial(write_last_used_forever, resources.link, book.credentials),
            build_dispatcher(resources).send_forever,
        ),
    )


def build_dispatcher(resources: Resources) -> Dispatcher:
    """Build the sender of the ledger's notices to webhooks."""
    sender = Sender(
        now_ms=now_ms,
        user_agent=f"tallygate/{product_version()}",
        connections_max=SENDING_MAX,
        way=process_way_out(resources.settings, os.environ),
    )
    return Dispatcher(
        Deliveries(resources.database),
        sender,
        endpoints=resources.webhooks,
        now_ms=now_ms,
        loop_time=time.monotonic,
        random=Random(int.from_bytes(os.urandom(16))),
    )


def build_upkeep(resources: Resources) -> Upkeep:
    """Build the upkeep of the ledger: writer, rebuild of the limiter, retention, audit."""
    database, link = resources.database, resources.link
    scripts, book = load_scripts(), Book(database, endpoints_of=partial(endpoints_of, resources.webhooks))
    streams = EventStreams(link, ledger_name(resources.settings.data_dir))
    clock = StoreClock(link, steady_ms=steady_ms)
    rebuild = Rebuild(
        database,
        link,
        scripts,
        organizations=resources.all_organizations,
        now_ms=clock.now_ms,
        lease_ms=resources.settings.lease_seconds * 1000,
        may_open=lambda: clock.is_believed,
    )
    writer = Writer(
        streams,
        book,
        now_ms=now_ms,
        loop_time=time.monotonic,
        on_posted_again=rebuild.repair,
        counted_at=clock.counted_at,
        before_reading=rebuild.continuity.check,
    )
    heir = SpoolHeir(
        database,
        RedisLimiter(resources.store, scripts),
        check_store=partial(resources.store.command, b"TIME"),
        is_behind=lambda: writer.is_behind,
        wait_seconds=resources.settings.spool_heir_seconds,
        now_ms=now_ms,
        clock=time.monotonic,
    )
    return Upkeep(
        database=database,
        book=book,
        streams=streams,
        writer=writer,
        rebuild=rebuild,
        retention=Retention(database),
        refused_requests=RefusedRequests(database),
        digests=Digests(
            database,
            DigestFigures(database, page_url=resources.settings.console_url),
            organizations=resources.all_organizations,
            endpoints=resources.webhooks,
        ),
        limiter_audit=LimiterAudit(database, link, scripts, on_ahead=rebuild.repair),
        store=link,
        config=ConfigInForce(organizations=resources.all_organizations, prices=lambda: tuple(resources.config().prices.rows())),
        now_ms=now_ms,
        clock=clock,
        seldom=Seldom(time.monotonic),
        heir=None if database.dialect == "sqlite" else heir,
    )


def ledger_name(data_dir: Path) -> str:
    """The name under which a ledger reads events from the limiter's streams. Each ledger has its own.

    It survives restarts, so that a ledger finds its unfinished events at once.
    """
    path = data_dir / "ledger_name"
    if not path.exists():
        path.write_text(f"ledger-{secrets.token_hex(8)}", encoding="ascii")
    return path.read_text(encoding="ascii")

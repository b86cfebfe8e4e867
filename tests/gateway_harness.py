"""A gateway in this process, over the simulator and the reference limiter, for tests of the whole data plane."""

import asyncio
import functools
import hashlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import yaml
from aiohttp import ClientSession
from encodings_of_tests import load_once
from recording_metrics import RecordingMetrics
from usage_events import cost_by_kind, read_event

from tallygate.app.clocks import event_id_source
from tallygate.config.holder import ConfigHolder
from tallygate.config.load import ConfigSource
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.domain.admission import Account, CalendarPeriod, SpendDemand, WindowState
from tallygate.domain.calendar_months import months_around
from tallygate.domain.job import Job
from tallygate.domain.made_object import MadeObject
from tallygate.domain.spend_limit import WindowKind
from tallygate.gateway.assembly import Gateway, Parts
from tallygate.gateway.cors import CorsPolicy
from tallygate.gateway.object_owners import ObjectOwners, ObjectRecords
from tallygate.gateway.observed_pipeline import Observer
from tallygate.gateway.services import GatewayBounds, TodaysUsage
from tallygate.gateway.settling.spool import Spool
from tallygate.gateway.stored_directory import NoStoredDirectory, StoredDirectory
from tallygate.http1.client_connection import ClientTimeouts
from tallygate.ledger.entry import FINAL
from tallygate.ledger.jobs import JOB_KIND
from tallygate.limiter.object_marks import MemoryObjectMarks, ObjectMarks
from tallygate.limiter.port import Limiter
from tallygate.limiter.reference import ReferenceLimiter
from tallygate.limiter.reference_state import StreamEvent
from tallygate.outbound.way_out import WayOut
from tallygate.simulator.ledger import Ledger
from tallygate.simulator.prompt_tokens import PromptTokens
from tallygate.simulator.server import running_simulator, system_clock_ms
from tallygate.telemetry.access_log import AccessLog
from tallygate.telemetry.metrics import OPEN_REQUESTS, OVERHEAD_SECONDS, READING_ON, REQUEST_SECONDS
from tallygate.telemetry.refusal_file import DIRECTORY as REFUSALS
from tallygate.telemetry.refusal_file import RefusalFile
from tallygate.telemetry.unpriced_models import UnpricedModels
from tallygate.tokens.counter import TokenCounter

TIMEOUTS = ClientTimeouts(head=10, idle=75, body_grace=10, body_bytes_per_second=1_000, write=60)
LIMITS = GatewayBounds(
    head_bytes_max=32_768,
    body_bytes_max=32_000_000,
    requests_open_max=10_000,
    body_budget_bytes=256_000_000,
    lease_ms=30_000,
    checkpoint_seconds=5.0,
)
ACME_KEY = "tg_acme-prod_acmesecret"
BIG_KEY = "tg_big-prod_bigsecret"
FREE_KEY = "tg_free-prod_freesecret"
OWN_KEY = "sk-brought-along"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def organizations(acme_usd: str = "25") -> dict[str, Any]:
    """Acme pays as it goes, big is an enterprise, free has no API access."""
    return {
        "organizations": [
            {
                "id": "acme",
                "name": "Acme",
                "plan": "pay_as_you_go",
                "spend_limit": {"usd": acme_usd},
                "credentials": [{"id": "acme-prod", "name": "Production", "key_sha256": digest("acmesecret")}],
            },
            {
                "id": "big",
                "name": "Big",
                "plan": "enterprise",
                "credentials": [
                    {"id": "big-prod", "name": "Production", "key_sha256": digest("bigsecret")},
                    {"id": "big-own", "name": "Own key", "key_sha256": digest(OWN_KEY)},
                    {
                        "id": "big-narrow",
                        "name": "Narrow",
                        "key_sha256": digest("narrowsecret"),
                        "capabilities": ["models", "chat"],
                        "models": ["gpt-4o-mini*"],
                    },
                ],
            },
            {
                "id": "free",
                "name": "Free",
                "plan": "free",
                "credentials": [{"id": "free-prod", "name": "Production", "key_sha256": digest("freesecret")}],
            },
        ]
    }


@dataclass(kw_only=True)
class Harness:
    """What a test looks at. url: the gateway's, without a slash at the end."""

    url: str
    upstream_url: str
    ledger: Ledger
    gateway: Gateway
    limiter: Any
    metrics: RecordingMetrics
    config_dir: Path
    clock: "Clock" = field()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def events(self) -> list[dict[str, Any]]:
        """Usage events in the streams of the reference limiter, oldest first, with the stream's own fields as `_kind` and `_at`."""
        found = []
        for entries in self.limiter.events.values():
            events = [entry for entry in entries if isinstance(entry, StreamEvent) and entry.kind != JOB_KIND.decode()]
            found += [read_event(entry.event) | {"_kind": entry.kind, "_cost": entry.cost_nano_usd} for entry in events]
        for event in found:
            cost_by_kind(event)
        return sorted(found, key=lambda event: event["event_id"])

    def deferred(self) -> list[Job]:
        """Jobs in the same streams, oldest first."""
        streams = self.limiter.events.values()
        entries = [entry for stream in streams for entry in stream if isinstance(entry, StreamEvent)]
        return [msgspec.json.decode(entry.event, type=Job) for entry in entries if entry.kind == JOB_KIND.decode()]

    async def window(self, org: str = "acme", key: str = "org:spend_7d") -> WindowState:
        organization = next(item for item in self.gateway.services.view.config.organizations if item.id == org)
        limit = next(limit for limit in organization.plan.spend_limits if key.endswith(limit.name))
        months: tuple[CalendarPeriod, ...] = ()
        if limit.kind is WindowKind.CALENDAR_MONTH:
            months = months_around(self.clock.now_ms(), organization.time_zone, organization.billing_day)
        (reading,) = await self.limiter.read_windows(org, [SpendDemand(key=key, limit=limit, periods=months)])
        return reading  # type: ignore[no-any-return]

    async def at_rest(self, seconds: float = 5.0) -> None:
        """Wait until no exchange is open."""
        deadline = time.monotonic() + seconds
        while self.gateway.pipeline.open:
            assert time.monotonic() < deadline, "exchanges stay open"
            await asyncio.sleep(0.005)


class Clock:
    """The limiter's clock: real until a test moves it."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms


def write_config(directory: Path, files: dict[str, Any]) -> None:
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        (directory / f"{name}.yaml").write_text(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False))


async def nothing_finished(_event_ids: Sequence[str]) -> frozenset[str]:
    """A ledger that has nothing yet."""
    return frozenset()


async def finished_in(limiter: Any, event_ids: Sequence[str]) -> frozenset[str]:
    """A ledger that has entered all of the reference limiter's events."""
    entries = [entry for stream in limiter.events.values() for entry in stream if isinstance(entry, StreamEvent)]
    return frozenset(event_ids) & {entry.event_id for entry in entries if entry.kind in FINAL}


async def nothing_owned(org: str, objects: Sequence[MadeObject], *, since_ms: int) -> Mapping[MadeObject, int | None]:
    """A ledger that knows of no object."""
    assert org
    assert objects
    assert since_ms >= 0
    return {}


@asynccontextmanager
async def running_gateway(
    tmp_path: Path,
    *,
    acme_usd: str = "25",
    config: dict[str, Any] | None = None,
    config_dir: Path | None = None,
    limiter: Limiter | None = None,
    upstream_url: str | None = None,
    timeouts: ClientTimeouts | None = None,
    limits: GatewayBounds | None = None,
    connections_max: int = 5_000,
    fallback: Any = None,
    spool_bytes_max: int = 1_000_000,
    simulator_clock_ms: Callable[[], int] = system_clock_ms,
    marks: ObjectMarks | None = None,
    records: ObjectRecords | None = None,
    stored: StoredDirectory | None = None,
    cors: CorsPolicy | None = None,
    way: WayOut | None = None,
    enters: bool = False,
    access_log: AccessLog | None = None,
    used_today: TodaysUsage | None = None,
    observers: Sequence[Observer] = (),
    on_job: Callable[[Account], None] | None = None,
) -> AsyncIterator[Harness]:
    """enters: the ledger has each event at once.

    config: further or other YAML files by name; config_dir: a directory in their place; upstream_url: not the simulator's.
    """
    clock = Clock()
    limiter = limiter or ReferenceLimiter(clock.now_ms)
    metrics = RecordingMetrics()
    marks = marks or MemoryObjectMarks()
    async with running_simulator(clock_ms=simulator_clock_ms, prompt_tokens=shared_prompt_tokens()) as simulator:
        base_url = upstream_url or simulator.url
        if config_dir is None:
            config_dir = tmp_path / "config"
            write_config(config_dir, {"organizations": organizations(acme_usd)} | (config or {}))
        source = ConfigSource(
            directory=config_dir,
            shipped_dir=shipped_directory(),
            known_dialects=dialects().traits,
            default_url=base_url,
            environ=os.environ,
            way=way or WayOut(),
        )
        loop = asyncio.get_running_loop()
        parts = Parts(
            holder=ConfigHolder(source.load(), source.load),
            limiter=limiter,
            fallback=fallback,
            spool=Spool(tmp_path / "0.spool", bytes_max=spool_bytes_max, room_bytes=1 << 20),  # few requests are open at once
            finished=partial(finished_in, limiter) if enters else nothing_finished,
            owners=ObjectOwners(marks, records or nothing_owned, clock=time.monotonic, now_ms=clock.now_ms),
            tokens=shared_tokens(),
            dialects=dialects(),
            metrics=metrics,
            session=ClientSession(),
            bounds=limits or LIMITS,
            timeouts=timeouts or TIMEOUTS,
            connections_max=connections_max,
            oauth_timeout_ms=5_000,
            now_ms=clock.now_ms,
            new_id=event_id_source(clock.now_ms, Random(1)),
            refusal_lines=RefusalFile(tmp_path / REFUSALS, "worker-0", new_identity=lambda: 1),
            stored=stored or NoStoredDirectory(),
            cors=cors or CorsPolicy(),
            unpriced=UnpricedModels(tmp_path / "unpriced", "worker-0"),
            access_log=access_log,
            used_today=used_today,
            observers=observers,
            on_job=on_job,
        )
        gateway = Gateway(parts)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        await gateway.start(listening)
        try:
            yield Harness(
                url=f"http://127.0.0.1:{port}",
                upstream_url=base_url,
                ledger=simulator.ledger,
                gateway=gateway,
                limiter=limiter,
                metrics=metrics,
                config_dir=config_dir,
                clock=clock,
            )
        finally:
            await gateway.drain(0)
            await gateway.close()
        for whole, own in zip(metrics.seconds[REQUEST_SECONDS], metrics.seconds[OVERHEAD_SECONDS], strict=True):
            assert whole >= own
        assert metrics.levels[OPEN_REQUESTS] == metrics.levels[READING_ON] == 0
        assert loop.is_running()


def shared_tokens() -> TokenCounter:
    """A counter of this test's loop over vocabularies that are loaded once."""
    return TokenCounter(load=load_once, inline_chars_max=4_096)


@functools.cache
def shared_prompt_tokens() -> PromptTokens:
    """The simulators' counter of prompts, over the same vocabularies."""
    return PromptTokens(load_once)

"""Videos: asked for until they are done, and charged by what came of them.

An answer may have the videos themselves, in base64, so that it is read as it comes and never kept.
"""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import ClientSession
from msgspec.structs import replace

from tallygate.dialects.dialect import JobKind, MeterReading
from tallygate.dialects.job_kinds import JOB_FACTS
from tallygate.dialects.made_objects import MadeReader
from tallygate.domain.admission import Account
from tallygate.domain.job import Job
from tallygate.domain.made_object import MadeObject
from tallygate.gateway.exchange.metering import ASSUMED
from tallygate.gateway.jobs.responses import account_as_held, account_of_bill, bill_of_reading, facts_of, has_lost_price
from tallygate.gateway.services import Services
from tallygate.gateway.upstream import UpstreamClient
from tallygate.gateway.upstream_reads import read_chunks
from tallygate.outbound.session import FetchError

_JSON: Final = "application/json"
_MADE: Final = "operation"  # the kind of answer that names generated files


async def settled_video(services: Services, session: ClientSession, upstream: UpstreamClient, job: Job) -> Account | None:
    """The account of videos, from what their upstream says of them; None while they are under way.

    Raises FetchError, also for an answer that is not about them.
    """
    kind = JOB_FACTS[JobKind(job.kind)]
    body = None if kind.body_of is None else kind.body_of(job.object_id)
    chunks = read_chunks(session, upstream, services.dialects[job.dialect], job.target, body=body)
    reading, made = await _read(services, job, chunks)
    is_named = reading.job_id == job.object_id or (reading.job_id is None and not kind.is_named)
    if not is_named or not reading.ended:
        raise FetchError("the upstream's answer is not about these videos")
    if reading.awaits_final_usage:
        return None
    bill = bill_of_reading(services, job, facts_of(job), reading, counted=0)
    if reading.usage is None or has_lost_price(job, bill):
        return account_as_held(job, ASSUMED)
    return account_of_bill(services, job, bill, response_model=reading.response_model, made=made)


async def _read(services: Services, job: Job, chunks: AsyncIterator[bytes]) -> tuple[MeterReading, tuple[MadeObject, ...]]:
    """What an answer says, and the files that it names as generated. Raises FetchError."""
    facts = replace(facts_of(job), stream=False)
    meter = services.dialects[job.dialect].meter(facts, content_type=_JSON, hide_usage_chunk=False)
    made = MadeReader(_MADE, prefix="", content_type=_JSON)
    async for chunk in chunks:
        meter.feed(chunk)
        made.feed(chunk)
    meter.end_body()
    made.end_body()
    files = [MadeObject(kind=each.kind, id=each.id, upstream=job.upstream) for each in made.found]
    return meter.reading, tuple(files)

"""Batches: once one has ended, each of its results is metered like an answer, and settled by itself out of the batch's hold.

Results are streamed. A result is entered under an id made of the batch's and the line's own name, and the ledger is asked which
of them it has before any is settled: whoever comes back to a batch, at whatever line the last one stopped and in whatever order
the lines come, enters what is missing. The batch itself is settled when the ledger has every result.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, cast

from aiohttp import ClientSession
from msgspec.structs import replace

from tallygate.dialects.batch import BatchDialect, BatchResult, BatchState, with_batch_tier
from tallygate.dialects.dialect import BatchOrder, MeterReading, RequestFacts
from tallygate.dialects.made_objects import objects_of_result
from tallygate.dialects.meters import BODY_TOO_LARGE, BODY_UNREADABLE
from tallygate.domain.admission import Account, AdmissionRequest
from tallygate.domain.ending import Ending
from tallygate.domain.errors import StoreError
from tallygate.domain.job import DEFERRED, Job
from tallygate.domain.made_object import MadeObject
from tallygate.domain.usage import UsageSource
from tallygate.domain.usage_event import Outcome
from tallygate.gateway.client_request_id import kept_request_id
from tallygate.gateway.exchange.charging import Bill
from tallygate.gateway.exchange.event import charged, encode
from tallygate.gateway.exchange.metering import ASSUMED, nothing_owed
from tallygate.gateway.jobs.responses import LOST, bill_of_reading, event_of, facts_of, has_lost_price, lasting_flags, read_whole
from tallygate.gateway.services import Services, work_on
from tallygate.gateway.upstream import UpstreamClient
from tallygate.gateway.upstream_reads import PIECE_LINES, read_lines
from tallygate.outbound.session import FetchError

CHUNK_LINES: Final = 200  # results that the ledger is asked about at once, and CHUNK_BYTES of them at most
CHUNK_BYTES: Final = 1 << 20
SETTLED_AT_ONCE: Final = 50
AHEAD_MAX: Final = 1_000  # results settled that the ledger has not entered yet: its stream is shared
ASKED_AT_ONCE: Final = 200
WAIT_S: Final = 30.0  # for the ledger, until the batch is put off


Spent = Callable[[str], Awaitable[int]]  # what the entered results of a job cost; raises StoreError
Keep = Callable[[int], Awaitable[None]]  # notes how many results are entered, and renews the lease; raises StoreError


@dataclass(slots=True)
class _Line:
    """A result and the id under which it is entered."""

    id: str
    result: BatchResult
    size: int


@dataclass(slots=True)
class _Seen:
    """What has been read of a batch. lines: results, and succeeded: those that are charged; unentered: ids of settled ones."""

    lines: int = 0
    succeeded: int = 0
    unentered: list[str] = field(default_factory=list)


class BatchResults:
    """Enters the results of one batch. progress: how many lines whoever read it before has dealt with."""

    def __init__(
        self,
        services: Services,
        session: ClientSession,
        upstream: UpstreamClient,
        job: Job,
        *,
        progress: int,
        keep: Keep,
        spent: Spent,
    ) -> None:
        self._services = services
        self._session = session
        self._upstream = upstream
        self._job = job
        self._progress = progress
        self._keep = keep
        self._spent = spent
        self._dialect = cast("BatchDialect", services.dialects[job.dialect])
        self._facts = facts_of(job)
        self._event = event_of(job)
        self._lines = order_of(self._facts).lines
        self._seen = _Seen()

    async def enter(self, answer: bytes) -> Account | None:
        """The account of the batch itself once all results are entered; None while it runs. Raises FetchError, StoreError."""
        job, dialect = self._job, self._dialect
        state = await work_on(self._services, job.org, len(answer), lambda: dialect.state_of(answer, job.target))
        if state is not None and state.id not in (None, job.object_id):
            raise FetchError("the upstream's answer is about another batch")
        if state is None or not state.is_final:
            return None
        async for chunk in self._chunks(state):
            await self._enter(chunk)
        await self._wait(most=0)
        missing = 0 if state.succeeded is None else max(0, state.succeeded - self._seen.succeeded)
        spent = await self._spent(job.id) if missing else 0
        return account_of_rest(self._services, job, missing, spent_nano_usd=spent)

    async def lost(self) -> Account:
        """The account of a batch whose results the upstream does not have any more. Raises StoreError."""
        await self._wait(most=0)
        spent = await self._spent(self._job.id)
        return account_of_lost(self._services, self._job, progress=self._progress, spent_nano_usd=spent)

    async def _chunks(self, state: BatchState) -> AsyncIterator[Sequence[bytes]]:
        """The results in the order in which they are sent, some at a time."""
        for start in range(0, len(state.inlined), CHUNK_LINES):
            yield state.inlined[start : start + CHUNK_LINES]
        for target in state.targets:
            chunk, size = list[bytes](), 0
            async for piece in read_lines(self._session, self._upstream, self._dialect, target, headers=self._dialect.own_headers):
                chunk += piece
                size += sum(map(len, piece))
                if len(chunk) >= CHUNK_LINES or size >= CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
            if chunk:
                yield chunk

    async def _enter(self, chunk: Sequence[bytes]) -> None:
        """Settle the results of a chunk that the ledger does not have."""
        seen, lines = self._seen, dict[str, _Line]()
        for raw in chunk:
            result = self._dialect.result_of(raw)
            seen.lines += 1
            if result.answer is not None or result.is_odd:
                seen.succeeded += 1
                if result.is_odd and result.custom_id is None and seen.succeeded > self._lines:
                    raise FetchError("what the upstream sends are not the batch's results: there are more than it has requests")
                name = f"#{seen.lines}" if result.custom_id is None else result.custom_id
                id_ = part_id(self._job.id, name)
                lines[id_] = _Line(id_, result, len(raw))
        entered = await self._services.settler.finished(list(lines)) if lines else frozenset()
        accounts = list[Account]()
        for id_, line in lines.items():
            if id_ not in entered:
                accounts.append(await self._account(line))
                if len(accounts) % PIECE_LINES == 0:
                    await asyncio.sleep(0)  # others' turn: small results are metered without a break
        for start in range(0, len(accounts), SETTLED_AT_ONCE):
            await asyncio.gather(*map(self._services.settler.settle_part, accounts[start : start + SETTLED_AT_ONCE]))
        seen.unentered += [account.admission.reservation_id for account in accounts]
        if len(seen.unentered) >= AHEAD_MAX:
            await self._wait(most=AHEAD_MAX // 2)
        self._progress = max(self._progress, seen.lines)
        await self._keep(self._progress)

    async def _wait(self, *, most: int) -> None:
        """Wait until the ledger has entered all but so many of what was settled."""
        seen, services, pause = self._seen, self._services, 0.05
        until = services.clock() + WAIT_S
        while len(seen.unentered) > most:
            for start in range(0, len(seen.unentered), ASKED_AT_ONCE):
                asked = seen.unentered[start : start + ASKED_AT_ONCE]
                entered = await services.settler.finished(asked)
                seen.unentered = [id_ for id_ in seen.unentered if id_ not in entered]
                if len(entered) < len(asked):
                    break  # they are entered in order
            if len(seen.unentered) <= most:
                return
            if services.clock() > until:
                raise StoreError("the ledger has not entered the results of a batch yet")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    async def _account(self, line: _Line) -> Account:
        services, job, answer = self._services, self._job, line.result.answer
        if answer is None:
            return self._assumed(line)
        facts = replace(self._facts, job_kind=None, batch=None)
        dialect = services.dialects[order_of(self._facts).dialect]
        reading = await work_on(services, job.org, line.size, lambda: read_whole(dialect, facts, answer))
        if not reading.flags.isdisjoint({BODY_UNREADABLE, BODY_TOO_LARGE}) and reading.usage is None:
            return self._assumed(line)
        bill = await self._bill(facts, with_batch_tier(reading))
        return (
            self._assumed(line) if has_lost_price(job, bill) else self._settled(line, bill, response_model=reading.response_model)
        )

    async def _bill(self, facts: RequestFacts, reading: MeterReading) -> Bill:
        """The dearest bill by the models that the batch names, of which the answer shows one."""
        services, order = self._services, order_of(self._facts)
        share = -(-order.prompt_tokens // max(order.lines, 1))
        job = replace(self._job, prompt_tokens=share, fee_nano_usd=0)
        counted = 0
        text = reading.drain_text()
        if text and (reading.usage is None or not reading.usage.completion):
            counted = await services.tokens.text(text, reading.response_model or facts.model, org=job.org)
        models = models_of(order.models, reading.response_model)
        bills = [
            bill_of_reading(services, job, replace(facts, model=model), reading, counted=counted) for model in models or (None,)
        ]
        return max(bills, key=lambda bill: bill.cost_nano_usd)

    def _made(self, line: _Line) -> tuple[MadeObject, ...]:
        """The objects that a result names as stored for the organization."""
        found = objects_of_result(order_of(self._facts).dialect, line.result.answer or b"")
        return tuple([MadeObject(kind=each.kind, id=each.id, upstream=self._job.upstream) for each in found])

    def _assumed(self, line: _Line) -> Account:
        """A result that cannot be read is charged an even share of what the batch was held at."""
        metered = nothing_owed(UsageSource.CHECKPOINT, ASSUMED, "uncertain")
        bill = Bill(ending=Ending.BROKEN, metered=metered, cost_nano_usd=share_of(self._job), is_owed=True)
        return self._settled(line, bill, response_model=None)

    def _settled(self, line: _Line, bill: Bill, *, response_model: str | None) -> Account:
        job, usage = self._job, bill.metered.usage
        custom_id, is_billed = line.result.custom_id, bill.metered.source is not UsageSource.CHECKPOINT
        event = replace(
            charged(self._event, bill, flags=lasting_flags(self._event), is_billed=is_billed),
            event_id=line.id,
            endpoint=order_of(self._facts).path,
            response_model=response_model,
            client_request_id=None if custom_id is None else kept_request_id(custom_id),
            duration_ms=max(0, self._services.now_ms() - job.started_at_ms),
            request_bytes=0,
            response_bytes=line.size,
            made=self._made(line),
        )
        return Account(
            admission=part_admission(job, line.id),
            cost_nano_usd=bill.cost_nano_usd,
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            event=encode(event),
            part_of=job.id,
        )


def part_id(job_id: str, name: str) -> str:
    """The event id of a result: the same whenever it is read, and in the ledger beside that of its batch."""
    return f"{job_id}-{blake2b(name.encode(errors='surrogatepass'), digest_size=10).hexdigest()}"


def part_admission(job: Job, id_: str) -> AdmissionRequest:
    """The admission of a result: under the limits of its batch that count money, and never held by itself."""
    return replace(
        job.admission,
        reservation_id=id_,
        rate=(),
        hold_nano_usd=0,
        hold_min_nano_usd=0,
        floor_nano_usd=0,
        event=b"",
        floor_prompt_tokens=0,
        floor_completion_tokens=0,
    )


def account_of_rest(services: Services, job: Job, missing: int, *, spent_nano_usd: int) -> Account:
    """The account of the batch itself: it ends the hold.

    missing         answered requests whose results did not come
    spent_nano_usd  what the others cost
    """
    cost = job.fee_nano_usd + min(missing * share_of(job), _left(job, spent_nano_usd))
    flags = (DEFERRED, ASSUMED, "uncertain") if missing else (DEFERRED,)
    return _last_account(services, job, cost, flags)


def account_of_lost(services: Services, job: Job, *, progress: int, spent_nano_usd: int) -> Account:
    """The account of a batch, or results, that the upstream does not have any more: an even share for what was not entered."""
    lines = max(order_of(facts_of(job)).lines, 1)
    rest = (job.held_nano_usd - job.fee_nano_usd) * max(lines - progress, 0) // lines
    return _last_account(services, job, job.fee_nano_usd + min(rest, _left(job, spent_nano_usd)), (DEFERRED, LOST))


def _left(job: Job, spent_nano_usd: int) -> int:
    """What is left of a batch's hold: shares are even, and results are not."""
    return max(job.held_nano_usd - job.fee_nano_usd - spent_nano_usd, 0)


def _last_account(services: Services, job: Job, cost_nano_usd: int, flags: tuple[str, ...]) -> Account:
    event = replace(
        event_of(job),
        outcome=Outcome.SUCCESS,
        usage_source=UsageSource.NONE if cost_nano_usd == job.fee_nano_usd else UsageSource.CHECKPOINT,
        cost_nano_usd=cost_nano_usd,
        fee_nano_usd=job.fee_nano_usd,
        flags=(*flags, *lasting_flags(event_of(job))),
        duration_ms=max(0, services.now_ms() - job.started_at_ms),
    )
    return Account(admission=job.admission, cost_nano_usd=cost_nano_usd, event=encode(event), is_owed=cost_nano_usd > 0)


def order_of(facts: RequestFacts) -> BatchOrder:
    """What a batch's job has ordered."""
    assert facts.batch is not None  # noqa: S101 - a batch's job has one
    return facts.batch


def share_of(job: Job) -> int:
    """An even share of what a batch is held at, of one line."""
    return (job.held_nano_usd - job.fee_nano_usd) // max(order_of(facts_of(job)).lines, 1)


def models_of(models: Sequence[str], answered: str | None) -> Sequence[str]:
    """The models of a batch that a result can be of: the one that its answer names, dated or not; else all of them."""
    if len(models) <= 1 or answered is None:
        return models
    named = [model for model in models if answered.startswith(model)]
    return [max(named, key=len)] if named else models

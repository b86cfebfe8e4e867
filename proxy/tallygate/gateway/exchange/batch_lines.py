"""Reading the requests of a batch before it is ordered: each is checked and bounded like any request, at the price of batches.

They stand in the request or in a file at the upstream, which is streamed. Nothing of a line is kept but its sums.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from itertools import islice
from typing import Final, Protocol, cast

from msgspec.structs import replace

from tallygate.dialects.batch import BATCH, BatchDialect, BatchLine
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.request_headers import facts_with_headers
from tallygate.domain.errors import ErrorCode, Refusal, Refused, RequestRejectedError
from tallygate.domain.price import with_fee
from tallygate.domain.prompt import PromptShape
from tallygate.domain.stored_object import StoredReference
from tallygate.domain.usage import Conditions
from tallygate.gateway.callers.keys import check_capability, check_models
from tallygate.gateway.exchange.call import Caller, Head, NamedObjects, Received
from tallygate.gateway.exchange.entrance import Entrance
from tallygate.gateway.exchange.estimate import NOTHING_ASKED, Estimate, refuse_absurd
from tallygate.gateway.exchange.object_checks import check_objects
from tallygate.gateway.refusals import ENDPOINT_NOT_ENABLED, overloaded, rejected
from tallygate.gateway.services import Services, work_on
from tallygate.gateway.upstream_reads import PIECE_LINES, read_lines
from tallygate.outbound.session import FetchError
from tallygate.shares.fair_places import FairPlaces

READ_AT_ONCE: Final = 4  # batches, of which one organization has its share; others wait
WAIT_S: Final = 30.0
MODELS_MAX: Final = 100  # of one batch: a result is charged by the one of them that its answer names
NAMED_MAX: Final = 1_000  # different sets of stored objects whose owners are remembered within a batch
_NOTHING: Final = PromptShape(messages=1)


class Bounding(Protocol):
    """Bounds one request; raises Refused."""

    async def __call__(
        self, head: Head, caller: Caller, facts: RequestFacts, named: NamedObjects, *, size: int, fee_nano_usd: int
    ) -> tuple[RequestFacts, Estimate]: ...


@dataclass(slots=True)
class _Sums:
    """What the lines come to together, as far as they are read. ids: hashes of their names, each of which must be another."""

    lines: int = 0
    bytes: int = 0
    hold_nano_usd: int = 0
    prompt_tokens: int = 0
    facts: RequestFacts | None = None
    models: dict[str, None] = field(default_factory=dict)
    ids: set[int] = field(default_factory=set)
    named: dict[tuple[StoredReference, ...], NamedObjects] = field(default_factory=dict)


class BatchLines:
    """Reads and bounds the lines of batches. bound: of a single request."""

    def __init__(self, services: Services, entrance: Entrance, bound: Bounding) -> None:
        self._services = services
        self._entrance = entrance
        self._bound = bound
        self._places = FairPlaces(READ_AT_ONCE)

    async def bound_all(
        self, head: Head, caller: Caller, order: RequestFacts, received: Received, *, query: str
    ) -> tuple[RequestFacts, Estimate]:
        """The facts of all lines together, and the most that they can cost. Raises Refused, which names the line.

        query   as it is forwarded
        """
        batch, fee = order.batch, head.route.fee_nano_usd
        assert batch is not None  # noqa: S101 - a dialect of batches states it
        dialect = cast("BatchDialect", head.dialect)
        endpoint = _check_line_route(head, caller, batch.path)
        await self._entrance.preview(head, caller, least_nano_usd=fee or 1)
        sums, org = _Sums(), caller.organization.id
        if not await self._places.acquire(org, seconds=WAIT_S):
            raise Refused(overloaded("Your organization orders too many batches at once."))
        try:
            async for piece in self._pieces(head, caller, dialect, order, received, query=query):
                for line, facts in await self._read(head, caller, dialect, order, piece, before=sums.lines):
                    await self._add(head, caller, line, facts, sums)
                await asyncio.sleep(0)  # others' turn: small lines are read without a break
        finally:
            self._places.release(org)
        if sums.facts is None:
            raise Refused(_invalid("The batch has no requests.", order))
        hold = sums.hold_nano_usd + fee
        merged = replace(
            sums.facts,
            model=next(iter(sums.models)) if len(sums.models) == 1 else None,
            prompt=_NOTHING,
            stream=False,
            calls={},
            references=(),
            other_models=(),
            predicted="",
            job_kind=order.job_kind,
            batch=replace(
                batch,
                path=endpoint,
                lines=sums.lines,
                models=tuple(sums.models)[:MODELS_MAX],
                prompt_tokens=sums.prompt_tokens,
            ),
        )
        asked = replace(NOTHING_ASKED, rates=with_fee(None, hold), hold_nano_usd=hold, hold_min_nano_usd=hold)
        refuse_absurd(asked)
        return merged, asked

    async def _pieces(
        self, head: Head, caller: Caller, dialect: BatchDialect, order: RequestFacts, received: Received, *, query: str
    ) -> AsyncIterator[Sequence[BatchLine | bytes]]:
        batch = order.batch
        assert batch is not None  # noqa: S101
        if not batch.input_file:
            lines = dialect.lines_of(received.body, path=head.params)
            while piece := await self._next_inline(caller.organization.id, lines, len(received.body)):
                yield piece
            return
        created_at = head.client.view.routes.target(head.route, head.sent_params, query)
        target = dialect.input_target(created_at, batch.input_file)
        try:
            async for found in read_lines(self._services.session, head.upstream, dialect, target, headers=dialect.own_headers):
                yield found
        except FetchError as error:
            if not error.is_lasting:
                raise Refused(_UNREADABLE) from None
            raise Refused(_invalid("The batch's input file cannot be read at the AI service.", order)) from None

    async def _next_inline(self, org: str, lines: Iterator[BatchLine], size: int) -> Sequence[BatchLine]:
        try:
            return await work_on(self._services, org, size, lambda: list(islice(lines, PIECE_LINES)))
        except RequestRejectedError as error:
            raise Refused(rejected(error)) from None

    async def _read(
        self,
        head: Head,
        caller: Caller,
        dialect: BatchDialect,
        order: RequestFacts,
        piece: Sequence[BatchLine | bytes],
        *,
        before: int,
    ) -> list[tuple[BatchLine, RequestFacts]]:
        """The lines of a piece with what they ask for, in the organization's turn if they are long."""
        batch = order.batch
        assert batch is not None  # noqa: S101
        read = self._services.dialects[batch.dialect].read_request
        headers = head.client.request.headers

        def work() -> list[tuple[BatchLine, RequestFacts]]:
            found = []
            for number, each in enumerate(piece, before + 1):
                try:
                    line = dialect.line_of(each, batch.path) if isinstance(each, bytes) else each
                    facts = read(line.body, path=head.params, query={})
                except RequestRejectedError as error:
                    raise Refused(_of_line(rejected(error), number)) from None
                found.append((line, facts_with_headers(facts, headers)))
            return found

        size = sum([len(each) if isinstance(each, bytes) else len(each.body) for each in piece])
        return await work_on(self._services, caller.organization.id, size, work)

    async def _add(self, head: Head, caller: Caller, line: BatchLine, facts: RequestFacts, sums: _Sums) -> None:
        dialect = cast("BatchDialect", head.dialect)
        sums.lines += 1
        sums.bytes += len(line.body)
        if sums.lines > dialect.lines_max or sums.bytes > dialect.bytes_max:
            message = f"A batch may have at most {dialect.lines_max:,} requests of {dialect.bytes_max >> 20} MiB together."
            raise Refused(Refusal(code=ErrorCode.INVALID_REQUEST, message=message, should_retry=False))
        try:
            facts, asked = await self._bound_line(head, caller, line, facts, sums)
        except Refused as refused:
            raise Refused(_of_line(refused.refusal, sums.lines), decision=refused.decision, model=facts.model) from None
        sums.hold_nano_usd += asked.hold_nano_usd
        sums.prompt_tokens += asked.prompt_tokens
        if facts.model is not None:
            sums.models[facts.model] = None
        sums.facts = facts if sums.facts is None else _merged(sums.facts, facts)

    async def _bound_line(
        self, head: Head, caller: Caller, line: BatchLine, facts: RequestFacts, sums: _Sums
    ) -> tuple[RequestFacts, Estimate]:
        if (name := hash(line.custom_id)) in sums.ids:
            raise Refused(_rejected(f"The 'custom_id' {line.custom_id[:100]!r} comes twice.", param="custom_id"))
        sums.ids.add(name)
        if facts.job_kind is not None:
            raise Refused(_rejected("A request of a batch cannot run in the background.", param="background"))
        check_models(caller.credential, facts)
        named = sums.named.get(facts.references)
        if named is None:
            named = await check_objects(self._services.owners, head, caller, facts.references)
            if len(sums.named) < NAMED_MAX:
                sums.named[facts.references] = named
        facts = replace(facts, conditions=_in_batches(facts.conditions), default_conditions=_in_batches(facts.default_conditions))
        facts, asked = await self._bound(head, caller, facts, named, size=len(line.body), fee_nano_usd=0)
        if facts.is_by_calls:
            raise Refused(_rejected(f"Batches with the model {(facts.model or '')[:100]!r} are not metered here.", param="model"))
        if asked.imposed_maximum is not None:
            raise Refused(
                _rejected("State the maximum output of each request: no price is configured that bounds it.", param="max_tokens")
            )
        return facts, asked


def _check_line_route(head: Head, caller: Caller, path: str) -> str:
    """The endpoint of lines, as its route calls it. Refuses one that is off here, or that the caller may not use."""
    found = head.client.view.routes.find("POST", path)
    if found is None:
        return path
    route, _ = found
    if not route.enabled:
        raise Refused(replaced(ENDPOINT_NOT_ENABLED, param="endpoint"))
    check_capability(caller.organization, caller.credential, route.capability)
    return route.endpoint


def _in_batches(conditions: Sequence[Conditions]) -> tuple[Conditions, ...]:
    return tuple(dict.fromkeys([replace(each, service_tier=BATCH.service_tier) for each in conditions]))


def _merged(known: RequestFacts, more: RequestFacts) -> RequestFacts:
    """What results are charged by, of lines together: whatever any of them allows."""
    is_same = known.units == more.units and known.conditions == more.conditions and known.writes_1h == more.writes_1h
    if is_same and known.has_output == more.has_output:
        return known
    return replace(
        known,
        units=known.units | more.units,
        conditions=tuple(dict.fromkeys((*known.conditions, *more.conditions))),
        writes_1h=known.writes_1h or more.writes_1h,
        has_output=known.has_output or more.has_output,
    )


def _rejected(message: str, *, param: str | None = None) -> Refusal:
    return Refusal(code=ErrorCode.INVALID_REQUEST, message=message, param=param, should_retry=False)


def _of_line(refusal: Refusal, number: int) -> Refusal:
    return replaced(refusal, message=f"Request {number} of the batch: {refusal.message}")


def _invalid(message: str, order: RequestFacts) -> Refusal:
    return _rejected(message, param="input_file_id" if order.batch is not None and order.batch.input_file else "requests")


_UNREADABLE: Final = Refusal(
    code=ErrorCode.UPSTREAM_UNREACHABLE,
    message="The batch's input file cannot be read at the AI service at the moment. Try again shortly.",
    retry_after_ms=1_000,
    should_retry=True,
)

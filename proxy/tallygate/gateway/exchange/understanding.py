"""The stage that reads a request in its dialect, and bounds what it can cost before anything is held or sent."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from tallygate.dialects.body import parse_body
from tallygate.dialects.dialect import OtherModel, RequestFacts
from tallygate.dialects.job_kinds import VIDEOS
from tallygate.dialects.request_headers import facts_with_headers
from tallygate.dialects.unmetered import UNREAD
from tallygate.dialects.unread_body import names_all, references_of_any
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import Refused, RequestRejectedError, StoreError
from tallygate.domain.job import OPEN_JOBS_MAX
from tallygate.domain.markup import marked_up
from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.organization import Credential
from tallygate.domain.prompt import PromptShape, tokens_at_least
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.stored_object import StoredReference
from tallygate.gateway.callers.keys import check_model, check_models
from tallygate.gateway.exchange.asked_price import as_priced, count_unpriced, listed_price, price_of_unknown, refuse_unpriced_calls
from tallygate.gateway.exchange.batch_lines import BatchLines
from tallygate.gateway.exchange.call import Call, Caller, Head, Intake, NamedObjects, Received
from tallygate.gateway.exchange.entrance import DEAR_BODY_BYTES, Entrance
from tallygate.gateway.exchange.estimate import (
    Estimate,
    estimate,
    estimate_unread,
    refuse_absurd,
)
from tallygate.gateway.exchange.object_checks import answer_objects, check_objects, put_kind, streamed_form, with_kept
from tallygate.gateway.exchange.other_models import Priced
from tallygate.gateway.refusals import BATCH_NEEDS_OWN_KEY, JOB_NEEDS_OWN_KEY, VIDEO_NEEDS_OWN_KEY, overloaded, rejected
from tallygate.gateway.services import Services, work_on
from tallygate.telemetry.unpriced_models import UNPRICED_UNITS

MODEL_PARAMETER: Final = "model"  # of a route's path
_UPLOADED: Final = frozenset({"file", "upload", "upload_part"})  # kinds whose forms name no model
_FILE_TIMES: Final = 4  # a recording's shortest frames take so much longer to read than the same bytes of JSON
_BATCH: Final = "batch"  # its models stand in a file
_ANYTHING: Final = msgspec.json.Decoder()
_VOCABULARY: Final = Vocabulary(("model", "models"))
_NONE_KEPT: Final[Mapping[StoredReference, int | None]] = {}


class Understanding:
    """The stage over one worker's services."""

    def __init__(self, services: Services, entrance: Entrance) -> None:
        self._services = services
        self._entrance = entrance
        self.batches = BatchLines(services, entrance, self.bound)

    async def order(
        self, head: Head, caller: Caller, intake: Intake, received: Received
    ) -> tuple[RequestFacts, Estimate, NamedObjects]:
        """A request that orders a batch: its lines are read, wherever they stand, and bounded together."""
        facts = await self.facts(head, caller, received)
        if not head.is_shared:
            raise Refused(BATCH_NEEDS_OWN_KEY)
        await self._check_room_for_job(caller)
        named = await check_objects(self._services.owners, head, caller, facts.references)
        facts, asked = await self.batches.bound_all(head, caller, facts, received, query=intake.query)
        return facts, asked, named

    async def _check_job(self, head: Head, caller: Caller, facts: RequestFacts) -> None:
        """Refuse work that goes on after its answer where it cannot be followed, or there is no room for more."""
        if not head.is_shared:
            raise Refused(VIDEO_NEEDS_OWN_KEY if facts.job_kind in VIDEOS else JOB_NEEDS_OWN_KEY)
        await self._check_room_for_job(caller)

    async def _check_room_for_job(self, caller: Caller) -> None:
        """Refuse one more job than an organization may have open. While the ledger is away it is not known, and served."""
        try:
            has_room = await self._services.has_room_for_job(caller.organization.id)
        except StoreError:
            return
        if not has_room:
            raise Refused(
                overloaded(f"Your organization has {OPEN_JOBS_MAX:,} batches, videos and background responses under way.")
            )

    async def call(self, head: Head, caller: Caller, intake: Intake, received: Received) -> Call:
        """Read a request and bound its cost. Raises Refused."""
        facts, bound, named = await head.treatment.understand(self, head, caller, intake, received)
        return Call(
            head=head,
            caller=caller,
            intake=intake,
            received=received,
            facts=facts,
            estimate=bound,
            named=named,
            objects=answer_objects(head, caller, received.body),
        )

    async def read(
        self,
        head: Head,
        caller: Caller,
        _intake: Intake,
        received: Received,
        *,
        kept: Mapping[StoredReference, int | None] = _NONE_KEPT,
    ) -> tuple[RequestFacts, Estimate, NamedObjects]:
        """A request that a dialect reads. kept: what its connection itself has made, with the tokens that each brings at most."""
        facts = await self.facts(head, caller, received)
        try:
            if facts.job_kind is not None:
                await self._check_job(head, caller, facts)
            check_models(caller.credential, facts)
            references = [each for each in facts.references if each not in kept] if kept else facts.references
            named = await check_objects(self._services.owners, head, caller, references)
            if len(references) < len(facts.references):
                named = with_kept(named, head.route.upstream, {each: kept[each] for each in facts.references if each in kept})
            size = len(received.body) if received.form is None else received.form.form.text_chars()  # files are no text
            facts, asked = await self.bound(head, caller, facts, named, size=size, fee_nano_usd=head.route.fee_nano_usd)
        except Refused as refused:
            refused.model = facts.model
            raise
        return facts, asked, named

    async def bound(
        self, head: Head, caller: Caller, facts: RequestFacts, named: NamedObjects, *, size: int, fee_nano_usd: int
    ) -> tuple[RequestFacts, Estimate]:
        """A request as its price charges it, and the most that it can cost. Raises Refused where nothing can bound it."""
        price = self._price(head, caller, facts)
        if facts.calls_instead:
            facts = as_priced(facts, price)
            if price is not None:
                self._refuse_unpriced(head, caller, facts, price)
        organization, limits = caller.organization, caller.limits
        others = [self._priced(head, caller, other) for other in facts.other_models] if facts.other_models else ()
        if limits.spend and size > DEAR_BODY_BYTES:  # whose tokens are not worth counting if the least cost is too much
            at_least = tokens_at_least(facts.prompt)
            least = _worst_case(caller, facts, price, at_least, others=others, fee_nano_usd=fee_nano_usd).hold_min_nano_usd
            if least <= MONEY_MAX_NANO_USD:
                await self._entrance.preview(head, caller, least_nano_usd=least)
        if limits.needs_tokens:
            prompt_tokens = await self._services.tokens.prompt_upper_bound(facts.prompt, facts.model, org=organization.id)
        else:
            prompt_tokens = size // 4  # no limit depends on it; counted exactly if the upstream gives no usage
        predicted_tokens = 0
        if facts.predicted:
            shape = PromptShape(texts=(facts.predicted,))
            predicted = await self._services.tokens.prompt_upper_bound(shape, facts.model, org=organization.id)
            predicted_tokens = predicted * max(facts.choices, 1)
        asked = _worst_case(
            caller,
            facts,
            price,
            prompt_tokens,
            others=others,
            fee_nano_usd=fee_nano_usd,
            predicted_tokens=predicted_tokens,
            referred_tokens=named.referred_tokens if named.tokens else None,
        )
        refuse_absurd(asked)
        return facts, asked

    async def leave_unread(
        self, head: Head, caller: Caller, intake: Intake, received: Received
    ) -> tuple[RequestFacts, Estimate, NamedObjects]:
        """A request that no dialect reads: it costs its route's fee, and may name objects."""
        named = await self._unread_objects(head, caller, intake, received.body)
        return UNREAD, estimate_unread(head.route.fee_nano_usd), named

    async def facts(self, head: Head, caller: Caller, received: Received) -> RequestFacts:
        """What the dialect reads of a request. Raises Refused."""
        request, dialect, size = head.client.request, head.dialect, len(received.body)
        if received.form is None or dialect.form is None:
            reading = partial(dialect.read_request, received.body, path=head.params, query=request.query)
        else:
            reading = partial(dialect.form.read, received.form.form, path=head.params)
            if dialect.form.rules.keeps_files:
                size *= _FILE_TIMES
        try:
            read = await work_on(self._services, caller.organization.id, size, reading)
        except RequestRejectedError as error:
            raise Refused(rejected(error)) from None
        return facts_with_headers(read, request.headers)

    def _price(self, head: Head, caller: Caller, facts: RequestFacts) -> AnyPrice | None:
        """The price that bounds the request's, as it is billed; None where it may run unpriced."""
        client, plan = head.client, caller.organization.plan
        prices, at_ms = client.view.prices, client.started_at_ms
        price = listed_price(facts, prices, at_ms)
        if price is None and head.dialect.is_billed:
            count_unpriced(self._services, head, caller, facts.model, plan.unknown_model.value)
            price = price_of_unknown(facts, plan, prices, at_ms)
        if price is None:
            return None
        if facts.calls and head.dialect.is_billed:
            self._refuse_unpriced(head, caller, facts, price)
        return marked_up(price, head.markup)

    def _refuse_unpriced(self, head: Head, caller: Caller, facts: RequestFacts, price: AnyPrice) -> None:
        """Refuse, and count, a request that can cause what `price` has no rate for. Raises Refused."""
        plan = caller.organization.plan
        try:
            refuse_unpriced_calls(facts, plan, price)
        except Refused:
            count_unpriced(self._services, head, caller, facts.model, plan.unknown_model.value, named_for=UNPRICED_UNITS)
            raise

    def _priced(self, head: Head, caller: Caller, other: OtherModel) -> Priced:
        """Another model with its price, as it is billed."""
        return Priced(other, self._price(head, caller, RequestFacts(model=other.model, prompt=PromptShape())))

    async def _unread_objects(self, head: Head, caller: Caller, intake: Intake, body: bytes) -> NamedObjects:
        """Check the owners of the stored objects that a request without a dialect names."""
        org, size, objects = caller.organization.id, len(body), head.route.objects
        await work_on(self._services, org, size, partial(check_unread_model, head, caller.credential, body))
        try:
            streamed_form(head, is_body_read=intake.is_body_read)
            written = () if head.route.fee_nano_usd else objects.written
            reading = partial(references_of_any, body, put=put_kind(objects), is_shared=head.is_shared, written=written)
            references = await work_on(self._services, org, size, reading) if body else ()
        except RequestRejectedError as error:
            raise Refused(rejected(error)) from None
        return await check_objects(
            self._services.owners, head, caller, references, names_all=bool(objects.by_ids) and names_all(body)
        )


def _worst_case(
    caller: Caller,
    facts: RequestFacts,
    price: AnyPrice | None,
    prompt_tokens: int,
    *,
    others: Sequence[Priced],
    fee_nano_usd: int,
    predicted_tokens: int = 0,
    referred_tokens: int | None = None,
) -> Estimate:
    """The estimate of a caller's request, by its plan and the least of its spend limits."""
    return estimate(
        facts,
        caller.organization.plan,
        price,
        prompt_tokens,
        predicted_tokens=predicted_tokens,
        referred_tokens=referred_tokens,
        others=others,
        fee_nano_usd=fee_nano_usd,
        spend_limit_nano_usd=caller.limits.spend_limit_nano_usd,
    )


def check_unread_model(head: Head, credential: Credential, body: bytes) -> None:
    """Refuse a model that the credential may not use, in the path or a body that no dialect reads; or one that neither shows.

    body   as far as it was read: a form is not
    """
    if credential.models is None:
        return
    request, makes = head.client.request, head.route.objects.makes
    if MODEL_PARAMETER in head.params:
        check_model(credential, head.params[MODEL_PARAMETER])
    elif makes == _BATCH:
        check_model(credential, None)
    elif not request.body_exists or makes in _UPLOADED:
        return
    elif request.content_type.startswith("multipart/"):
        check_model(credential, None)
    elif body:
        _check_body(credential, body)


def _check_body(credential: Credential, body: bytes) -> None:
    try:
        parsed = parse_body(body, _ANYTHING)
        _VOCABULARY.check(parsed)
    except RequestRejectedError as error:
        raise Refused(rejected(error)) from None
    fields: Any = parsed.fields
    named = fields.get("model") if isinstance(fields, dict) else None
    if named is not None:
        check_model(credential, named if isinstance(named, str) else None)

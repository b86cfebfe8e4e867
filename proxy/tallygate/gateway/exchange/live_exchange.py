"""One exchange under way: who asks for what, what is held for it, and what it has come to so far."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
from aiohttp import web

from tallygate.config.model import AuthKind, Route
from tallygate.config.routes import UNBILLED_SUFFIX
from tallygate.dialects.dialect import Dialect, RequestFacts, UsageTold
from tallygate.domain.admission import Actual, AdmissionRequest, Checkpoint, Decision
from tallygate.domain.exchange import Event, Exchange, State
from tallygate.domain.made_object import MADE_MAX, MadeObject
from tallygate.domain.organization import Credential, Organization
from tallygate.domain.routed_price import AnyPrice
from tallygate.domain.token_counts import TokenCounts, UsageSource
from tallygate.domain.usage_event import UNREGISTERED, Outcome, UsageEvent
from tallygate.gateway.exchange.assumed import ASSUMED, Unseen, assumed, finishes_anyway, may_reason, tokens_within
from tallygate.gateway.exchange.estimate import Estimate
from tallygate.gateway.exchange.limit_headers import limit_headers
from tallygate.gateway.exchange.metering import (
    CHARGED_AT_BOUND,
    Metered,
    kept_for_an_hour,
    leaves_out,
    meter_answer,
    nothing_owed,
    price_answered,
    told_usage,
)
from tallygate.gateway.exchange.relay import Relay
from tallygate.gateway.exchange.terms import Terms
from tallygate.gateway.headers import Passage
from tallygate.gateway.services import Services, View
from tallygate.gateway.upstream import UpstreamClient
from tallygate.http1.content_codings import DecodedContent
from tallygate.http1.header import Header
from tallygate.http1.request_body import Content
from tallygate.shares.turns import at_once

_encode = msgspec.json.Encoder().encode
OUTPUT_CLAMPED = "output_clamped"  # flag of an event whose request had its maximum output lowered
_TAIL_CHARS_MAX = 4096  # a text without any space is counted in pieces of this size


@dataclass(slots=True, kw_only=True)
class Account:
    """The result of an exchange: what the limiter is told, and whether anything is owed.

    cost_nano_usd   of tokens and fee_nano_usd together
    is_bound   `price` bounds that of the model that answered, which is not known
    """

    metered: Metered
    outcome: Outcome
    price: AnyPrice | None
    cost_nano_usd: int
    owed: bool
    fee_nano_usd: int = 0
    is_bound: bool = False


class LiveExchange:
    """Filled stage by stage; see pipeline.py for the order. Nothing here waits, but for counting text."""

    __slots__ = (
        "_counting",
        "_tail",
        "_text_tokens",
        "admission",
        "asked_usage",
        "capability",
        "clamped",
        "client_request_id",
        "codings",
        "credential",
        "decision",
        "deleting",
        "dialect",
        "estimate",
        "exact_prompt",
        "facts",
        "id",
        "is_body_read",
        "is_fallback",
        "lifecycle",
        "listed",
        "made_tokens",
        "method",
        "organization",
        "owned_tokens",
        "path_params",
        "query",
        "relay",
        "request_bytes",
        "route",
        "sent_at",
        "services",
        "spoken",
        "started_at",
        "started_at_ms",
        "target_params",
        "terms",
        "view",
    )

    def __init__(self, services: Services, method: str) -> None:
        self.services = services
        self.view: View = services.view
        self.id = services.new_id()
        self.method = method
        self.lifecycle = Exchange()
        self.started_at = services.clock()
        self.started_at_ms = services.now_ms()
        self.sent_at: float | None = None
        self.client_request_id: str | None = None
        self.route: Route | None = None
        self.path_params: Mapping[str, str] = {}
        self.target_params: Mapping[str, str] = {}  # the same in the encoding in which they came, and go up
        self.query = ""  # as it goes up
        self.dialect: Dialect | None = None
        self.spoken: Dialect = services.plain  # whose shape errors have: also where no dialect reads the request
        self.organization: Organization | None = None
        self.credential: Credential | None = None
        self.capability = "other"
        self.facts: RequestFacts | None = None
        self.terms: Terms | None = None
        self.estimate: Estimate | None = None
        self.exact_prompt: int | None = None
        self.admission: AdmissionRequest | None = None
        self.decision: Decision | None = None
        self.relay: Relay | None = None
        self.asked_usage = False
        self.clamped: int | None = None  # the maximum output per answer, where it was lowered to what is affordable
        self.is_fallback = False  # admitted without the limiter's store
        self.is_body_read = False  # else what no dialect reads streams through
        self.owned_tokens: Mapping[MadeObject, int | None] = {}
        self.listed: tuple[MadeObject, ...] = ()  # what own items of a list tell of
        self.made_tokens: Mapping[str, int] = {}  # by kind, the most that what was made can put into a later prompt
        self.deleting: tuple[MadeObject, ...] = ()
        self.codings: tuple[str, ...] = ()  # of the body as it comes: it goes up decoded
        self.request_bytes = 0
        self._text_tokens = 0
        self._tail = ""
        self._counting: asyncio.Task[None] | None = None

    @property
    def is_billed(self) -> bool:
        """False for token counting: whatever the model, it costs nothing."""
        return self.dialect is None or not self.dialect.name.endswith(UNBILLED_SUFFIX)

    @property
    def is_client_gone(self) -> bool:
        return self.relay is not None and self.relay.is_client_gone

    @property
    def parties(self) -> tuple[Organization, Credential, Terms]:
        """Who calls, once authentication has said so."""
        if self.organization is None or self.credential is None or self.terms is None:
            raise RuntimeError("the exchange is not authenticated yet")
        return self.organization, self.credential, self.terms

    @property
    def org(self) -> str:
        """Whose it is; empty until that is known."""
        return self.organization.id if self.organization is not None else ""

    @property
    def referred_tokens(self) -> int | None:
        """What the stored objects that the request names can put into its prompt; None if that is not known of each of them."""
        sizes = self.owned_tokens.values()
        known = [tokens for tokens in sizes if tokens is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    @property
    def passage(self) -> Passage:
        """Which of the request's headers go up."""
        return Passage(
            is_metered=self.dialect is not None,
            is_own_key=self.upstream.config.auth.kind is AuthKind.PASSTHROUGH,
            org=self.parties[0].id,
            more=self.found_route.headers,
        )

    @property
    def upstream(self) -> UpstreamClient:
        """Where the route leads, once there is a route."""
        return self.view.upstreams[self.found_route.upstream]

    @property
    def found_route(self) -> Route:
        if self.route is None:
            raise RuntimeError("the exchange has no route yet")
        return self.route

    @property
    def made(self) -> tuple[MadeObject, ...]:
        """What the answer tells of as made for the organization."""
        relay = self.relay
        if relay is None or relay.made is None or self.route is None:
            return self.listed[:MADE_MAX]
        upstream = self.route.upstream
        return tuple(
            MadeObject(kind=kept.kind, id=kept.id, upstream=upstream, tokens=self.made_tokens.get(kept.kind))
            for kept in relay.made.found
            if not relay.sent_ids or kept.id.encode(errors="replace") not in relay.sent_ids
        )

    @property
    def deleted(self) -> tuple[MadeObject, ...]:
        """What the upstream has deleted at this exchange's bidding."""
        return self.deleting if self.relay is not None and 200 <= self.relay.status < 300 else ()

    def now_ms(self) -> int:
        return self.services.now_ms()

    def content(self, request: web.BaseRequest, *, bytes_max: int) -> tuple[Content, int | None]:
        """What the body is read from, decoded, and its length where that is known."""
        if not self.codings:
            return request.content, request.content_length
        return DecodedContent(request.content, self.codings, bytes_max=bytes_max, in_turn=self._read_in_turn), None

    async def _read_in_turn(self, work: Callable[[], bytes]) -> bytes:
        return await self.services.reading.take(self.org, at_once(work))

    def note_made(self) -> None:
        """The answer, which goes on, tells of an object: whoever reads it may use the object at once."""
        if self.organization is not None:
            self.services.owners.remember(self.organization, self.made)

    def count_soon(self) -> None:
        """Count what has gathered, beside the relay, unless a count is under way already."""
        if self._counting is None or self._counting.done():
            self._counting = self.services.loop.create_task(self._count_gathered(is_last=False))

    async def count_text(self, *, is_last: bool) -> None:
        """Add the text generated since the last count. One count at a time: a half-done one would be missing from the account."""
        while self._counting is not None and not self._counting.done():
            await asyncio.wait({self._counting})
        self._counting = self.services.loop.create_task(self._count_gathered(is_last=is_last))
        await self._counting

    @property
    def counted_completion(self) -> int:
        """What has been counted of the answer, with all that a provider counts around the text."""
        relay, facts = self.relay, self.facts
        if relay is None or relay.meter is None or facts is None:
            return 0
        reading = relay.meter.reading
        tokens = self.services.tokens
        text = tokens.completion(self._text_tokens, self.model_of_answer, answers=facts.choices, calls=reading.calls)
        return text + reading.media_tokens

    async def _count_gathered(self, *, is_last: bool) -> None:
        """Cut before spaces, pieces count like the whole: tokens start there."""
        relay = self.relay
        if relay is None or relay.meter is None:
            return
        text = self._tail + relay.meter.reading.take_text()
        self._tail = ""
        if not is_last:
            cut = text.rfind(" ")
            if cut < 0 and len(text) < _TAIL_CHARS_MAX:
                cut = 0
            if cut >= 0:
                text, self._tail = text[:cut], text[cut:]
        if text:
            self._text_tokens += await self.services.tokens.text(text, self.model_of_answer, org=self.org)

    @property
    def model_of_answer(self) -> str | None:
        relay = self.relay
        answered = relay.meter.reading.response_model if relay is not None and relay.meter is not None else None
        return answered or (self.facts.model if self.facts is not None else None)

    @property
    def has_last_word(self) -> bool:
        """Whether the upstream told what it used, in an answer that came to its own end: nothing is left to count.

        The end of the HTTP message is not enough: Anthropic's streams begin with a count of 1, and one that breaks off with an
        error event, or without a word, ends in good order. Nor is it needed, except that of several choices one may end first.
        What was told before the end is not the last word, and neither is what leaves out a side that there was.
        """
        relay, facts = self.relay, self.facts
        if relay is None or relay.meter is None:
            return False
        reading = relay.meter.reading
        if not relay.is_complete and (facts is None or facts.choices > 1):
            return False
        is_early = reading.is_provisional or reading.is_interim or reading.is_outrun
        return reading.ended and not reading.failed and not is_early and self._tells_all

    @property
    def _tells_all(self) -> bool:
        """Whether there is a usage that leaves nothing out."""
        usage, relay, facts = self.told_usage, self.relay, self.facts
        if usage is None or relay is None or relay.meter is None or facts is None:
            return False
        has_text = facts.has_output and (bool(self._text_tokens) or relay.meter.reading.has_text)
        return not leaves_out(usage, facts.prompt, has_text=has_text)

    @property
    def told_usage(self) -> TokenCounts | None:
        """The upstream's own counts, as far as it has told them."""
        if self.relay is None or self.relay.meter is None or self.facts is None:
            return None
        usage = told_usage(self.relay.meter.reading, self.facts.prompt)
        return usage if usage is None or not self.facts.writes_1h else kept_for_an_hour(usage)

    @property
    def markup(self) -> int:
        """Millionths above list prices that its route, or else its upstream, is billed at."""
        of_route = self.found_route.markup
        return self.upstream.config.markup if of_route is None else of_route

    def account(self, *, ahead_seconds: float = 0.0) -> Account:
        """What the exchange comes to as it stands. Never free once the upstream has accepted a request that costs something.

        ahead_seconds   further time in which its upstream may generate, and nobody will see it
        """
        relay = self.relay
        outcome = self._outcome()
        is_refused = relay is None or self.sent_at is None or relay.status >= 300
        if self.facts is None or self.dialect is None:
            is_owed = not is_refused and self.found_route.fee_nano_usd > 0
            return self._account(nothing_owed(UsageSource.NONE), outcome, owed=is_owed)
        asked = self.estimate.price if self.estimate is not None else None
        if relay is None or is_refused:
            return self._account(nothing_owed(UsageSource.UPSTREAM), outcome, owed=False, price=asked)
        reading = relay.meter.reading if relay.meter is not None else None
        metered = meter_answer(
            reading,
            self.told_usage,
            is_whole=self.has_last_word,
            prompt_tokens=self._prompt_tokens(),
            counted_completion=self.counted_completion,
            bytes_unread=relay.bytes_in if reading is None else reading.unread_bytes,
        )
        answered = reading.response_model if reading is not None else None
        price, is_bound = price_answered(self.facts, answered, asked, self.view.prices, self.started_at_ms, markup=self.markup)
        if not self.has_last_word:
            metered = self._with_unseen(metered, relay, price, ahead_seconds)
        return self._account(metered, outcome, owed=True, price=price, is_bound=is_bound)

    def _with_unseen(self, metered: Metered, relay: Relay, price: AnyPrice | None, ahead_seconds: float) -> Metered:
        """What was counted, with what nobody saw. The same, where everything was seen and nobody promised to count it."""
        facts, asked, upstream = self.facts, self.estimate, self.upstream.config
        if facts is None or asked is None or self.dialect is None or self.sent_at is None:
            return metered
        reading = relay.meter.reading if relay.meter is not None else None
        has_usage = self.told_usage is not None
        is_failed = reading is not None and reading.failed
        if has_usage and not facts.has_output:
            return metered  # its input is all that there can be
        is_running_on = reading is not None and reading.is_provisional and not relay.is_streamed
        if relay.is_complete and not relay.is_streamed and not is_failed and not is_running_on and self._tells_all:
            return metered  # in a body too large or too odd to be read whole
        is_whole = relay.is_complete and reading is not None and reading.ended and not is_failed
        is_unseen = facts.has_output and (
            facts.audio_output
            or relay.is_behind
            or (upstream.hides_reasoning and may_reason(self.model_of_answer, self.view.prices, self.started_at_ms))
            or not (is_whole or (relay.is_streamed and relay.bytes_in))
            or (relay.bytes_in if reading is None else reading.unread_bytes)
        )
        is_promised = self.dialect.usage_told is UsageTold.ALWAYS or (
            self.dialect.usage_told is UsageTold.STREAMS_WHEN_ASKED and (not facts.stream or self.asked_usage or facts.asks_usage)
        )
        if not (is_unseen or ahead_seconds or (is_promised and (is_whole or not relay.is_streamed))):
            return metered
        ended_at = relay.ended_at if relay.ended_at is not None else self.services.clock()
        tokens = 0
        if facts.has_output and (is_unseen or ahead_seconds):
            tokens = tokens_within((ended_at - self.sent_at if is_unseen else 0.0) + ahead_seconds, facts, upstream)
        if (ahead_seconds or relay.is_left or is_running_on) and finishes_anyway(upstream, is_streamed=relay.is_streamed):
            tokens = asked.output_tokens
        if facts.has_unknown_input and not has_usage:
            metered = msgspec.structs.replace(
                metered, counts=msgspec.structs.replace(metered.counts, prompt=max(metered.counts.prompt, asked.prompt_tokens))
            )
        held = self.decision.held_nano_usd if self.decision is not None and self.decision.held_nano_usd else asked.hold_nano_usd
        held -= self.found_route.fee_nano_usd
        return assumed(metered, Unseen(tokens=tokens, output_max=asked.output_tokens, held=held), facts, price)

    def _account(
        self, metered: Metered, outcome: Outcome, *, owed: bool, price: AnyPrice | None = None, is_bound: bool = False
    ) -> Account:
        fee = self.found_route.fee_nano_usd if owed else 0
        cost = fee + (price.cost_nano_usd(metered.counts) if price is not None and owed else 0)
        return Account(
            metered=metered, outcome=outcome, price=price, cost_nano_usd=cost, owed=owed, fee_nano_usd=fee, is_bound=is_bound
        )

    def _prompt_tokens(self) -> int:
        if self.exact_prompt is not None:
            return self.exact_prompt
        return self.estimate.prompt_tokens if self.estimate is not None else 0

    def _outcome(self) -> Outcome:
        relay = self.relay
        if relay is None or self.sent_at is None:
            return Outcome.CLIENT_GONE if self.is_client_gone else Outcome.UPSTREAM_ERROR
        if relay.status >= 500:
            return Outcome.UPSTREAM_ERROR
        if relay.status >= 400:
            return Outcome.CLIENT_ERROR
        if relay.meter is not None and relay.meter.reading.failed:
            return Outcome.UPSTREAM_ERROR
        if relay.is_complete:
            is_short = relay.is_event_stream and relay.meter is not None and not relay.meter.reading.ended
            return Outcome.TRUNCATED if is_short else Outcome.SUCCESS
        if relay.is_client_gone:
            return Outcome.CLIENT_GONE
        return Outcome.TRUNCATED if relay.status else Outcome.UPSTREAM_ERROR

    def usage_event(self, account: Account) -> bytes:
        """The usage event's JSON."""
        relay = self.relay
        counts = account.metered.counts
        flags = account.metered.flags
        held = self.decision.held_nano_usd if self.decision is not None else 0
        if account.cost_nano_usd > held and self.terms is not None and self.terms.spend:
            flags = (*flags, "overrun")
        if account.owed and account.price is None and self.facts is not None and self.is_billed:
            flags = (*flags, "unpriced")
        if account.is_bound and account.cost_nano_usd > account.fee_nano_usd:
            flags = (*flags, CHARGED_AT_BOUND)
        if self.clamped is not None:
            flags = (*flags, OUTPUT_CLAMPED)
        organization, credential, route = self.organization, self.credential, self.route
        if credential is not None and not credential.is_registered:
            flags = (*flags, UNREGISTERED)
        now = self.services.clock()
        first = relay.first_byte_at if relay is not None else None
        return _encode(
            UsageEvent(
                event_id=self.id,
                org=organization.id if organization is not None else "",
                credential=credential.id if credential is not None else "",
                capability=self.capability,
                endpoint=route.endpoint if route is not None else "",
                method=self.method,
                request_model=self.facts.model if self.facts is not None else None,
                response_model=relay.meter.reading.response_model if relay is not None and relay.meter is not None else None,
                upstream=route.upstream if route is not None else "",
                status=relay.status if relay is not None else 0,
                outcome=account.outcome,
                stream=self.facts.stream if self.facts is not None else False,
                started_at_ms=self.started_at_ms,
                duration_ms=round((now - self.started_at) * 1000),
                first_byte_ms=None if first is None else round((first - self.started_at) * 1000),
                prompt_tokens=counts.prompt,
                completion_tokens=counts.completion,
                cached_tokens=counts.cached,
                cache_write_tokens=counts.cache_write_5m + counts.cache_write_1h,
                reasoning_tokens=counts.reasoning,
                usage_source=account.metered.source,
                price_version=account.price.version if account.price is not None else None,
                cost_nano_usd=account.cost_nano_usd,
                request_bytes=self.request_bytes,
                response_bytes=relay.bytes_in if relay is not None else 0,
                client_request_id=self.client_request_id,
                flags=flags,
                cache_write_1h_tokens=counts.cache_write_1h,
                audio_prompt_tokens=counts.audio_prompt,
                audio_completion_tokens=counts.audio_completion,
                fee_nano_usd=account.fee_nano_usd,
                made=self.made,
                deleted=self.deleted,
            )
        )

    def first_event(self, floor_nano_usd: int, floor_completion_tokens: int) -> bytes:
        """The event of a worker that dies before its first checkpoint: the request was probably sent, and generated for."""
        organization, credential, _ = self.parties
        facts, asked, route = self.facts, self.estimate, self.found_route
        price = asked.price if asked is not None else None
        odd = () if asked is None else (ASSUMED, "uncertain") if price is not None else (ASSUMED, "uncertain", "unpriced")
        return _encode(
            UsageEvent(
                event_id=self.id,
                org=organization.id,
                credential=credential.id,
                capability=self.capability,
                endpoint=route.endpoint,
                method=self.method,
                request_model=facts.model if facts is not None else None,
                upstream=route.upstream,
                outcome=Outcome.EXPIRED,
                stream=facts is not None and facts.stream,
                started_at_ms=self.started_at_ms,
                prompt_tokens=asked.prompt_tokens if asked is not None else 0,
                completion_tokens=floor_completion_tokens,
                usage_source=UsageSource.CHECKPOINT if asked is not None else UsageSource.NONE,
                price_version=price.version if price is not None else None,
                cost_nano_usd=floor_nano_usd,
                fee_nano_usd=route.fee_nano_usd,
                request_bytes=self.request_bytes,
                client_request_id=self.client_request_id,
                flags=odd if credential.is_registered else (*odd, UNREGISTERED),
            )
        )

    def actual(self, account: Account) -> Actual:
        counts = account.metered.counts
        return Actual(
            cost_nano_usd=account.cost_nano_usd,
            prompt_tokens=counts.prompt,
            completion_tokens=counts.completion,
            event=self.usage_event(account),
        )

    async def checkpoint(self) -> Checkpoint | None:
        """This exchange's last word should its worker die now; None while nothing is held or once it has ended.

        Its upstream may go on generating until the hold expires, so as much as that is in it.
        """
        admission = self.admission
        if admission is None or self.lifecycle.state not in {State.ADMITTED, State.FORWARDED}:
            return None
        if self.relay is None or self.sent_at is None or self.facts is None:
            event, cost = admission.event, 0  # the floor stays
            counts = TokenCounts(prompt=admission.floor_prompt_tokens, completion=admission.floor_completion_tokens)
        else:
            await self.count_text(is_last=False)
            account = self.account(ahead_seconds=admission.lease_ms / 1000)
            counts, cost = account.metered.counts, account.cost_nano_usd
            source = Metered(counts=counts, source=UsageSource.CHECKPOINT, flags=account.metered.flags)
            account.metered, account.outcome = source, Outcome.EXPIRED
            event = self.usage_event(account)
        return Checkpoint(
            admission=admission,
            cost_nano_usd=cost,
            prompt_tokens=counts.prompt,
            completion_tokens=counts.completion,
            event=event,
        )

    def early_headers(self) -> list[Header]:
        """Our own headers of any answer, as far as they are known before its body."""
        own_ms = ((self.sent_at or self.services.clock()) - self.started_at) * 1000
        headers: list[Header] = [
            (b"x-request-id", self.id.encode()),
            (b"server-timing", b"gateway;dur=%.3f" % own_ms),
        ]
        if self.decision is not None and self.terms is not None:
            headers += limit_headers(self.decision, self.terms, self.dialect)
        if self.clamped is not None:
            headers.append((b"tallygate-max-output-tokens", b"%d" % self.clamped))
        return headers

    def apply(self, event: Event) -> State:
        return self.lifecycle.apply(event)

"""The answer of one exchange while it is open: the only thing of an exchange that changes."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from tallygate.dialects.dialect import MeterReading
from tallygate.dialects.request_headers import TELL_WHOSE_KEY
from tallygate.domain.made_object import MADE_MAX, MadeObject
from tallygate.domain.usage import Usage
from tallygate.gateway.exchange.answer_reader import AnswerReader
from tallygate.gateway.exchange.call import Client, Held
from tallygate.gateway.exchange.limit_headers import limit_headers
from tallygate.gateway.exchange.relay import Relay
from tallygate.gateway.exchange.text_count import TextCount
from tallygate.gateway.services import Services
from tallygate.http1.header import Header, Lines

EXCHANGE_NAMES: Final = (b"x-request-id", b"server-timing")  # of `exchange_headers`
# Beside the operator's key also those by which an upstream says whose key that is, which ours replace by nothing.
SHARED_NAMES: Final = (*EXCHANGE_NAMES, *TELL_WHOSE_KEY)
# One organization's answer may be read at the address at which another's is, and whoever keeps answers for others knows no keys
# but those in Authorization (RFC 9111 section 3.5).
NO_STORE: Final = b"cache-control: no-store\r\n"
_READS: Final = frozenset({"GET", "HEAD"})


class Answer:
    """An answer from the grant of its hold to its account. Implements `RelayedExchange` and `TextSource`.

    relay          of the attempt under way, or of the last one
    sent_at        monotonic seconds; None until the upstream has received the request, and again where it refused our key
    request_bytes  of the body, which may still stream through
    gateway_asks_usage  the forwarded request asks for the usage of its stream, which the client did not
    clamped        the maximum output for each answer, if it was lowered to what is affordable
    exact_prompt   tokens of the prompt, counted if the upstream does not report them; None until then
    listed         objects that the organization's own items of a relayed list name
    made_tokens    by kind, the most that what was made can put into a later prompt
    is_ending      its account is being settled, so that no checkpoint may come
    reported       the upstream's last word, once it has ended and that covers all of it (`bill.has_last_word`)
    """

    __slots__ = (
        "clamped",
        "exact_prompt",
        "gateway_asks_usage",
        "held",
        "is_ending",
        "listed",
        "made_tokens",
        "relay",
        "reported",
        "request_bytes",
        "sent_at",
        "services",
        "text",
    )

    def __init__(self, held: Held, services: Services) -> None:
        call = held.call
        self.held = held
        self.services = services
        self.text = TextCount(services.tokens, services.loop, call.caller.organization.id)
        self.sent_at: float | None = None
        self.request_bytes = len(call.received.body)
        self.gateway_asks_usage = False
        self.clamped: int | None = None
        self.exact_prompt: int | None = None
        self.listed: tuple[MadeObject, ...] = ()
        self.made_tokens: Mapping[str, int] = {}
        self.is_ending = False
        self.reported: Usage | None = None
        self.relay = self._new_relay()

    def _new_relay(self) -> Relay:
        call, services = self.held.call, self.services
        head = call.head
        response, reader = head.client.response, AnswerReader(self, head.dialect, call.facts, call.objects)
        drains = head.upstream.drains if head.treatment.is_read_on or call.objects is not None else None
        start_drain = None if drains is None else partial(drains.start, call.caller.organization.id)
        buffered_bytes_max, is_own_key = head.treatment.buffered_bytes_max, head.is_shared
        return Relay(response, reader, self, start_drain, services.loop, services.clock, buffered_bytes_max, is_own_key)

    # Operations of the stages, in their order.

    def note_rewritten(self, *, clamped: int | None, asks_usage: bool) -> None:
        """Record changes to the forwarded request."""
        self.clamped, self.gateway_asks_usage = clamped, asks_usage

    def note_sent(self) -> None:
        """Note that the upstream has the request, or begins to read it."""
        self.sent_at = self.services.clock()

    def note_unsent(self) -> None:
        """Note that the upstream did not get the whole request, and answered nothing."""
        self.sent_at = None

    def note_streamed(self, size: int) -> None:
        """Count bytes of a body that streams through."""
        self.request_bytes += size

    def begin_anew(self) -> None:
        """Discard the attempt that the upstream did not accept."""
        self.sent_at = None
        self.relay = self._new_relay()

    def note_listed(self, objects: Iterable[MadeObject]) -> None:
        """Note objects that the organization's own items of a relayed list name."""
        self.listed = (*self.listed, *objects)

    def begin_ending(self) -> None:
        """Note that its account is being settled: no checkpoint may come any more."""
        self.is_ending = True

    def note_reported(self, usage: Usage) -> None:
        """Note that it has ended, and that nothing is left to count: the upstream has reported all of it."""
        self.reported = usage

    async def count_prompt(self) -> None:
        """Count the tokens of the prompt, which the upstream does not report."""
        call = self.held.call
        org = call.caller.organization.id
        self.exact_prompt = await self.services.tokens.prompt(call.facts.prompt, self.model, org=org)

    def note_made_tokens(self, tokens: Mapping[str, int]) -> None:
        """Note, by kind, the most that what was made can put into a later prompt."""
        self.made_tokens = tokens

    # Queries by the stages.

    @property
    def client(self) -> Client:
        return self.held.call.head.client

    @property
    def reading(self) -> MeterReading:
        return self.relay.reader.reading

    @property
    def model(self) -> str | None:
        """The model that answers; until the answer names it, the one that was asked for."""
        return self.relay.reader.reading.response_model or self.held.call.facts.model

    @property
    def made(self) -> tuple[MadeObject, ...]:
        """Objects that the answer names as created for the organization."""
        reader = self.relay.reader
        if reader.made is None:
            return self.listed[:MADE_MAX]
        upstream = self.held.call.head.route.upstream
        return tuple(
            MadeObject(kind=kept.kind, id=kept.id, upstream=upstream, tokens=self.made_tokens.get(kept.kind))
            for kept in reader.made.found
            if not reader.sent_ids or kept.id.encode(errors="replace") not in reader.sent_ids
        )

    @property
    def deleted(self) -> tuple[MadeObject, ...]:
        """Objects that the upstream deleted because this request asked for it."""
        deleting = self.held.call.named.deleting
        return deleting if deleting and self.relay.head.is_success else ()

    def now_ms(self) -> int:
        return self.services.now_ms()

    def note_made(self) -> None:
        self.services.owners.remember(self.held.call.caller.organization, self.made)

    def count_soon(self) -> None:
        self.text.count_soon(self)

    def own_location(self, headers: list[Header]) -> list[Header]:
        """`headers` of a redirect, without the upstream's address where it leads there again: only the gateway has the key.

        Google sends whoever downloads a generated file on to another path of its own.
        """
        base = self.held.call.head.upstream.config.base_url.rstrip("/").encode()
        return [(name, _below(base, value) if name.lower() == b"location" else value) for name, value in headers]

    def early_headers(self) -> Lines:
        """The gateway's own headers that are known before the body."""
        held = self.held
        head = held.call.head
        until = self.services.clock() if self.sent_at is None else self.sent_at
        names, text = limit_headers(held.decision, held.call.caller.limits, head.dialect)
        names = (SHARED_NAMES if head.is_shared else EXCHANGE_NAMES) + names
        text = exchange_headers(head.client, until) + text
        if head.is_shared and head.client.request.method in _READS:
            names, text = (*names, b"cache-control"), text + NO_STORE
        if self.clamped is not None:
            return (*names, b"tallygate-max-output-tokens"), text + b"tallygate-max-output-tokens: %d\r\n" % self.clamped
        return names, text


def _below(base: bytes, url: bytes) -> bytes:
    """The path of a URL below this one; any other URL as it is, and one whose path would be read as another host's name."""
    path = url.removeprefix(base)
    return path if path != url and path.startswith(b"/") and not path.startswith(b"//") else url


def exchange_headers(client: Client, until: float) -> bytes:
    """The lines of every answer, relayed or refused. until: monotonic seconds, when the gateway's own work was done."""
    duration_ms = (until - client.started_at) * 1000
    return b"x-request-id: %b\r\nserver-timing: gateway;dur=%.3f\r\n" % (client.id.encode(), duration_ms)

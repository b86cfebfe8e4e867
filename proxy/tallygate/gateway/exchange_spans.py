"""Exchanges as OpenTelemetry shows them: a span of the request here, one of the call to its upstream, and metrics.

Names and rules: "Semantic conventions for HTTP spans" (names, status) and "... for generative client AI spans" v1.41.0, and W3C's
Trace Context. What the conventions have no name for begins with `tallygate.`. A span has nothing of what was asked or
answered, nor a key, a query, or a path that no route describes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from tallygate.config.model import WEBSOCKET, Upstream
from tallygate.dialects.gen_ai_names import OF_CAPABILITY, operation_of, provider_of
from tallygate.domain.admission import Account
from tallygate.domain.unit import Unit
from tallygate.domain.usage_event import Outcome, UsageEvent
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.call import Client, Head
from tallygate.gateway.exchange.charging import Bill
from tallygate.gateway.jobs.deferral import job_of
from tallygate.gateway.observed_pipeline import Observer, Seen
from tallygate.gateway.refusals import refused_by
from tallygate.gateway.upstream import UpstreamClient
from tallygate.http1.header import Header
from tallygate.http1.upstream_address import UpstreamAddress
from tallygate.telemetry.log import without_secrets
from tallygate.telemetry.otlp_messages import TEXT_CHARS_MAX, Value
from tallygate.telemetry.otlp_metrics import OperationKey, OtlpMetrics, RequestKey
from tallygate.telemetry.otlp_spans import SpanKind, SpanRecord
from tallygate.telemetry.trace_context import Trace, TraceSource

# "http.request.method": known are those of RFC 9110 and PATCH (RFC 5789); a span of another is named HTTP.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_OTHER: Final = "_OTHER"
_SCHEME: Final = "http"  # of the gateway's own port; TLS ends before it
_REDACTED: Final = "REDACTED"
_OF_TRACE: Final = frozenset({b"traceparent", b"tracestate"})
_NANO: Final = 1_000_000_000
_NAMES_REMEMBERED_MAX: Final = 1_024
_decode_event: Final = msgspec.json.Decoder(UsageEvent).decode


class SpanQueue(Protocol):
    """Where spans wait to be exported."""

    def add(self, org: str, spans: list[SpanRecord]) -> None:
        """Leave spans of an organization's exchange there, or drop them. Never waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedUpstream(UpstreamClient):
    """An upstream for one exchange, which joins its trace. clock: monotonic seconds."""

    trace: Trace
    clock: Callable[[], float]

    def with_trace(self, headers: list[Header]) -> list[Header]:
        """The headers with our call as the parent. A tracestate goes on with the trace that it belongs to, and with no other.

        Trace Context section 4: who does not accept a traceparent does not read the tracestate beside it either.
        """
        trace = self.trace
        if trace.called_at is None:  # else it is another attempt, or a further page of a list
            trace.called_at = self.clock()
        passing = [
            each for each in headers if (name := each[0].lower()) not in _OF_TRACE or (name == b"tracestate" and trace.has_parent)
        ]
        passing.append((b"traceparent", trace.traceparent.encode()))
        return passing

    def head(
        self, method: str, target: str, headers: list[Header], *, content_length: int | None = None, is_chunked: bool = False
    ) -> bytes:
        return UpstreamClient.head(
            self, method, target, self.with_trace(headers), content_length=content_length, is_chunked=is_chunked
        )


_OF_UPSTREAM: Final = tuple(each.name for each in fields(UpstreamClient))


class ExchangeSpans(Observer):
    """Makes spans and metrics of exchanges that have ended.

    traces     begins their traces
    spans      takes spans of those that are sampled; series: counts all of them
    upstreams  as they are configured now, by name
    clock      monotonic seconds, that of the services
    """

    def __init__(
        self,
        traces: TraceSource,
        spans: SpanQueue,
        series: OtlpMetrics,
        upstreams: Callable[[], Mapping[str, Upstream]],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._traces = traces
        self._spans = spans
        self._series = series
        self._upstreams = upstreams
        self._clock = clock

    def begun(self, client: Client, seen: Seen) -> None:
        seen.trace = self._traces.begin(client.request.headers.getall("traceparent", ()))

    def matched(self, head: Head, seen: Seen) -> Head:
        trace = seen.trace
        if trace is None:
            return head
        parts = {name: getattr(head.upstream, name) for name in _OF_UPSTREAM}
        return replace(head, upstream=TracedUpstream(**parts, trace=trace, clock=self._clock))

    def ended(self, client: Client, seen: Seen) -> None:
        trace, head, answer, bill = seen.trace, seen.head, seen.answer, seen.bill
        if trace is None:
            return
        org = "" if seen.caller is None else seen.caller.organization.id
        method = client.request.method if client.request.method in _METHODS else _OTHER
        route = "" if head is None else head.route.endpoint
        code, status = seen.code, seen.status
        error = (code or str(status)) if status >= 500 or (code is not None and status < 400) else ""
        duration_ns = round((seen.ended_at - client.started_at) * _NANO)
        self._series.requests(RequestKey(method, _SCHEME, route, status, org, error)).duration.note(duration_ns)
        call = None if answer is None or bill is None else self._called(answer, bill)
        if call is not None:
            self._count(call)
        if not trace.is_sampled:
            return
        started_ns = client.started_at_ms * 1_000_000
        server = SpanRecord(
            trace_id=trace.trace_id,
            span_id=trace.server_id,
            parent_id=trace.parent_id,
            name=f"{'HTTP' if method == _OTHER else method} {route}".rstrip(),
            kind=SpanKind.SERVER,
            started_ns=started_ns,
            ended_ns=started_ns + duration_ns,
            values=_of_request(client, seen, method, error),
            is_error=bool(error),
        )
        spans = [server]
        if call is not None:
            spans.append(_span_of_call(client, trace, call, trace.client_id))
        elif head is not None and head.route.method == WEBSOCKET and trace.called_at is not None:
            spans.append(_span_of_socket(client, seen, trace, head))
        self._spans.add(org, spans)

    def turn_ended(self, answer: Answer, bill: Bill) -> None:
        call = self._called(answer, bill)
        self._count(call)
        upstream = answer.held.call.head.upstream
        if isinstance(upstream, TracedUpstream) and upstream.trace.is_sampled:
            trace = upstream.trace
            self._spans.add(call.key.org, [_span_of_call(answer.client, trace, call, self._traces.new_id())])

    def job_settled(self, account: Account) -> None:
        """Count work that an upstream went on with, or a result of it: its tokens and its cost, by its usage event."""
        event = _decode_event(account.event)
        config = self._upstreams().get(event.upstream)
        address = None if config is None else UpstreamAddress.from_base_url(config.base_url)
        host = "" if address is None else address.host
        series = self._series.operations(
            OperationKey(
                OF_CAPABILITY.get(event.capability, event.capability),
                provider_of(host, None),
                _shown(event.request_model),
                _shown(event.response_model),
                host,
                0 if address is None else address.port,
                event.org,
                event.capability,
                "" if event.outcome is Outcome.SUCCESS else event.outcome.value,
            )
        )
        series.cost_nano_usd += event.cost_nano_usd
        if event.prompt_tokens:
            series.input.note(event.prompt_tokens)
        if event.completion_tokens:
            series.output.note(event.completion_tokens)

    def _called(self, answer: Answer, bill: Bill) -> "_Call":
        """What is known of the call to the upstream once its exchange has been settled."""
        call, relay, client = answer.held.call, answer.relay, answer.client
        head, address = call.head, call.head.upstream.pool.address
        error = ""
        if relay.failure is not None:
            error = relay.failure.kind.value
        elif relay.refusal is not None:
            error = relay.refusal.code.value
        elif relay.head.status >= 400:
            error = str(relay.head.status)
        elif bill.ending.outcome is not Outcome.SUCCESS:
            error = bill.ending.outcome.value
        operation = operation_of(head.route.dialect, head.route.capability)
        key = OperationKey(
            operation,
            provider_of(address.host, head.route.dialect) if operation else "",
            _shown(call.facts.model),
            _shown(answer.reading.response_model),
            address.host,
            address.port,
            call.caller.organization.id,
            head.route.capability,
            error,
        )
        upstream = head.upstream
        called_at = answer.sent_at
        if isinstance(upstream, TracedUpstream) and upstream.trace.called_at is not None and head.route.method != WEBSOCKET:
            called_at = upstream.trace.called_at
        return _Call(
            answer=answer,
            bill=bill,
            key=key,
            called_at=client.started_at if called_at is None else called_at,
            ended_at=self._clock() if relay.ended_at is None else relay.ended_at,
            first_at=relay.first_byte_at if relay.is_streamed else None,
            is_deferred=call.facts.job_kind is not None and job_of(answer) is not None,
        )

    def _count(self, call: "_Call") -> None:
        """Count a call. What is deferred has used nothing yet; of what nobody reads there is its fee alone."""
        if not call.key.operation:
            if call.bill.cost_nano_usd:
                self._series.operations(call.key).cost_nano_usd += call.bill.cost_nano_usd
            return
        series = self._series.operations(call.key)
        series.duration.note(round((call.ended_at - call.called_at) * _NANO))
        if call.first_at is not None:
            series.first_chunk.note(round((call.first_at - call.called_at) * _NANO))
        if call.is_deferred:
            return
        series.cost_nano_usd += call.bill.cost_nano_usd
        usage = call.bill.metered.usage
        if usage.prompt:
            series.input.note(usage.prompt)
        if usage.completion:
            series.output.note(usage.completion)


class _Call(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A call to an upstream. Times in monotonic seconds.

    first_at     when the first byte of a stream came
    is_deferred  the upstream works on, and what that costs is counted when it has ended
    """

    answer: Answer
    bill: Bill
    key: OperationKey
    called_at: float
    ended_at: float
    first_at: float | None
    is_deferred: bool


def _of_request(client: Client, seen: Seen, method: str, error: str) -> dict[str, Value]:
    head, caller = seen.head, seen.caller
    values: dict[str, Value] = {
        "http.request.method": method,
        "url.scheme": _SCHEME,
        "url.path": _REDACTED if head is None else head.route.endpoint,
        "error.type": error,
        "tallygate.request.id": client.id,
        "tallygate.code": seen.code or "",
    }
    if seen.status:
        values["http.response.status_code"] = seen.status
    if head is not None:
        values["http.route"] = head.route.endpoint
        values["tallygate.capability"] = head.route.capability
    if caller is not None:
        values["tallygate.organization.id"] = caller.organization.id
        values["tallygate.credential.id"] = caller.credential.id
        values["tallygate.client_request.id"] = _shown(caller.client_request_id)
    if seen.refusal is not None:
        values["tallygate.refused_by"] = refused_by(seen.refusal)
    return values


def _span_of_call(client: Client, trace: Trace, call: _Call, span_id: int) -> SpanRecord:
    """The span of a call to an upstream; of a turn of a socket, below that of the socket."""
    key, answer, bill = call.key, call.answer, call.bill
    held = answer.held.call
    status = answer.relay.head.status
    values: dict[str, Value] = {
        "gen_ai.operation.name": key.operation,
        "gen_ai.provider.name": key.provider,
        "gen_ai.request.model": key.request_model,
        "gen_ai.response.model": key.response_model,
        "http.request.method": client.request.method,
        "url.template": held.head.route.endpoint,
        "server.address": key.address,
        "server.port": key.port,
        "error.type": key.error,
        "tallygate.organization.id": key.org,
        "tallygate.credential.id": held.caller.credential.id,
        "tallygate.capability": key.capability,
        "tallygate.upstream": held.head.route.upstream,
        "tallygate.outcome": bill.ending.outcome.value,
    }
    if status:
        values["http.response.status_code"] = status
    if held.facts.stream:
        values["gen_ai.request.stream"] = True
    if call.first_at is not None:
        values["gen_ai.response.time_to_first_chunk"] = call.first_at - call.called_at
    if call.is_deferred:
        values["tallygate.deferred"] = True
    else:
        values |= _of_bill(bill)
    started_ns = client.started_at_ms * 1_000_000
    return SpanRecord(
        trace_id=trace.trace_id,
        span_id=span_id,
        parent_id=trace.server_id if span_id == trace.client_id else trace.client_id,
        name=f"{key.operation} {key.request_model}".strip() if key.operation else client.request.method,
        kind=SpanKind.CLIENT,
        started_ns=started_ns + round((call.called_at - client.started_at) * _NANO),
        ended_ns=started_ns + round((call.ended_at - client.started_at) * _NANO),
        values=values,
        is_error=bool(key.error),
    )


def _of_bill(bill: Bill) -> dict[str, Value]:
    """What was used, and what was charged for it. Kinds of tokens are parts of the prompt or the completion."""
    usage = bill.metered.usage
    values: dict[str, Value] = {
        "tallygate.cost.nano_usd": bill.cost_nano_usd,
        "tallygate.usage.source": bill.metered.source.value,
    }
    counts = {
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.output_tokens": usage.completion,
        "gen_ai.usage.cache_read.input_tokens": usage.cached,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
        "gen_ai.usage.reasoning.output_tokens": usage.of(Unit.REASONING_OUTPUT),
        "gen_ai.usage.audio.input_tokens": usage.audio_prompt,
        "gen_ai.usage.audio.output_tokens": usage.of(Unit.OUTPUT_AUDIO),
        "gen_ai.usage.image.input_tokens": usage.of(Unit.INPUT_IMAGE) + usage.of(Unit.CACHED_INPUT_IMAGE),
        "gen_ai.usage.image.output_tokens": usage.of(Unit.OUTPUT_IMAGE),
    }
    return values | {name: count for name, count in counts.items() if count}


def _span_of_socket(client: Client, seen: Seen, trace: Trace, head: Head) -> SpanRecord:
    """The span of a WebSocket to an upstream, from its handshake on."""
    started_ns = client.started_at_ms * 1_000_000
    address = head.upstream.pool.address
    called_at = client.started_at if trace.called_at is None else trace.called_at
    error = "" if seen.refusal is None else seen.refusal.code.value
    return SpanRecord(
        trace_id=trace.trace_id,
        span_id=trace.client_id,
        parent_id=trace.server_id,
        name=client.request.method,
        kind=SpanKind.CLIENT,
        started_ns=started_ns + round((called_at - client.started_at) * _NANO),
        ended_ns=started_ns + round((seen.ended_at - client.started_at) * _NANO),
        values={
            "http.request.method": client.request.method,
            "url.template": head.route.endpoint,
            "server.address": address.host,
            "server.port": address.port,
            "error.type": error,
            "tallygate.upstream": head.route.upstream,
        },
        is_error=bool(error),
    )


def _shown(text: str | None) -> str:
    """A name that a caller chose, without what looks like a key: some are pasted as a model."""
    return _masked(text[:TEXT_CHARS_MAX]) if text else ""


_masked: Final = lru_cache(_NAMES_REMEMBERED_MAX)(without_secrets)

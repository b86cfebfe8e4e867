"""A worker's metrics under OpenTelemetry's names: counted by the event loop, exported as they stand since the process began.

Names, attributes and boundaries: "Semantic conventions for generative AI metrics" v1.41.0 (client metrics: the gateway is a client
of the model's server) and "Semantic conventions for HTTP metrics" (`http.server.request.duration`). Temporality is cumulative, so
that a message that is lost takes nothing with it.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tallygate.shares.fair_shares import FairShares
from tallygate.telemetry.otlp_messages import SCHEMA_URL, SCOPE, attributes_of

SERIES_MAX: Final = 2_000  # of each kind, as in the SDKs ("Cardinality limits" of the metrics SDK's specification)
_OTHER: Final = "_OTHER"
_OVERFLOW: Final = attributes_of([("otel.metric.overflow", True)])
_SERIES_OF_MESSAGE: Final = 8  # encoded in one go, in less than a millisecond
_NANO: Final = 1_000_000_000
_INPUT: Final = attributes_of([("gen_ai.token.type", "input")])
_OUTPUT: Final = attributes_of([("gen_ai.token.type", "output")])


class _Kind(NamedTuple):
    """One metric. bounds: of its histogram, in counted units, of which `per_unit` make one that is shown."""

    name: str
    unit: str
    description: str
    bounds: tuple[int, ...] = ()
    per_unit: int = 1


_GEN_AI_BOUNDS: Final = tuple(10_000_000 << doubling for doubling in range(14))  # 0.01 s, 0.02 s ... 81.92 s
_HTTP_MS: Final = (5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000)
TOKENS: Final = _Kind(
    "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", tuple(4**power for power in range(14))
)
DURATION: Final = _Kind("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _GEN_AI_BOUNDS, _NANO)
FIRST_CHUNK: Final = _Kind(
    "gen_ai.client.operation.time_to_first_chunk", "s", "Time until the first chunk of a stream.", _GEN_AI_BOUNDS, _NANO
)
COST: Final = _Kind("tallygate.cost.nano_usd", "{nano_usd}", "What was charged, in billionths of a US dollar.")
SERVER_DURATION: Final = _Kind(
    "http.server.request.duration", "s", "Duration of HTTP server requests.", tuple(ms * 1_000_000 for ms in _HTTP_MS), _NANO
)


class OperationKey(NamedTuple):
    """The attributes of what models were asked for. Empty texts and a port of 0 are left out."""

    operation: str
    provider: str
    request_model: str
    response_model: str
    address: str
    port: int
    org: str
    capability: str
    error: str


class RequestKey(NamedTuple):
    """The attributes of requests at the gateway. status: 0 for none."""

    method: str
    scheme: str
    route: str
    status: int
    org: str
    error: str


_OPERATION: Final = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "server.address",
    "server.port",
    "tallygate.organization.id",
    "tallygate.capability",
    "error.type",
)
_REQUEST: Final = (
    "http.request.method",
    "url.scheme",
    "http.route",
    "http.response.status_code",
    "tallygate.organization.id",
    "error.type",
)


class Distribution:
    """Counts of values up to each bound, and above the last; and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, kind: _Kind) -> None:
        self._bounds = kind.bounds
        self.counts = [0] * (len(kind.bounds) + 1)
        self.total = 0

    def note(self, value: int) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Operations:
    """What was counted under one `OperationKey`. cost_nano_usd: what was charged."""

    __slots__ = ("attributes", "cost_nano_usd", "duration", "first_chunk", "input", "output")

    def __init__(self, attributes: list[KeyValue]) -> None:
        self.attributes = attributes
        self.input = Distribution(TOKENS)
        self.output = Distribution(TOKENS)
        self.duration = Distribution(DURATION)
        self.first_chunk = Distribution(FIRST_CHUNK)
        self.cost_nano_usd = 0


class Requests:
    """What was counted under one `RequestKey`."""

    __slots__ = ("attributes", "duration")

    def __init__(self, attributes: list[KeyValue]) -> None:
        self.attributes = attributes
        self.duration = Distribution(SERVER_DURATION)


class OtlpMetrics:
    """The series of a worker. Callers make up models' names, so organizations share what there may be of them.

    Past an organization's share, what it asks for is counted under the model `_OTHER`; past `SERIES_MAX`, under
    `otel.metric.overflow`, together with all else that has no series.
    """

    def __init__(self, *, started_ns: int, series_max: int = SERIES_MAX) -> None:
        """started_ns: Unix nanoseconds, since when is counted."""
        self._started_ns = started_ns
        self._operations: dict[OperationKey, Operations] = {}
        self._requests: dict[RequestKey, Requests] = {}
        self._shares = FairShares(series_max)
        self._requests_max = series_max
        self._other_operations = Operations(_OVERFLOW)
        self._other_requests = Requests(_OVERFLOW)

    def operations(self, key: OperationKey) -> Operations:
        """The counts of this key, or those that it goes under."""
        found = self._operations.get(key)
        return self._new_operations(key) if found is None else found

    def requests(self, key: RequestKey) -> Requests:
        """The counts of this key, or those that it goes under."""
        found = self._requests.get(key)
        if found is None:
            if len(self._requests) >= self._requests_max:
                return self._other_requests
            found = self._requests[key] = Requests(_attributes(_REQUEST, key))
        return found

    def _new_operations(self, key: OperationKey) -> Operations:
        without_model = key._replace(request_model=_OTHER, response_model="")
        for wanted, holder in ((key, key.org), (without_model, f"{_OTHER}:{key.org}")):  # the latter's place is one more
            found = self._operations.get(wanted)
            if found is None and self._shares.acquire(holder, 1):
                found = self._operations[wanted] = Operations(_attributes(_OPERATION, wanted))
            if found is not None:
                return found
        return self._other_operations

    def encoded(self, resource: Resource, *, now_ns: int) -> Iterator[bytes]:
        """Parts of one message, each made quickly: put together they are the message."""
        operations = iter([*self._operations.values(), self._other_operations])
        while some := list(islice(operations, _SERIES_OF_MESSAGE)):
            yield self._message(resource, self._operation_metrics(some, now_ns))
        requests = iter([*self._requests.values(), self._other_requests])
        while them := list(islice(requests, _SERIES_OF_MESSAGE)):
            points = [(each.attributes, each.duration) for each in them]
            yield self._message(resource, [self._histogram(SERVER_DURATION, points, now_ns)])

    def _operation_metrics(self, some: list[Operations], now_ns: int) -> list[Metric]:
        tokens = [
            (each.attributes + extra, counts) for each in some for extra, counts in ((_INPUT, each.input), (_OUTPUT, each.output))
        ]
        return [
            self._histogram(TOKENS, tokens, now_ns),
            self._histogram(DURATION, [(each.attributes, each.duration) for each in some], now_ns),
            self._histogram(FIRST_CHUNK, [(each.attributes, each.first_chunk) for each in some], now_ns),
            self._cost(some, now_ns),
        ]

    def _histogram(self, kind: _Kind, points: list[tuple[list[KeyValue], Distribution]], now_ns: int) -> Metric:
        bounds = [bound / kind.per_unit for bound in kind.bounds]
        data = [
            HistogramDataPoint(
                attributes=attributes,
                start_time_unix_nano=self._started_ns,
                time_unix_nano=now_ns,
                count=sum(counted.counts),
                sum=counted.total / kind.per_unit,
                bucket_counts=counted.counts,
                explicit_bounds=bounds,
            )
            for attributes, counted in points
            if any(counted.counts)
        ]
        histogram = Histogram(data_points=data, aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE)
        return Metric(name=kind.name, unit=kind.unit, description=kind.description, histogram=histogram)

    def _cost(self, some: list[Operations], now_ns: int) -> Metric:
        data = [
            NumberDataPoint(
                attributes=each.attributes,
                start_time_unix_nano=self._started_ns,
                time_unix_nano=now_ns,
                as_int=each.cost_nano_usd,
            )
            for each in some
            if each.cost_nano_usd
        ]
        total = Sum(data_points=data, is_monotonic=True, aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE)
        return Metric(name=COST.name, unit=COST.unit, description=COST.description, sum=total)

    @staticmethod
    def _message(resource: Resource, metrics: list[Metric]) -> bytes:
        metrics = [each for each in metrics if each.histogram.data_points or each.sum.data_points]
        if not metrics:
            return b""
        scope = ScopeMetrics(scope=SCOPE, metrics=metrics, schema_url=SCHEMA_URL)
        whole = ResourceMetrics(resource=resource, scope_metrics=[scope], schema_url=SCHEMA_URL)
        return bytes(ExportMetricsServiceRequest(resource_metrics=[whole]).SerializeToString())


def _attributes(names: tuple[str, ...], key: tuple[str | int, ...]) -> list[KeyValue]:
    return attributes_of((name, value) for name, value in zip(names, key, strict=True) if value)

"""The simulator's own count of what it served: the oracle that a gateway's ledger must equal."""

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Final

RECORDS_MAX: Final = 200_000  # beyond it the oldest records are dropped; the totals stay exact


@dataclass(slots=True, kw_only=True)
class Served:
    """One request as the simulator saw it. Times are the simulator's clock in milliseconds, 0 for what did not happen.

    accepted            the model began to work, so a provider would bill prompt_tokens and generated_tokens
    prompt_tokens       input tokens, cached and cache-written ones and those of further passes included
    generated_tokens    output tokens generated until the end or until the client left, reasoning included
    searches            searches that ran, each of which a provider bills; file_searches: in files; used_maps: so was a map
    audio_tokens        audio among prompt_tokens; cached_audio_tokens: among cached_tokens
    image_tokens        images among generated_tokens; source_image_tokens: among prompt_tokens
    images              that were generated, of `image_kind` (quality and size); source_images: that were given to be edited
    units               further ones that were billed: seconds, characters, searches of a reranking
    delivered_tokens    the generated tokens whose whole event was written to the socket; hidden reasoning never is
    reasoning_tokens    the generated tokens that were reasoning
    reported            the usage that was sent, as (prompt, completion) in the normal form; None if none was.
                        Odd if the directive asked for an odd style
    completed           the whole answer was written to the socket
    cancelled_at_ms     when the client was found to have left
    tier                the service tier by which it is billed; "" is the standard one
    has_gateway_key     a key that tallygate issued arrived, in a header or in the query, which must never happen
    is_turn             one response of a socket: it has no id of its own
    credential_headers  names of the credential headers that arrived, never their values
    """

    sequence: int
    request_id: str | None
    method: str
    path: str
    endpoint: str
    started_at_ms: int
    model: str | None = None
    stream: bool = False
    status: int = 0
    accepted: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    generated_tokens: int = 0
    delivered_tokens: int = 0
    reasoning_tokens: int = 0
    searches: int = 0
    file_searches: int = 0
    used_maps: bool = False
    audio_tokens: int = 0
    cached_audio_tokens: int = 0
    image_tokens: int = 0
    source_image_tokens: int = 0
    images: int = 0
    image_kind: str = ""
    source_images: int = 0
    units: dict[str, int] = field(default_factory=dict)
    reported: tuple[Any, Any] | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    events: int = 0
    completed: bool = False
    fault: str | None = None
    first_byte_at_ms: int = 0
    cancelled_at_ms: int = 0
    ended_at_ms: int = 0
    tier: str = ""
    has_gateway_key: bool = False
    credential_headers: tuple[str, ...] = ()
    is_turn: bool = False


@dataclass(slots=True, kw_only=True)
class Totals:
    """Sums over all requests since the last reset. Token sums cover accepted requests, which a provider would bill."""

    requests: int = 0
    open: int = 0
    accepted: int = 0
    completed: int = 0
    cancelled: int = 0
    gateway_keys_seen: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    generated_tokens: int = 0
    reasoning_tokens: int = 0
    searches: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    statuses: dict[int, int] = field(default_factory=dict)


class Ledger:
    """All requests in order of arrival. `records` has the last RECORDS_MAX, open ones included; `totals` counts ended ones."""

    def __init__(self, records_max: int = RECORDS_MAX) -> None:
        self.records: deque[Served] = deque(maxlen=records_max)
        self.totals = Totals()
        self._sequence = 0

    def open(self, *, request_id: str | None, method: str, path: str, endpoint: str, started_at_ms: int) -> Served:
        self._sequence += 1
        record = Served(
            sequence=self._sequence,
            request_id=request_id,
            method=method,
            path=path,
            endpoint=endpoint,
            started_at_ms=started_at_ms,
        )
        self.records.append(record)
        self.totals.requests += 1
        self.totals.open += 1
        return record

    def close(self, record: Served, *, ended_at_ms: int) -> None:
        """Add an ended request to the totals. Called once for each record."""
        record.ended_at_ms = ended_at_ms
        totals = self.totals
        totals.open -= 1
        totals.accepted += record.accepted
        totals.completed += record.completed
        totals.cancelled += record.cancelled_at_ms > 0
        totals.gateway_keys_seen += record.has_gateway_key
        totals.request_bytes += record.request_bytes
        totals.response_bytes += record.response_bytes
        totals.statuses[record.status] = totals.statuses.get(record.status, 0) + 1
        if record.accepted:
            totals.prompt_tokens += record.prompt_tokens
            totals.cached_tokens += record.cached_tokens
            totals.cache_write_tokens += record.cache_write_tokens
            totals.generated_tokens += record.generated_tokens
            totals.reasoning_tokens += record.reasoning_tokens
            totals.searches += record.searches

    def reset(self) -> None:
        """Drop everything except open requests, which count towards the new totals when they end."""
        still_open = [record for record in self.records if not record.ended_at_ms]
        self.records.clear()
        self.records.extend(still_open)
        self.totals = Totals(requests=self.totals.open, open=self.totals.open)

    def by_request_id(self, request_id: str) -> list[Served]:
        """Every request with this `x-request-id`, in order; two mean that something was sent twice."""
        return [record for record in self.records if record.request_id == request_id]

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(record) for record in self.records]

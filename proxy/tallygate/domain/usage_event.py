"""The immutable fact of one exchange, as it travels from the gateway over the partition's stream to the ledger."""

from enum import StrEnum
from typing import Final

import msgspec

from tallygate.domain.made_object import MadeObject
from tallygate.domain.token_counts import UsageSource


class Outcome(StrEnum):
    """How an exchange ended; a metric label."""

    SUCCESS = "success"
    CLIENT_ERROR = "client_error"  # the upstream answered 4xx
    UPSTREAM_ERROR = "upstream_error"  # 5xx, unreachable, timed out, or an error inside a 200 stream
    TRUNCATED = "truncated"  # the upstream's answer ended before its end
    CLIENT_GONE = "client_gone"  # the client left before the answer's end
    EXPIRED = "expired"  # the worker died; settled at its checkpoint
    REFUSED = "refused"  # never forwarded; counted in metrics, not an event


UNREGISTERED: Final = "unregistered"


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One exchange. Encoded as JSON with these names; money in nano-USD, times in Unix milliseconds, durations in milliseconds.

    What has its default is not written: an event lies in the reservation and in the stream, and travels twice for each exchange.

    event_id           time-ordered, made by the gateway; the ledger is idempotent on it
    settled_at_ms      the limiter's clock; added by the settle script as a field of the stream entry
    cache_write_1h_tokens, audio_...  kinds with a price of their own, so that a corrected price can be applied; the 1h part is in
                       cache_write_tokens, the audio parts are in prompt and completion
    fee_nano_usd       of the request, in cost_nano_usd beside what the tokens cost
    made, deleted      objects that the upstream keeps for the organization since, and no longer
    flags              "unregistered": of a client that signed tokens alone name; and what was odd: "usage_clamped",
                       "usage_inconsistent", "unpriced", "charged_at_bound", "overrun", "late", "unheld" ...
    """

    event_id: str
    org: str
    credential: str
    capability: str
    endpoint: str
    method: str
    request_model: str | None = None
    response_model: str | None = None
    upstream: str
    status: int = 0
    outcome: Outcome
    stream: bool = False
    started_at_ms: int
    duration_ms: int = 0
    first_byte_ms: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: UsageSource
    price_version: str | None = None
    cost_nano_usd: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    client_request_id: str | None = None
    flags: tuple[str, ...] = ()
    cache_write_1h_tokens: int = 0
    audio_prompt_tokens: int = 0
    audio_completion_tokens: int = 0
    fee_nano_usd: int = 0
    made: tuple[MadeObject, ...] = ()
    deleted: tuple[MadeObject, ...] = ()

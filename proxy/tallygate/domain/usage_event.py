"""The immutable record of one exchange, which the partition's stream carries from the gateway to the ledger."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from tallygate.domain.made_object import MadeObject
from tallygate.domain.usage import UsageSource


class Outcome(StrEnum):
    """The end of an exchange; a metric label."""

    SUCCESS = "success"
    CLIENT_ERROR = "client_error"  # the upstream answered 4xx
    UPSTREAM_ERROR = "upstream_error"  # 5xx, unreachable, timed out, or an error inside a 200 stream
    TRUNCATED = "truncated"  # the upstream's answer ended before its end
    CLIENT_GONE = "client_gone"  # the client left before the answer's end
    EXPIRED = "expired"  # the worker died; settled at its checkpoint
    REFUSED = "refused"  # never forwarded; counted in metrics, not an event


UNREGISTERED: Final = "unregistered"


# The entries of one event add up to these; every other number is a fact of the one exchange.
Amount = Annotated[int, msgspec.Meta(extra={"is_amount": True})]


class ExchangeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The stored facts of an exchange: each field declared once, for the usage event, the ledger's entries, exports and answers.

    Money in nano-USD, times in Unix milliseconds, durations in milliseconds.

    event_id           time-ordered, made by the gateway; the ledger is idempotent on it
    requests           1; corrections add none
    cache_write_1h_tokens, audio_...  kinds with a price of their own, so that a corrected price can be applied; the 1h part is in
                       cache_write_tokens, the audio parts are in prompt and completion
    fee_nano_usd       of the request, in cost_nano_usd beside what the usage costs
    input_nano_usd ... calls_nano_usd  the rest of cost_nano_usd by kind of unit (`unit_kind.UnitKind`); what they leave of it
                       was stated by a provider, or charged before anything was seen
    billed             JSON of what was billed that the token counts do not show (`domain/billed.py`); None where they show all
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
    requests: Amount = 1
    prompt_tokens: Amount = 0
    completion_tokens: Amount = 0
    cached_tokens: Amount = 0
    cache_write_tokens: Amount = 0
    cache_write_1h_tokens: Amount = 0
    audio_prompt_tokens: Amount = 0
    reasoning_tokens: Amount = 0
    audio_completion_tokens: Amount = 0
    cost_nano_usd: Amount = 0
    fee_nano_usd: Amount = 0
    input_nano_usd: Amount = 0
    cache_read_nano_usd: Amount = 0
    cache_write_nano_usd: Amount = 0
    output_nano_usd: Amount = 0
    media_nano_usd: Amount = 0
    calls_nano_usd: Amount = 0
    billed: str | None = None
    usage_source: UsageSource
    price_version: str | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    client_request_id: str | None = None


class UsageEvent(ExchangeFacts, frozen=True, kw_only=True, omit_defaults=True):
    """One exchange, encoded as JSON. Defaults are omitted: an event is stored in the reservation and in the stream, and
    is sent twice for each exchange. The settle script adds the time of settlement as a field of the stream entry.

    flags          "unregistered" for a client that only signed tokens name; and oddities: "usage_clamped",
                   "usage_inconsistent", "unpriced", "charged_at_bound", "overrun", "late", "unheld" ...
    made, deleted  objects that the upstream began, or ceased, to store for the organization
    """

    flags: tuple[str, ...] = ()
    made: tuple[MadeObject, ...] = ()
    deleted: tuple[MadeObject, ...] = ()

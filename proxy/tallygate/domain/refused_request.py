"""One line of the log of refused requests, which a worker hands to the ledger."""

import msgspec


class RefusedRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A refused request, or how many more there were beside those that were kept.

    id             of the line
    at_ms          Unix time of the refusal; of further ones the start of their minute
    more           0: this is one request; else so many further ones of this minute, of which only the labels are known
    request_id     the `x-request-id` of its answer; client_request_id: what the client sent
    model          as it was asked for; None where that was not read
    status, code   of the answer
    refused_by     the name of the limit; the code where it was none
    spent_nano_usd, held_nano_usd, needed_nano_usd, limit_nano_usd   of a spend limit, when it refused
    quantity       what a rate limit counts; rate_limit: how many of a window, or open at once; rate_window_ms: 0 for the latter
    rate_remaining what was left of it
    resets_at_ms   when the same request could be served, by its answer; None where waiting does not help
    waits_for      what has to end for it, where the end is not known
    """

    id: str
    at_ms: int
    org: str
    credential: str
    capability: str
    status: int
    code: str
    refused_by: str
    more: int = 0
    request_id: str | None = None
    client_request_id: str | None = None
    endpoint: str | None = None
    method: str | None = None
    model: str | None = None
    message: str = ""
    param: str | None = None
    spent_nano_usd: int | None = None
    held_nano_usd: int | None = None
    needed_nano_usd: int | None = None
    limit_nano_usd: int | None = None
    quantity: str | None = None
    rate_limit: int | None = None
    rate_window_ms: int | None = None
    rate_remaining: int | None = None
    resets_at_ms: int | None = None
    waits_for: str | None = None

"""The limiter's decisions as answers to a client."""

from datetime import UTC, datetime
from typing import Final

from tallygate.domain.admission import LEDGER_BACKLOG, Decision, RateState, SpendState
from tallygate.domain.errors import ErrorCode, Refusal, RequestRejectedError
from tallygate.domain.instants import span_words, wait_words
from tallygate.domain.money import usd_text
from tallygate.domain.rate_limit import Quantity, Taken
from tallygate.gateway.exchange.caller_limits import CallerLimits

SHORT_WAIT_MS: Final = 60_000  # SDKs sleep through at most this; a longer x-should-retry: true would only hang a client
STORE_RETRY_MS: Final = 1_000
OVERLOADED_RETRY_MS: Final = 1_000
WAITS_FOR_OPEN_REQUESTS: Final = {"waits_for": "open_requests"}  # the detail of a refusal whose end is unknown, but near
_LOWER_MAXIMUM: Final = "lower its maximum output"
_RAISE_LIMIT: Final = "ask your administrator for a higher one"
_FEWER_REQUESTS: Final = "order fewer requests in one batch, or lower their maximum output"


ENDPOINT_NOT_ENABLED: Final = Refusal(
    code=ErrorCode.ENDPOINT_NOT_ENABLED,
    message=(
        "This endpoint is off here, since what it costs cannot be held to limits. "
        "An operator turns it on by taking `enabled: false` off its route in routes.yaml, with a `fee_usd` that covers a request."
    ),
    should_retry=False,
)
JOB_NEEDS_OWN_KEY: Final = Refusal(
    code=ErrorCode.INVALID_REQUEST,
    message="This service is called with your own key, with which the gateway does not follow work that goes on after its answer: "
    "send the request without 'background'.",
    param="background",
)
VIDEO_NEEDS_OWN_KEY: Final = Refusal(
    code=ErrorCode.INVALID_REQUEST,
    message="This service is called with your own key, with which the gateway cannot follow a video until it is done: "
    "it needs the operator's key.",
    should_retry=False,
)
BATCH_NEEDS_OWN_KEY: Final = Refusal(
    code=ErrorCode.INVALID_REQUEST,
    message="This service is called with your own key, with which the gateway cannot follow a batch: send the requests one by one.",
    should_retry=False,
)
WEBSOCKET_NOT_SERVED: Final = Refusal(
    code=ErrorCode.WEBSOCKET_NOT_SERVED,
    message="This gateway serves this endpoint over plain HTTP only, not over a WebSocket. Send the request as HTTP/1.1.",
    should_retry=False,
)
INTERNAL_ERROR: Final = Refusal(code=ErrorCode.INTERNAL_ERROR, message="The gateway failed. Try again.")
SHUTTING_DOWN: Final = Refusal(
    code=ErrorCode.SHUTTING_DOWN,
    message="The gateway is shutting down. Try again.",
    retry_after_ms=STORE_RETRY_MS,
    should_retry=True,
)


def refused_by(refusal: Refusal) -> str:
    """The limit that refused, or the code where it was none: a label of metrics and sums."""
    return str(refusal.details.get("limit") or refusal.code)


def rejected(error: RequestRejectedError) -> Refusal:
    return Refusal(code=ErrorCode.INVALID_REQUEST, message=error.message, param=error.param)


def overloaded(what: str) -> Refusal:
    """The refusal of a request for which there is no room. what: a sentence that names it."""
    return Refusal(
        code=ErrorCode.OVERLOADED,
        message=f"{what} Try again shortly.",
        retry_after_ms=OVERLOADED_RETRY_MS,
        should_retry=True,
    )


def limiter_refusal(
    decision: Decision, limits: CallerLimits, *, hold_nano_usd: int, fee_nano_usd: int = 0, is_batch: bool = False
) -> Refusal:
    """The refusal of a limit, with the true time until the same request can be admitted.

    hold_nano_usd: the least hold with which it would have been; fee_nano_usd: the part of it that is the route's fee. Where only
    open requests stand in the way, nobody knows when they end: the time is a short one, and the details say what is waited for.
    """
    key = decision.refused_by
    if key == LEDGER_BACKLOG:
        return Refusal(
            code=ErrorCode.LEDGER_BACKLOG,
            message="Usage cannot be recorded at the moment, so no request is served. Try again shortly.",
            retry_after_ms=STORE_RETRY_MS,
            should_retry=True,
        )
    state = spend_state(decision, limits)
    if key is not None and state is not None:
        fix = _LOWER_MAXIMUM if hold_nano_usd > fee_nano_usd else _RAISE_LIMIT
        return _spend_refusal(state, decision, limits.names[key], hold_nano_usd, fix=_FEWER_REQUESTS if is_batch else fix)
    limit = next(limit for name, limit in (*limits.rate, *limits.gate) if name == key)
    wait = max(decision.retry_after_ms, 1)
    details: dict[str, str | int | None] = {"limit": limit.name, "quantity": str(limit.quantity)}
    if limit.quantity.taken is Taken.WHILE_OPEN:
        details |= WAITS_FOR_OPEN_REQUESTS
        what = limit.quantity.removeprefix("open_")
        message = f"{limit.capacity} {what} are open at once, the most that is allowed. Wait until one of them ends."
    elif (rate := rate_state(decision, limits)) is not None and rate.waits_for_others:
        details |= WAITS_FOR_OPEN_REQUESTS
        message = (
            f"Rate limit reached: {limit.refill_units} {limit.quantity} per {span_words(limit.window_ms)}. Open requests hold what "
            "this one needs, and give back what they do not use: try again once one of them has ended."
        )
    else:
        counts = f" This request counts as {limits.weight}." if limit.quantity is Quantity.REQUESTS and limits.weight > 1 else ""
        message = (
            f"Rate limit reached: {limit.refill_units} {limit.quantity} per {span_words(limit.window_ms)}.{counts} "
            f"Try again in {wait_words(wait)}."
        )
    return Refusal(
        code=ErrorCode.RATE_LIMIT_EXCEEDED,
        message=message,
        retry_after_ms=wait,
        should_retry=wait <= SHORT_WAIT_MS,
        details=details,
    )


def rate_state(decision: Decision, limits: CallerLimits) -> RateState | None:
    """The state of the rate limit that refused; None if it was none, or if the limiter was not asked."""
    keys = [key for key, _ in limits.rate]
    return dict(zip(keys, decision.rate, strict=False)).get(decision.refused_by or "")


def spend_state(decision: Decision, limits: CallerLimits) -> SpendState | None:
    """The same of a spend limit."""
    keys = [key for key, _ in limits.spend]
    return dict(zip(keys, decision.spend, strict=False)).get(decision.refused_by or "")


def _spend_refusal(state: SpendState, decision: Decision, name: str, hold_nano_usd: int, *, fix: str) -> Refusal:
    details: dict[str, str | int | None] = {
        "limit": name,
        "spent_usd": usd_text(state.spent_nano_usd),
        "held_usd": usd_text(state.held_nano_usd),
        "limit_usd": usd_text(state.limit_nano_usd),
        "needed_usd": usd_text(hold_nano_usd),
        "available_usd": usd_text(max(state.limit_nano_usd - state.spent_nano_usd - state.held_nano_usd, 0)),
        "resumes_at": None,
    }
    spent, limit = usd_text(state.spent_nano_usd), usd_text(state.limit_nano_usd)
    head = f"Spend limit reached: ${spent} of ${limit} is spent and ${usd_text(state.held_nano_usd)} is held by open requests."
    if state.resume_at_ms > 0:
        resumes = datetime.fromtimestamp(state.resume_at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        details["resumes_at"] = resumes
        wait: int | None = max(state.resume_at_ms - decision.now_ms, 1)
        message, retry = f"{head} This request needs room for ${usd_text(hold_nano_usd)}; access resumes at {resumes}.", False
    elif not decision.retry_after_ms:
        wait, retry = None, False
        message = f"{head} This request alone can cost ${usd_text(hold_nano_usd)}, more than the limit: {fix}."
    else:
        wait, retry = decision.retry_after_ms, True
        details |= WAITS_FOR_OPEN_REQUESTS
        message = f"{head} This request needs room for ${usd_text(hold_nano_usd)}, which is there once open requests end."
    return Refusal(
        code=ErrorCode.SPEND_LIMIT_EXCEEDED,
        message=message,
        retry_after_ms=wait,
        should_retry=retry,
        details=details,
    )


def store_refusal(*, rebuilding: bool) -> Refusal:
    """The refusal of a request whose spend cannot be checked."""
    reason = "are being rebuilt" if rebuilding else "cannot be checked at the moment"
    return Refusal(
        code=ErrorCode.LIMITER_UNAVAILABLE,
        message=f"Limits {reason}, so no request is served. Try again shortly.",
        retry_after_ms=STORE_RETRY_MS,
        should_retry=True,
    )

"""Rate limits in the headers of each dialect."""

import pytest

from tallygate.dialects.anthropic_messages import AnthropicMessages
from tallygate.dialects.dialect import Dialect
from tallygate.dialects.gemini_generate import GeminiStreamGenerate
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.domain.admission import Decision, RateState
from tallygate.domain.rate_limit import Quantity, RateLimit
from tallygate.gateway.exchange.rate_lines import rate_lines
from tallygate.http1.header import Header, headers_of, names_of

NOW_MS = 1_767_225_599_001  # 2025-12-31T23:59:59.001Z
REQUESTS, TOKENS = Quantity.REQUESTS, Quantity.TOKENS
OPEN = RateLimit(name="open_requests", quantity=Quantity.OPEN_REQUESTS, capacity=2, refill_units=0, window_ms=0)


def limit(quantity: Quantity, capacity: int, name: str = "some") -> RateLimit:
    return RateLimit(name=name, quantity=quantity, capacity=capacity, refill_units=capacity, window_ms=60_000)


def state(remaining: int, reset_ms: int) -> RateState:
    return RateState(remaining=remaining, reset_ms=reset_ms, retry_after_ms=0)


def shown(dialect: Dialect, *limits: tuple[RateLimit, RateState]) -> list[Header]:
    """The headers after a decision that left the limits in these states."""
    decision = Decision(
        reservation_id="r",
        admitted=True,
        refused_by=None,
        shadow_refused_by=(),
        retry_after_ms=0,
        held_nano_usd=0,
        now_ms=NOW_MS,
        rate=tuple(after for _, after in limits),
        spend=(),
    )
    lines = rate_lines([each for each, _ in limits], dialect.limit_headers)
    headers = headers_of(lines.of(decision))
    assert names_of(headers) == lines.names
    return headers


def own(headers: list[Header]) -> list[Header]:
    return [header for header in headers if header[0] not in (b"ratelimit", b"ratelimit-policy")]


LIMITS = (
    (limit(REQUESTS, 60), state(40, 500)),
    (OPEN, state(1, 0)),
    (limit(REQUESTS, 1000), state(12, 1_000)),
    (limit(REQUESTS, 600), state(12, 360_000)),
    (limit(TOKENS, 100_000), state(90_000, 120)),
)


def test_openai_shows_the_tightest_limit_of_each_kind_with_its_reset_as_a_duration() -> None:
    assert own(shown(OpenAiChat(), *LIMITS)) == [
        (b"x-ratelimit-limit-requests", b"600"),
        (b"x-ratelimit-remaining-requests", b"12"),
        (b"x-ratelimit-reset-requests", b"6m0s"),
        (b"x-ratelimit-limit-tokens", b"100000"),
        (b"x-ratelimit-remaining-tokens", b"90000"),
        (b"x-ratelimit-reset-tokens", b"120ms"),
    ]


def test_anthropic_shows_the_tightest_limit_of_each_kind_with_its_reset_as_an_instant() -> None:
    assert own(shown(AnthropicMessages(), *LIMITS)) == [
        (b"anthropic-ratelimit-requests-limit", b"600"),
        (b"anthropic-ratelimit-requests-remaining", b"12"),
        (b"anthropic-ratelimit-requests-reset", b"2026-01-01T00:06:00Z"),  # 00:05:59.001, rounded up
        (b"anthropic-ratelimit-tokens-limit", b"100000"),
        (b"anthropic-ratelimit-tokens-remaining", b"90000"),
        (b"anthropic-ratelimit-tokens-reset", b"2026-01-01T00:00:00Z"),
    ]


def test_gemini_has_no_headers_of_its_own() -> None:
    assert own(shown(GeminiStreamGenerate(), *LIMITS)) == []


def test_a_kind_without_a_limit_is_not_shown() -> None:
    assert [name for name, _ in own(shown(OpenAiChat(), (limit(TOKENS, 5), state(5, 0))))] == [
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-tokens",
    ]


@pytest.mark.parametrize("limits", [(), ((OPEN, state(1, 0)),)])
def test_open_requests_alone_are_not_shown(limits: tuple[tuple[RateLimit, RateState], ...]) -> None:
    assert shown(OpenAiChat(), *limits) == []


def test_a_name_stands_as_it_is() -> None:
    headers = shown(OpenAiChat(), (limit(REQUESTS, 5, "100%d"), state(4, 0)))
    assert headers[-2:] == [(b"ratelimit-policy", b'"100%d";q=5;w=60'), (b"ratelimit", b'"100%d";r=4;t=0')]

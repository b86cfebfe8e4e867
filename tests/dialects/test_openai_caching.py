"""What a request may write to OpenAI's prompt cache is held at the rate of how long it may be kept."""

from typing import Any

import pytest
from openai_wire import read
from prices import price_of

from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_compact import OpenAiCompact
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.domain.organization import Plan
from tallygate.domain.unit import Unit
from tallygate.domain.usage import usage_of_totals
from tallygate.gateway.exchange.estimate import estimate

CHAT, RESPONSES, COMPACT = OpenAiChat(), OpenAiResponses(), OpenAiCompact()
TWELVE_HOURS = {"mode": "explicit", "ttl": "12h"}


def body_of(dialect: Any, more: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    whole = {"type": "text" if dialect is CHAT else "input_text", "text": "Hello " * 1_000} | part
    said = {"messages" if dialect is CHAT else "input": [{"role": "user", "content": [whole]}]}
    return {"model": "gpt-6.1-terra"} | said | more


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES, COMPACT], ids=["chat", "responses", "compact"])
@pytest.mark.parametrize(
    ("more", "part", "is_long"),
    [
        ({}, {}, False),
        ({"prompt_cache_options": None}, {}, False),
        ({"prompt_cache_options": {"mode": "explicit"}}, {"prompt_cache_breakpoint": {"mode": "explicit"}}, False),
        ({"prompt_cache_options": {"ttl": "30m"}}, {"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}, False),
        ({"prompt_cache_options": {"ttl": None}}, {}, False),
        ({"prompt_cache_options": {"ttl": "12h"}}, {}, True),
        ({"prompt_cache_options": {"ttl": "24h"}}, {}, True),
        ({"prompt_cache_options": {"ttl": ["12h"]}}, {}, True),
        ({"prompt_cache_options": {"ttl": "30m"}}, {"prompt_cache_breakpoint": TWELVE_HOURS}, True),
        ({}, {"prompt_cache_breakpoint": TWELVE_HOURS}, True),
        ({"metadata": {"ttl": "12h"}, "prompt_cache_options": {"mode": "implicit"}}, {}, False),
        ({"prompt_cache_retention": "24h"}, {}, True),
        ({"prompt_cache_retention": "in_memory"}, {}, False),
    ],
)
def test_only_what_may_be_kept_long_is_held_at_that_rate(
    dialect: Any, more: dict[str, Any], part: dict[str, Any], *, is_long: bool
) -> None:
    facts = read(dialect, body_of(dialect, more, part))
    assert (Unit.CACHE_WRITE_12H in facts.units) is is_long


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES], ids=["chat", "responses"])
def test_the_hold_covers_twelve_hours(dialect: Any) -> None:
    more = {"prompt_cache_options": {"ttl": "12h"}, "max_completion_tokens" if dialect is CHAT else "max_output_tokens": 16}
    price = price_of(input=1_000_000, cache_write_5m=1_250_000, cache_write_12h=2_500_000, output=5_000_000)
    held = estimate(read(dialect, body_of(dialect, more, {})), Plan(id="p"), price, 1_001)
    written = usage_of_totals(prompt=1_001, completion=16, cache_write_12h=1_001)
    assert held.hold_nano_usd >= price.cost_nano_usd(written)

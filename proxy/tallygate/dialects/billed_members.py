"""What a usage object states beside tokens: calls of tools, and its own cost."""

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Final

from tallygate.dialects.dialect import MeterReading
from tallygate.dialects.hosted_tools import calls_in_usage
from tallygate.dialects.lenient import member
from tallygate.domain.money import MONEY_MAX_NANO_USD, NANO_PER_USD

MEMBERS: Final = frozenset(
    {
        "cost",
        "cost_in_usd_ticks",
        "server_side_tool_usage_details",
        "server_tool_use_details",
        "num_search_queries",
        "prompt_audio_seconds",
    }
)
_TICKS_PER_NANO: Final = 10  # xAI, "Cost tracking": 1 USD is 10^10 ticks
_NUMERAL_CHARS_MAX: Final = 40


def read_billed(reading: MeterReading, usage: dict[str, Any]) -> None:
    """Read a usage that has one of `MEMBERS`: all that was stated so far, so that a later zero takes nothing back."""
    reading.billed_calls |= calls_in_usage(usage)
    note_cost(reading, stated_cost(usage))


def note_cost(reading: MeterReading, nano_usd: int | None) -> None:
    """Take a stated cost; the largest one so far, since those of pieces are sums."""
    if nano_usd is not None:
        reading.stated_cost_nano_usd = max(nano_usd, reading.stated_cost_nano_usd or 0)


def stated_cost(usage: dict[str, Any]) -> int | None:
    """The stated cost in nano-USD: xAI's ticks; OpenRouter's credits, which are USD; the total of Perplexity's object."""
    ticks = usage.get("cost_in_usd_ticks")
    if type(ticks) is int and 0 <= ticks <= MONEY_MAX_NANO_USD * _TICKS_PER_NANO:
        return -(-ticks // _TICKS_PER_NANO)
    stated = usage.get("cost")
    if isinstance(stated, dict):
        return nano_usd_of(stated.get("total_cost"))
    cost = nano_usd_of(stated)
    if cost is None or usage.get("is_byok") is not True:
        return cost
    # OpenRouter, "Usage accounting": with a key of the caller's own, `cost` is its fee alone.
    own = nano_usd_of(member(usage.get("cost_details"), "upstream_inference_cost"))
    return None if own is None else cost + own


def gateway_cost(metadata: object) -> int | None:
    """The cost in Vercel's `provider_metadata.gateway`: what was debited; with a key of the caller's own, which debits nothing, the
    list price.
    """
    gateway = member(metadata, "gateway")
    debited, listed = nano_usd_of(member(gateway, "cost")), nano_usd_of(member(gateway, "marketCost"))
    return debited or listed if debited is not None else None


def nano_usd_of(usd: object) -> int | None:
    """An amount in USD, a number or its text, in nano-USD, rounded up; None for what is no amount."""
    if isinstance(usd, bool) or not isinstance(usd, int | float | str):
        return None
    text = usd if isinstance(usd, str) else repr(usd)  # the shortest text of a float is what was sent
    if len(text) > _NUMERAL_CHARS_MAX:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount <= MONEY_MAX_NANO_USD // NANO_PER_USD:
        return None
    return int((amount * NANO_PER_USD).to_integral_value(ROUND_CEILING))

"""What each contender does of tallygate's work in the benchmark, as it is set up there. docs/performance.md cites the sources."""

from dataclasses import dataclass
from typing import Final

NOTHING: Final = "\N{EN DASH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A few words each.

    keys    how callers are told apart
    rates   what is limited beside money
    money   how a budget is kept
    kept    where the usage of a request can be looked up afterwards
    """

    keys: str = NOTHING
    rates: str = NOTHING
    money: str = NOTHING
    kept: str = NOTHING


WORK: Final = {
    "nginx": Work(),
    "envoy": Work(),
    "envoy, rate limit": Work(rates="requests, of all callers together"),
    "naive aiohttp": Work(),
    "LiteLLM": Work(keys="a function of ours", rates="requests, tokens, open requests", money="a key's, reserved"),
    "TensorZero": Work(keys="a tag that callers set", rates="requests, tokens", money="a tag's, a fixed sum a request"),
    "Portkey": Work(),
    "tallygate, everything on": Work(
        keys="digests", rates="requests twice, tokens, open requests", money="an organization's, reserved", kept="ledger"
    ),
    "tallygate, no limits": Work(keys="digests", kept="ledger"),
    "tallygate, unmetered route": Work(keys="digests", rates="requests twice, tokens, open requests", kept="ledger"),
}

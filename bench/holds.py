"""Whether what is held for a request covers what it turns out to cost, over recorded exchanges with their requests.

python -m bench.holds DIR [--worst N] [--assume TOKENS]

DIR holds recordings as bench/recordings.py reads them. The hold is what a gateway with the shipped prices and a spend limit takes
for a request, the cost what it charges for the usage that the provider told. A cost above its hold is listed with its source.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.counting import facts_of, metered, vendor
from bench.recordings import Recording, read_recordings
from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.load import ConfigSource
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.domain.organization import Plan
from tallygate.gateway.exchange.asked_price import listed_price
from tallygate.gateway.exchange.estimate import estimate
from tallygate.gateway.exchange.metering import price_answered
from tallygate.tokens.counter import TokenCounter


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One exchange. Amounts in nano-USD. is_stated: the request itself states a maximum output."""

    source: str
    vendor: str
    model: str
    held: int
    cost: int
    is_stated: bool
    is_unseen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    exchanges: list[Held]
    unread: int
    unpriced: int


def audit(recordings: Iterable[Recording], prices: PriceCatalogue, plan: Plan, at_ms: int) -> Audit:
    """Hold and cost of every exchange whose request is known and whose answer tells its usage."""
    known, counter = dialects(), TokenCounter(inline_chars_max=4_096)
    exchanges: list[Held] = []
    seen: set[tuple[bytes | None, bytes]] = set()
    unread = unpriced = 0
    for recording in recordings:
        key = (recording.request, recording.answer)
        if recording.request is None or key in seen or not 200 <= recording.status < 300:
            continue
        seen.add(key)
        dialect = known[recording.dialect]
        facts = facts_of(dialect, recording)
        reading = metered(dialect, facts, recording, recording.answer) if facts is not None else None
        if facts is None or reading is None or reading.usage is None or not reading.usage.total:
            unread += 1
            continue
        price = listed_price(facts, prices, at_ms)
        charged, _ = price_answered(facts, reading.response_model, price, prices, at_ms)
        if price is None or charged is None:
            unpriced += 1
            continue
        asked = estimate(facts, plan, price, counter.upper_bound_prompt(facts.prompt, facts.model), spend_limit_nano_usd=10**15)
        exchanges.append(
            Held(
                source=recording.source,
                vendor=vendor(facts.model),
                model=facts.model or "?",
                held=asked.hold_nano_usd,
                cost=charged.cost_nano_usd(reading.usage),
                is_stated=facts.max_output_tokens is not None,
                is_unseen=facts.has_unknown_input,
            )
        )
    return Audit(exchanges=exchanges, unread=unread, unpriced=unpriced)


def shipped_prices() -> PriceCatalogue:
    directory = shipped_directory()
    source = ConfigSource(
        directory=directory,
        shipped_dir=directory,
        known_dialects=dialects().traits,
        default_url="http://upstream.test",
        environ={},
    )
    return source.load().prices


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.holds", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--worst", type=int, default=20, metavar="N", help="list the N holds furthest below their cost")
    parser.add_argument("--assume", type=int, default=None, metavar="TOKENS", help="of unseen input, as `unknown_input_tokens`")
    asked = parser.parse_args()
    plan = Plan(id="audit", unknown_input_tokens=asked.assume)
    found = audit(read_recordings(asked.directory), shipped_prices(), plan, time.time_ns() // 1_000_000)
    console = Console(width=140)
    low = sorted((each for each in found.exchanges if each.held < each.cost), key=lambda each: each.held - each.cost)
    console.print(
        f"{len(found.exchanges):,} exchanges; {found.unread:,} without a readable request or usage, {found.unpriced:,} unpriced"
    )
    console.print(f"{len(low):,} holds below our own cost")
    for name, group in (
        ("with a stated maximum", [each for each in found.exchanges if each.is_stated]),
        ("without", [each for each in found.exchanges if not each.is_stated]),
        ("with unseen input", [each for each in found.exchanges if each.is_unseen]),
    ):
        ratios = sorted(each.held / each.cost for each in group if each.cost)
        if len(ratios) > 1:
            p95 = statistics.quantiles(ratios, n=20)[-1]
            console.print(f"{name}: {len(ratios):,} exchanges, hold / cost median {statistics.median(ratios):,.1f}, p95 {p95:,.1f}")
    for each in low[: asked.worst]:
        console.print(f"{each.held:>13,} of {each.cost:<13,} {each.vendor}, {each.model}: {each.source}", highlight=False)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())

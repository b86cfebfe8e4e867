"""Metrics totals: what each (organization, credential, capability) came to, moved by the settle script itself."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.limiter.keys import org_keys
from proxy.limiter.script import ScriptStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeTotals:
    """Every number only grows, as a counter must; what late settlements gave back stands apart as `credited_...`.

    requests        by outcome
    usage_sources   by usage source
    """

    org: str
    credential: str
    capability: str
    requests: Mapping[str, int]
    usage_sources: Mapping[str, int]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0
    credited_prompt_tokens: int = 0
    credited_completion_tokens: int = 0
    credited_nano_usd: int = 0
    overruns: int = 0
    expired_holds: int = 0
    late_settlements: int = 0
    unheld_settlements: int = 0


async def read_totals(store: ScriptStore, orgs: Sequence[str]) -> tuple[ExchangeTotals, ...]:
    """Totals of these organizations, in one round trip; none for an organization without exchanges."""
    replies = await asyncio.gather(*(store.command(b"HGETALL", org_keys(org).totals) for org in orgs))
    return tuple(totals for org, reply in zip(orgs, replies, strict=True) for totals in _totals_of(org, reply))


def _totals_of(org: str, reply: Any) -> list[ExchangeTotals]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    found: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for field, amount in pairs:
        credential, capability, name = field.decode().split("|")
        found[credential, capability][name] = int(amount)
    return [_totals(org, *labels, amounts) for labels, amounts in sorted(found.items())]


def _totals(org: str, credential: str, capability: str, amounts: Mapping[str, int]) -> ExchangeTotals:
    plain = {name: amount for name, amount in amounts.items() if "." not in name}
    return ExchangeTotals(
        org=org,
        credential=credential,
        capability=capability,
        requests=_by_prefix("requests.", amounts),
        usage_sources=_by_prefix("usage_source.", amounts),
        **plain,
    )


def _by_prefix(prefix: str, amounts: Mapping[str, int]) -> dict[str, int]:
    return {name.removeprefix(prefix): amount for name, amount in amounts.items() if name.startswith(prefix)}

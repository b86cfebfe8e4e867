"""Usage events as tests read them, and what a simulator served beside them."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import fields

from tallygate.domain.unit_kind import KIND_COSTS, UnitKind
from tallygate.domain.usage_event import UsageEvent
from tallygate.simulator.ledger import Served


def read_event(text: str | bytes) -> dict[str, Any]:
    """All members of an encoded event, those that it leaves out with their defaults."""
    absent = {field.name: field.default for field in fields(UsageEvent) if not field.required}
    return absent | {"flags": []} | json.loads(text)


def cost_by_kind(event: Mapping[str, Any]) -> dict[str, int]:
    """What an event's usage cost by kind of unit, without zeros. Fails unless that, with the fee, is exactly its cost.

    Only a first word, which is written before anything was seen, says nothing of it, and neither does a cost that was stated.
    """
    found = {kind.value: event[name] for kind, name in zip(UnitKind, KIND_COSTS, strict=True) if event[name]}
    is_undivided = not found and (event["usage_source"] == "checkpoint" or "stated_cost" in event["flags"])
    assert is_undivided or sum(found.values()) + event["fee_nano_usd"] == event["cost_nano_usd"], event
    assert min(found.values(), default=0) >= 0, event
    return found


def counts_of_event(event: Mapping[str, Any]) -> tuple[int, ...]:
    """Prompt, completion, cached, cache-write and reasoning tokens."""
    return tuple(event[f"{name}_tokens"] for name in ("prompt", "completion", "cached", "cache_write", "reasoning"))


def counts_of_served(served: Served) -> tuple[int, ...]:
    """The same as a provider would bill them: nothing where the model never began."""
    if not served.accepted:
        return (0, 0, 0, 0, 0)
    return (
        served.prompt_tokens,
        served.generated_tokens,
        served.cached_tokens,
        served.cache_write_tokens,
        served.reasoning_tokens,
    )

"""Usage events as tests read them, and what a simulator served beside them."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import fields

from tallygate.domain.usage_event import UsageEvent
from tallygate.simulator.ledger import Served


def read_event(text: str | bytes) -> dict[str, Any]:
    """All members of an encoded event, those that it leaves out with their defaults."""
    absent = {field.name: field.default for field in fields(UsageEvent) if not field.required}
    return absent | {"flags": []} | json.loads(text)


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

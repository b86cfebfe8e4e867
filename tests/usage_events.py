"""Usage events as tests read them."""

import json
from typing import Any

from msgspec.structs import fields

from proxy.domain.usage_event import UsageEvent


def read_event(text: str | bytes) -> dict[str, Any]:
    """All members of an encoded event, those that it leaves out with their defaults."""
    absent = {field.name: field.default for field in fields(UsageEvent) if not field.required}
    return absent | {"flags": []} | json.loads(text)

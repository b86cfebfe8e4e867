"""Service tiers of OpenAI and of services with its APIs: what a request asks for, and what an answer was served at.

OpenAI, API reference, `service_tier`: "the response body will include the service_tier value based on the processing mode actually
used to serve the request. This response value may be different from the value set in the parameter." `fast` and `priority` are two
names of one tier (guide "Fast mode"); it is `priority` in prices and usage events. Other tiers (`flex`, `ultrafast`, `scale`, and
Groq's `performance`) go by their own names.
"""

import re
from collections.abc import Mapping
from typing import Final

from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.domain.usage import STANDARD, Conditions

STANDARD_TIER: Final = "default"  # as an answer states it
_TIER: Final = "service_tier"
_AUTO: Final = "auto"  # whatever the project is set to
_NAMES: Final[Mapping[str, str]] = {
    STANDARD_TIER: "",
    "standard": "",
    "on_demand": "",  # Groq, "Service Tiers"
    "fast": "priority",
}
_PRIORITY: Final = Conditions(service_tier="priority")
_ULTRAFAST: Final = Conditions(service_tier="ultrafast")
_ONLY_STANDARD: Final = (STANDARD,)
# A request for a tier may be served at a lesser one; `auto` at the dearest that a price states.
_POSSIBLE: Final[Mapping[str, tuple[Conditions, ...]]] = {
    "": _ONLY_STANDARD,
    "priority": (STANDARD, _PRIORITY),
    "ultrafast": (STANDARD, _PRIORITY, _ULTRAFAST),
    _AUTO: (STANDARD, _PRIORITY, _ULTRAFAST),
}
_NAME: Final = re.compile(r"[a-z0-9_-]{1,32}", re.ASCII)


def implied_tier(facts: RequestFacts) -> str | None:
    """The tier that an answer need not state, as it would: "default" for a request that can be charged under nothing else."""
    return STANDARD_TIER if facts.conditions == _ONLY_STANDARD else None


def tier_conditions(asked: object) -> tuple[Conditions, ...]:
    """The conditions under which a request for this tier can be charged. Without a tier it counts as the standard one.

    A project's own setting, which no request shows, is charged as the answer states it.
    """
    if asked is None:
        return _ONLY_STANDARD
    name = _name(asked)
    if name is None:
        return _ONLY_STANDARD  # nothing that any service serves
    return _POSSIBLE.get(name) or (STANDARD, Conditions(service_tier=name))


def note_tier(reading: MeterReading, stated: object) -> None:
    """Take the tier that an answer states. `auto` is what was asked for, in the first events of an answer."""
    name = _name(stated)
    if name is not None and name != _AUTO:
        reading.conditions[_TIER] = name


def _name(tier: object) -> str | None:
    if not isinstance(tier, str):
        return None
    name = tier.lower()
    name = _NAMES.get(name, name)
    return name if not name or _NAME.fullmatch(name) else None

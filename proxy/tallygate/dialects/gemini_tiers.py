"""Service tiers of the Gemini API: what a request asks for, and what its answer was served at.

Sources: Google, "Priority inference" (an answer that was downgraded to `standard` is billed as that) and "Flex inference"; the
library google-genai, `ServiceTier` and `TrafficType`, by which the usage of Google's cloud states the same.
"""

from collections.abc import Mapping
from typing import Any, Final

from tallygate.domain.usage import STANDARD, Conditions

TIER: Final = "service_tier"
_PREFIX: Final = "service_tier_"
_NAMES: Final[Mapping[str, str]] = {"standard": "", "unspecified": ""}
_TRAFFIC: Final[Mapping[str, str]] = {
    "ON_DEMAND": "",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_OFFPEAK": "offpeak",
}
_NAME_CHARS_MAX: Final = 32
_ONLY_STANDARD: Final = (STANDARD,)
_EVERY_TIER: Final = (STANDARD, Conditions(service_tier="priority"), Conditions(service_tier="flex"))


def tier_conditions(asked: object) -> tuple[Conditions, ...]:
    """The conditions under which a request for this tier can be charged: at it, or as a standard one."""
    if asked is None:
        return _ONLY_STANDARD
    if isinstance(asked, int):  # by its number, as the proto3 JSON mapping allows
        return _EVERY_TIER
    name = _name(asked)
    return (STANDARD, Conditions(service_tier=name)) if name else _ONLY_STANDARD


def stated_tier(usage: Mapping[str, Any]) -> str | None:
    """The tier that a usage object states; "" for standard, None if it states none."""
    stated = usage.get("serviceTier") or usage.get(TIER)
    if stated:
        return _name(stated)
    traffic = usage.get("trafficType") or usage.get("traffic_type")
    return _TRAFFIC.get(traffic) if isinstance(traffic, str) else None


def _name(tier: object) -> str | None:
    if not isinstance(tier, str):
        return None
    name = tier.lower().removeprefix(_PREFIX)
    return _NAMES.get(name, name[:_NAME_CHARS_MAX])

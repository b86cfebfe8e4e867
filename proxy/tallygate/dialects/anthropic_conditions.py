"""Conditions under which Anthropic may charge a request: its service tier, its speed, and where it is served.

Sources: Anthropic, "Service tiers" (`auto`, which no member means too, is the priority tier where the account has one), "Fast
mode", and "Data residency" (without `inference_geo` the workspace's `default_inference_geo` applies). The usage of an answer states
each.
"""

from itertools import product
from typing import Final

from tallygate.dialects.lenient import NAME_CHARS_MAX
from tallygate.domain.usage import STANDARD, Conditions

_PRIORITY: Final = "priority"
_US: Final = "us"
_STANDARD_TIER: Final = "standard_only"
_NOTHING_SPECIAL: Final = frozenset({"standard", "global", ""})
_UNASKED: Final = (
    (STANDARD,),
    (Conditions(geography=_US), Conditions(service_tier=_PRIORITY), Conditions(service_tier=_PRIORITY, geography=_US)),
)

Possible = tuple[tuple[Conditions, ...], tuple[Conditions, ...]]


def conditions_of(service_tier: object, speed: object, geography: object) -> Possible:
    """Those that the members of a request allow, and those that only settings of the account add."""
    if service_tier is None and speed is None and geography is None:
        return _UNASKED
    asked_tier, asked_speed, asked_geography = _asked(service_tier), _asked(speed), _asked(geography)
    tiers = ("",) if asked_tier in {"", _STANDARD_TIER} else ("", _PRIORITY if asked_tier == "auto" else asked_tier)
    speeds = ("", asked_speed) if asked_speed else ("",)
    geographies = (asked_geography,)
    allowed = _every(tiers, speeds, geographies)
    more = _every(
        tiers if service_tier is not None else ("", _PRIORITY),
        speeds,
        geographies if geography is not None else ("", _US),
    )
    return allowed, tuple([each for each in more if each not in allowed])


def _asked(value: object) -> str:
    """What a member asks for; "" for what every request gets, and for what the provider refuses."""
    return value[:NAME_CHARS_MAX] if isinstance(value, str) and value not in _NOTHING_SPECIAL else ""


def _every(tiers: tuple[str, ...], speeds: tuple[str, ...], geographies: tuple[str, ...]) -> tuple[Conditions, ...]:
    return tuple(
        [Conditions(service_tier=tier, speed=speed, geography=geo) for tier, speed, geo in product(tiers, speeds, geographies)]
    )

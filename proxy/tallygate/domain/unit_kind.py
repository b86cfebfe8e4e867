"""Kinds of units: the few that a bill is broken down by, and the division of a cost among them."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from tallygate.domain.money import nano_usd_from_pico
from tallygate.domain.unit import CACHE_READS, CACHE_WRITES, TOOL_CALLS, Unit


class UnitKind(StrEnum):
    """A label of metrics, and a part of the name of the cost's fields."""

    INPUT = "input"
    CACHE_READ = "cache_read"
    CACHE_WRITE = "cache_write"
    OUTPUT = "output"
    MEDIA = "media"
    CALLS = "calls"


_UNITS: Final[Mapping[UnitKind, Sequence[Unit]]] = {
    UnitKind.INPUT: (Unit.INPUT,),
    UnitKind.CACHE_READ: tuple(CACHE_READS),  # of audio and images too
    UnitKind.CACHE_WRITE: tuple(CACHE_WRITES),
    UnitKind.OUTPUT: (Unit.OUTPUT, Unit.REASONING_OUTPUT),
    UnitKind.MEDIA: (
        Unit.INPUT_AUDIO,
        Unit.INPUT_IMAGE,
        Unit.INPUT_VIDEO,
        Unit.OUTPUT_AUDIO,
        Unit.OUTPUT_IMAGE,
        Unit.OUTPUT_VIDEO,
        Unit.CHARACTER,  # that is spoken
        Unit.AUDIO_SECOND,
        Unit.VIDEO_SECOND,
        Unit.IMAGE,
        Unit.SOURCE_IMAGE,
        Unit.PAGE,
    ),
    UnitKind.CALLS: (*TOOL_CALLS, Unit.SEARCH_UNIT, Unit.REQUEST),
}
KIND_COSTS: Final = tuple(f"{kind}_nano_usd" for kind in UnitKind)  # fields of a usage event
# The one that has what a unit costs.
COST_OF: Final[Mapping[str, str]] = {unit: f"{kind}_nano_usd" for kind, units in _UNITS.items() for unit in units}


def kind_cost_of(unit: str) -> str:
    """That of a unit which COST_OF lacks: a narrowed unit is of the kind of the wider, an unknown one is a call."""
    return COST_OF.get(unit.partition(":")[0]) or COST_OF[Unit.REQUEST]


def nano_usd_by_kind(pico_usd: Mapping[str, int]) -> tuple[int, dict[str, int]]:
    """A cost, rounded up once as a whole, and by kind: each part is what it adds to the rounded sum of those before it.

    So the parts make exactly the whole, each is within a nano-USD of its own cost, and what cost nothing stays at nothing.
    """
    found, exact, rounded = {}, 0, 0
    for name, amount in pico_usd.items():
        exact += amount
        upto = nano_usd_from_pico(exact)
        found[name] = upto - rounded
        rounded = upto
    return rounded, found

"""Bounds on a quantity over time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Annotated, Final, Self

from tallygate.domain.declared import Choice, Declared, Duration, Flag, Text, WholeNumber, declared_fields

UNITS_MAX: Final = 2**53 - 1  # a Lua number is a double
WINDOW_MAX_MS: Final = 31 * 86_400_000  # 8,928 buckets of spend; for longer windows there are calendar months


class Taken(IntEnum):
    """The time for which an exchange takes its units. The limiter's scripts read the number (`scripts/shared/demands.lua`)."""

    FOR_GOOD = 0  # out of a bucket that refills
    UNTIL_KNOWN = 1  # out of such a bucket, as an estimate that the actual replaces at the end
    WHILE_OPEN = 2  # a slot, which is free again at the end; there is no window


class Quantity(StrEnum):
    """A bounded quantity: the key of the limit in configuration, how its units are taken, and their name in `RateLimit-Policy`."""

    taken: Taken
    unit: str

    def __new__(cls, name: str, taken: Taken, unit: str) -> Self:
        quantity = str.__new__(cls, name)
        quantity._value_ = name
        quantity.taken = taken
        quantity.unit = unit
        return quantity

    REQUESTS = "requests", Taken.FOR_GOOD, "requests"
    TOKENS = "tokens", Taken.UNTIL_KNOWN, "model-tokens"  # no unit is registered for them
    OPEN_REQUESTS = "open_requests", Taken.WHILE_OPEN, "concurrent-requests"


class LimitScope(StrEnum):
    """The scope of a bucket: one for the organization, or one for each of its credentials."""

    ORGANIZATION = "organization"
    CREDENTIAL = "credential"


SCOPES: Final[Mapping[str, LimitScope]] = {scope.value: scope for scope in LimitScope}


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """A bound on one quantity, kept as a token bucket of units. Its fields are declared once, here.

    name           stable label in metrics, headers and refusals: "requests_per_1m", "tokens_per_1m", "open_requests"
    quantity       its name is the key of the units: `requests: 60`
    refill_units   per window, since 1000 an hour is not a whole number a second; 0 for slots, which have no window
    window_ms      0 for slots
    capacity       for slots: the most that may be open at once
    capability     None: all

    capacity * window_ms must stay below 2**53, since Lua keeps the level in units of 1/window_ms as a double.
    """

    name: str
    quantity: Quantity
    refill_units: Annotated[int, WholeNumber("Units regained, evenly, over each window.", least=1, most=UNITS_MAX)]
    window_ms: Annotated[int, Duration("Over which they are regained, such as 1m.", key="window", least=1_000, most=WINDOW_MAX_MS)]
    capacity: Annotated[
        int, WholeNumber("Units in a full bucket; those of a window, where none are given.", key="burst", least=1, most=UNITS_MAX)
    ]
    scope: Annotated[
        LimitScope, Choice("Whose bucket it fills: one for all, or one for each credential.", key="per", words=SCOPES)
    ] = LimitScope.ORGANIZATION
    capability: Annotated[str | None, Text("Only requests of this capability count.", chars_max=64)] = None
    shadow: Annotated[bool, Flag("Decide and count, and do not refuse.")] = False

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {self.capacity}")
        if self.quantity.taken is Taken.WHILE_OPEN:
            if self.window_ms or self.refill_units:
                raise ValueError(f"{self.quantity} has no window")
        elif self.refill_units < 1 or self.window_ms < 1:
            raise ValueError("refill_units and window_ms must be at least 1")
        if max(self.capacity, self.refill_units) * max(self.window_ms, 1) >= 2**53:
            raise ValueError("capacity times window in milliseconds must stay below 2**53")


_AT_ONCE: Final = WholeNumber("The most that may be open at once.", least=1, most=UNITS_MAX)


def _fields_of(quantity: Quantity) -> tuple[Declared, ...]:
    """The fields of a limit on it: `open_requests: 4`, or `requests: 60` with `window` and perhaps `burst`."""
    units, window, burst, *others = declared_fields(RateLimit)
    if quantity.taken is Taken.WHILE_OPEN:
        return replace(burst, key=quantity.value, kind=_AT_ONCE), *others
    return replace(units, key=quantity.value), window, replace(burst, is_required=False, default=0), *others


RATE_LIMIT_FIELDS: Final[Mapping[Quantity, tuple[Declared, ...]]] = {quantity: _fields_of(quantity) for quantity in Quantity}

# The limit on routes of weight 0, instead of their callers' limits on requests, for each organization at each worker. With the
# tolerance of a worker's gate (`limiter/local_gate.py`), 1,000 at once.
FREE_REQUESTS: Final = RateLimit(name="free_requests", quantity=Quantity.REQUESTS, capacity=800, refill_units=100, window_ms=1_000)

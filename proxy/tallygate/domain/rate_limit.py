"""Bounds on a quantity over time."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, Self


class Taken(IntEnum):
    """For how long an exchange takes its units. The number is what the limiter's scripts read (`scripts/shared/demands.lua`)."""

    FOR_GOOD = 0  # out of a bucket that refills
    UNTIL_KNOWN = 1  # out of such a bucket, as an estimate that the actual replaces at the end
    WHILE_OPEN = 2  # a slot, which is free again at the end; there is no window


class Quantity(StrEnum):
    """What is bounded: the key of the limit in configuration, and how its units are taken."""

    taken: Taken

    def __new__(cls, name: str, taken: Taken) -> Self:
        quantity = str.__new__(cls, name)
        quantity._value_ = name
        quantity.taken = taken
        return quantity

    REQUESTS = "requests", Taken.FOR_GOOD
    TOKENS = "tokens", Taken.UNTIL_KNOWN
    OPEN_REQUESTS = "open_requests", Taken.WHILE_OPEN


class LimitScope(StrEnum):
    """Whose bucket a limit fills: one for the organization, or one for each of its credentials."""

    ORGANIZATION = "organization"
    CREDENTIAL = "credential"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """A bound on one quantity, kept as a token bucket of units.

    name           stable label in metrics, headers and refusals: "requests_per_1m", "tokens_per_1m", "open_requests"
    capacity       units in a full bucket, at least 1; for open_requests the most that may be open at once
    refill_units   units regained, evenly, over each window_ms: 1000 an hour is not a whole number a second
    window_ms      0 for open_requests, which have no refill
    capability     only requests of this capability count; None: all
    shadow         decide and count, do not refuse

    capacity * window_ms must stay below 2**53, since Lua keeps the level in units of 1/window_ms as a double.
    """

    name: str
    quantity: Quantity
    capacity: int
    refill_units: int
    window_ms: int
    scope: LimitScope = LimitScope.ORGANIZATION
    capability: str | None = None
    shadow: bool = False

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


# What routes of weight 0 are held to instead of their callers' limits on requests: of each organization at each worker. With what a
# worker's gate grants more (`limiter/local_gate.py`), 1,000 at once.
FREE_REQUESTS: Final = RateLimit(name="free_requests", quantity=Quantity.REQUESTS, capacity=800, refill_units=100, window_ms=1_000)

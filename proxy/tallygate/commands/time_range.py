"""A time range from the options of a command."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tallygate.domain.organization import Organization


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeOptions:
    """The options as given; None for those that were not."""

    from_text: str | None
    to_text: str | None
    month: str | None
    time_zone: str | None


def read_range(options: RangeOptions, organizations: "Sequence[Organization]", *, now_ms: int) -> tuple[int, int]:
    """Parse [from_ms, to_ms). organizations: those concerned. Raises click.UsageError, which names the option at fault."""
    from tallygate.console.api_times import time_zone
    from tallygate.ledger.invoice.billing_period import BillingPeriod

    zone = common_zone(organizations)
    try:
        if options.time_zone is not None:
            zone = time_zone().read(options.time_zone)
    except ValueError as error:
        raise click.UsageError(f"--time-zone {error}") from error
    if options.month is None:
        if options.from_text is None:
            raise click.UsageError("give --from, or --month")
        from_ms, to_ms = _instant("--from", options.from_text, zone), now_ms
        if options.to_text is not None:
            to_ms = _instant("--to", options.to_text, zone)
        if from_ms >= to_ms:
            raise click.UsageError("--to must be later than --from")
        return from_ms, to_ms
    if options.from_text is not None or options.to_text is not None:
        raise click.UsageError("--month stands instead of --from and --to")
    try:
        month = BillingPeriod.month(options.month, zone, common_billing_day(organizations))
    except ValueError as error:
        raise click.UsageError(f"--month {error}") from error
    return month.start_ms, month.end_ms


def common_zone(organizations: "Sequence[Organization]") -> str:
    """The time zone that they all share, else UTC."""
    zones = {organization.time_zone for organization in organizations}
    return zones.pop() if len(zones) == 1 else "UTC"


def common_billing_day(organizations: "Sequence[Organization]") -> int:
    """The billing day that they all share, else 1, for calendar months."""
    days = {organization.billing_day for organization in organizations}
    return days.pop() if len(days) == 1 else 1


def _instant(option: str, text: str, zone: str) -> int:
    from tallygate.console.api_times import instant
    from tallygate.domain.calendar_months import day_start_ms

    try:
        given = instant(option, "").read(text)
    except ValueError as error:
        raise click.UsageError(f"{option} {error}") from error
    return given if isinstance(given, int) else day_start_ms(given, zone)

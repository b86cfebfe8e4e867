"""A time range from the options of a command."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import click

LAST_WORDS: Final = ("today", "yesterday", "week", "month", "last-month")


class ZonedOrganization(Protocol):
    """What of an organization decides where its days and months begin."""

    @property
    def time_zone(self) -> str: ...
    @property
    def billing_day(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeOptions:
    """The options as given; None for those that were not. last: a duration, or a word of LAST_WORDS."""

    from_text: str | None
    to_text: str | None
    month: str | None
    time_zone: str | None
    last: str | None = None

    @property
    def is_open(self) -> bool:
        """Return whether no beginning was given."""
        return self.from_text is None and self.month is None and self.last is None


def range_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a time range."""
    for option in (
        click.option("--time-zone", help="Zone of dates and days.  [default: the organization's if it is one, else UTC]"),
        click.option("--last", metavar="PERIOD", help=f"Until now: 90m, 24h, 7d ..., or {', '.join(LAST_WORDS)}."),
        click.option("--month", metavar="YYYY-MM", help="The organization's month that begins then."),
        click.option("--to", "to_text", metavar="TIME", help="End, exclusive.  [default: now]"),
        click.option("--from", "from_text", metavar="TIME", help="Beginning, inclusive: 2026-11-01, or 2026-11-01T09:30:00Z."),
    ):
        command = option(command)
    return command


def read_range(options: RangeOptions, organizations: "Sequence[ZonedOrganization]", *, now_ms: int) -> tuple[int, int]:
    """Parse [from_ms, to_ms). organizations: those concerned. Raises click.UsageError, which names the option at fault."""
    from tallygate.console.api_times import time_zone
    from tallygate.ledger.invoice.billing_period import BillingPeriod

    zone = common_zone(organizations)
    try:
        if options.time_zone is not None:
            zone = time_zone().read(options.time_zone)
    except ValueError as error:
        raise click.UsageError(f"--time-zone {error}") from error
    given = [options.from_text or options.to_text, options.month, options.last]
    if sum(each is not None for each in given) > 1:
        raise click.UsageError("give --from and --to, or --month, or --last")
    if options.last is not None:
        return _last(options.last, zone, common_billing_day(organizations), now_ms)
    if options.month is None:
        if options.from_text is None:
            raise click.UsageError("give --from, --month or --last")
        from_ms, to_ms = _instant("--from", options.from_text, zone), now_ms
        if options.to_text is not None:
            to_ms = _instant("--to", options.to_text, zone)
        if from_ms >= to_ms:
            raise click.UsageError("--to must be later than --from")
        return from_ms, to_ms
    try:
        month = BillingPeriod.month(options.month, zone, common_billing_day(organizations))
    except ValueError as error:
        raise click.UsageError(f"--month {error}") from error
    return month.start_ms, month.end_ms


def _last(text: str, zone: str, billing_day: int, now_ms: int) -> tuple[int, int]:
    """A period that ends now, or with the day or the month before."""
    from tallygate.config.section import duration_ms
    from tallygate.domain.calendar_months import day_start_ms, local_date, month_at

    today = local_date(now_ms, zone)
    month = month_at(now_ms, zone, billing_day)
    match text:
        case "today":
            return day_start_ms(today, zone), now_ms
        case "yesterday":
            return day_start_ms(today - timedelta(days=1), zone), day_start_ms(today, zone)
        case "week":
            return day_start_ms(today - timedelta(days=today.weekday()), zone), now_ms
        case "month":
            return month.start_ms, now_ms
        case "last-month":
            return month_at(month.start_ms - 1, zone, billing_day).start_ms, month.start_ms
    try:
        return now_ms - duration_ms(text), now_ms
    except ValueError as error:
        raise click.BadParameter(f"{error}, or one of {', '.join(LAST_WORDS)}", param_hint="--last") from error


def common_zone(organizations: "Sequence[ZonedOrganization]") -> str:
    """The time zone that they all share, else UTC."""
    zones = {organization.time_zone for organization in organizations}
    return zones.pop() if len(zones) == 1 else "UTC"


def common_billing_day(organizations: "Sequence[ZonedOrganization]") -> int:
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

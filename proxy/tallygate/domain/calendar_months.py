"""Calendar months of a time zone as instants, for spend limits that follow the month."""

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from tallygate.domain.admission import CalendarPeriod


def months_around(now_ms: int, time_zone: str) -> tuple[CalendarPeriod, ...]:
    """The month that now_ms falls into and both its neighbours, so that a server whose clock differs can choose its own."""
    local = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(time_zone))
    return _months(local.year, local.month, time_zone)


@lru_cache(maxsize=1024)  # a few entries per time zone in use
def _months(year: int, month: int, time_zone: str) -> tuple[CalendarPeriod, ...]:
    zone = ZoneInfo(time_zone)
    first = year * 12 + month - 2  # months since year 0, of the month before
    starts = [datetime(index // 12, index % 12 + 1, 1, tzinfo=zone) for index in range(first, first + 4)]
    edges = [round(start.timestamp()) * 1000 for start in starts]
    return tuple(
        CalendarPeriod(id=f"{start:%Y-%m}", start_ms=edges[index], end_ms=edges[index + 1])
        for index, start in enumerate(starts[:3])
    )

"""PromQL, spelled once. How a series is told apart from its copies, and how a range is counted exactly, stands here and nowhere
else.

Shared families come from the stores that all consoles read: each console that is scraped tells the same series, and `max` takes
one of them. Local families are counted by the workers of one machine: `sum` adds the machines up.

Shared counters never reset and start at 0, so the count of a range is the difference of two values: exact, where increase() would
extrapolate to the range's edges and miss the first value of a new series.
"""

from collections.abc import Callable
from typing import Final

TO: Final = "${__to:date:seconds}"  # the end of the dashboard's range, in Unix seconds
WEEK: Final = "7d"
# Whether a day of a query whose step is a day begins on a Monday. It begins at midnight of the browser's zone, of which PromQL does
# not know: 13 hours later it is still the same day in UTC, in zones from UTC-10:59 to UTC+13.
_ON_MONDAYS: Final = "and on () (day_of_week(vector(time() + 46800)) == 1)"
OUTAGE: Final = "15m"  # a value is still known so long after its last scrape
RATE: Final = "$__rate_interval"
_STEP: Final = "$__interval"  # of the query, and so the width of its bars
_SECONDS: Final = {_STEP: "$__interval_ms / 1000", WEEK: "604800"}
_COPIES: Final = "without (instance, job)"


def select(metric: str, *matchers: str) -> str:
    """`metric{matcher, ...}`; a metric of "" leaves the name to the matchers."""
    return f"{metric}{{{', '.join(matchers)}}}" if matchers else metric


def one(series: str) -> str:
    """A shared family's value now, once."""
    return f"max {_COPIES} ({series})"


def one_rate(series: str, window: str = RATE) -> str:
    """A shared counter's rate per second, once. Extrapolated by Prometheus, as every rate."""
    return one(f"rate({series}[{window}])")


def rate_by(by: str, series: str, window: str = RATE) -> str:
    """Of a shared counter, by labels."""
    return f"{_sum(by)} ({one_rate(series, window)})"


def local_rate_by(by: str, series: str, window: str = RATE) -> str:
    """Of a counter that workers keep, over all machines."""
    return f"{_sum(by)} (rate({series}[{window}]))"


def total_by(by: str, series: str, when: str = "") -> str:
    """Exactly what a shared counter counted between the ends of the range. An instant query, at the range's end.

    when   f" @ {TO}" for the same number inside a query over time
    """
    return f"{_sum(by)} ({_counted(series, when)})"


def net_total_by(by: str, series: str, credited: str, when: str = "") -> str:
    """`total_by` less what was taken back: most organizations never had anything taken back."""
    return f"{_sum(by)} ({_counted(series, when)} or {_taken_back(_counted(credited, when))})"


def local_total_by(by: str, series: str) -> str:
    """As `total_by`, of a counter that workers keep: each machine's own, which starts at 0 again if its count files are deleted."""
    return f"{_sum(by)} (clamp_min({_difference(_last(series), _last(series, ' offset $__range'))}, 0))"


def bars_by(by: str, series: str) -> str:
    """Exactly what a shared counter counted in each interval, at the interval's start; of the running interval, what there is so
    far.

    A range query whose step is $__interval.
    """
    return f"{_sum(by)} ({_counted_each(series)})"


def net_bars_by(by: str, series: str, credited: str) -> str:
    return f"{_sum(by)} ({_counted_each(series)} or {_taken_back(_counted_each(credited))})"


def net_weeks_by(by: str, series: str, credited: str) -> str:
    """`net_bars_by` of whole weeks, each at its Monday. A range query whose step is a day, so that days begin at midnight."""
    weeks = f"{_counted_each(series, WEEK)} or {_taken_back(_counted_each(credited, WEEK))}"
    return f"{_sum(by)} ({weeks}) {_ON_MONDAYS}"


def weeks_by(by: str, series: str) -> str:
    """As `net_weeks_by`, of what is never taken back."""
    return f"{_sum(by)} ({_counted_each(series, WEEK)}) {_ON_MONDAYS}"


def local_bars_by(by: str, series: str) -> str:
    """As `bars_by`, of a counter that workers keep."""
    return f"{_sum(by)} (clamp_min({_difference(_ended(_last, series), _last(series))}, 0))"


def or_zero(expression: str, by: str = "") -> str:
    """What counts faults is 0, not absent, as long as there are none. by: the label that names a line."""
    zero = f'label_replace(vector(0), "{by}", "none", "", "")' if by else "vector(0)"
    return f"{expression} or on () {zero}"


def top(count: str, expression: str) -> str:
    return f"topk({count}, {expression})"


def among_top(count: str, expression: str, *, by: str, ranking: str) -> str:
    """Only the lines that lead at the range's end: topk over time would show everything that ever led for a moment."""
    return f"{expression} and on ({by}) topk({count}, {ranking} @ {TO})"


def quantile(fraction: str, by: str, buckets: str, window: str = RATE) -> str:
    """Of a histogram that workers keep; interpolated within its buckets."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({fraction}, {local_rate_by(labels, buckets, window)})"


def _at(series: str, when: str = "") -> str:
    return one(_last(series, when))


def _last(series: str, when: str = "") -> str:
    return f"last_over_time({series}[{OUTAGE}]{when})"


def _ended(at: Callable[[str, str], str], series: str, width: str = _STEP) -> str:
    """The value at the end of the interval that begins now.

    Grafana cuts the range at whole steps, so the end of the last interval lies ahead: its value is the one at the range's end
    instead.
    """
    running = f"({at(series, f' @ {TO}')} and on () (vector(time()) > {TO} - {_SECONDS[width]}))"
    return f"({at(series, f' offset -{width}')} or {running})"


def _difference(later: str, earlier: str) -> str:
    """Of what was not there before, all that is there now."""
    return f"{later} - ({earlier} or {later} * 0)"


def _counted(series: str, when: str) -> str:
    return _difference(_at(series, when), _at(series, f"{when} offset $__range"))


def _counted_each(series: str, width: str = _STEP) -> str:
    return _difference(_ended(_at, series, width), _at(series))


def _taken_back(credited: str) -> str:
    """Negative, and with a label of its own, so that it can stand beside what it is taken from in one sum."""
    return f'label_replace(-({credited}), "taken_back", "yes", "", "")'


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"

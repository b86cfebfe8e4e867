"""What every dashboard has around its panels: links to the others, ranges, marks for what happened."""

from typing import Any, Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, DashboardLink, TimePicker
from grafana_foundation_sdk.cog import builder
from grafana_foundation_sdk.models import dashboard as model

from grafana.generator import look
from grafana.generator.targets import metrics_source

TAG: Final = "tallygate"
USAGE, SPEND, HEALTH, INVOICE = "tallygate-usage", "tallygate-spend", "tallygate-health", "tallygate-invoice"
_RANGES: Final = {
    "Today": "from=now%2Fd&to=now",
    "This week": "from=now%2Fw&to=now",
    "Last 7 days": "from=now-7d&to=now",
    "This month": "from=now%2FM&to=now",
    "Last month": "from=now-1M%2FM&to=now-1M%2FM",
    "Last 30 days": "from=now-30d&to=now",
}
_REFRESHES: Final = ["15s", "30s", "1m", "5m", "15m", "1h"]


class _Mark(model.AnnotationQuery):
    """Marks where a query has a value above 0. The SDK has not all of the fields that Prometheus' annotations do."""

    def __init__(self, *, text: str, step: str, **fields: Any) -> None:
        super().__init__(**fields)
        self.text = text
        self.step = step

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"step": self.step, "titleFormat": self.text, "useValueForTime": False}


class Mark(builder.Builder[model.AnnotationQuery]):
    """text: what is written, with {{label}} for a label's value. step: of the query."""

    def __init__(self, name: str, expression: str, *, text: str, colour: str, step: str = "60s") -> None:
        self._made = _Mark(
            name=name, datasource=metrics_source(), expr=expression, icon_color=colour, text=text, step=step, hide=False
        )

    def build(self) -> model.AnnotationQuery:
        return self._made


def pauses(organization: str = 'org=~"$organization"') -> Mark:
    expression = f"max without (instance, job) (tallygate_paused{{{organization}}}) == 1"
    return Mark("Pauses", expression, text="{{org}} is paused", colour=look.RED)


def restarts() -> Mark:
    expression = "sum by (instance, worker) (changes(tallygate_worker_starts_total[2m])) > 0"
    return Mark("Worker restarts", expression, text="Worker {{worker}} restarted", colour=look.BLUE)


def dashboard(uid: str, title: str, description: str, *, first_range: str = "now-7d", refresh: str = "1m") -> Dashboard:
    made = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .timezone("browser")
        .week_start("monday")
        .time(first_range, "now")
        .timepicker(TimePicker().refresh_intervals(_REFRESHES))
        .refresh(refresh)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .version(1)
    )
    others = DashboardLink("tallygate").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return made.link(others.include_vars(include_vars=True).keep_time(keep_time=True).as_dropdown(as_dropdown=True))


def with_ranges(made: Dashboard, uid: str) -> Dashboard:
    """Links that choose a day, a week or a month, keeping everything else that is chosen."""
    for title, span in _RANGES.items():
        link = DashboardLink(title).type(model.DashboardLinkType.LINK).icon("time").url(f"/d/{uid}?{span}")
        made = made.link(link.include_vars(include_vars=True).tooltip(f"Show {title.lower()}"))
    return made


def to_dashboard(uid: str, title: str, **values: str) -> DashboardLink:
    """A link of a value to another dashboard, which shows the same range. values: of its variables."""
    chosen = "".join(f"&var-{name}={value}" for name, value in values.items())
    return DashboardLink(title).url(f"/d/{uid}?${{__url_time_range}}{chosen}")

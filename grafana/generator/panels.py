"""The kinds of panels that the dashboards are made of. A description says what exactly is counted."""

from collections.abc import Iterable, Mapping
from string import ascii_uppercase
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import barchart, bargauge, common, stat, statetimeline, table, text, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import (
    BarAlignment,
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue
from grafana_foundation_sdk.models.text import TextMode

from grafana.generator import look
from grafana.generator.targets import metrics_source

P = TypeVar("P", stat.Panel, bargauge.Panel, barchart.Panel, timeseries.Panel, table.Panel, statetimeline.Panel)
M = TypeVar("M", bargauge.Panel, barchart.Panel, timeseries.Panel)
Panel = stat.Panel | bargauge.Panel | barchart.Panel | timeseries.Panel | table.Panel | statetimeline.Panel | text.Panel


def figure(
    title: str, description: str, *queries: Dataquery, unit: str = look.EACH, colours: ThresholdsConfig | None = None
) -> stat.Panel:
    """One number, large."""
    panel = _common(stat.Panel(), title, description, queries, unit)
    return (
        panel.no_value(look.NO_REQUESTS)
        .thresholds(colours or look.plain())
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
    )


def lines(
    title: str,
    description: str,
    *queries: Dataquery,
    unit: str = look.COUNT,
    colours: ThresholdsConfig | None = None,
    stacked: bool = False,
    no_value: str = look.NO_REQUESTS,
) -> timeseries.Panel:
    """colours: thresholds, drawn as dashed lines."""
    panel = _over_time(title, description, queries, unit).no_value(no_value).line_width(2).fill_opacity(25 if stacked else 5)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if colours is not None:
        panel = panel.thresholds(colours).thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    return panel


def bars(title: str, description: str, *queries: Dataquery, step: str, unit: str = look.COUNT) -> timeseries.Panel:
    """Stacked, each over the interval that begins at its time. step: the interval, longer only where the range has too many."""
    panel = _over_time(title, description, queries, unit).no_value(look.NO_REQUESTS).interval(step)
    return (
        panel.draw_style(GraphDrawStyle.BARS)
        .bar_alignment(BarAlignment.AFTER)
        .bar_width_factor(0.9)
        .line_width(0)
        .fill_opacity(80)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    )


def weeks(title: str, description: str, *queries: Dataquery, unit: str = look.COUNT) -> barchart.Panel:
    """Stacked bars of weeks, each named by its Monday. Their queries have the step of a day, since steps of a week would begin on
    Thursdays, as Unix time did.
    """
    panel = _common(barchart.Panel(), title, description, queries, unit).no_value(look.NO_REQUESTS)
    panel = panel.interval("1d").time_from("12w").x_field("Time").stacking(StackingMode.NORMAL).show_value(VisibilityMode.NEVER)
    panel = panel.min(0).line_width(0).fill_opacity(80).legend(_legend()).tooltip(_tooltip())
    return panel.override_by_name("Time", [DynamicConfigValue(id_val="unit", value=look.DATE)])


def as_money(panel: M) -> M:
    """Give the second query of a panel, which has money where the first has counts, its unit."""
    return panel.override_by_query("B", [DynamicConfigValue(id_val="unit", value=look.USD)])


def ranking(
    title: str, description: str, *queries: Dataquery, unit: str = look.COUNT, colours: ThresholdsConfig | None = None
) -> bargauge.Panel:
    """Horizontal bars, one a line of the result."""
    return (
        _common(bargauge.Panel(), title, description, queries, unit)
        .no_value(look.NO_REQUESTS)
        .min(0)
        .thresholds(colours or look.plain())
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
    )


def columns(
    title: str,
    description: str,
    numbers: Mapping[str, Dataquery],
    *,
    labels: Mapping[str, str],
    hidden: Iterable[str] = (),
    sort_by: str = "",
) -> table.Panel:
    """A table of instant queries side by side, joined by their labels.

    numbers: queries by the titles of their columns; labels: titles of the columns that come first, by label; hidden: titles.
    """
    named = {**labels, **{f"Value #{ref_id}": name for ref_id, name in zip(ascii_uppercase, numbers, strict=False)}}
    options: dict[str, Any] = {
        "excludeByName": dict.fromkeys(["Time", "__name__", *(name for name in named if named[name] in hidden)], True),
        "indexByName": {name: index for index, name in enumerate(named)},
        "renameByName": named,
    }
    transformations = [DataTransformerConfig(id_val="merge", options={}), DataTransformerConfig(id_val="organize", options=options)]
    panel = _common(table.Panel(), title, description, numbers.values(), look.EACH).no_value(look.NO_REQUESTS)
    panel = panel.show_header(show_header=True).transformations(transformations)
    return panel.sort_by([common.TableSortByFieldState().display_name(sort_by).desc(desc=True)]) if sort_by else panel


def states(title: str, description: str, *queries: Dataquery) -> statetimeline.Panel:
    """One lane a line of the result, coloured by its value's mapping."""
    panel = _common(statetimeline.Panel(), title, description, queries, look.COUNT)
    panel = panel.no_value(look.NO_REQUESTS)
    return panel.show_value(VisibilityMode.NEVER).merge_values(merge_values=True).line_width(0).fill_opacity(80)


def words(title: str, content: str) -> text.Panel:
    return text.Panel().title(title).mode(TextMode.MARKDOWN).content(content.strip() + "\n")


def _over_time(title: str, description: str, queries: Iterable[Dataquery], unit: str) -> timeseries.Panel:
    panel = _common(timeseries.Panel(), title, description, queries, unit)
    return panel.legend(_legend()).tooltip(_tooltip()).min(0).show_points(VisibilityMode.AUTO).span_nulls(span_nulls=False)


def _legend() -> common.VizLegendOptions:
    made = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST)
    return made.placement(LegendPlacement.BOTTOM).show_legend(show_legend=True)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)


def _common(panel: P, title: str, description: str, queries: Iterable[Dataquery], unit: str) -> P:
    """Queries are named A, B, C in their order."""
    panel = panel.title(title).description(description).datasource(metrics_source()).unit(unit)
    for name, query in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(query.ref_id(name))
    return panel

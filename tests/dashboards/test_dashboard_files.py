"""The shipped dashboards are what the generator makes, and something Grafana can show."""

import itertools
import json
import re
from collections import Counter

import pytest
from dashboard_files import DIRECTORY, METRIC_NAMES, NAMES, all_texts, annotations, dashboard, panels, queries, variables
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from grafana_words import names_used

from grafana.generator.files import files
from tallygate.telemetry.metric import Kind
from tallygate.telemetry.metrics import METRICS

# What Grafana itself defines, in queries, in links and in panels that show a field.
BUILT_IN = {
    "__interval",
    "__interval_ms",
    "__rate_interval",
    "__range",
    "__to",
    "__all",
    "__url_time_range",
    "__value",
    "__data",
    "__field",
}
PROMETHEUS_MARKS = ("step", "titleFormat", "useValueForTime")  # what its annotations have beyond the common type
SOURCES = {"prometheus": "${datasource}", "grafana-postgresql-datasource": "${ledger}"}
COLUMNS = 24
GAUGES = {metric.name for metric in METRICS if metric.kind is Kind.GAUGE}
SCREEN_ROWS = 20  # of the grid: about what a laptop shows without scrolling


def test_the_committed_files_are_what_the_generator_makes():
    assert {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.iterdir()} == files()


def test_uids_are_fixed_and_titles_unique():
    assert {name: dashboard(name)["uid"] for name in NAMES} == {name: f"tallygate-{name}" for name in NAMES}
    assert len({dashboard(name)["title"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_grafanas_own_types_read_the_file_and_write_the_same_again(name):
    """Down to the options of each kind of panel. What the types do not know they drop, and what is missing they add."""
    told = dashboard(name)
    plugins.register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(told), cls=JSONEncoder))
    for mark in told["annotations"].get("list", []):
        for beyond in PROMETHEUS_MARKS:
            del mark[beyond]
    assert again == told


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_unique_and_panels_fill_the_grid_without_overlapping(name):
    every = dashboard(name)["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    places = {panel["id"]: panel["gridPos"] for panel in every}
    cells = Counter(
        cell
        for place in places.values()
        for cell in itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
    )
    assert max(cells.values()) == 1, "panels overlap"
    bottom = max(place["y"] + place["h"] for place in places.values())
    assert set(cells) == set(itertools.product(range(COLUMNS), range(bottom))), "a hole, or a panel beyond the edge"


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_is(name):
    titles = []
    for panel in panels(name):
        if panel["type"] == "text":
            assert "*Plans*" in panel["options"]["content"] or name == "health"
            continue
        titles.append(panel["title"])
        assert panel["title"], panel
        assert len(panel["description"]) > 15, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == sorted(set(refs)) != [], panel["title"]
        if panel["type"] not in {"table", "state-timeline"}:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        if len(panel["targets"]) > 1 and panel["type"] == "timeseries":
            assert all(target.get("legendFormat") for target in panel["targets"]), panel["title"]
    assert len(set(titles)) == len(titles), "two panels have one title"


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_without_data_says_why(name):
    """Not "No data", nor a lack of requests where what is missing is a process, a store or an answer."""
    for panel in panels(name):
        if panel["type"] == "text":
            continue
        why = panel["fieldConfig"]["defaults"]["noValue"]
        assert len(why) > 3, panel["title"]
        assert why != "No data", panel["title"]
        if why.startswith("No requests"):
            texts = " ".join(target["expr"] for target in panel["targets"])
            assert not GAUGES & set(re.findall(r"tallygate_\w+", texts)), (panel["title"], why)


@pytest.mark.parametrize("name", NAMES)
def test_weeks_begin_on_mondays(name):
    """The week of "now/w", and bars: of the step of a day, at Mondays alone."""
    assert dashboard(name)["weekStart"] == "monday"
    weekly = [panel for panel in panels(name) if "week" in panel["title"].lower() and panel["type"] != "stat"]
    assert [panel["type"] for panel in weekly] == ["barchart"] * {"usage": 2, "spend": 1}.get(name, 0)
    for panel in weekly:
        assert (panel["interval"], panel["options"]["xField"]) == ("1d", "Time")
        assert all(target["interval"] == "1d" and "day_of_week" in target["expr"] for target in panel["targets"])


def test_money_is_shown_as_money():
    """In the view of cost too, where the same panels show counts in the other views."""
    viewed = [panel for panel in panels("usage") if "${view" in panel["title"] and panel["type"] != "table"]
    assert len(viewed) == 5
    for panel in viewed:
        money = [override for override in panel["fieldConfig"]["overrides"] if override["matcher"]["id"] == "byFrameRefID"]
        assert [(override["matcher"]["options"], override["properties"][0]["value"]) for override in money] == [
            ("B", "currencyUSD")
        ]
        assert [target["refId"] for target in panel["targets"]] == ["A", "B"]
    for name in METRIC_NAMES:
        for panel in panels(name):
            texts = " ".join(target["expr"] for target in panel.get("targets", []))
            if panel["type"] in {"text", "table"} or "${view" in texts or ":ratio" in texts or "to_limit:seconds" in texts:
                continue
            is_money = re.search(r"(?<!nano)_usd", texts) is not None
            assert (panel["fieldConfig"]["defaults"]["unit"] == "currencyUSD") is is_money, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_the_key_figures_are_on_the_first_screen(name):
    first = [panel for panel in panels(name) if panel["gridPos"]["y"] == 0]
    assert {panel["type"] for panel in first} == {"stat"}
    assert len(first) == 6
    assert sum(panel["gridPos"]["y"] + panel["gridPos"]["h"] <= SCREEN_ROWS for panel in panels(name)) >= 7


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_that_is_used_is_defined_and_the_other_way_round(name):
    defined = {variable["name"] for variable in variables(name)}
    told = dashboard(name)
    used = set().union(*(names_used(text) for text in all_texts(told)))
    assert used - BUILT_IN <= defined
    unused = defined - used
    assert not unused, f"nobody asks for {unused}"


@pytest.mark.parametrize("name", NAMES)
def test_data_sources_are_variables(name):
    told = dashboard(name)
    asked = [target["datasource"] for panel in panels(name) for target in panel.get("targets", [])]
    asked += [panel["datasource"] for panel in panels(name) if "targets" in panel]
    asked += [variable["datasource"] for variable in variables(name) if variable["type"] == "query"]
    asked += [annotation["datasource"] for annotation in annotations(name)]
    assert all(source["uid"] == SOURCES[source["type"]] for source in asked)
    assert len({source["type"] for source in asked}) == 1
    assert [variable["query"] for variable in told["templating"]["list"] if variable["type"] == "datasource"] == [asked[0]["type"]]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_dashboards_and_carry_variables_that_they_have(name):
    uids = {f"tallygate-{other}": other for other in NAMES}
    links = [text for text in all_texts(dashboard(name)) if text.startswith("/d/")]
    for link in links:
        path, _, query = link.removeprefix("/d/").partition("?")
        carried = {part.partition("=")[0].removeprefix("var-") for part in query.split("&") if part.startswith("var-")}
        assert carried <= {variable["name"] for variable in variables(uids[path])}
    (others,) = [link for link in dashboard(name)["links"] if link["type"] == "dashboards"]
    assert others["includeVars"]
    assert others["keepTime"]
    assert set(others["tags"]) <= set(dashboard(name)["tags"])


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_shared_series_are_told_apart_from_their_copies_in_one_place(name):
    """A sum over consoles of what they all tell would count it twice."""
    shared = ("requests", "tokens", "cached_tokens", "reasoning_tokens", "spend_usd", "tokens_credited", "usage_source", "paused")
    for query in queries(name):
        for family in shared:
            if f"tallygate_{family}" in query.text.replace("spend_usd:", ""):
                assert "max without (instance, job)" in query.text, query.where

"""The pictures of the dashboards show every panel, with its answer or with why it has none."""

import html
import importlib.util
import struct
import sys
import zlib
from pathlib import Path

import pytest
from dashboard_files import NAMES, dashboard, panels

_PATH = Path(__file__).parents[2] / "docs" / "site" / "dashboard_page.py"
_SPEC = importlib.util.spec_from_file_location("dashboard_page", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
drawing = importlib.util.module_from_spec(_SPEC)
sys.modules["dashboard_page"] = drawing
_SPEC.loader.exec_module(drawing)
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
BYTES_MAX = 150_000


def answer(panel):
    """Two lines for each query, or two rows."""
    if "rawSql" in panel["targets"][0]:
        return drawing.Answer(start=0, end=100, rows=[{"Day": "2026-11-02", "Cost": 1.5}, {"Day": "2026-11-03", "Cost": 0.25}])
    labels = [{"org": org, "limit": "spend_7d", "credential": f"{org}-app"} for org in ("acme", "globex")]
    lines = [
        drawing.Line(
            ref=target["refId"],
            name=drawing.named(target.get("legendFormat", ""), each),
            labels=each,
            points=[(10, 0), (60, 1)],
        )
        for target in panel["targets"]
        for each in labels
    ]
    return drawing.Answer(start=0, end=100, lines=lines)


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_is_drawn_with_its_answer(name):
    shown = [panel for panel in panels(name) if "targets" in panel]
    text = drawing.page(dashboard(name), {panel["id"]: answer(panel) for panel in shown}, str)
    for panel in shown:
        assert html.escape(panel["title"]) in text
    assert "nan" not in text.lower().replace("finance", "")
    assert text.count("<section") == len([panel for panel in dashboard(name)["panels"] if panel["type"] != "text"]) - 1


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_without_an_answer_says_why(name):
    shown = [panel for panel in panels(name) if "targets" in panel]
    text = drawing.page(dashboard(name), {panel["id"]: drawing.Answer(start=0, end=1) for panel in shown}, str)
    for panel in shown:
        assert html.escape(panel["fieldConfig"]["defaults"]["noValue"]) in text


def test_columns_of_a_table_stand_in_one_row_where_their_labels_agree():
    (panel,) = [panel for panel in panels("health") if panel["title"] == "What is scraped"]
    target = {"job": "tallygate", "instance": "a:9090"}
    lines = [
        drawing.Line(ref="A", name="", labels=target | {"version": "1", "config": "c0ffee"}, points=[(0, 1)]),
        drawing.Line(ref="B", name="", labels=target, points=[(0, 1)]),
    ]
    text = drawing.page(dashboard("health"), {panel["id"]: drawing.Answer(start=0, end=1, lines=lines)}, str)
    assert text.count("a:9090") == 1


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234.5, "currencyUSD", "$1,234.50"),
        (0.00012345, "currencyUSD", "$0.000123"),
        (0.9951, "percentunit", "99.5%"),
        (90, "s", "1.5 min"),
        (0.0005, "s", "500 µs"),
        (3_000_000, "short", "3 Mil"),
        (1234567, "locale", "1,234,567"),
        (0, "dateTimeAsIso", "1970-01-01 00:00"),
        (float("nan"), "short", "-"),
    ],
)
def test_numbers_are_in_grafanas_units(value, unit, text):
    assert drawing.value_text(value, unit) == text


@pytest.mark.parametrize("name", NAMES)
def test_the_pictures_are_whole_and_small(name):
    picture = (PICTURES / f"grafana-{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) < BYTES_MAX
    width, height = struct.unpack(">II", picture[16:24])
    start = picture.index(b"IDAT") + 4
    assert len(zlib.decompress(picture[start : picture.index(b"IEND") - 8])) == height * (width + 1)

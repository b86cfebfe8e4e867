"""Panels laid out on Grafana's grid: sections under each other, each of bands whose panels stand side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.dashboard import GridPos

from grafana.generator.panels import Panel

COLUMNS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Panels of one height, which share the whole width equally or as `widths` says."""

    panels: Sequence[Panel]
    height: int
    widths: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """title: of the row above the bands; "" at a dashboard's top, where nothing should stand between its name and its figures."""

    bands: Sequence[Band]
    title: str = ""


def lay_out(dashboard: Dashboard, sections: Iterable[Section]) -> Dashboard:
    """Ids count up in reading order. Raises ValueError for a band that does not fill the width."""
    next_id, top = 1, 0
    for section in sections:
        if section.title:
            row = Row(section.title).id(next_id).grid_pos(GridPos(x=0, y=top, w=COLUMNS, h=1))
            dashboard = dashboard.with_row(row)
            next_id, top = next_id + 1, top + 1
        for band in section.bands:
            widths = band.widths or [COLUMNS // len(band.panels)] * len(band.panels)
            if sum(widths) != COLUMNS or len(widths) != len(band.panels):
                raise ValueError(f"{section.title}: widths {widths}")
            left = 0
            for panel, width in zip(band.panels, widths, strict=True):
                dashboard = dashboard.with_panel(panel.id(next_id).grid_pos(GridPos(x=left, y=top, w=width, h=band.height)))
                next_id, left = next_id + 1, left + width
            top += band.height
    return dashboard

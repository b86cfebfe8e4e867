"""docs/scaling.md reckons with what its bench compares."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from bench.scaling import CPU, TOLERANCE, Constants, Figure

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("constant", [field.name for field in fields(Constants)])
def test_the_page_states_each_constant(constant: str) -> None:
    assert re.search(rf"(?<![\d,]){getattr(Constants(), constant):,}(?![\d,])", PAGE)


def test_the_page_states_the_cpu_of_each_part() -> None:
    rows = re.findall(r"^\| [^|]+ \| ([\d,]+) \| ([\d,]+)(?: \+ O . ([\d.]+))? \|$", PAGE, re.MULTILINE)
    stated = [(int(request.replace(",", "")), int(clock.replace(",", "")), float(each or 0)) for request, clock, each in rows]
    assert stated == [(each.request_us, each.clock_us, each.organization_us) for each in CPU.values()]


def test_a_figure_is_off_beyond_a_fifth() -> None:
    reckoned = 1_000
    figures = [Figure(name="", measured=value, reckoned=reckoned, unit="B") for value in (790, 810, 1_190, 1_210)]
    assert TOLERANCE == 0.2
    assert [each.is_off for each in figures] == [True, False, False, True]

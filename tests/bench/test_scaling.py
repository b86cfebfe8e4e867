"""docs/scaling.md reckons with what its bench compares."""

import re
from dataclasses import astuple, fields
from pathlib import Path

import pytest

from bench.scaling import CPU, ROWS_OF_A_FIRST_REQUEST, TOLERANCE, Constants, Figure, Period

ROWS_OF_A_DAY = 394  # of one series: 96 quarters, 24 hours and the rest, of all 13 kinds
PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("constant", [field.name for field in fields(Constants)])
def test_the_page_states_each_constant(constant: str) -> None:
    assert re.search(rf"(?<![\d,]){getattr(Constants(), constant):,}(?![\d,])", PAGE)


def test_the_page_states_the_cpu_of_each_part() -> None:
    rows = re.findall(
        r"^\| [^|]+ \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+)(?: \+ O . ([\d.]+))? \|$",
        PAGE,
        re.MULTILINE,
    )
    stated = [tuple(float(number.replace(",", "") or 0) for number in row) for row in rows]
    assert stated == [astuple(each) for each in CPU.values()]


@pytest.mark.parametrize("requests_a_second", [10, 100, 1_000])
@pytest.mark.parametrize("organizations", [1_000, 100_000])
def test_the_examples_are_what_the_arithmetic_gives(requests_a_second: int, organizations: int) -> None:
    """A day of all organizations, each with one series and one answer that the store remembers: cores, and bytes."""
    asked, page, days = requests_a_second * 60, Constants(), 86_400
    minute = Period(name="", seconds=60, requests=asked, series=min(asked, organizations), cpu={})
    cores = [each.of(minute, organizations) / 60e6 for each in CPU.values()]
    store = page.master_bytes + organizations * (page.limit_bytes + page.store_active_bytes + page.answer_bytes)
    worker = page.worker_bytes + organizations * (page.worker_organization_bytes + page.worker_active_bytes)
    sums = min(requests_a_second * days * ROWS_OF_A_FIRST_REQUEST, organizations * ROWS_OF_A_DAY) * page.rollup_bytes
    told = [requests_a_second * days * page.entry_bytes, sums, requests_a_second * days * page.append_only_bytes]
    row = [f"{requests_a_second:,}", f"{organizations:,}", *(f"{core:.2f}" for core in cores)]
    row += [f"{store / 1e6:,.0f} MB", f"{worker / 1e6:,.0f} MB", *map(_bytes, told)]
    assert f"| {' | '.join(row)} |" in PAGE


def _bytes(number: float) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"


def test_a_figure_is_off_beyond_a_fifth() -> None:
    reckoned = 1_000
    figures = [Figure(name="", measured=value, reckoned=reckoned, unit="B") for value in (790, 810, 1_190, 1_210)]
    assert TOLERANCE == 0.2
    assert [each.is_off for each in figures] == [True, False, False, True]

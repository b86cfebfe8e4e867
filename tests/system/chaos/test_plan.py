"""A plan of steps is its seed's, can be written and read again, and has every act."""

from pathlib import Path

import pytest

from chaos.plan import KILLS, NATURES, Act, drawn_steps, read, written


def test_a_seed_has_one_plan_and_another_seed_another() -> None:
    assert drawn_steps(7, 50) == drawn_steps(7, 50)
    assert drawn_steps(7, 50) != drawn_steps(8, 50)


def test_a_short_plan_is_the_beginning_of_a_long_one() -> None:
    short = drawn_steps(3, 10)

    assert drawn_steps(3, 40)[: len(short)] == short


def test_a_plan_has_so_many_kills_and_ends_with_one() -> None:
    steps = drawn_steps(11, 100)

    assert sum(step.act in KILLS for step in steps) == 100
    assert steps[-1].act in KILLS


def test_a_thousand_kills_bring_every_act_within_its_bounds() -> None:
    steps = drawn_steps(1, 1_000)

    assert {step.act for step in steps} == {*Act} == {*NATURES}
    for step in steps:
        least, most = NATURES[step.act].lasts_ms
        assert least <= step.lasts_ms <= most


def test_no_act_both_forgets_and_loses() -> None:
    assert not any(nature.forgets and nature.loses for nature in NATURES.values())


def test_a_written_plan_is_read_again(tmp_path: Path) -> None:
    steps = drawn_steps(5, 30)
    path = tmp_path / "plan"
    path.write_text(written(steps), encoding="utf-8")

    assert read(path) == steps


def test_a_line_that_is_no_step_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    path.write_text('{"number": 1, "act": "sing"}\n', encoding="utf-8")

    with pytest.raises(ValueError, match="sing"):
        read(path)

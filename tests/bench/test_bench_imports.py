"""No test runs most of the benches, so that a name they use could be gone unnoticed."""

from importlib import import_module
from pathlib import Path

import pytest

BENCHES = sorted(path.stem for path in (Path(__file__).parents[2] / "bench").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_finds_what_it_uses(name: str) -> None:
    import_module(f"bench.{name}")

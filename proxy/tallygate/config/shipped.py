"""Where the configuration that comes with tallygate lies."""

from pathlib import Path


def shipped_directory() -> Path:
    """`tallygate/config/shipped` in a wheel; the top-level `config` in a source checkout, which has no copy."""
    in_wheel = Path(__file__).parent / "shipped"
    return in_wheel if in_wheel.is_dir() else Path(__file__).parents[3] / "config"

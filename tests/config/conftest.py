"""A configuration directory under construction, read with the dialects that the shipped routes use."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tallygate.config.load import ConfigSource
from tallygate.config.model import GatewayConfig
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects

DIALECTS = dialects()
ENVIRON = {"A_SECRET": "s3cret"}

Load = Callable[..., GatewayConfig]


@pytest.fixture
def source(tmp_path: Path) -> ConfigSource:
    return ConfigSource(
        directory=tmp_path,
        shipped_dir=shipped_directory(),
        known_dialects=DIALECTS.traits,
        default_url="https://up.example.com",
        environ=ENVIRON,
    )


@pytest.fixture
def load(source: ConfigSource, tmp_path: Path) -> Load:
    """Write the given files (by name without .yaml) and load the directory."""

    def write_and_load(files: Mapping[str, str] | None = None, **more: str) -> GatewayConfig:
        for name, text in {**(files or {}), **more}.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return source.load()

    return write_and_load

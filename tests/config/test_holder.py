"""Reloading while requests run."""

from pathlib import Path

from proxy.config.holder import ConfigHolder
from proxy.config.load import ConfigSource
from proxy.config.upstream_catalogue import read_upstream_catalogue

CATALOGUE = b"""{"data": [{"id": "gloo-new", "family": "Open Source",
    "pricing": {"input": {"rate_per_1m_tokens": "1"}, "output": {"rate_per_1m_tokens": "2"}}}]}"""


def test_a_reload_replaces_the_configuration_and_a_bad_one_keeps_it(source: ConfigSource, tmp_path: Path) -> None:
    holder = ConfigHolder(source.load(), source.load)
    before = holder.current

    (tmp_path / "plans.yaml").write_text("plans:\n  only: {}\n")
    assert holder.reload() == ()
    good = holder.current
    (tmp_path / "plans.yaml").write_text("plans:\n  only: {exprt: true}\n")
    problems = holder.reload()

    assert list(before.plans) != list(good.plans) == ["only"]
    assert problems[0].startswith("plans.yaml:2: exprt is not a known key")
    assert holder.current is good
    assert (holder.reloads, holder.reloads_failed) == (1, 1)


def test_an_upstreams_catalogue_prices_models_and_survives_reloads(source: ConfigSource) -> None:
    holder = ConfigHolder(source.load(), source.load)
    reviewed = holder.current

    holder.put_upstream_catalogue("default", read_upstream_catalogue(CATALOGUE))
    merged = holder.current
    holder.reload()

    assert reviewed.prices.find("gloo-new", 0) is None
    for config in (merged, holder.current):
        price = config.prices.find("gloo-new", 0)
        assert price is not None
        assert (price.input, price.output) == (10**6, 2 * 10**6)
        assert config.version == reviewed.version


def test_the_catalogue_of_an_upstream_that_is_gone_is_forgotten(source: ConfigSource) -> None:
    holder = ConfigHolder(source.load(), source.load)
    holder.put_upstream_catalogue("elsewhere", read_upstream_catalogue(CATALOGUE))

    holder.reload()

    assert holder.current.prices.find("gloo-new", 0) is None

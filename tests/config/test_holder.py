"""Reloading while requests run."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tallygate.config.holder import ConfigHolder, LastWithStored
from tallygate.config.load import ConfigSource
from tallygate.config.model import GatewayConfig
from tallygate.config.reloading import Reloading
from tallygate.config.upstream_catalogue import read_upstream_catalogue
from tallygate.domain.errors import ConfigError
from tallygate.domain.organization import Organization, Plan

CATALOGUE = b"""{"data": [{"id": "gloo-new", "family": "Open Source",
    "pricing": {"input": {"rate_per_1m_tokens": "1"}, "output": {"rate_per_1m_tokens": "2"}}}]}"""


async def test_a_reload_replaces_the_configuration_and_a_bad_one_keeps_it(source: ConfigSource, tmp_path: Path) -> None:
    holder = ConfigHolder(source.load(), source.load)
    before = holder.current

    (tmp_path / "plans.yaml").write_text("plans:\n  only: {}\n")
    assert await holder.reload() == ()
    good = holder.current
    (tmp_path / "plans.yaml").write_text("plans:\n  only: {exprt: true}\n")
    problems = await holder.reload()

    assert list(before.plans) != list(good.plans) == ["only"]
    assert problems[0].startswith("plans.yaml:2: exprt is not a known key")
    assert holder.current is good
    assert (holder.reloads, holder.reloads_failed) == (1, 1)


ASKING = "upstreams:\n  default: {catalogue_path: /platform/v2/models}\n"


async def test_an_upstreams_catalogue_prices_models_and_survives_reloads(source: ConfigSource, tmp_path: Path) -> None:
    (tmp_path / "upstreams.yaml").write_text(ASKING)
    holder = ConfigHolder(source.load(), source.load)
    reviewed = holder.current

    holder.put_upstream_catalogue("default", read_upstream_catalogue(CATALOGUE))
    merged = holder.current
    await holder.reload()

    assert reviewed.prices.find("gloo-new", 0) is None
    for config in (merged, holder.current):
        price = config.prices.find("gloo-new", 0)
        assert price is not None
        assert (price.rates["input"], price.rates["output"]) == (10**6, 2 * 10**6)
        assert config.version == reviewed.version


async def test_a_catalogue_that_is_no_longer_asked_for_is_forgotten(source: ConfigSource, tmp_path: Path) -> None:
    (tmp_path / "upstreams.yaml").write_text(ASKING)
    holder = ConfigHolder(source.load(), source.load)
    holder.put_upstream_catalogue("default", read_upstream_catalogue(CATALOGUE))

    (tmp_path / "upstreams.yaml").write_text("upstreams:\n  default: {}\n")
    assert await holder.reload() == ()

    assert holder.current.prices.find("gloo-new", 0) is None


async def test_the_catalogue_of_an_upstream_that_is_gone_is_forgotten(source: ConfigSource) -> None:
    holder = ConfigHolder(source.load(), source.load)
    holder.put_upstream_catalogue("elsewhere", read_upstream_catalogue(CATALOGUE))

    await holder.reload()

    assert holder.current.prices.find("gloo-new", 0) is None


class SlowFiles:
    """A load that waits until it is let go on, and tells what it was doing meanwhile."""

    def __init__(self, load: Callable[[], GatewayConfig]) -> None:
        self._load = load
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.at_work = self.most_at_work = self.loads = 0

    def load(self) -> GatewayConfig:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        self.begun.release()
        assert self.go_on.acquire(timeout=30)
        self.loads += 1
        self.at_work -= 1
        return self._load()

    async def wait_until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=30)


async def test_the_loop_goes_on_while_files_are_read(source: ConfigSource) -> None:
    files = SlowFiles(source.load)
    holder = ConfigHolder(source.load(), files.load)
    before = holder.current

    reload = asyncio.create_task(holder.reload())
    await files.wait_until_begun()
    for _ in range(100):  # whatever else the loop has to do
        await asyncio.sleep(0)
    assert holder.current is before
    assert not reload.done()

    files.go_on.release()
    assert await reload == ()
    assert holder.current is not before


async def test_two_reloads_at_once_read_one_after_the_other(source: ConfigSource, tmp_path: Path) -> None:
    files = SlowFiles(source.load)
    holder = ConfigHolder(source.load(), files.load)

    first = asyncio.create_task(holder.reload())
    await files.wait_until_begun()
    second = asyncio.create_task(holder.reload())
    await asyncio.sleep(0)
    files.go_on.release()
    await first
    (tmp_path / "plans.yaml").write_text("plans:\n  only: {}\n")
    files.go_on.release()
    await second

    assert (files.most_at_work, files.loads, holder.reloads) == (1, 2, 2)
    assert list(holder.current.plans) == ["only"]


async def test_reloads_that_are_asked_for_during_one_are_one_more(source: ConfigSource) -> None:
    files = SlowFiles(source.load)
    holder = ConfigHolder(source.load(), files.load)
    done = asyncio.Semaphore(0)

    async def reload() -> None:
        await holder.reload()
        done.release()

    reloading = Reloading(reload)
    reloading.ask()
    running = asyncio.create_task(reloading.reload_forever())
    await files.wait_until_begun()
    for _ in range(5):
        reloading.ask()
    for _ in range(2):
        files.go_on.release()
        await done.acquire()
    for _ in range(10):
        await asyncio.sleep(0)
    running.cancel()

    assert files.loads == 2


async def test_a_reload_that_breaks_is_logged_and_the_next_is_done(caplog: pytest.LogCaptureFixture) -> None:
    done = asyncio.Event()
    failures = [OSError("the disk is gone"), ConfigError(("never raised by a holder",))]

    async def reload() -> None:
        if failures:
            reloading.ask()
            raise failures.pop()
        done.set()

    reloading = Reloading(reload)
    reloading.ask()
    with caplog.at_level(logging.ERROR):
        running = asyncio.create_task(reloading.reload_forever())
        await done.wait()
    running.cancel()

    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_of_the_very_same_two_the_joined_configuration_is_the_very_same(source: ConfigSource) -> None:
    config, other, stored = source.load(), source.load(), {"beta": Organization(id="beta", plan=Plan(id="p"))}
    joined = LastWithStored()

    first = joined.of(config, stored)
    assert first.organizations[0].id == "beta"
    assert joined.of(config, stored) is first
    assert joined.of(config, {}) is config
    assert joined.of(other, {}) is other

"""Polling as it goes on by itself: one looks for jobs, many are polled, and one organization's leave places to others."""

import asyncio
from collections import Counter
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import ClientSession

from tallygate.domain.errors import StoreError
from tallygate.gateway.jobs.poller import AT_ONCE, IDLE_LOOKS, LOOKS_AFTER_A_JOB, ORG_AT_ONCE, OpenJob, Poller


class Jobs:
    """Due jobs by organization; `claims` counts looks. away: the database does not answer. are_open: some are not due yet."""

    def __init__(self, **due: int) -> None:
        self.due = Counter(due)
        self.claims = 0
        self.away = False
        self.are_open = False

    async def claim(self, *, now_ms: int, lease_ms: int, after_org: str = "", but_orgs: Collection[str] = ()) -> Any:
        assert now_ms == 5
        assert lease_ms > 0
        self.claims += 1
        await asyncio.sleep(0)
        if self.away:
            raise StoreError("away")
        waiting = sorted(org for org, number in self.due.items() if number and org not in but_orgs)
        if not waiting:
            return None
        org = next((each for each in waiting if each > after_org), waiting[0])
        self.due[org] -= 1
        return SimpleNamespace(job=SimpleNamespace(id=org, org=org))

    async def has_open(self) -> bool:
        if self.away:
            raise StoreError("away")
        return self.are_open


class SlowPoller(Poller):
    """Each poll lasts until a test ends it; `broken` ones fail."""

    def __init__(self, jobs: Jobs) -> None:
        self.settler = SimpleNamespace(deferred=0)
        services = cast("Any", SimpleNamespace(now_ms=lambda: 5, settler=self.settler))
        super().__init__(services, cast("Any", jobs), cast("ClientSession", None))
        self.under_way: Counter[str] = Counter()
        self.ended = 0
        self.go_on = asyncio.Event()
        self.is_broken = False

    async def poll(self, found: OpenJob) -> None:
        org = found.job.org
        self.under_way[org] += 1
        await self.go_on.wait()
        self.under_way[org] -= 1
        self.ended += 1
        if self.is_broken:
            raise ValueError("a fault")


async def settled(condition: Any) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("never")


async def test_an_organization_with_many_long_jobs_leaves_places_to_others(monkeypatch: Any) -> None:
    monkeypatch.setattr("tallygate.gateway.jobs.poller.LOOK_EVERY_S", 0)
    jobs = Jobs(acme=50)
    poller = SlowPoller(jobs)
    polling = asyncio.create_task(poller.poll_forever())
    await settled(lambda: jobs.claims > ORG_AT_ONCE + 3)
    assert poller.under_way == {"acme": ORG_AT_ONCE}
    assert jobs.due["acme"] == 50 - ORG_AT_ONCE  # none is taken and put back, which would keep others waiting
    jobs.due["beta"] = 5
    await settled(lambda: poller.under_way["beta"] == AT_ONCE - ORG_AT_ONCE)
    assert poller.under_way["acme"] == ORG_AT_ONCE
    polling.cancel()


async def test_one_looks_at_a_time_and_faults_end_nothing(monkeypatch: Any, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("tallygate.gateway.jobs.poller.LOOK_EVERY_S", 3_600)
    jobs = Jobs()
    polling = asyncio.create_task(SlowPoller(jobs).poll_forever())
    for _ in range(200):
        await asyncio.sleep(0)
    assert jobs.claims == 1
    polling.cancel()

    monkeypatch.setattr("tallygate.gateway.jobs.poller.LOOK_EVERY_S", 0)
    jobs = Jobs(acme=20)
    poller = SlowPoller(jobs)
    jobs.away = poller.is_broken = True
    poller.go_on.set()
    polling = asyncio.create_task(poller.poll_forever())
    await settled(lambda: jobs.claims > 3)
    assert [record.getMessage() for record in caplog.records] == ["jobs are not polled"], "a database that is away is told of once"
    jobs.away = False
    await settled(lambda: poller.ended == 20)
    assert not polling.done()
    polling.cancel()


async def test_while_no_job_is_open_few_looks_are_made_until_this_worker_defers_one(monkeypatch: Any) -> None:
    waits = 0
    real_sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        nonlocal waits
        waits += seconds == 77
        await real_sleep(0)

    monkeypatch.setattr("tallygate.gateway.jobs.poller.LOOK_EVERY_S", 77)
    monkeypatch.setattr(asyncio, "sleep", wait)
    jobs = Jobs()
    poller = SlowPoller(jobs)
    polling = asyncio.create_task(poller.poll_forever())

    async def looks_in(looks: int) -> int:
        claims, until = jobs.claims, waits + looks
        await settled(lambda: waits >= until)
        return jobs.claims - claims

    assert await looks_in(LOOKS_AFTER_A_JOB - 1) >= LOOKS_AFTER_A_JOB - 2  # at the start: of jobs that others left
    await looks_in(IDLE_LOOKS)
    assert await looks_in(10 * IDLE_LOOKS) in {9, 10, 11}
    poller.settler.deferred += 1
    await looks_in(1)
    assert await looks_in(LOOKS_AFTER_A_JOB - 2) >= LOOKS_AFTER_A_JOB - 3
    await looks_in(2 * IDLE_LOOKS)
    jobs.are_open = True
    await looks_in(IDLE_LOOKS)
    assert await looks_in(30) >= 29
    jobs.are_open, jobs.away = False, True  # nobody knows whether any is open
    await looks_in(IDLE_LOOKS)
    assert await looks_in(30) >= 29
    polling.cancel()

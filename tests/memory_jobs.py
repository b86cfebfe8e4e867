"""The jobs of a harness, as its ledger would have them: due ones are claimed, and leave with their final event."""

from collections.abc import Collection

from gateway_harness import Harness

from tallygate.gateway.jobs.poller import Poller
from tallygate.ledger.jobs import OpenJob


class MemoryJobs:
    """Implements `JobStore` over the limiter's streams. due: when each is polled again."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self.due: dict[str, int] = {}
        self.polls: dict[str, int] = {}
        self.progress: dict[str, int] = {}
        self.given_up: set[str] = set()

    def open(self) -> list[OpenJob]:
        ended = {event["event_id"] for event in self._harness.events() if event["_kind"] != "expired"} | self.given_up
        jobs = {job.id: job for job in self._harness.deferred() if job.id not in ended}
        return [OpenJob(job=job, polls=self.polls.get(id_, 0), progress=self.progress.get(id_, 0)) for id_, job in jobs.items()]

    async def claim(self, *, now_ms: int, lease_ms: int, after_org: str = "", but_orgs: Collection[str] = ()) -> OpenJob | None:
        del after_org, but_orgs
        for found in self.open():
            if self.due.get(found.job.id, 0) <= now_ms:
                self.due[found.job.id] = now_ms + lease_ms
                self.polls[found.job.id] = found.polls + 1
                return found
        return None

    async def has_open(self) -> bool:
        return bool(self.open())

    async def has_room(self, org: str) -> bool:
        assert org
        return True

    async def keep(self, job_id: str, *, progress: int, lease_until_ms: int) -> None:
        self.progress[job_id], self.due[job_id] = progress, lease_until_ms

    async def spent(self, job_id: str) -> int:
        return sum(event["cost_nano_usd"] for event in self._harness.events() if event["event_id"].startswith(f"{job_id}-"))

    async def put_off(self, job_id: str, *, due_ms: int) -> None:
        self.due[job_id] = due_ms

    async def give_up(self, job_id: str) -> None:
        self.given_up.add(job_id)


class SteppedPoller(Poller):
    """Polls when a test says so."""

    async def poll_due(self) -> int:
        """Poll jobs until none is due and free; return how many were polled. Raises StoreError."""
        polled = 0
        while found := await self.claim():
            await self.poll(found)
            polled += 1
        return polled


def poller_of(harness: Harness) -> tuple[SteppedPoller, MemoryJobs]:
    """A poller of what a harness has deferred, polled when a test says so."""
    jobs = MemoryJobs(harness)
    return SteppedPoller(harness.gateway.services, jobs, harness.gateway.session), jobs

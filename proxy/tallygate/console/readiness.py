"""Readiness: whether a process can do its part for new requests, and if not, why."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tallygate.console.ports import Store
from tallygate.console.workers import Workers
from tallygate.console.write_checks import WriteCheck
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.ledger.continuity import Lack

LAG_MAX_MS: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition. reason states what is wrong and is empty if nothing is; it names no address and no secret.

    is_needed   whether a failure makes the process unready; if not, it is only reported
    """

    name: str
    reason: str = ""
    is_needed: bool = True

    @property
    def passed(self) -> bool:
        return not self.reason


Probe = Callable[[], Awaitable[Check]]


class Readiness:
    """Runs all probes at once; they never raise."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = tuple(probes)
        self.config_problems: tuple[str, ...] = ()
        self.is_draining = False

    async def check(self) -> tuple[bool, tuple[Check, ...]]:
        """Return whether the process is ready, and each check."""
        checks = (
            Check(name="draining", reason="it is shutting down" if self.is_draining else ""),
            *await asyncio.gather(*(probe() for probe in self._probes)),
            Check(
                name="config",
                reason="the last reload was rejected; the one before is in force" if self.config_problems else "",
                is_needed=False,
            ),
        )
        return all(check.passed or not check.is_needed for check in checks), checks


def store_probe(store: Store, writes: WriteCheck, *, needs_data: bool) -> Probe:
    """Probe that the limiter's store takes writes and, with needs_data, is complete, so that it admits spending."""

    async def probe() -> Check:
        obstacle = await writes.obstacle()
        if obstacle is not None:
            return Check(name="store", reason=f"the limiter's store {obstacle.text}")
        try:
            await store.check()
        except LimiterWipedError:
            reason = "the limiter's store does not have what was spent: a ledger is to put it back"
            return Check(name="store", reason=reason, is_needed=needs_data)
        except StoreError:
            return Check(name="store", reason="the limiter's store does not answer")
        return Check(name="store")

    return probe


def backlog_probe(store: Store) -> Probe:
    """Probe that no more usage waits for the ledger than may: past that, nothing is admitted."""

    async def probe() -> Check:
        try:
            backlog = await store.backlog()
        except StoreError:
            return Check(name="backlog", reason="the limiter's store does not answer")
        reason = "as much usage waits for the ledger as may, so nothing is admitted" if backlog.is_full else ""
        return Check(name="backlog", reason=reason)

    return probe


def lag_probe(store: Store) -> Probe:
    """Probe that no event has waited for the ledger for too long."""

    async def probe() -> Check:
        try:
            backlog = await store.backlog()
        except StoreError:
            return Check(name="lag", reason="the limiter's store does not answer")
        return Check(name="lag", reason="usage events wait for more than a minute" if backlog.oldest_ms > LAG_MAX_MS else "")

    return probe


def workers_probe(workers: Workers) -> Probe:
    """Probe the workers. One is enough to be ready; others that are down are still reported."""

    async def probe() -> Check:
        processes = workers.processes()
        hidden = [process.worker for process in processes if process.is_hidden]
        down = [process.worker for process in processes if not process.up and not process.is_hidden]
        reasons = [f"worker {', '.join(down)} is not up"] if down else []
        if hidden:
            reasons.append(f"metrics/ was deleted or replaced while worker {', '.join(hidden)} counts there: restart it")
        reason = "; ".join(reasons)
        return Check(name="workers", reason=reason, is_needed=len(down) == len(processes))

    return probe


def spool_probe(workers: Workers) -> Probe:
    """Probe that a worker admits requests. Others that do not, for want of room for what they would settle, are still reported."""

    async def probe() -> Check:
        processes = workers.processes()
        full = [process.worker for process in processes if process.is_full]
        reason = f"worker {', '.join(full)} admits nothing: its spool is full, or has no room on the disk" if full else ""
        return Check(name="spool", reason=reason, is_needed=not any(process.up and not process.is_full for process in processes))

    return probe


def directory_probe(workers: Workers, *, has_others: Callable[[], bool]) -> Probe:
    """Probe that the workers know the organizations of the database.

    has_others   whether there are organizations that need no database: then a worker without the rest serves them, and is ready
    """

    async def probe() -> Check:
        processes = workers.processes()
        unread = [process.worker for process in processes if process.is_unread]
        behind = [process.worker for process in processes if process.is_behind]
        reasons = [f"worker {', '.join(unread)} could not read the organizations of the database yet"] if unread else []
        if behind:
            reasons.append(f"worker {', '.join(behind)} serves the organizations of a snapshot, while the database cannot be read")
        return Check(name="directory", reason="; ".join(reasons), is_needed=bool(unread) and not has_others())

    return probe


def database_probe(writes: WriteCheck, *, is_needed: bool) -> Probe:
    """Probe that the ledger's database takes writes."""

    async def probe() -> Check:
        obstacle = await writes.obstacle()
        reason = "" if obstacle is None else f"the ledger's database {obstacle.text}"
        return Check(name="database", reason=reason, is_needed=is_needed)

    return probe


def continuity_probe(lack: Callable[[], Lack]) -> Probe:
    """Probe that the ledger has every event that the store handed over. Only reported: closed partitions make the store unready."""

    async def probe() -> Check:
        reason = (
            "the ledger is older than the limiter's store: tallygate ledger compare states what it lacks" if lack().gaps else ""
        )
        return Check(name="ledger", reason=reason, is_needed=False)

    return probe

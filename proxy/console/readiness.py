"""Whether this machine's gateway can serve, and if not, why."""

from dataclasses import dataclass

from proxy.console.ports import Store
from proxy.console.workers import Workers
from proxy.domain.errors import LimiterWipedError, StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition. reason says what is wrong and is empty if nothing is; it names no address and no secret."""

    name: str
    reason: str = ""

    @property
    def passed(self) -> bool:
        return not self.reason


class Readiness:
    """Asks everything that a request needs. One worker is enough to be ready; that others are down is told all the same."""

    def __init__(self, *, store: Store, workers: Workers) -> None:
        self._store = store
        self._workers = workers
        self.config_problems: tuple[str, ...] = ()
        self.is_draining = False

    async def check(self) -> tuple[bool, tuple[Check, ...]]:
        """Ready or not, and each check."""
        processes = self._workers.read().processes
        down = [process.worker for process in processes if not process.up]
        checks = (
            Check(name="draining", reason="the gateway is shutting down" if self.is_draining else ""),
            await self._store_check(),
            Check(name="workers", reason=f"worker {', '.join(down)} is not up" if down else ""),
            Check(name="config", reason="the last reload was rejected; the one before is in force" if self.config_problems else ""),
        )
        is_ready = checks[0].passed and checks[1].passed and len(down) < len(processes)
        return is_ready, checks

    async def _store_check(self) -> Check:
        try:
            await self._store.check()
        except LimiterWipedError:
            return Check(name="store", reason="the limiter's store has lost its data and is not yet rebuilt")
        except StoreError:
            return Check(name="store", reason="the limiter's store does not answer")
        return Check(name="store")

"""The sweep: expires holds whose lease is over, and drops old answers and idle state.

Of admissions one in eight does the same for its own organization, and each that finds too little room: a few entries at a time. The
sweep does it for organizations at rest.
"""

from collections.abc import Callable
from typing import Final

from tallygate.limiter import wire
from tallygate.limiter.keys import named_keys, org_keys
from tallygate.limiter.redis_limiter import EXPIRED_MS
from tallygate.limiter.script import Scripts, ScriptStore, asked_together
from tallygate.shares.together import answers

ORGS_MAX: Final = 64  # organizations of a partition in one step
AT_ONCE: Final = 16  # organizations in one script, at some 6 µs each if nothing is due any more
ENTRIES_MAX: Final = 64  # due entries in one script, which blocks every other caller


class Sweeper:
    """One per deployment is enough; several do no harm. Stateless: due times are in the store."""

    def __init__(
        self, store: ScriptStore, scripts: Scripts, *, expired_ms: int = EXPIRED_MS, now_ms: Callable[[], int] | None = None
    ) -> None:
        self._store = store
        self._scripts = scripts
        self._expired_ms = expired_ms
        self._now_ms = now_ms

    async def step(self) -> int:
        """One bounded pass over all partitions, to be called every second. Returns how many holds expired."""
        args = (self._time(), b"%d" % ORGS_MAX)
        asked = asked_together(self._store)
        replies = await answers([self._store.run_script(self._scripts.due_orgs, named_keys("orgs", some), args) for some in asked])
        due = [[org.decode() for org in reply] for reply in replies]  # of nobody, as a rule
        return sum(await answers([self._sweep_orgs(orgs) for orgs in due if orgs]))

    async def _sweep_orgs(self, orgs: list[str]) -> int:
        """A script does what is bounded of them; the next one begins behind it."""
        expired = 0
        while orgs:
            some = orgs[:AT_ONCE]
            keys = tuple(key for org in some for key in org_keys(org).all)
            args = (self._time(), wire.encode_sweep(some, ENTRIES_MAX, self._expired_ms))
            _handled, more, looked_at = await self._store.run_script(self._scripts.expire, keys, args)
            expired, orgs = expired + int(more), orgs[looked_at:]
        return expired

    def _time(self) -> bytes:
        return b"%d" % self._now_ms() if self._now_ms else b""

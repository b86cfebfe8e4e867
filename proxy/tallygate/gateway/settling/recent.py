"""Recently acknowledged settlements, kept in memory until a crash of the store can no longer lose them.

A store that syncs its append-only file every second, or fails over to a replica that is behind, silently loses its latest
writes. Only its new run id shows it. The last settlements of the former run are then suspected of being
lost, and settled again through the spool. Each counts once, whether the ledger has it, the store still has it, or neither.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

from msgspec.structs import replace

from tallygate.domain.admission import Account, Settlement

KEPT_MS: Final = 30_000  # before the last one: `everysec` loses two seconds, a master that is cut off all until it is left
KEPT_MAX: Final = 10_000  # of a worker, at 2 to 3 KB each; the oldest are dropped first
SUSPECTED_MS_MAX: Final = 43_200_000  # older ones were stored long ago; a ledger keeps each for a look-up for at least a day

_Kept = tuple[int, Account]  # with the time of its settlement, on the store's clock


class RecentSettlements:
    """The last settlements. Their age is measured from the latest settlement, so nothing is dropped while the store is away.

    run      id of the store's run, as seen by the connection that settles; empty if the store reports none
    now_ms   Unix time
    """

    def __init__(self, run: Callable[[], str], now_ms: Callable[[], int]) -> None:
        self._run_now = run
        self._now_ms = now_ms
        self._run = run()
        self._kept: deque[_Kept] = deque(maxlen=KEPT_MAX)
        self._suspected: deque[_Kept] = deque()  # KEPT_MAX as well; those that already wait stay

    def keep(self, account: Account, settlement: Settlement) -> None:
        """Record a settlement that the current run acknowledged."""
        self._look_at_run()
        kept, at_ms = self._kept, settlement.settled_at_ms
        kept.append((at_ms, account))
        while not at_ms - KEPT_MS <= kept[0][0] <= at_ms + KEPT_MS:  # also drops those of a clock that was ahead
            kept.popleft()

    def kept(self) -> list[Account]:
        """The settlements that the current run acknowledged last, oldest first."""
        self._look_at_run()
        return [_noted(kept) for kept in self._kept]

    def suspected(self, count_max: int) -> list[Account]:
        """The oldest of the settlements that a former run acknowledged last."""
        self._look_at_run()
        return [_noted(kept) for kept in islice(self._suspected, count_max)]

    def forget_suspected(self, count: int) -> None:
        """Drop the oldest `count` of them, which are safe."""
        for _ in range(count):
            self._suspected.popleft()

    def _look_at_run(self) -> None:
        run = self._run_now()
        if run == self._run:
            return
        self._run = run
        oldest_ms = self._now_ms() - SUSPECTED_MS_MAX
        suspects = [kept for kept in self._kept if kept[0] >= oldest_ms]
        room = KEPT_MAX - len(self._suspected)
        self._suspected.extend(suspects[max(0, len(suspects) - room) :])
        self._kept.clear()


def _noted(kept: _Kept) -> Account:
    at_ms, account = kept
    return replace(account, noted_at_ms=at_ms)

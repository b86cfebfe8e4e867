"""Recently acknowledged settlements, kept in memory until a crash of the store can no longer lose them.

A store that syncs its append-only file every second, or fails over to a replica that is behind, silently loses its latest
writes. Only its new run id shows it. The last settlements of the former run are then suspected of being
lost, and settled again through the spool. Each counts once, whether the ledger has it, the store still has it, or neither.

Once a settlement is kept no longer, nobody can ask the store for it again, unless a copy of its calls may still be under way or
somebody else has it: the store need not remember it, either.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from msgspec.structs import replace

from tallygate.domain.admission import Account, Settlement

KEPT_MS: Final = 30_000  # before the last one: `everysec` loses two seconds, a master that is cut off all until it is left
KEPT_MAX: Final = 10_000  # of a worker, at 2 to 3 KB each; the oldest are dropped first
SUSPECTED_MS_MAX: Final = 43_200_000  # older ones were stored long ago; a ledger keeps each for a look-up for at least a day
GROUP: Final = 8  # reservations of an organization that the store is told to forget: with fewer it would have more work than now
GROUPS_MAX: Final = 2_500
ORGS_MAX: Final = 20_000  # of which less than a group waits, some 500 bytes each; with one more, none of these is told of

_Kept = tuple[int, Account, bool]  # with the time of its settlement, on the store's clock, and whether nobody else can repeat it


class RecentSettlements:
    """The last settlements. Their age is measured from the latest settlement, so nothing is dropped while the store is away.

    run      id of the store's run, as seen by the connection that settles; empty if the store reports none
    now_ms   Unix time
    """

    def __init__(self, run: Callable[[], str], now_ms: Callable[[], int]) -> None:
        self._run_now = run
        self._now_ms = now_ms
        self._run = run()
        self._kept: deque[_Kept] = deque()  # KEPT_MAX
        self._suspected: deque[_Kept] = deque()  # KEPT_MAX as well; those that already wait stay
        self._unrepeatable: dict[str, list[str]] = {}  # ids by organization, less than a group
        self._groups: deque[tuple[str, Sequence[str]]] = deque(maxlen=GROUPS_MAX)

    def keep(self, account: Account, settlement: Settlement) -> None:
        """Record a settlement that the current run acknowledged."""
        self._look_at_run()
        kept, at_ms = self._kept, settlement.settled_at_ms
        kept.append((at_ms, account, account.admitted_once and settlement.sent_once))
        while not at_ms - KEPT_MS <= kept[0][0] <= at_ms + KEPT_MS or len(kept) > KEPT_MAX:  # also of a clock that was ahead
            self._note_dropped(kept.popleft())

    def copies(self) -> list[Account]:
        """The settlements that the current run acknowledged last, oldest first, for somebody who may repeat them from now on."""
        self._look_at_run()
        self._kept = deque((at_ms, account, False) for at_ms, account, _ in self._kept)
        return [_noted(kept) for kept in self._kept]

    def take_unrepeatable(self) -> Sequence[tuple[str, Sequence[str]]]:
        """Groups of settlements that nobody can repeat any more: an organization, and ids, each once."""
        taken = tuple(self._groups)
        self._groups.clear()
        return taken

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

    def _note_dropped(self, kept: _Kept) -> None:
        _, account, is_unrepeatable = kept
        if not is_unrepeatable:
            return
        org = account.admission.org
        ids = self._unrepeatable.get(org)
        if ids is None:
            if len(self._unrepeatable) >= ORGS_MAX:
                self._unrepeatable.clear()
            ids = self._unrepeatable[org] = []
        ids.append(account.admission.reservation_id)
        if len(ids) == GROUP:
            self._groups.append((org, self._unrepeatable.pop(org)))


def noted(account: Account, at_ms: int) -> Account:
    """An account as it is handed to others, who may settle it again: of one that waited, the spool; of its copy, the ledger."""
    return replace(account, noted_at_ms=at_ms, admitted_once=False)


def _noted(kept: _Kept) -> Account:
    at_ms, account, _ = kept
    return noted(account, at_ms)

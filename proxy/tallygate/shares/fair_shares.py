"""Fair shares of an amount: bytes in memory, requests in progress."""

from typing import Final

_OF_WHAT_IS_FREE: Final = 3


def has_room(free_after: int, held: int, amount: int) -> bool:
    """Whether one that holds something may have an amount more, after which so much would be free in all."""
    return free_after >= 0 and (not held or held + amount <= _OF_WHAT_IS_FREE * free_after)


class FairShares:
    """An amount of `most` in all. One organization may hold three times what stays free after it acquired.

    So one alone gets three quarters, two get three sevenths each, and a newcomer always gets some: shares shrink as
    others come, and need no setting. An organization that holds nothing may acquire all that is free.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._held: dict[str, int] = {}

    def held(self, org: str) -> int:
        return self._held.get(org, 0)

    def acquire(self, org: str, amount: int) -> bool:
        """Acquire that much more; return False if there is no room. The caller releases what it acquired."""
        held = self._held.get(org, 0)
        if not has_room(self.most - self.taken - amount, held, amount):
            return False
        self.taken += amount
        self._held[org] = held + amount
        return True

    def release(self, org: str, amount: int) -> None:
        self.taken -= amount
        held = self._held.get(org, 0) - amount
        if held > 0:
            self._held[org] = held
        else:
            self._held.pop(org, None)

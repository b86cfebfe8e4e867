"""Fair shares of an amount: bytes in memory, requests in progress."""

from typing import Final

OF_WHAT_IS_FREE: Final = 3


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
        free = self.most - self.taken - amount
        if free < 0 or (held and held + amount > OF_WHAT_IS_FREE * free):
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

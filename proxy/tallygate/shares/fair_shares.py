"""Fair shares of an amount: bytes in memory, requests in progress."""

from typing import Final

OF_WHAT_IS_FREE: Final = 3


class FairShares:
    """At most `most` for all together. One organization may hold three times what stays free after it took.

    So one alone gets three quarters, two get three sevenths each, and a newcomer always finds something: the share of each shrinks
    as others come, and nothing has to be set. What one takes while it holds nothing is only bounded by what is free.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._held: dict[str, int] = {}

    def held(self, org: str) -> int:
        return self._held.get(org, 0)

    def take(self, org: str, amount: int) -> bool:
        """Whether there is room for that much more. If so, it has to be given back."""
        held = self._held.get(org, 0)
        free = self.most - self.taken - amount
        if free < 0 or (held and held + amount > OF_WHAT_IS_FREE * free):
            return False
        self.taken += amount
        self._held[org] = held + amount
        return True

    def give_back(self, org: str, amount: int) -> None:
        self.taken -= amount
        held = self._held.get(org, 0) - amount
        if held > 0:
            self._held[org] = held
        else:
            self._held.pop(org, None)

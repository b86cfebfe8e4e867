"""Where the master is, as the sentinels that watch it know (Redis' documentation, "Sentinel client spec").

All are asked at once, and the one that knows the latest failover is believed: one that is cut off from the others, together with
a master that was replaced, still names that one.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

import hiredis

from tallygate.domain.errors import StoreError
from tallygate.limiter.address import Place, RedisAddress, Sentinels, place_text
from tallygate.limiter.link import Link, encoded, login, open_link

_CALLS_MAX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelView:
    """What one sentinel says.

    master    host and port; None if it does not know the service, or does not answer
    epoch     number of the last failover that it knows
    reason    why there is no master; empty if there is one
    """

    place: Place
    master: Place | None = None
    epoch: int = -1
    reason: str = ""


class SentinelLookup:
    """Asks the sentinels, over a link to each that stays open. Belongs to one event loop."""

    def __init__(self, address: RedisAddress, sentinels: Sentinels, *, timeout_s: float) -> None:
        self._address = address
        self._sentinels = sentinels
        self._timeout_s = timeout_s
        self._links: dict[Place, Link] = {}

    async def master(self) -> Place:
        """Host and port of the master. Raises StoreError, which says of each sentinel why it knows none."""
        views = await self.views()
        last = max(views, key=lambda view: view.epoch)
        if last.master is None:
            raise StoreError("; ".join(f"sentinel {place_text(view.place)} {view.reason}" for view in views))
        return last.master

    async def views(self) -> list[SentinelView]:
        """What each sentinel says, in the order of the address."""
        return await asyncio.gather(*(self._view(place) for place in self._sentinels.places))

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()

    async def _view(self, place: Place) -> SentinelView:
        try:
            async with asyncio.timeout(self._timeout_s):
                link = self._links.get(place) or await self._connect(place)
                reply = await link.call(encoded((b"SENTINEL", b"MASTER", self._sentinels.service.encode())))
        except TimeoutError:
            return SentinelView(place=place, reason=f"does not answer within {self._timeout_s * 1000:.0f} ms")
        except (OSError, StoreError) as error:
            return SentinelView(place=place, reason=f"does not answer: {error}")
        if isinstance(reply, hiredis.ReplyError):
            return SentinelView(place=place, reason=f"refuses: {reply}")
        facts = {name.decode(): value.decode() for name, value in zip(reply[::2], reply[1::2], strict=True)}
        return SentinelView(place=place, master=(facts["ip"], int(facts["port"])), epoch=int(facts["config-epoch"]))

    async def _connect(self, place: Place) -> Link:
        """Raises OSError, StoreError."""

        def lost(link: Link) -> None:
            if self._links.get(place) is link:
                del self._links[place]

        def new_link() -> Link:
            return Link(asyncio.get_running_loop(), self._timeout_s, _CALLS_MAX, lost)

        host, port = place
        link = await open_link(new_link, host, port, tls=self._address.tls, name=host)
        try:
            await self._log_in(link)
        except BaseException:
            link.close()
            raise
        self._links[place] = link
        return link

    async def _log_in(self, link: Link) -> None:
        """Raises StoreError."""
        if words := login(self._sentinels.username, self._sentinels.password):
            reply = await link.call(encoded(words))
            if isinstance(reply, hiredis.ReplyError):
                raise StoreError(str(reply))

"""Requests of the gateway's own to upstreams, off the path of requests: for work that goes on, and what batches are made of."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout
from multidict import CIMultiDict

from tallygate.dialects.dialect import Dialect
from tallygate.gateway.upstream import UpstreamClient
from tallygate.http1.upstream_failure import UpstreamError
from tallygate.outbound.session import FetchError, fetch, trust_of

ANSWER_BYTES_MAX: Final = 64 << 20  # results that are inlined in an answer can be many
ANSWER_S: Final = 30.0
LINE_BYTES_MAX: Final = 32 << 20
_ANSWERED: Final = (200, 202)  # the latter, of what is under way (xAI)
PIECE_LINES: Final = 20  # at most, which are worked on without a break
PIECE_BYTES: Final = 262_144  # after which a piece has no further line
NO_HEADERS: Final[Mapping[str, str]] = {}
_NOBODY: Final = CIMultiDict[str]()  # whose headers are forwarded: the key is the operator's


async def read_target(
    session: ClientSession, upstream: UpstreamClient, dialect: Dialect, target: str, *, headers: Mapping[str, str] = NO_HEADERS
) -> bytes:
    """Fetch a target of an upstream whole. Raises FetchError."""
    return await fetch(
        session,
        "GET",
        url_of(upstream, target),
        whose="the upstream",
        bytes_max=ANSWER_BYTES_MAX,
        timeout_s=ANSWER_S,
        trust=trust_of(upstream.config.ca_pem),
        headers=await headers_for(upstream, dialect) | dict(headers),
        may_repeat=True,
    )


async def read_lines(
    session: ClientSession, upstream: UpstreamClient, dialect: Dialect, target: str, *, headers: Mapping[str, str] = NO_HEADERS
) -> AsyncIterator[list[bytes]]:
    """Stream the lines of a target that are not blank, in pieces of some of them. Raises FetchError.

    Of a line that is longer than LINE_BYTES_MAX, its beginning comes, which is no JSON.
    """
    lines = Lines()
    async for chunk in read_chunks(session, upstream, dialect, target, headers=headers):
        for piece in lines.feed(chunk):
            yield piece
    if last := lines.end():
        yield last


async def read_chunks(
    session: ClientSession,
    upstream: UpstreamClient,
    dialect: Dialect,
    target: str,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
    body: bytes | None = None,
) -> AsyncIterator[bytes]:
    """Stream a target as it comes. body: what is posted there; None: it is a GET. Raises FetchError."""
    own = await headers_for(upstream, dialect) | dict(headers) | ({} if body is None else {"content-type": "application/json"})
    try:
        async with session.request(
            "GET" if body is None else "POST",
            url_of(upstream, target),
            data=body,
            headers=own,
            timeout=ClientTimeout(total=None, sock_connect=ANSWER_S, sock_read=ANSWER_S),
            allow_redirects=False,
            ssl=trust_of(upstream.config.ca_pem),
        ) as answer:
            if answer.status not in _ANSWERED:
                raise FetchError(f"the upstream answered {answer.status}", is_lasting=answer.status < 500, status=answer.status)
            while chunk := await answer.content.readany():
                yield chunk
    except (ClientError, TimeoutError) as error:
        raise FetchError(f"the upstream could not be reached: {type(error).__name__}") from None


class Lines:
    """Cuts bytes into lines, split anywhere."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._ready: list[bytes] = []
        self._ready_bytes = 0

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The pieces that are complete with these bytes."""
        *whole, rest = data.split(b"\n")
        pieces: list[list[bytes]] = []
        for line in whole:
            self._begun += line
            pieces += self._add()
        if len(self._begun) < LINE_BYTES_MAX:
            self._begun += rest
        return pieces

    def end(self) -> list[bytes]:
        """The last piece; a line needs no end of its own."""
        for piece in self._add():
            return piece
        ready, self._ready = self._ready, []
        return ready

    def _add(self) -> list[list[bytes]]:
        line, self._begun = bytes(self._begun[:LINE_BYTES_MAX]), bytearray()
        if line.strip():
            self._ready.append(line)
            self._ready_bytes += len(line)
        if len(self._ready) < PIECE_LINES and self._ready_bytes < PIECE_BYTES:
            return []
        piece, self._ready, self._ready_bytes = self._ready, [], 0
        return [piece]


def url_of(upstream: UpstreamClient, target: str) -> str:
    """The URL of a target, which begins with the path of the upstream's base URL."""
    prefix = upstream.pool.address.path_prefix
    return upstream.config.base_url.rstrip("/") + target.removeprefix(prefix)


async def headers_for(upstream: UpstreamClient, dialect: Dialect) -> dict[str, str]:
    """The headers of a request of our own. Raises FetchError if the gateway cannot authenticate itself."""
    try:
        own = await upstream.credentials.headers(_NOBODY, dialect)
    except UpstreamError as error:
        raise FetchError(str(error)) from None
    return {"accept": "application/json", "accept-encoding": "identity"} | {name.decode(): value.decode() for name, value in own}

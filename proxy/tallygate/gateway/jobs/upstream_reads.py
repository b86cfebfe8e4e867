"""Reading what an upstream says of its work, with the operator's key."""

from typing import Final

from aiohttp import ClientSession
from multidict import CIMultiDict

from tallygate.dialects.dialect import Dialect
from tallygate.gateway.upstream import UpstreamClient
from tallygate.http1.upstream_failure import UpstreamError
from tallygate.outbound.session import FetchError, fetch, trust_of

BYTES_MAX: Final = 32 << 20  # of what is read whole
_TIMEOUT_S: Final = 30.0
_CLIENT_HEADERS: Final = CIMultiDict[str]()  # nobody's: the key is the operator's


async def read_target(session: ClientSession, upstream: UpstreamClient, dialect: Dialect, target: str) -> bytes:
    """Fetch a target of an upstream whole. Raises FetchError."""
    return await fetch(
        session,
        "GET",
        url_of(upstream, target),
        whose="the upstream",
        bytes_max=BYTES_MAX,
        timeout_s=_TIMEOUT_S,
        trust=trust_of(upstream.config.ca_pem),
        headers=await headers_for(upstream, dialect),
        may_repeat=True,
    )


def url_of(upstream: UpstreamClient, target: str) -> str:
    """The URL of a target, which begins with the path of the upstream's base URL."""
    prefix = upstream.pool.address.path_prefix
    return upstream.config.base_url.rstrip("/") + target.removeprefix(prefix)


async def headers_for(upstream: UpstreamClient, dialect: Dialect) -> dict[str, str]:
    """The headers of a request of our own. Raises FetchError if the gateway cannot authenticate itself."""
    try:
        own = await upstream.credentials.headers(_CLIENT_HEADERS, dialect)
    except UpstreamError as error:
        raise FetchError(str(error)) from None
    return {"accept": "application/json", "accept-encoding": "identity"} | {name.decode(): value.decode() for name, value in own}

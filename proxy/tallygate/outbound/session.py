"""aiohttp's client on this process's way out."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession, TCPConnector
from yarl import URL

from tallygate.outbound.way_out import WayOut, tls_context


def open_session(way: WayOut, *, connector: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> ClientSession:
    """A session whose requests go through the proxies and believe the authorities of `way`. The caller closes it.

    connector, options   of aiohttp's connector and session
    """

    async def through_proxy(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        proxy = way.proxy_for(str(request.url))
        if proxy is not None:
            headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
            request.update_proxy(URL.build(scheme="http", host=proxy.host, port=proxy.port), None, headers)
            if headers is not None and not request.is_ssl():
                request.headers.update(headers)  # without a tunnel the request itself is the proxy's
        return await handler(request)

    trust = tls_context(way.ca_pem) if way.ca_pem else True
    return ClientSession(connector=TCPConnector(ssl=trust, **connector), trust_env=False, middlewares=(through_proxy,), **options)

"""One upstream as the pipeline sees it: its configuration, its connections and its credentials."""

from dataclasses import dataclass

from tallygate.config.model import Upstream
from tallygate.gateway.exchange.drains import Drains
from tallygate.gateway.upstream_auth import UpstreamCredentials
from tallygate.http1.header import Header
from tallygate.http1.request_head import build_request_head
from tallygate.http1.upstream_pool import UpstreamPool
from tallygate.shares.fair_places import FairPlaces


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamClient:
    """Everything needed to send a request to one upstream.

    drains   None if an answer is cancelled when its client leaves
    places   one for each request under way, as many as there may be connections
    """

    config: Upstream
    pool: UpstreamPool
    credentials: UpstreamCredentials
    drains: Drains | None
    places: FairPlaces

    def with_trace(self, headers: list[Header]) -> list[Header]:
        """The headers of a request as they go on: as they are, unless the exchange is traced (`exchange_spans.py`)."""
        return headers

    def head(
        self, method: str, target: str, headers: list[Header], *, content_length: int | None = None, is_chunked: bool = False
    ) -> bytes:
        """Request line and headers for this upstream's host. Raises InvalidRequestHeadError."""
        proxy, address = self.pool.proxy, self.pool.address
        is_absolute = proxy is not None and not address.is_tls  # RFC 9112 section 3.2.2; with TLS the proxy sees no request
        if is_absolute and proxy is not None and proxy.authorization:
            headers = [*headers, (b"proxy-authorization", proxy.authorization.encode())]
        return build_request_head(
            method,
            target,
            address.host_header,
            headers,
            content_length=content_length,
            is_chunked=is_chunked,
            is_absolute=is_absolute,
        )

"""Time limits for the clients of a port."""

from tallygate.config.settings import Settings
from tallygate.http1.client_connection import ClientTimeouts


def client_timeouts(settings: Settings) -> ClientTimeouts:
    """The time limits, the same at the gateway's port and at the console's."""
    return ClientTimeouts(
        head=settings.header_timeout_seconds,
        idle=settings.idle_timeout_seconds,
        body_grace=settings.body_timeout_seconds,
        body_bytes_per_second=settings.body_bytes_per_second_min,
        write=settings.write_timeout_seconds,
    )

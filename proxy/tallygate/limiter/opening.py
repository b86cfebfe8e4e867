"""The connection that an address asks for: to one server, or to a cluster."""

from tallygate.limiter.address import RedisAddress
from tallygate.limiter.cluster import ClusterConnection
from tallygate.limiter.connection import TIMEOUT_MS, RedisConnection
from tallygate.limiter.fence import Fence

StoreConnection = RedisConnection | ClusterConnection


def store_connection(
    address: RedisAddress, *, timeout_ms: int = TIMEOUT_MS, name: str = "tallygate", fence: Fence | None = None
) -> StoreConnection:
    """A connection that is not open yet. fence: asked at every new connection, before it is used for anything else."""
    if address.seeds:
        return ClusterConnection(address, timeout_ms=timeout_ms, name=name, fence=fence)
    on_run = None if fence is None else fence.check_run_id
    return RedisConnection(address, timeout_ms=timeout_ms, name=name, on_run=on_run)

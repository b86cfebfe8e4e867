"""A TCP proxy before a cluster server's bus port that knows who speaks, so that a server can be cut off both ways."""

import asyncio
import contextlib

SENDER = slice(40, 80)  # of a bus message: the sender's node id (Valkey, cluster_legacy.h, `clusterMsg`)


class BusProxy:
    """isolated: node ids, shared with the proxies of the other servers; nothing passes to or from one of these."""

    def __init__(self, node: str, port: int, isolated: set[str]) -> None:
        self._node = node
        self._to_port = port
        self._isolated = isolated
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.StreamWriter, str] = {}  # who is at the other end
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """End the links of those that are isolated by now."""
        for writer, sender in list(self._links.items()):
            if not self._isolated.isdisjoint((self._node, sender)):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        above = None
        try:
            first = await reader.readexactly(SENDER.stop)
            sender = first[SENDER].decode()
            if not self._isolated.isdisjoint((self._node, sender)):
                return
            above_reader, above = await asyncio.open_connection("127.0.0.1", self._to_port)
            self._links |= {writer: sender, above: sender}
            above.write(first)
            back = asyncio.ensure_future(_pass_on(above_reader, writer))
            await _pass_on(reader, above)
            back.cancel()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # it was cut, or the proxy ends
        finally:
            self._tasks.discard(task)
            for one in (writer, above):
                if one is not None:
                    self._links.pop(one, None)
                    one.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either side ends; the other side then ends as well."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.transport.abort()

"""A TCP proxy before Redis that loses, or delays, what it is told to."""

import asyncio
import contextlib


class FaultProxy:
    """drop_replies: requests go through, replies are thrown away and the connection is cut. swallow: replies are held back.

    delay_seconds   of each piece, both ways
    held            pieces on their way to the server, of connections that were there when it was told to `hold`
    """

    def __init__(self, port: int) -> None:
        self._upstream_port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gates: dict[asyncio.StreamWriter, asyncio.Event] = {}  # by the writer to a client
        self.held = 0
        self.drop_replies = 0
        self.swallow = False
        self.refuse = False
        self.delay_seconds = 0.0
        self.connections = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lead_to(self, port: int) -> None:
        """Connections from now on end at another server, as after a failover."""
        self._upstream_port = port

    def hold(self) -> None:
        """What clients have sent, or send yet, on the connections that are open now arrives when it is released."""
        for gate in self._gates.values():
            gate.clear()

    def leave_clients(self) -> None:
        """Clients lose their connections, and the server knows nothing of it."""
        for writer in self._gates:
            writer.transport.abort()

    def release(self) -> None:
        for gate in self._gates.values():
            gate.set()

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        self.connections += 1
        try:
            above_reader, above_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, above_writer}
        gate = self._gates[writer] = asyncio.Event()
        gate.set()
        for pump in (self._up(reader, above_writer, gate), self._down(above_reader, writer, above_writer)):
            task = asyncio.get_running_loop().create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _up(self, reader: asyncio.StreamReader, above: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay_seconds)
                self.held += 1
                await gate.wait()
                self.held -= 1
                above.write(data)
        above.transport.abort()

    async def _down(self, above: asyncio.StreamReader, writer: asyncio.StreamWriter, above_writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await above.read(65536):
                await asyncio.sleep(self.delay_seconds)
                if self.swallow:
                    continue
                if self.drop_replies:
                    self.drop_replies -= 1
                    break
                writer.write(data)
        writer.transport.abort()
        above_writer.transport.abort()
        self._writers -= {writer, above_writer}
        self._gates.pop(writer, None)

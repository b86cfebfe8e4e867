"""A ResponseSink that writes down what it is told, and checks the protocol's one promise: exactly one end."""

import asyncio

from tallygate.http1.upstream_failure import FailureKind, UpstreamFailure


class RecordingSink:
    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.keep_alive: bool | None = None
        self.content_length: int | None = None
        self.pieces: list[bytes] = []
        self.completed = False
        self.failure: UpstreamFailure | None = None
        self.ended = asyncio.Event()
        self.began = asyncio.Event()
        self.got_body = asyncio.Event()

    def on_headers(self, status, headers, *, keep_alive, content_length):
        assert not self.status
        assert not self.ended.is_set()
        self.status, self.headers, self.keep_alive, self.content_length = status, headers, keep_alive, content_length
        self.began.set()

    def on_body(self, data):
        assert self.status
        assert data
        assert not self.ended.is_set()
        self.pieces.append(data)
        self.got_body.set()

    def on_complete(self):
        assert not self.ended.is_set()
        assert self.status
        self.completed = True
        self.ended.set()

    def on_failure(self, failure):
        assert not self.ended.is_set()
        self.failure = failure
        self.ended.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def kind(self) -> FailureKind | None:
        return self.failure.kind if self.failure else None

    async def end(self) -> None:
        """Wait for the end; the bound only keeps a broken test from hanging."""
        async with asyncio.timeout(20):
            await self.ended.wait()

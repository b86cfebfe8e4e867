"""HTTP as an SDK's socket brought it: transports that keep every answer, byte for byte, while the SDK reads it."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import httpx2


@dataclass(slots=True, kw_only=True)
class RecordedAnswer:
    """One answer. body grows as it is read; a body that the SDK leaves unread is shorter than what was sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytearray = field(default_factory=bytearray)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class RecordingTransport(httpx2.HTTPTransport):
    """For synchronous clients; each answer is added to `answers` when its head is there."""

    def __init__(self, answers: list[RecordedAnswer]) -> None:
        super().__init__(verify=False)  # no TLS here: without certificates to load, a client is made in no time
        self._answers = answers

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        answer = _recorded(response, self._answers)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Tee(response.stream, answer.body)
        return response


class AsyncRecordingTransport(httpx2.AsyncHTTPTransport):
    """The same for asynchronous clients."""

    def __init__(self, answers: list[RecordedAnswer]) -> None:
        super().__init__(verify=False)  # no TLS here: without certificates to load, a client is made in no time
        self._answers = answers

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        answer = _recorded(response, self._answers)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _AsyncTee(response.stream, answer.body)
        return response


def _recorded(response: httpx2.Response, answers: list[RecordedAnswer]) -> RecordedAnswer:
    answer = RecordedAnswer(status=response.status_code, headers=list(response.headers.multi_items()))
    answers.append(answer)
    return answer


class _Tee(httpx2.SyncByteStream):
    def __init__(self, source: httpx2.SyncByteStream, copy: bytearray) -> None:
        self._source = source
        self._copy = copy

    def __iter__(self) -> Iterator[bytes]:
        for data in self._source:
            self._copy.extend(data)
            yield data

    def close(self) -> None:
        self._source.close()


class _AsyncTee(httpx2.AsyncByteStream):
    def __init__(self, source: httpx2.AsyncByteStream, copy: bytearray) -> None:
        self._source = source
        self._copy = copy

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._source:
            self._copy.extend(data)
            yield data

    async def aclose(self) -> None:
        await self._source.aclose()

"""An AI API that answers at once, so that it is never what is measured: `python -m bench.upstream PORT`.

Any POST gets one prepared chat completion with its usage. A body with "stream": true gets a stream of events, as many and as far
apart as it says anywhere: "bench-<chunks>-<milliseconds>"; a usage event precedes the end if the body asks for one. The text
of each is the instant at which it was written (CLOCK_MONOTONIC, which all processes of a machine share), so that a client can tell
how long it was on its way. A completion with a wish is answered as late as the stream would end.

With "-billed" behind the wish, the text of an event is one word, which every tokenizer counts as the one token that the usage
tells, and the answer is counted: any GET gets what was generated so far, `Generated` as JSON. A stream ends, as a provider's may,
when its reader has gone.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

PROMPT_TOKENS = 64  # of every request, as the usage says
ANSWER_TOKENS = 18  # of every completion that is no stream

BODY = (
    b'{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1763827200,"model":"gpt-4o-mini-2024-07-18",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"The harbour lies to the north of the old town, and most boats '
    b'leave before seven.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":64,'
    b'"completion_tokens":18,"total_tokens":82,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,'
    b'"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_06737a9306"}'
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 22 Nov 2026 16:00:00 GMT\r\nServer: bench\r\n"
    b"openai-processing-ms: 1\r\nx-request-id: req_0123456789abcdef\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nDate: Sun, 22 Nov 2026 16:00:00 GMT\r\nServer: bench\r\n"
    b"x-request-id: req_0123456789abcdef\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_CHUNK = (
    b'data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1763827200,'
    b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_06737a9",'
    b'"choices":[{"index":0,"delta":{"content":" %019d"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_CHUNK_HTTP = b"%x\r\n%b\r\n" % (len(_CHUNK % 0), _CHUNK)
_WORD = _CHUNK.replace(b" %019d", b" word")
_WORD_HTTP = b"%x\r\n%b\r\n" % (len(_WORD), _WORD)
_USAGE = (
    b'data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1763827200,'
    b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_06737a9306","choices":[],'
    b'"usage":{"prompt_tokens":64,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_WISH = re.compile(rb"bench-(\d+)-(\d+)(-billed)?")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_ASKS_USAGE = re.compile(rb'"include_usage": ?true')


@dataclass(slots=True, kw_only=True)
class Generated:
    """What a provider would bill: every answer that is counted and was begun, and the tokens of what was written of it."""

    answers: int = 0
    output_tokens: int = 0


class FixedAnswers(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, generated: Generated) -> None:
        self._loop = loop
        self._generated = generated
        self._pending = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
            self._pending = b""
        head_end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head_end + 2) if head_end > 0 else None
        if head_end < 0 or (length is not None and len(data) < head_end + 4 + int(length[1])):
            self._pending = data
            return
        if data.startswith(b"GET "):
            told = json.dumps(asdict(self._generated)).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))
            return
        body = data[head_end + 4 :]
        wish = _WISH.search(body)
        chunks, every = (int(wish[1]), int(wish[2]) / 1000) if wish else (20, 0.01)
        is_billed = wish is not None and wish[3] is not None
        self._generated.answers += is_billed
        if _STREAM.search(body):
            self._transport.write(STREAM_HEAD)
            self._emit(chunks, chunks, every, asks_usage=_ASKS_USAGE.search(body) is not None, is_billed=is_billed)
        elif wish:
            self._generated.output_tokens += ANSWER_TOKENS * is_billed
            self._timer = self._loop.call_later(chunks * every, self._transport.write, ANSWER)
        else:
            self._transport.write(ANSWER)

    def _emit(self, left: int, chunks: int, every: float, *, asks_usage: bool, is_billed: bool) -> None:
        if left:
            self._generated.output_tokens += is_billed
            self._transport.write(_WORD_HTTP if is_billed else _CHUNK_HTTP % time.monotonic_ns())
            self._timer = self._loop.call_later(
                every, lambda: self._emit(left - 1, chunks, every, asks_usage=asks_usage, is_billed=is_billed)
            )
            return
        usage = _USAGE % (chunks, PROMPT_TOKENS + chunks)
        self._transport.write((b"%x\r\n%b\r\n" % (len(usage), usage) if asks_usage else b"") + _DONE)


async def serve(port: int) -> None:
    loop, generated = asyncio.get_running_loop(), Generated()
    server = await loop.create_server(lambda: FixedAnswers(loop, generated), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

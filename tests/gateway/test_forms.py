"""Metered forms on their way through the gateway: fields are held before files go up, and what breaks off costs nothing."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import recordings
from aiohttp import web
from gateway_harness import ACME_KEY, LIMITS, Harness, running_gateway

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.form import KEPT_BYTES_MAX, Form, FormRules
from tallygate.dialects.openai_transcription import OpenAiTranscription
from tallygate.domain.prompt import PromptShape
from tallygate.domain.unit import Unit

TRANSCRIPTIONS = "/v1/audio/transcriptions"
MODEL = b'--b0\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
FILE = b'--b0\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
END = b"\r\n--b0--\r\n"
SOUND = recordings.wav(4)
WHISPER_SECOND = 100_000


class Streaming:
    """A form whose fields alone decide the cost: ten seconds of whatever the file is."""

    rules = FormRules(fields=frozenset({"model", "prompt"}), files=frozenset({"file"}), needed=frozenset({"model"}))

    def read(self, form: Form, *, path: Mapping[str, str]) -> RequestFacts:
        assert not path
        return RequestFacts(model=form.fields["model"], prompt=PromptShape(), calls_instead={Unit.AUDIO_SECOND: 10})


class Upstream:
    """Reads a body piece by piece. got: of the last one so far; bodies: those that came whole."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.bodies: list[bytes] = []
        self.got = bytearray()
        self.heads: list[Mapping[str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.heads.append(dict(request.headers))
        self.got = bytearray()
        async for piece in request.content.iter_any():
            self.got += piece
            self.begun.set()
        self.bodies.append(bytes(self.got))
        return web.json_response({"text": "x", "usage": {"type": "duration", "seconds": 4}})


class World:
    def __init__(self, harness: Harness, upstream: Upstream) -> None:
        self.harness, self.upstream = harness, upstream

    @asynccontextmanager
    async def request(
        self,
        length: int | None,
        *,
        path: str = TRANSCRIPTIONS,
        more: bytes = b"",
        content_type: bytes = b"multipart/form-data; boundary=b0",
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A request's head, sent. length: of its body; None: in chunks."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.harness.port)
        framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
        writer.write(
            b"POST %s HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer %s\r\n"
            b"Content-Type: %s\r\n%s\r\n%s\r\n" % (path.encode(), ACME_KEY.encode(), content_type, framing, more)
        )
        try:
            yield reader, writer
        finally:
            writer.close()

    async def answer(self, body: bytes, *, more: bytes = b"") -> tuple[int, dict[str, object]]:
        async with self.request(len(body), more=more) as (reader, writer):
            writer.write(body)
            return await read_answer(reader)

    def nothing_held(self) -> bool:
        return not self.harness.events() or all(not event["_cost"] for event in self.harness.events())


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, object]]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    return int(head[9:12]), json.loads(await reader.readexactly(length))


@asynccontextmanager
async def running(tmp_path: Path, aiohttp_server: object, **bounds: int) -> AsyncIterator[World]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_post("/{tail:.*}", upstream.handle)
    url = str((await aiohttp_server(app)).make_url("")).rstrip("/")  # type: ignore[operator]  # pytest-aiohttp's
    async with running_gateway(tmp_path, upstream_url=url, limits=replace(LIMITS, **bounds)) as harness:
        yield World(harness, upstream)


@pytest.fixture
async def world(tmp_path: Path, aiohttp_server: object) -> AsyncIterator[World]:
    async with running(tmp_path, aiohttp_server) as opened:
        yield opened


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAiTranscription, "form", Streaming())


async def test_a_form_goes_up_as_it_came(world: World) -> None:
    body = MODEL + FILE + SOUND + END
    status, _ = await world.answer(body, more=b"Connection: content-type\r\n")
    assert status == 200
    assert world.upstream.bodies == [body]
    assert world.upstream.heads[0]["Content-Type"] == "multipart/form-data; boundary=b0"
    coded = gzip.compress(body)
    status, _ = await world.answer(coded, more=b"Content-Encoding: gzip\r\n")
    assert status == 200
    assert world.upstream.bodies == [body, body]


@pytest.mark.parametrize(("seconds", "turns"), [(0.1, 0), (1, 1)])
async def test_a_recording_is_read_in_its_organization_s_turn(
    world: World, monkeypatch: pytest.MonkeyPatch, seconds: float, turns: int
) -> None:
    """Of 16,000 bytes, frame by frame, that would keep all others waiting; JSON of that size would not."""
    reading, orgs = world.harness.gateway.services.reading, []
    run = type(reading).run_in_turn

    async def noted(self: object, org: str, *args: object) -> object:
        orgs.append(org)
        return await run(self, org, *args)

    monkeypatch.setattr(type(reading), "run_in_turn", noted)
    assert (await world.answer(MODEL + FILE + recordings.wav(seconds) + END))[0] == 200
    assert orgs == ["acme"] * turns


async def test_of_a_form_s_type_its_boundary_alone_goes_up(world: World) -> None:
    """Whatever else stands there, an upstream could read the form by it, or find our key in it."""
    body = (MODEL + FILE + SOUND + END).replace(b"--b0", b"--b 0")
    key = ACME_KEY.encode()
    async with world.request(len(body), content_type=b'multipart/form-data; x=%s; charset=utf-8; boundary="b 0"' % key) as (
        reader,
        writer,
    ):
        writer.write(body)
        assert (await read_answer(reader))[0] == 200
    assert world.upstream.heads[0]["Content-Type"] == 'multipart/form-data; boundary="b 0"'


@pytest.mark.parametrize("length_is_known", [True, False])
async def test_a_file_streams_while_its_fields_are_held(world: World, streaming: None, length_is_known: bool) -> None:
    rest = bytes(KEPT_BYTES_MAX)
    body = MODEL + FILE + rest + END
    async with world.request(len(body) if length_is_known else None) as (reader, writer):
        frame = bytes if length_is_known else _chunk
        writer.write(frame(MODEL + FILE + rest[:100_000]))
        await asyncio.wait_for(world.upstream.begun.wait(), 5)  # while most of it has yet to come
        window = await world.harness.window()
        assert window.held_nano_usd == 10 * WHISPER_SECOND
        writer.write(frame(rest[100_000:] + END))
        if not length_is_known:
            writer.write(b"0\r\n\r\n")
        assert (await read_answer(reader))[0] == 200
    assert world.upstream.bodies == [body]
    await world.harness.at_rest()
    assert world.harness.events()[-1]["_cost"] == 4 * WHISPER_SECOND
    assert world.harness.gateway.pipeline.entrance.body_bytes == 0


@pytest.mark.parametrize("cut", [0, 2, 3])
async def test_what_closes_a_form_waits_for_its_end(world: World, streaming: None, cut: int) -> None:
    """Else a client could have it worked on, and leave before the length that it announced."""
    body = MODEL + FILE + bytes(KEPT_BYTES_MAX) + END + b" " * 9
    async with world.request(len(body)) as (_, writer):
        writer.write(body[: len(body) - 9 - cut])
        await writer.drain()
        async with asyncio.timeout(5):
            before = -1
            while before < len(world.upstream.got) or not before:
                before = len(world.upstream.got)
                await asyncio.sleep(0.05)
        assert b"--b0--" not in world.upstream.got[-len(END) :]
    await world.harness.at_rest()
    assert not world.upstream.bodies
    assert world.nothing_held()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    "broken",
    [
        b'\r\n--b0\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nlate' + END,
        b"\r\n--b0\nx" + END,
        b"no end",
        END + b"--b0\r\n",
    ],
)
async def test_a_form_that_turns_out_broken_is_cut_and_costs_nothing(world: World, streaming: None, broken: bytes) -> None:
    body = MODEL + FILE + bytes(KEPT_BYTES_MAX + 1) + broken
    status, answer = await world.answer(body)
    error = answer["error"]
    assert (status, error["type"]) == (400, "invalid_request_error")  # type: ignore[index]  # an error object
    await world.harness.at_rest()
    assert not world.upstream.bodies
    assert world.nothing_held()
    assert (await world.harness.window()).held_nano_usd == 0


@pytest.mark.parametrize("sent", [0, 30, len(MODEL), len(MODEL + FILE) + 9])
async def test_a_client_that_leaves_before_its_form_is_whole_holds_nothing(world: World, sent: int) -> None:
    body = MODEL + FILE + SOUND + END
    async with world.request(len(body)) as (_, writer):
        writer.write(body[:sent])
        await writer.drain()
    await world.harness.at_rest()
    assert not world.upstream.heads
    assert not world.harness.events()
    assert world.harness.gateway.pipeline.entrance.body_bytes == 0


async def test_a_client_that_leaves_within_a_streamed_file_owes_nothing(world: World, streaming: None) -> None:
    async with world.request(10 * KEPT_BYTES_MAX) as (_, writer):
        writer.write(MODEL + FILE + bytes(100_000))
        await asyncio.wait_for(world.upstream.begun.wait(), 5)
    await world.harness.at_rest()
    assert world.nothing_held()
    assert (await world.harness.window()).held_nano_usd == 0


async def test_a_form_has_the_bounds_of_a_body(tmp_path: Path, aiohttp_server: object) -> None:
    body = MODEL + FILE + SOUND + END
    async with running(tmp_path, aiohttp_server, body_bytes_max=len(body)) as world:
        assert (await world.answer(body))[0] == 200
        status, answer = await world.answer(MODEL + FILE + SOUND + b"x" + END)
        assert (status, answer["error"]["code"]) == (413, "request_too_large")  # type: ignore[index]  # an error object
    (tmp_path / "less").mkdir()
    async with running(tmp_path / "less", aiohttp_server, body_bytes_max=1_000, body_budget_bytes=1_000) as world:
        async with world.request(None) as (reader, writer):
            writer.write(_chunk(MODEL))
            async with asyncio.timeout(5):
                while world.harness.gateway.pipeline.entrance.body_bytes < len(MODEL):
                    await asyncio.sleep(0.005)
            writer.write(_chunk(FILE + bytes(700)))  # more than three times what is left
            status, answer = await read_answer(reader)
        assert (status, answer["error"]["code"]) == (503, "overloaded")  # type: ignore[index]  # an error object
        assert not world.upstream.heads


async def test_a_key_in_the_place_of_a_model_is_not_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for model, is_logged in ((ACME_KEY, False), ("nobody-knows", True)):
        status, _ = await world.answer(MODEL.replace(b"whisper-1", model.encode()) + FILE + SOUND + END)
        assert status == 400
        assert any(model in record.getMessage() for record in caplog.records) is is_logged

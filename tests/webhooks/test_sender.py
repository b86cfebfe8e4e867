"""One POST: what counts as delivered, and what a receiver cannot make the sender do."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import trustme
from aiohttp import web
from receiver import KEY, SECRET, Receiver, now_ms, running_receiver
from standardwebhooks.webhooks import Webhook

from tallygate.config.webhook_endpoint import WebhookEndpoint
from tallygate.webhooks.answer import Answer
from tallygate.webhooks.message import trial_message
from tallygate.webhooks.sender import ANSWER_BYTES_MAX, Sender

NOW = datetime.now(UTC).replace(microsecond=0)
NOW_MS = round(NOW.timestamp() * 1000)
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MESSAGE = trial_message("ops", message_id="an_id", now_ms=NOW_MS)


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    made = Sender(now_ms=lambda: NOW_MS, user_agent="tallygate/test", connections_max=4, timeout_seconds=20)
    yield made
    await made.close()


def endpoint(url: str) -> WebhookEndpoint:
    return WebhookEndpoint(name="ops", url=url, keys=(KEY,))


async def answer_of(sender: Sender, answer: Callable[[int], Any]) -> tuple[Answer, Receiver]:
    async with running_receiver(Receiver(answer=answer)) as receiver:
        return await sender.send(endpoint(receiver.url), MESSAGE, reads_body=True), receiver


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(status: int) -> None:
    sender = Sender(now_ms=now_ms, user_agent="tallygate/test", connections_max=4, timeout_seconds=20)
    answer, receiver = await answer_of(sender, lambda _number: status)
    await sender.close()
    assert answer.is_delivered
    ((headers, body),) = receiver.got
    assert Webhook(SECRET).verify(body, headers)["type"] == "webhook.test"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "tallygate/test"


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 409, 410, 429, 500, 503])
async def test_anything_else_is_not(sender: Sender, status: int) -> None:
    answer, _ = await answer_of(sender, lambda _number: status)
    assert not answer.is_delivered
    assert answer.is_gone == (status == 410)
    assert answer.error == f"status {status}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(sender: Sender, status: int) -> None:
    async with running_receiver(Receiver()) as elsewhere:

        async def move(_number: int) -> web.StreamResponse:
            return web.Response(status=status, headers={"Location": elsewhere.url})

        answer, _ = await answer_of(sender, move)
        assert answer.status == status
        assert not answer.is_delivered
        assert elsewhere.got == []


@pytest.mark.parametrize("reads_body", [True, False])
async def test_an_endless_answer_is_delivered_and_little_of_it_read(sender: Sender, *, reads_body: bool) -> None:
    is_cut_off = asyncio.Event()

    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        except OSError:
            is_cut_off.set()
        finally:
            writer.close()

    answer = await asked(sender, pour, reads_body=reads_body)
    assert answer.is_delivered
    assert len(answer.body) <= ANSWER_BYTES_MAX
    assert bool(answer.body) == reads_body
    async with asyncio.timeout(30):
        await is_cut_off.wait()


async def test_an_answer_whose_body_never_comes_is_delivered_by_its_head(sender: Sender) -> None:
    ended = asyncio.Event()

    async def stall(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 10\r\n\r\n")
        await ended.wait()
        writer.close()

    assert (await asked(sender, stall, reads_body=False)).is_delivered
    ended.set()


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000])
async def test_what_is_no_http_is_a_failure_that_can_be_stored(sender: Sender, raw: bytes) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        writer.close()

    answer = await asked(sender, talk, reads_body=False)
    assert (answer.status, answer.is_delivered) == (None, False)
    assert answer.error
    assert answer.error.isprintable()
    assert "sig=" not in answer.error


async def asked(sender: Sender, talk: Talk, *, reads_body: bool) -> Answer:
    """What comes of a receiver that speaks for itself."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    answer = await sender.send(endpoint(f"http://{host}:{port}/?sig=5ecret"), MESSAGE, reads_body=reads_body)
    server.close()
    return answer


@pytest.mark.parametrize(
    ("status", "given", "expected"),
    [
        (429, "120", 120_000),
        (503, "0", 0),
        pytest.param(503, format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90_000, id="a date to come"),
        pytest.param(503, format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0, id="a date that is over"),
        (503, "soon", None),
        (503, "-5", None),
        (503, "9" * 30, None),
        (503, f"Mon, 01 Jan {'9' * 30} 00:00:00 GMT", None),
        (503, f"Mon, 01 Jan 2030 00:00:00 +{'9' * 30}", None),
        (500, "120", None),
        (429, None, None),
    ],
)
async def test_retry_after_is_read_from_answers_that_say_busy(
    sender: Sender, status: int, given: str | None, expected: int | None
) -> None:
    async def busy(_number: int) -> web.StreamResponse:
        return web.Response(status=status, headers={} if given is None else {"Retry-After": given})

    answer, _ = await answer_of(sender, busy)
    assert answer.retry_after_ms == expected


async def test_proxies_of_the_environment_are_not_asked(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    answer, receiver = await answer_of(sender, lambda _number: 204)
    assert answer.is_delivered
    assert len(receiver.got) == 1


async def test_certificates_are_verified_by_the_systems_authorities_or_by_the_endpoints_own(sender: Sender) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with running_receiver(Receiver(), tls=context) as receiver:
        untrusted = await sender.send(endpoint(receiver.url), MESSAGE)
        own = replace(endpoint(receiver.url), ca_pem=authority.cert_pem.bytes().decode())
        trusted = await sender.send(own, MESSAGE)
        wrong_name = await sender.send(replace(own, url=receiver.url.replace("127.0.0.1", "localhost")), MESSAGE)

    assert receiver.url.startswith("https://")
    assert not untrusted.is_delivered
    assert "CERTIFICATE_VERIFY_FAILED" in untrusted.error.upper()
    assert trusted.is_delivered
    assert not wrong_name.is_delivered
    assert len(receiver.got) == 1


async def test_the_url_is_asked_as_it_is_written(sender: Sender) -> None:
    async with running_receiver(Receiver()) as receiver:
        asked_for = f"{receiver.url}/a%2Fb%7e/?sig=%2B1%41"
        assert (await sender.send(endpoint(asked_for), MESSAGE)).is_delivered
    assert receiver.paths == ["/hooks/a%2Fb%7e/?sig=%2B1%41"]

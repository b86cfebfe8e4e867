"""Notices by e-mail: what a mail server receives, and what it cannot get."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import trustme
from mail_server import PASSWORD, USER, Mailbox, running_mailbox
from notice_values import PAUSED, a_notice
from post import Post

from tallygate.config.webhook_endpoint import MailAddresses, MailSecurity, MailServer, WebhookEndpoint, WebhookFormat
from tallygate.ledger.notices.record import DeliveryState
from tallygate.webhooks.message import message_of
from tallygate.webhooks.sender import Sender

NOW_MS = 1_790_000_000_000
MESSAGE = message_of(a_notice(1, **PAUSED))


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    made = Sender(now_ms=lambda: NOW_MS, user_agent="tallygate/test", connections_max=4, timeout_seconds=5)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def endpoint_of(mailbox: Mailbox, security: MailSecurity = MailSecurity.NONE, **changed: str) -> WebhookEndpoint:
    server = MailServer(host="127.0.0.1", port=mailbox.port, security=security, **changed)
    addresses = MailAddresses(server=server, sender="tallygate@example.com", recipients=("a@example.com", "b@example.org"))
    return WebhookEndpoint(name="finance", format=WebhookFormat.EMAIL, mail=addresses)


async def test_a_notice_arrives_as_a_mail_that_people_can_read(sender: Sender) -> None:
    async with running_mailbox(Mailbox()) as mailbox:
        answers = [await sender.send(endpoint_of(mailbox), MESSAGE) for _ in range(2)]

    assert [answer.status for answer in answers] == [250, 250]
    assert all(answer.is_delivered for answer in answers)
    first, second = mailbox.got
    assert mailbox.recipients[0] == ["a@example.com", "b@example.org"]
    assert first["From"] == "tallygate@example.com"
    assert first["To"] == "a@example.com, b@example.org"
    assert first["Subject"] == "acme is paused by a spend limit"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Date"].datetime == datetime.fromtimestamp(NOW_MS // 1000, UTC)
    assert first["Message-ID"] == second["Message-ID"]
    assert "$80.000000001 of $100.00 (spend_7d) are spent" in first.get_content()


async def test_a_refusal_has_the_servers_code_and_is_no_delivery(sender: Sender) -> None:
    async with running_mailbox(Mailbox(reply="452 mailbox full")) as mailbox:
        answer = await sender.send(endpoint_of(mailbox), MESSAGE)
    assert (answer.status, answer.is_delivered) == (452, False)
    assert "mailbox full" in answer.error

    async with running_mailbox(Mailbox(refused=frozenset({"a@example.com", "b@example.org"}))) as mailbox:
        answer = await sender.send(endpoint_of(mailbox), MESSAGE)
    assert (answer.status, answer.is_delivered) == (550, False)


async def test_one_refused_recipient_keeps_it_from_no_other(sender: Sender, caplog: pytest.LogCaptureFixture) -> None:
    async with running_mailbox(Mailbox(refused=frozenset({"a@example.com"}))) as mailbox:
        answer = await sender.send(endpoint_of(mailbox), MESSAGE)
    assert answer.is_delivered
    assert mailbox.recipients == [["b@example.org"]]
    assert "refused some recipients" in caplog.text


@pytest.mark.parametrize("security", [MailSecurity.STARTTLS, MailSecurity.TLS])
async def test_a_password_goes_only_through_verified_encryption(
    sender: Sender, authority: trustme.CA, security: MailSecurity
) -> None:
    context = server_tls(authority)
    of_server = {"starttls": context} if security is MailSecurity.STARTTLS else {"tls": context}
    async with running_mailbox(Mailbox(), needs_login=True, **of_server) as mailbox:
        endpoint = endpoint_of(mailbox, security, user=USER, password=PASSWORD)
        assert not (await sender.send(endpoint, MESSAGE)).is_delivered  # nobody known issued the certificate
        assert mailbox.logins == []
        trusting = replace(endpoint, ca_pem=authority.cert_pem.bytes().decode())
        assert (await sender.send(trusting, MESSAGE)).is_delivered
        assert len(mailbox.logins) == 1
        assert endpoint.mail is not None
        wrong = replace(endpoint.mail, server=replace(endpoint.mail.server, password="another"))
        refused = await sender.send(replace(trusting, mail=wrong), MESSAGE)
    assert refused.status == 535
    assert "another" not in refused.error
    assert len(mailbox.got) == 1


@pytest.mark.parametrize("login", [{}, {"user": USER, "password": PASSWORD}])
async def test_a_server_without_the_encryption_that_was_asked_for_gets_nothing(sender: Sender, login: dict[str, str]) -> None:
    async with running_mailbox(Mailbox()) as mailbox:
        answer = await sender.send(endpoint_of(mailbox, MailSecurity.STARTTLS, **login), MESSAGE)
    assert not answer.is_delivered
    assert (mailbox.logins, mailbox.got) == ([], [])


async def test_a_silent_server_ends_the_attempt() -> None:
    has_left = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        has_left.set()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    sender = Sender(now_ms=lambda: NOW_MS, user_agent="tallygate/test", connections_max=4, timeout_seconds=0.2)
    answer = await sender.send(endpoint_of(Mailbox(port=server.sockets[0].getsockname()[1])), MESSAGE)
    await has_left.wait()  # nothing of the attempt is left open
    server.close()
    await sender.close()
    assert answer.error == "no answer within 0.2 seconds"


async def test_a_mail_is_a_delivery_like_any_other(post: Post) -> None:
    async with running_mailbox(Mailbox(reply="451 later")) as mailbox:
        post.endpoints.append(endpoint_of(mailbox))
        await post.store(a_notice(1))
        dispatcher = post.dispatcher()
        await post.send(dispatcher)
        (row,) = await post.rows()
        assert (row.state, row.last_status) == (DeliveryState.WAITING, 451)
        mailbox.reply = "250 OK"
        post.clock.now = row.due_at_ms
        await post.send(dispatcher)
    (row,) = await post.rows()
    assert (row.state, row.last_status) == (DeliveryState.DELIVERED, 250)
    assert [mail["Subject"] for mail in mailbox.got] == ["acme has reached 80 % of a spend limit"]

"""One e-mail to the addresses of one endpoint, over SMTP (RFC 5321, RFC 6409), and the result."""

import asyncio
import hashlib
import logging
import ssl
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import formatdate
from typing import Final

import aiosmtplib

from tallygate.config.webhook_endpoint import MailAddresses, MailSecurity
from tallygate.webhooks.answer import Answer, reason
from tallygate.webhooks.message import Message

_log: Final = logging.getLogger(__name__)


async def send_mail(mail: MailAddresses, message: Message, *, at_ms: int, timeout_seconds: float, trust: ssl.SSLContext) -> Answer:
    """Hand the mail to its server. Its reply code is the answer's status: 250 is success, as 2xx is with HTTP.

    Encryption that was asked for is never given up: a server that does not offer it gets neither password nor mail.
    """
    server = mail.server
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.user or None,
        password=server.password or None,
        use_tls=server.security is MailSecurity.TLS,
        start_tls=server.security is MailSecurity.STARTTLS,
        tls_context=trust,
        timeout=timeout_seconds,
    )
    try:
        async with asyncio.timeout(timeout_seconds), client:
            refused, _ = await client.send_message(
                mail_of(mail, message, at_ms=at_ms), sender=mail.sender, recipients=mail.recipients
            )
    except aiosmtplib.SMTPRecipientsRefused as error:  # every one of them
        first = error.recipients[0]
        return Answer(status=first.code, error=f"status {first.code}: recipients refused")
    except aiosmtplib.SMTPResponseException as error:
        return Answer(status=error.code, error=reason(error))
    except TimeoutError:  # of aiosmtplib too
        return Answer(error=f"no answer within {timeout_seconds:g} seconds")
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return Answer(error=reason(error))
    if refused:
        _log.warning(
            "a mail server refused some recipients", extra={"fields": {"recipients": sorted(refused), "server": server.host}}
        )
    return Answer(status=250, error="status 250")


def mail_of(mail: MailAddresses, message: Message, *, at_ms: int) -> EmailMessage:
    """The mail. Its Message-ID is the same for every attempt, so that repeats can be recognised."""
    made = EmailMessage(policy=SMTP_POLICY)
    made["From"] = mail.sender
    made["To"] = ", ".join(mail.recipients)
    made["Subject"] = message.wording.subject
    made["Date"] = formatdate(at_ms / 1000, usegmt=True)
    made["Message-ID"] = f"<{hashlib.sha256(message.id.encode()).hexdigest()[:32]}@{mail.sender.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's out-of-office reply
    made.set_content("\n\n".join(filter(None, (message.wording.text, message.wording.link))))
    return made

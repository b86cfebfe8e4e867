"""E-mail as a receiver of notices: addresses, and the server that accepts the mail."""

import re
from collections.abc import Mapping
from typing import Final

from tallygate.config.declared import read_declared
from tallygate.config.kinds import Parsed, Words, declare
from tallygate.config.secret_file import read_secret
from tallygate.config.section import Section, show
from tallygate.config.urls import is_loopback
from tallygate.config.webhook_endpoint import MailAddresses, MailSecurity, MailServer
from tallygate.domain.declared import Choice, Text, WholeNumber

RECIPIENTS_MAX: Final = 50
# RFC 6409: submission; RFC 8314: submission over TLS; RFC 5321: without encryption, for this machine.
_PORTS: Final = {MailSecurity.STARTTLS: 587, MailSecurity.TLS: 465, MailSecurity.NONE: 25}
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?", re.ASCII)
# The bare form of RFC 5322, 3.4.1, in ASCII, without quoted names: nothing that could end a header or begin another address.
_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,253}", re.ASCII)


def read_mail(item: Section, environ: Mapping[str, str] | None) -> MailAddresses | None:
    """Parse `from`, `to` and `smtp`; None with a problem. environ: None in processes that send nothing."""
    addresses = read_declared(item, MAIL_FIELDS)
    if not item.require("smtp"):
        return None
    section = item.section("smtp")
    if section is None:
        return None
    server = _read_server(section, environ)
    return (
        None if server is None else MailAddresses(server=server, sender=addresses["from"] or "", recipients=addresses["to"] or ())
    )


def _read_server(section: Section, environ: Mapping[str, str] | None) -> MailServer | None:
    values = read_declared(section, SMTP_FIELDS)
    host, security, user = values["host"] or "", values["security"], values["user"]
    password = read_secret(section, "password", environ) if user else ""
    section.close()
    if security is MailSecurity.NONE and not is_loopback(host):
        text = "must be starttls or tls, except on this machine: anybody on the way reads the spend"
        section.place_of("security").problem(text)
    return MailServer(host=host, port=values["port"] or _PORTS[security], security=security, user=user, password=password)


def _address(text: str) -> str:
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError(f"must be an e-mail address such as finance@example.com, got {show(text)}")
    return text


def _host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise ValueError(f"must be the name or address of a mail server, without a port, got {show(text)}")
    return text.strip("[]")


MAIL_FIELDS: Final = (
    declare(
        "from",
        Parsed("The sender's address.", parse=_address, pattern=f"^{_ADDRESS.pattern}$", example="tallygate@example.com"),
        is_required=True,
    ),
    declare(
        "to",
        Words("Addresses of recipients.", parse=_address, items_max=RECIPIENTS_MAX, pattern=f"^{_ADDRESS.pattern}$"),
        is_required=True,
    ),
)
SMTP_FIELDS: Final = (
    declare(
        "host",
        Parsed(
            "The name or address of the mail server, without a port.",
            parse=_host,
            pattern=f"^(?:{_HOST.pattern})$",
            example="smtp.example.com",
        ),
        is_required=True,
    ),
    declare(
        "security",
        Choice("How the connection is encrypted; `none` to this machine alone.", words={kind.value: kind for kind in MailSecurity}),
        MailSecurity.STARTTLS,
    ),
    declare("port", WholeNumber("Else 587 with starttls, 465 with tls, 25 with none.", 1, 65_535), None),
    declare("user", Text("Who signs in; else nobody does.")),
)
